using System.Globalization;
using System.Text.Json;
using IoTDelivery.Domain;
using MQTTnet.Packets;

namespace IoTDelivery.Mqtt;

/// <summary>
/// The answer to <c>time_sync_request</c>, on <c>sys/events/down</c> at QoS 0. It goes to who asked, subscribed or not: official SDKs that never subscribe ask too.
/// </summary>
public static class TimeSyncResponse
{
    public static MqttPublishPacket To(DeviceId deviceId, TimeSyncRequest request, DateTimeOffset receivedAt, DateTimeOffset now) => new()
    {
        Topic = SystemTopics.EventsDown(deviceId),
        PayloadSegment = JsonSerializer.SerializeToUtf8Bytes(new
        {
            object_device_id = request.ObjectDeviceId ?? deviceId.Value,
            services = new[]
            {
                new
                {
                    service_id = "$time_sync",
                    event_type = "time_sync_response",
                    event_time = now.UtcDateTime.ToString("yyyyMMdd'T'HHmmss'Z'", CultureInfo.InvariantCulture),
                    paras = new
                    {
                        device_send_time = request.DeviceSendTime,
                        server_recv_time = receivedAt.ToUnixTimeMilliseconds(),
                        server_send_time = now.ToUnixTimeMilliseconds(),
                    },
                },
            },
        }),
    };
}
