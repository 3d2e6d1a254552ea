using System.Text;
using System.Text.Json;
using IoTDelivery.Domain;

namespace IoTDelivery.Host.Api;

/// <summary>
/// Reads the members of a request body and remembers the first thing that is wrong with them, naming the field and the limit.
/// Members we do not know are ignored, as the vendor does; null counts as absent.
/// </summary>
public sealed class RequestFields(JsonElement body, string path = "")
{
    /// <summary>The first problem; null while all is well.</summary>
    public string? Problem { get; private set; } = body.ValueKind == JsonValueKind.Object ? null : $"{(path.Length == 0 ? "The body" : path.TrimEnd('.'))} must be a JSON object.";

    /// <summary>
    /// A text, or null if it is absent or wrong. U+0000 is wrong in all of them: PostgreSQL stores none, and MQTT carries none.
    /// </summary>
    public string? Text(string name, int max, Func<char, bool>? allows = null, string? alphabet = null, bool required = false, int min = 1)
    {
        if (!Take(name, required, out var value)) return null;
        if (value.ValueKind != JsonValueKind.String) return Wrong<string>(name, "must be a string");
        var text = value.GetString()!;
        if (text.Length < min || text.Length > max) return Wrong<string>(name, $"must have {min} to {max} characters, not {text.Length}");
        if (allows is not null && !text.All(allows)) return Wrong<string>(name, $"may only contain {alphabet}");
        return WireText.Null(text) is { } at ? Wrong<string>(name, $"must not contain U+0000: it is character {at + 1}") : text;
    }

    /// <summary>An id: letters, digits, '_' and '-'.</summary>
    public string? Id(string name, int max, bool required = false, int min = 1) =>
        Text(name, max, c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-', "letters, digits, '_' and '-'", required, min);

    /// <summary>
    /// A topic to publish on, or its end; null if it is wrong. Characters for which a client may close its connection are
    /// wrong here: the message would be sent again with the next one.
    /// </summary>
    public string? Topic(string name, string topic, int bytesMax = int.MaxValue)
    {
        if (WireText.Forbidden(topic) is var (at, code))
        {
            return Wrong<string>(name, $"must not contain control characters or non-characters: character {at + 1} is U+{code:X4}");
        }

        if (!TopicFilters.IsValidTopic(topic)) return Wrong<string>(name, "must be a topic name without '#' and '+'");
        return Encoding.UTF8.GetByteCount(topic) > bytesMax ? Wrong<string>(name, $"must not be longer than {bytesMax} bytes") : topic;
    }

    /// <summary>One of these words.</summary>
    public string? OneOf(string name, string[] words, bool required = false) =>
        Take(name, required, out var value) && (value.ValueKind != JsonValueKind.String || !words.Contains(value.GetString()))
            ? Wrong<string>(name, $"must be one of {string.Join(", ", words)}")
            : value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    /// <summary>A whole number.</summary>
    public int? Int(string name, int min, int max, int step = 1)
    {
        if (!Take(name, false, out var value)) return null;
        if (value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out var number) && number >= min && number <= max && number % step == 0) return number;
        Wrong<string>(name, $"must be a whole number from {min} to {max}{(step == 1 ? "" : $", a multiple of {step}")}");
        return null;
    }

    /// <summary>true or false.</summary>
    public bool? Bool(string name)
    {
        if (!Take(name, false, out var value)) return null;
        if (value.ValueKind is JsonValueKind.True or JsonValueKind.False) return value.GetBoolean();
        Wrong<string>(name, "must be true or false");
        return null;
    }

    /// <summary>A member object's own fields; null if absent. Its problem becomes ours with <see cref="Adopt"/>.</summary>
    public RequestFields? Object(string name, bool required = false)
    {
        if (!Take(name, required, out var value)) return null;
        return value.ValueKind == JsonValueKind.Object ? new RequestFields(value, $"{path}{name}.") : Wrong<RequestFields>(name, "must be a JSON object");
    }

    /// <summary>The items of an array; null if absent.</summary>
    public IReadOnlyList<JsonElement>? Array(string name, int max, bool required = false)
    {
        if (!Take(name, required, out var value)) return null;
        if (value.ValueKind != JsonValueKind.Array) return Wrong<IReadOnlyList<JsonElement>>(name, "must be an array");
        return value.GetArrayLength() > max ? Wrong<IReadOnlyList<JsonElement>>(name, $"may have at most {max} items") : [.. value.EnumerateArray()];
    }

    /// <summary>Any JSON value as its compact text.</summary>
    public string? Json(string name, int bytesMax, JsonValueKind kind, bool required = false)
    {
        if (!Take(name, required, out var value)) return null;
        if (value.ValueKind != kind) return Wrong<string>(name, $"must be a JSON {kind.ToString().ToLowerInvariant()}");
        var text = Compact(value);
        return Encoding.UTF8.GetByteCount(text) > bytesMax ? Wrong<string>(name, $"must not be larger than {bytesMax} bytes") : text;
    }

    /// <summary>The raw member.</summary>
    public bool Take(string name, bool required, out JsonElement value)
    {
        value = default;
        if (body.ValueKind != JsonValueKind.Object) return false;
        if (body.TryGetProperty(name, out value) && value.ValueKind != JsonValueKind.Null) return true;
        value = default;
        if (required) Wrong<string>(name, "is missing");
        return false;
    }

    /// <summary>Takes over the problem of a nested object.</summary>
    public void Adopt(RequestFields? nested) => Problem ??= nested?.Problem;

    /// <summary>Notes a problem of a field and returns nothing.</summary>
    public T? Wrong<T>(string name, string what) where T : class
    {
        Problem ??= $"{path}{name} {what}.";
        return null;
    }

    /// <summary>The value without white space, otherwise as given.</summary>
    public static string Compact(JsonElement value)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            value.WriteTo(json);
        }

        return Encoding.UTF8.GetString(buffer.GetBuffer(), 0, (int)buffer.Length);
    }
}
