using System.Globalization;
using System.Text;
using System.Text.Json;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>The JSON an application receives: <c>device.message.status</c> / <c>update</c>. The same notification always gives the same bytes.</summary>
public static class StatusNotification
{
    /// <summary>The <c>resource</c> rules must name to receive it.</summary>
    public const string Resource = "device.message.status";

    /// <summary>The <c>event</c> rules must name to receive it.</summary>
    public const string Event = "update";

    /// <summary>The body of the POST.</summary>
    public static byte[] Write(DeviceId deviceId, Notification notification, DeviceHeader header, PushShape shape) => PushJson.Write(
        Resource, Event, notification.At, RequestId(deviceId, notification.Number), shape, (deviceId, notification, header, shape), static (json, data) =>
        {
            if (data.shape != PushShape.Flat) WriteHeaderAndBody(json, data.deviceId, data.notification, data.header);
            if (data.shape != PushShape.HeaderBody) WriteFlat(json, data.deviceId, data.notification);
        });

    /// <summary>The same for every repetition, whoever sends it and when: receivers drop what they know by it.</summary>
    public static Guid RequestId(DeviceId deviceId, long number)
    {
        Span<byte> text = stackalloc byte[160]; // 128 for the device id, 1 for the slash, 20 for the number
        Encoding.UTF8.TryGetBytes(deviceId.Value, text, out var length);
        text[length++] = (byte)'/';
        number.TryFormat(text[length..], out var digits, provider: CultureInfo.InvariantCulture);
        return PushJson.IdOf(text[..(length + digits)]);
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
        PushJson.WriteHeader(json, deviceId, header);
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
        json.WriteString("timestamp", PushJson.Compact(notification.At));
        PushJson.WriteError(json, notification.Error);
    }
}
