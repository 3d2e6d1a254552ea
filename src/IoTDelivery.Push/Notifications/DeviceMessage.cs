using System.Text.Json;
using System.Text.Unicode;
using IoTDelivery.Domain;

namespace IoTDelivery.Push;

/// <summary>A topic devices publish on, as far as applications hear of it.</summary>
/// <param name="Name">The topic without what stands behind the question mark.</param>
/// <param name="RequestId">The device's own id of the request; null if it gave none, or none that is 1 to 128 letters, digits, '_' or '-'.</param>
internal readonly record struct UplinkTopic(string Name, string? RequestId)
{
    /// <summary>Null for topics that are the platform's business: properties, events, answers.</summary>
    public static UplinkTopic? Of(DeviceId deviceId, string topic)
    {
        if (!topic.StartsWith("$oc/", StringComparison.Ordinal)) return new(topic, null); // a question mark there is the device's own

        var query = topic.IndexOf('?');
        var name = query < 0 ? topic : topic[..query];
        var ownUser = SystemTopics.User(deviceId, "");
        if (name != MessagesUp(deviceId) && !(name.StartsWith(ownUser, StringComparison.Ordinal) && name.Length > ownUser.Length)) return null;
        return new(name, query < 0 ? null : RequestIdIn(topic.AsSpan(query + 1)));
    }

    public static string MessagesUp(DeviceId deviceId) => $"$oc/devices/{deviceId}/sys/messages/up";

    private static string? RequestIdIn(ReadOnlySpan<char> query)
    {
        const string name = "request_id=";
        foreach (var part in query.Split('&'))
        {
            if (!query[part].StartsWith(name, StringComparison.Ordinal)) continue;
            var id = query[part][name.Length..].ToString();
            return WireText.IsId(id, 128) ? id : null;
        }

        return null;
    }
}

/// <summary>What a device published: <c>device.message</c> / <c>report</c>.</summary>
internal sealed class DeviceMessage : VolatileNotification
{
    /// <summary>The <c>resource</c> rules must name to receive it.</summary>
    public const string Subject = "device.message";

    /// <summary>The <c>event</c> rules must name to receive it.</summary>
    public const string SubjectEvent = "report";

    private readonly UplinkTopic _topic;
    private readonly byte[] _payload;

    /// <param name="number">Any that is drawn by lot out of all 63 bits: it only has to be another one each time, the order is that of the rows.</param>
    public DeviceMessage(DeviceId deviceId, long number, UplinkTopic topic, byte[] payload, DateTimeOffset at)
        : base(deviceId, number, Subject, SubjectEvent, at)
    {
        (_topic, _payload) = (topic, payload);
        IsJson = Utf8.IsValid(payload) && IsObjectOrArray(payload);
        ObjectDeviceId = IsJson && topic.Name == UplinkTopic.MessagesUp(deviceId) ? ObjectIdIn(deviceId, payload) : null;
    }

    public override DeviceId? ObjectDeviceId { get; }

    private bool IsJson { get; }

    public override byte[] Write(DeviceId aboutId, DeviceHeader header, PushShape shape) => PushJson.Write(
        Subject, SubjectEvent, At, new RequestId(PushJson.IdOf(DeviceId, Subject, Number), _topic.RequestId), shape, (message: this, aboutId, header, shape), static (json, data) =>
        {
            if (data.shape == PushShape.HeaderBody) data.message.WriteHeaderAndBody(json, data.aboutId, data.header);
            else data.message.WriteFlat(json, data.aboutId);
        });

    // The manual's flat message is a string; the topic is added, nobody could tell user topics apart without it.
    private void WriteFlat(Utf8JsonWriter json, DeviceId aboutId)
    {
        json.WriteString("device_id", aboutId.Value);
        json.WriteString("topic", _topic.Name);
        json.WritePropertyName("message");
        WriteText(json);
        json.WriteString("event_time", PushJson.Compact(At));
    }

    private void WriteHeaderAndBody(Utf8JsonWriter json, DeviceId aboutId, DeviceHeader header)
    {
        PushJson.WriteHeader(json, aboutId, header);
        json.WriteStartObject("body");
        json.WriteString("topic", _topic.Name);
        json.WritePropertyName("content");
        if (IsJson) json.WriteRawValue(_payload.AsSpan().Trim(" \t\r\n"u8), skipInputValidation: true);
        else WriteText(json);
        json.WriteEndObject();
    }

    // Binary has no place in JSON: the manual does not say, we take Base64.
    private void WriteText(Utf8JsonWriter json)
    {
        if (Utf8.IsValid(_payload)) json.WriteStringValue(_payload);
        else json.WriteBase64StringValue(_payload);
    }

    private static bool IsObjectOrArray(ReadOnlySpan<byte> payload)
    {
        var start = payload.TrimStart(" \t\r\n"u8);
        if (start.IsEmpty || start[0] is not ((byte)'{' or (byte)'[')) return false; // 5 or "on" is text
        try
        {
            var reader = new Utf8JsonReader(payload);
            while (reader.Read()) { }
            return true;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    private static DeviceId? ObjectIdIn(DeviceId deviceId, ReadOnlySpan<byte> payload)
    {
        var reader = new Utf8JsonReader(payload);
        while (reader.Read())
        {
            if (reader.TokenType != JsonTokenType.PropertyName || reader.CurrentDepth != 1) continue;
            var isIt = reader.ValueTextEquals("object_device_id"u8);
            reader.Read();
            if (!isIt) continue;
            return TextOf(ref reader) is { } text && DeviceId.TryParse(text, out var id) && id != deviceId ? id : null;
        }

        return null;
    }

    // JSON can spell text that no string holds: an escaped half of a surrogate pair. The reader throws only when it is
    // asked for the text.
    private static string? TextOf(ref Utf8JsonReader reader)
    {
        if (reader.TokenType != JsonTokenType.String) return null;
        try
        {
            return reader.GetString();
        }
        catch (InvalidOperationException)
        {
            return null;
        }
    }
}
