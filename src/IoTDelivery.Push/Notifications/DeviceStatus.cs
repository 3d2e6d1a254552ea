using System.Text.Json;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>A device came online or went: <c>device.status</c> / <c>update</c>.</summary>
internal sealed class DeviceStatus(StatusChange change) : VolatileNotification(
    DeviceId.Parse(change.DeviceId), NumberOf(change), StatusChanges.Resource, StatusChanges.Event, DateTimeOffset.FromUnixTimeMilliseconds(change.ChangedAt))
{
    public StatusChange Change => change;

    // A device that is gone has no state any more, and its row is to go.
    public override bool IsKeptElsewhere => true;

    /// <summary>The millisecond and the state: a change that is told again, by whomever, has the same number.</summary>
    public static long NumberOf(StatusChange change) => (change.ChangedAt << 1) | (change.Status == StatusChange.Online ? 1L : 0L);

    public override byte[] Write(DeviceId aboutId, DeviceHeader header, PushShape shape) => PushJson.Write(
        Resource, Event, At, PushJson.IdOf(DeviceId, Resource, Number), shape, (change, aboutId, header, shape), static (json, data) =>
        {
            if (data.shape != PushShape.Flat) WriteHeaderAndBody(json, data.change, data.aboutId, data.header);
            if (data.shape != PushShape.HeaderBody) WriteFlat(json, data.change, data.aboutId, data.header);
        });

    private static void WriteFlat(Utf8JsonWriter json, StatusChange change, DeviceId deviceId, DeviceHeader header)
    {
        json.WriteString("app_id", header.AppId ?? "");
        json.WriteString("device_id", deviceId.Value);
        json.WriteString("status", change.Status);
        json.WriteString("timestamp", PushJson.Compact(DateTimeOffset.FromUnixTimeMilliseconds(change.ChangedAt)));
    }

    private static void WriteHeaderAndBody(Utf8JsonWriter json, StatusChange change, DeviceId deviceId, DeviceHeader header)
    {
        PushJson.WriteHeader(json, deviceId, header);
        json.WriteStartObject("body");
        json.WriteString("last_online_time", PushJson.Millis(DateTimeOffset.FromUnixTimeMilliseconds(change.LastOnlineAt)));
        json.WriteString("status", change.Status);
        json.WriteString("status_update_time", PushJson.Millis(DateTimeOffset.FromUnixTimeMilliseconds(change.ChangedAt)));
        json.WriteEndObject();
    }
}
