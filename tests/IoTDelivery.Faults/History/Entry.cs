using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace IoTDelivery.Faults.History;

/// <summary>What an entry of a history tells of.</summary>
public enum What
{
    /// <summary>The run: its seed and its arguments (<see cref="Entry.Text"/>).</summary>
    Run,

    /// <summary>A device exists; <see cref="Entry.QoS"/> is what it subscribes with.</summary>
    Device,

    /// <summary>A rule exists; every end of a message must be pushed to it.</summary>
    Rule,

    /// <summary>An application begins a POST of a message at a node.</summary>
    Post,

    /// <summary>It has the answer to that POST, or knows that it will have none (<see cref="Entry.Status"/> 0).</summary>
    Answer,

    /// <summary>What Show said of a message whose answer was lost: <see cref="Entry.Word"/> is its status, null if it is not known.</summary>
    Show,

    /// <summary>A device is connected to a node and subscribed.</summary>
    Connect,

    /// <summary>A device's connection has ended.</summary>
    Cut,

    /// <summary>A device could not connect or subscribe, and why.</summary>
    Refused,

    /// <summary>A device received a message.</summary>
    Publish,

    /// <summary>A device is about to acknowledge it; written before the packet is.</summary>
    PubAck,

    /// <summary>A webhook was told; written before it answers <see cref="Entry.Status"/>.</summary>
    Push,

    /// <summary>A fault begins; <see cref="Entry.Node"/> is whom it hits.</summary>
    Fault,

    /// <summary>It is over; the node is reachable again, or being started.</summary>
    Healed,

    /// <summary>All nodes answer again for all devices.</summary>
    Recovered,

    /// <summary>A node's process was started.</summary>
    Started,

    /// <summary>A node's process has ended, with exit code <see cref="Entry.Status"/>; <see cref="Entry.Word"/> says who wanted it.</summary>
    Ended,

    /// <summary>Something somebody who reads the history should know.</summary>
    Note,
}

/// <summary>One line of a history. The order of the lines is the order in time; <see cref="At"/> is the time in seconds from the first.</summary>
public sealed record Entry(What What)
{
    public double At { get; init; }

    public string? Device { get; init; }

    public string? Message { get; init; }

    public string? Node { get; init; }

    /// <summary>Which POST an answer belongs to.</summary>
    public long? Post { get; init; }

    /// <summary>The ttl of a POST in units; null for one that lasts longer than the run. A message with one may end as TIMEOUT.</summary>
    public int? Ttl { get; init; }

    /// <summary>HTTP status, or exit code.</summary>
    public int? Status { get; init; }

    /// <summary>PENDING, DELIVERED …; the kind of a fault.</summary>
    public string? Word { get; init; }

    public int? QoS { get; init; }

    public int? Packet { get; init; }

    public bool? Dup { get; init; }

    public string? Rule { get; init; }

    /// <summary>request_id of a push: the same in every repetition.</summary>
    public string? Request { get; init; }

    /// <summary>Hash of the body of a push.</summary>
    public string? Hash { get; init; }

    public string? Text { get; init; }
}

/// <summary>A history as a file: one JSON object a line.</summary>
public static class HistoryFile
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower) },
    };

    public static string Line(Entry entry) => JsonSerializer.Serialize(entry, Json);

    public static Entry Parse(string line) => JsonSerializer.Deserialize<Entry>(line, Json) ?? throw new FormatException($"No entry: {line}");

    public static IEnumerable<Entry> Read(string path) => File.ReadLines(path).Select(Parse);
}
