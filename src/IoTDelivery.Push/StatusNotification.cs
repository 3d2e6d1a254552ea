using System.Buffers;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using IoTDelivery.Domain;

namespace IoTDelivery.Push;

/// <summary>The JSON an application receives: <c>device.message.status</c> / <c>update</c>. The same notification always gives the same bytes.</summary>
public static class StatusNotification
{
    /// <summary>The <c>resource</c> rules must name to receive it.</summary>
    public const string Resource = "device.message.status";

    /// <summary>The <c>event</c> rules must name to receive it.</summary>
    public const string Event = "update";

    // Names may be in any script: they go out as UTF-8 and not as escapes.
    private static readonly JsonWriterOptions AsUtf8 = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    [ThreadStatic] private static ArrayBufferWriter<byte>? _buffer;
    [ThreadStatic] private static Utf8JsonWriter? _writer;

    /// <summary>The body of the POST.</summary>
    public static byte[] Write(DeviceId deviceId, Notification notification, DeviceHeader header, PushShape shape)
    {
        var buffer = _buffer ??= new ArrayBufferWriter<byte>(1024);
        var json = _writer ??= new Utf8JsonWriter(buffer, AsUtf8);
        buffer.ResetWrittenCount();
        json.Reset();

        json.WriteStartObject();
        json.WriteString("resource", Resource);
        json.WriteString("event", Event);
        json.WriteString("event_time", Compact(notification.At));
        if (shape == PushShape.HeaderBody) json.WriteString("event_time_ms", Millis(notification.At));
        json.WriteString("request_id", RequestId(deviceId, notification.Number));
        json.WriteStartObject("notify_data");
        if (shape == PushShape.HeaderBody) WriteHeaderAndBody(json, deviceId, notification, header);
        else WriteFlat(json, deviceId, notification);
        json.WriteEndObject();
        json.WriteEndObject();
        json.Flush();
        return buffer.WrittenSpan.ToArray();
    }

    /// <summary>The same for every repetition, whoever sends it and when: receivers drop what they know by it.</summary>
    public static Guid RequestId(DeviceId deviceId, long number)
    {
        Span<byte> text = stackalloc byte[160]; // 128 for the device id, 1 for the slash, 20 for the number
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        Encoding.UTF8.TryGetBytes(deviceId.Value, text, out var length);
        text[length++] = (byte)'/';
        number.TryFormat(text[length..], out var digits, provider: CultureInfo.InvariantCulture);
        SHA256.HashData(text[..(length + digits)], hash);
        hash[6] = (byte)((hash[6] & 0x0F) | 0x80); // RFC 9562: version 8, made by a recipe of our own
        hash[8] = (byte)((hash[8] & 0x3F) | 0x80);
        return new Guid(hash[..16], bigEndian: true);
    }

    private static void WriteFlat(Utf8JsonWriter json, DeviceId deviceId, Notification notification)
    {
        json.WriteString("message_id", notification.MessageId.Value);
        if (notification.Name is { } name) json.WriteString("name", name);
        json.WriteString("device_id", deviceId.Value);
        WriteStatus(json, notification);
    }

    // The manual's sample closes notify_data before "body"; its field tables, its SQL and its consumers have "body" inside.
    private static void WriteHeaderAndBody(Utf8JsonWriter json, DeviceId deviceId, Notification notification, DeviceHeader header)
    {
        json.WriteStartObject("header");
        if (header.AppId is { } appId) json.WriteString("app_id", appId);
        json.WriteString("device_id", deviceId.Value);
        json.WriteString("node_id", header.NodeId);
        json.WriteString("product_id", header.ProductId);
        json.WriteString("gateway_id", header.GatewayId ?? deviceId.Value);
        json.WriteEndObject();
        json.WriteStartObject("body");
        json.WriteString("topic", notification.Topic);
        json.WriteString("message_id", notification.MessageId.Value);
        if (notification.Name is { } name) json.WriteString("name", name);
        WriteStatus(json, notification);
        json.WriteEndObject();
    }

    private static void WriteStatus(Utf8JsonWriter json, Notification notification)
    {
        json.WriteString("status", notification.Status.OnTheWire());
        json.WriteString("timestamp", Compact(notification.At));
        if (notification.Error is not { } error) return;
        json.WriteStartObject("error_info");
        json.WriteString("error_code", error.Code);
        json.WriteString("error_msg", error.Text);
        json.WriteEndObject();
    }

    private static string Compact(DateTimeOffset at) => at.UtcDateTime.ToString("yyyyMMdd'T'HHmmss'Z'", CultureInfo.InvariantCulture);

    private static string Millis(DateTimeOffset at) => at.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);
}
