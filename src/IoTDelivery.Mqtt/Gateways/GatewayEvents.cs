using System.Buffers;
using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using IoTDelivery.Domain;
using MQTTnet.Packets;

namespace IoTDelivery.Mqtt;

/// <summary>
/// What a gateway is told about its sub-devices, on its <c>sys/events/down</c> at QoS 0. As the answer to a request for
/// the time it goes to the gateway subscribed or not: official SDKs that never subscribe wait for it too.
/// </summary>
internal sealed class GatewayEvents(DeviceId gateway, TimeProvider clock)
{
    /// <summary>Sub-devices in one notification: the official C SDK reads no more.</summary>
    public const int NoticeMax = 10;

    private static readonly JsonWriterOptions AsUtf8 = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>
    /// Changes in their order, as few notifications as can be. Each has the version of its last change: a gateway that
    /// heard a part of them asks for the rest.
    /// </summary>
    public IEnumerable<MqttPublishPacket> Notices(IReadOnlyList<SubDeviceChanged> changes)
    {
        for (var from = 0; from < changes.Count;)
        {
            var isDeletion = changes[from].Info is null;
            var to = from + 1;
            while (to < changes.Count && to - from < NoticeMax && changes[to].Info is null == isDeletion) to++;
            yield return Notice([.. changes.Skip(from).Take(to - from)], isDeletion);
            from = to;
        }
    }

    public MqttPublishPacket Added(
        string? eventId,
        IEnumerable<SubDeviceInfo> added,
        IEnumerable<(JsonElement Asked, SubDeviceError Error)> failed) =>
        Event("add_sub_device_response", eventId ?? NewId(), json =>
        {
            json.WriteStartArray("successful_devices");
            foreach (var device in added) Write(json, device);
            json.WriteEndArray();
            json.WriteStartArray("failed_devices");
            foreach (var (asked, error) in failed)
            {
                json.WriteStartObject();
                json.WriteString("node_id", EventsUp.Text(asked, "node_id", EventsUp.IdMax) ?? "");
                json.WriteString("product_id", EventsUp.Text(asked, "product_id", EventsUp.IdMax) ?? "");
                Write(json, error);
                json.WriteEndObject();
            }

            json.WriteEndArray();
        });

    public MqttPublishPacket Deleted(
        string? eventId, IEnumerable<string> deleted, IEnumerable<(string DeviceId, SubDeviceError Error)> failed) =>
        Event("delete_sub_device_response", eventId ?? NewId(), json =>
        {
            json.WriteStartArray("successful_devices");
            foreach (var id in deleted) json.WriteStringValue(id);
            json.WriteEndArray();
            WriteFailed(json, failed);
        });

    public MqttPublishPacket StatusUpdated(
        string? eventId,
        IEnumerable<SubDeviceStatus> noted,
        IEnumerable<(string DeviceId, SubDeviceError Error)> failed) =>
        Event("sub_device_update_status_response", eventId ?? NewId(), json =>
        {
            json.WriteStartArray("successful_devices");
            foreach (var status in noted)
            {
                json.WriteStartObject();
                json.WriteString("device_id", status.DeviceId);
                json.WriteString("status", status.Status);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            WriteFailed(json, failed);
        });

    // The version stands before the devices: the official C SDK takes the first one it finds in the text.
    private MqttPublishPacket Notice(SubDeviceChanged[] changes, bool isDeletion) =>
        Event(isDeletion ? "delete_sub_device_notify" : "add_sub_device_notify", eventId: null, json =>
        {
            json.WriteNumber("version", changes[^1].Version);
            json.WriteStartArray("devices");
            foreach (var change in changes)
            {
                if (change.Info is { } info)
                {
                    Write(json, info);
                    continue;
                }

                json.WriteStartObject();
                json.WriteString("parent_device_id", change.ParentId);
                json.WriteString("node_id", change.NodeId);
                json.WriteString("device_id", change.DeviceId);
                json.WriteEndObject();
            }

            json.WriteEndArray();
        });

    private MqttPublishPacket Event(string type, string? eventId, Action<Utf8JsonWriter> writeParas)
    {
        var bytes = new ArrayBufferWriter<byte>(1024);
        using (var json = new Utf8JsonWriter(bytes, AsUtf8))
        {
            json.WriteStartObject();
            json.WriteString("object_device_id", gateway.Value);
            json.WriteStartArray("services");
            json.WriteStartObject();
            json.WriteString("service_id", EventsUp.SubDeviceManager);
            json.WriteString("event_type", type);
            var at = clock.GetUtcNow().UtcDateTime;
            json.WriteString("event_time", at.ToString("yyyyMMdd'T'HHmmss'Z'", CultureInfo.InvariantCulture));
            if (eventId is not null) json.WriteString("event_id", eventId);
            json.WriteStartObject("paras");
            writeParas(json);
            json.WriteEndObject();
            json.WriteEndObject();
            json.WriteEndArray();
            json.WriteEndObject();
        }

        return new MqttPublishPacket
        {
            Topic = SystemTopics.EventsDown(gateway),
            PayloadSegment = bytes.WrittenSpan.ToArray(),
        };
    }

    private static void Write(Utf8JsonWriter json, SubDeviceInfo info)
    {
        json.WriteStartObject();
        json.WriteString("parent_device_id", info.ParentId);
        json.WriteString("node_id", info.NodeId);
        json.WriteString("device_id", info.DeviceId);
        json.WriteString("name", info.Name ?? info.NodeId);
        if (info.Description is not null) json.WriteString("description", info.Description);
        json.WriteString("product_id", info.ProductId);
        if (info.FwVersion is not null) json.WriteString("fw_version", info.FwVersion);
        if (info.SwVersion is not null) json.WriteString("sw_version", info.SwVersion);
        json.WriteString("status", info.Status);
        if (info.ExtensionInfo is not null)
        {
            json.WritePropertyName("extension_info");
            json.WriteRawValue(info.ExtensionInfo, skipInputValidation: true);
        }

        json.WriteEndObject();
    }

    private static void WriteFailed(Utf8JsonWriter json, IEnumerable<(string DeviceId, SubDeviceError Error)> failed)
    {
        json.WriteStartArray("failed_devices");
        foreach (var (deviceId, error) in failed)
        {
            json.WriteStartObject();
            json.WriteString("device_id", deviceId);
            Write(json, error);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void Write(Utf8JsonWriter json, SubDeviceError error)
    {
        json.WriteString("error_code", error.Code);
        json.WriteString("error_msg", error.Message);
    }

    // The manual demands one in every answer.
    private static string NewId() => Guid.NewGuid().ToString("D");
}
