using System.Text.Json;
using System.Text.Unicode;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>What a device published: <c>device.message</c> / <c>report</c>.</summary>
internal sealed class DeviceMessage : VolatileNotification
{
    /// <summary>The <c>resource</c> rules must name to receive it.</summary>
    public const string Subject = "device.message";

    /// <summary>The <c>event</c> rules must name to receive it.</summary>
    public const string SubjectEvent = "report";

    private readonly UplinkTopic _topic;
    private readonly byte[] _payload;
    private readonly ErrorInfo? _error; // why the payload is not what the topic says

    /// <param name="number">Any that is drawn by lot out of all 63 bits: it only has to be another one each time, the order is that of the rows.</param>
    public DeviceMessage(DeviceId deviceId, long number, UplinkTopic topic, byte[] payload, DateTimeOffset at)
        : base(deviceId, number, Subject, SubjectEvent, at)
    {
        (_topic, _payload, _error) = (topic, payload, null);
        if (topic.IsGzip)
        {
            (var inflated, _error) = GzipPayload.Inflate(payload);
            (_topic, _payload) = inflated is null ? (topic, payload) : (topic.Inflated(), inflated);
        }

        IsJson = Utf8.IsValid(_payload) && IsObjectOrArray(_payload);
        ObjectDeviceId = IsJson && topic.IsMessagesUp ? ObjectIdIn(deviceId, _payload) : null;
    }

    public override DeviceId? ObjectDeviceId { get; }

    private bool IsJson { get; }

    public override byte[] Write(DeviceId aboutId, DeviceHeader header, PushShape shape) => PushJson.Write(
        Subject, SubjectEvent, At, new RequestId(PushJson.IdOf(DeviceId, Subject, Number), _topic.RequestId), shape, (message: this, aboutId, header, shape), static (json, data) =>
        {
            if (data.shape != PushShape.Flat) data.message.WriteHeaderAndBody(json, data.aboutId, data.header);
            if (data.shape != PushShape.HeaderBody) data.message.WriteFlat(json, data.aboutId);
        });

    // The manual's flat message is a string; the topic is added, nobody could tell user topics apart without it.
    private void WriteFlat(Utf8JsonWriter json, DeviceId aboutId)
    {
        json.WriteString("device_id", aboutId.Value);
        json.WriteString("topic", _topic.Name);
        json.WritePropertyName("message");
        WriteText(json);
        json.WriteString("event_time", PushJson.Compact(At));
        PushJson.WriteError(json, _error);
    }

    private void WriteHeaderAndBody(Utf8JsonWriter json, DeviceId aboutId, DeviceHeader header)
    {
        PushJson.WriteHeader(json, aboutId, header);
        json.WriteStartObject("body");
        json.WriteString("topic", _topic.Name);
        json.WritePropertyName("content");
        if (IsJson) json.WriteRawValue(_payload.AsSpan().Trim(" \t\r\n"u8), skipInputValidation: true);
        else WriteText(json);
        PushJson.WriteError(json, _error);
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
