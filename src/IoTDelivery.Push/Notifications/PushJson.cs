using System.Buffers;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>What all notifications have in common.</summary>
internal static class PushJson
{
    private const int BufferMax = 64 * 1024; // kept by a thread; what a device published may be larger, once

    // Names may be in any script: they go out as UTF-8 and not as escapes.
    private static readonly JsonWriterOptions AsUtf8 = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    [ThreadStatic] private static ArrayBufferWriter<byte>? _buffer;
    [ThreadStatic] private static Utf8JsonWriter? _writer;

    /// <summary>The body of a POST; <paramref name="writeData"/> writes the members of <c>notify_data</c>.</summary>
    public static byte[] Write<T>(string resource, string @event, DateTimeOffset at, RequestId requestId, PushShape shape, T data, Action<Utf8JsonWriter, T> writeData)
    {
        if (_buffer is { Capacity: > BufferMax }) (_buffer, _writer) = (null, null);
        var buffer = _buffer ??= new ArrayBufferWriter<byte>(1024);
        var json = _writer ??= new Utf8JsonWriter(buffer, AsUtf8);
        buffer.ResetWrittenCount();
        json.Reset();

        json.WriteStartObject();
        json.WriteString("resource", resource);
        json.WriteString("event", @event);
        json.WriteString("event_time", Compact(at));
        if (shape != PushShape.Flat) json.WriteString("event_time_ms", Millis(at));
        if (requestId.Given is { } given) json.WriteString("request_id", given);
        else json.WriteString("request_id", requestId.Made);
        json.WriteStartObject("notify_data");
        writeData(json, data);
        json.WriteEndObject();
        json.WriteEndObject();
        json.Flush();
        return buffer.WrittenSpan.ToArray();
    }

    /// <summary>
    /// The <c>header</c> of the header-and-body shape. <c>app_id</c> is always there, empty for a device of no resource
    /// space: receivers read it without asking.
    /// </summary>
    public static void WriteHeader(Utf8JsonWriter json, DeviceId deviceId, DeviceHeader header)
    {
        json.WriteStartObject("header");
        json.WriteString("app_id", header.AppId ?? "");
        json.WriteString("device_id", deviceId.Value);
        json.WriteString("node_id", header.NodeId);
        json.WriteString("product_id", header.ProductId);
        json.WriteString("gateway_id", header.GatewayId ?? deviceId.Value);
        json.WriteEndObject();
    }

    /// <summary>Why, as <c>error_info</c>; nothing if there is nothing to say.</summary>
    public static void WriteError(Utf8JsonWriter json, ErrorInfo? error)
    {
        if (error is null) return;
        json.WriteStartObject("error_info");
        json.WriteString("error_code", error.Code);
        json.WriteString("error_msg", error.Text);
        json.WriteEndObject();
    }

    /// <summary>The hash of a text as an id.</summary>
    public static Guid IdOf(ReadOnlySpan<byte> text)
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(text, hash);
        hash[6] = (byte)((hash[6] & 0x0F) | 0x80); // RFC 9562: version 8, made by a recipe of our own
        hash[8] = (byte)((hash[8] & 0x3F) | 0x80);
        return new Guid(hash[..16], bigEndian: true);
    }

    /// <summary>The same for every repetition, whoever sends it and when: receivers drop what they know by it.</summary>
    public static Guid IdOf(DeviceId deviceId, string resource, long number) =>
        IdOf(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{deviceId.Value}/{resource}/{number}")));

    public static string Compact(DateTimeOffset at) => at.UtcDateTime.ToString("yyyyMMdd'T'HHmmss'Z'", CultureInfo.InvariantCulture);

    public static string Millis(DateTimeOffset at) => at.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);
}

/// <summary>A <c>request_id</c>: the device's own, or one made here.</summary>
internal readonly record struct RequestId(Guid Made, string? Given = null)
{
    public static implicit operator RequestId(Guid made) => new(made);
}
