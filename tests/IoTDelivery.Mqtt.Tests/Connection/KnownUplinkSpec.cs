using System.Text;
using System.Text.Json;
using IoTDelivery.Registry;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;

namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>What official SDKs say right after CONNACK: acknowledged, answered where there is an answer, never a reason to close.</summary>
public sealed class KnownUplinkSpec : StageSpec
{
    private const string TimeSync =
        """{"object_device_id":"product_node-1","services":[{"service_id":"$time_sync","event_type":"time_sync_request","paras":{"device_send_time":17}}]}""";

    [Theory]
    [InlineData(MqttProtocolVersion.V311)]
    [InlineData(MqttProtocolVersion.V500)]
    public async Task A_device_that_asks_for_the_time_is_answered_though_it_has_subscribed_nothing(MqttProtocolVersion version)
    {
        var running = await Open(Given.Connect(version), clock: new ManualClock());

        await running.Client.SendAsync(Event(TimeSync));

        var answer = await running.Client.ReceiveAsync<MqttPublishPacket>();
        Assert.Equal(($"$oc/devices/{Given.DeviceId}/sys/events/down", MqttQualityOfServiceLevel.AtMostOnce), (answer.Topic, answer.QualityOfServiceLevel));
        var service = JsonSerializer.Deserialize<JsonElement>(answer.Payload.FirstSpan).GetProperty("services")[0];
        var noon = Given.Noon.ToUnixTimeMilliseconds();
        Assert.Equal(("$time_sync", "time_sync_response", "20260301T120000Z"), (Text("service_id"), Text("event_type"), Text("event_time")));
        Assert.Equal((17L, noon, noon), (Time("device_send_time"), Time("server_recv_time"), Time("server_send_time")));
        Assert.Equal(7, (await running.Client.ReceiveAsync<MqttPubAckPacket>()).PacketIdentifier);

        string? Text(string name) => service.GetProperty(name).GetString();
        long Time(string name) => service.GetProperty("paras").GetProperty(name).GetInt64();
    }

    [Fact]
    public async Task Each_asking_is_answered_once_and_a_client_that_does_not_read_gets_no_more_than_it_takes()
    {
        var running = await Open(window: 1024);

        var sending = Task.Run(async () =>
        {
            for (var i = 0; i < 3000; i++) await running.Client.SendAsync(Event(TimeSync, qos: 0));
        });
        await Region.ExpectNoMsgAsync(Silence);
        Assert.False(sending.IsCompleted); // nothing more is read from it

        for (var i = 0; i < 3000; i++) await running.Client.ReceiveAsync<MqttPublishPacket>();
        await sending;
        await running.Client.SendAsync(MqttPingReqPacket.Instance);
        await running.Client.ReceiveAsync<MqttPingRespPacket>();
    }

    // [MQTT-3.1.2-25] of MQTT 5
    [Fact]
    public async Task An_answer_larger_than_the_client_takes_is_left_out()
    {
        var running = await Open(Given.Connect(MqttProtocolVersion.V500) with { PacketBytesMax = 100 });

        await running.Client.SendAsync(Event(TimeSync));

        await running.Client.ReceiveAsync<MqttPubAckPacket>();
    }

    [Fact]
    public async Task What_a_device_says_of_its_software_is_told()
    {
        var told = new TaskCompletionSource<SdkInfo>();
        ReportSdkInfo = (_, info) => told.TrySetResult(info);
        var running = await Open();

        await running.Client.SendAsync(Event("""{"services":[{"service_id":"$sdk_info","event_type":"sdk_info_report","paras":{"device_sdk_version":"s","sw_version":"w","fw_version":"f"}}]}"""));

        Assert.Equal(new SdkInfo("s", "w", "f"), await Soon(told.Task));
        await running.Client.ReceiveAsync<MqttPubAckPacket>();
    }

    [Theory]
    [InlineData("sys/events/up", "{ broken")]
    [InlineData("sys/events/up", """{"services":[{"service_id":"$log","event_type":"log_report"}]}""")]
    [InlineData("sys/events/up", """{"services":[{"service_id":"$unheard_of"}]}""")]
    [InlineData("sys/shadow/get/request_id=4711", "{}")]
    [InlineData("sys/properties/report", "{}")]
    [InlineData("sys/properties/set/response/request_id=1", "{}")]
    [InlineData("sys/properties/get/response/request_id=1", "{}")]
    [InlineData("sys/commands/response/request_id=1", "{}")]
    [InlineData("sys/gateway/sub_devices/properties/report", "{}")]
    [InlineData("sys/messages/up", "anything")]
    [InlineData("user/of/the/product", "anything")]
    public async Task Every_known_uplink_is_acknowledged_and_the_connection_stays(string topic, string payload)
    {
        var running = await Open();

        await running.Client.SendAsync(Event(payload, topic: topic), MqttPingReqPacket.Instance);

        Assert.Equal(7, (await running.Client.ReceiveAsync<MqttPubAckPacket>()).PacketIdentifier);
        await running.Client.ReceiveAsync<MqttPingRespPacket>();
    }

    private static MqttPublishPacket Event(string payload, int qos = 1, string topic = "sys/events/up")
    {
        var publish = Given.Publish($"$oc/devices/{Given.DeviceId}/{topic}", qos);
        publish.PayloadSegment = Encoding.UTF8.GetBytes(payload);
        return publish;
    }
}
