using System.Text.Json;
using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>What the device sends down, and how the connection answers for it.</summary>
public sealed class TransmitSpec : StageSpec
{
    private const int Narrow = 1; // the transport takes nothing more until the client has read everything

    [Fact]
    public async Task The_tag_is_the_packet_id_and_its_PUBACK_goes_back_to_the_device()
    {
        var running = await Open();

        running.Stage.Tell(Given.Transmit(300, qos: 1, dup: true), Device.Ref);
        var publish = await running.Client.ReceiveAsync<MqttPublishPacket>();
        await running.Client.SendAsync(new MqttPubAckPacket { PacketIdentifier = publish.PacketIdentifier });

        Assert.Equal((300, true), (publish.PacketIdentifier, publish.Dup));
        Assert.Equal(Answer(running, 300, qos: 1), await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>());
    }

    [Fact]
    public async Task The_reason_code_of_MQTT_5_goes_back_too()
    {
        var running = await Open(Given.Connect(MqttProtocolVersion.V500));

        await running.Client.SendAsync(new MqttPubAckPacket { PacketIdentifier = 3, ReasonCode = MqttPubAckReasonCode.UnspecifiedError });

        Assert.Equal(Answer(running, 3, qos: 1, code: 0x80), await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>());
    }

    [Fact]
    public async Task QoS_0_is_answered_for_when_the_transport_has_taken_the_bytes_and_not_before()
    {
        var running = await Open(window: Narrow);

        running.Stage.Tell(Given.Transmit(4, qos: 0), Device.Ref);
        await Device.ExpectNoMsgAsync(Silence);
        await running.Client.ReceiveAsync<MqttPublishPacket>();

        Assert.Equal(Answer(running, 4, qos: 0), await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>());
    }

    [Fact]
    public async Task QoS_0_whose_bytes_were_never_taken_is_not_answered_for()
    {
        var running = await Open(options: Options with { WriteTimeout = TimeSpan.FromMilliseconds(200) }, window: Narrow);

        running.Stage.Tell(Given.Transmit(4, qos: 0), Device.Ref);

        await Device.ExpectMsgAsync<ToDevice.Detach>();
        await Device.ExpectNoMsgAsync(TimeSpan.Zero); // what it says, it says before the end
        Assert.Equal("client does not read", (await Soon(running.Ended)).Why);
        Assert.True(running.Client.Connection.ConnectionClosed.IsCancellationRequested || await Cancelled(running.Client.Connection.ConnectionClosed));
    }

    [Fact]
    public async Task Messages_arrive_in_the_order_they_were_sent()
    {
        var running = await Open();

        for (ushort tag = 1; tag <= 200; tag++) running.Stage.Tell(Given.Transmit(tag), Device.Ref);

        for (ushort tag = 1; tag <= 200; tag++) Assert.Equal(tag, (await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier);
    }

    [Fact]
    public async Task A_repetition_of_what_is_still_queued_is_dropped()
    {
        var running = await Open(window: Narrow);
        running.Stage.Tell(Given.Transmit(1), Device.Ref); // fills the transport
        await Region.ExpectNoMsgAsync(Silence);

        running.Stage.Tell(Given.Transmit(2), Device.Ref);
        for (var i = 0; i < 50; i++) running.Stage.Tell(Given.Transmit(2, dup: true), Device.Ref);
        running.Stage.Tell(Given.Transmit(3), Device.Ref);

        foreach (var tag in new[] { 1, 2, 3 }) Assert.Equal(tag, (await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier);
    }

    // A message that was told TIMEOUT never goes out.
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task What_ended_while_it_waited_for_the_transport_is_skipped_and_its_packet_is_given_back(int qos)
    {
        var clock = new ManualClock();
        var running = await Open(window: Narrow, clock: clock);
        running.Stage.Tell(Given.Transmit(1), Device.Ref); // fills the transport
        await Region.ExpectNoMsgAsync(Silence);
        running.Stage.Tell(Given.Transmit(2, qos) with { Remaining = TimeSpan.FromSeconds(10) }, Device.Ref);
        running.Stage.Tell(Given.Transmit(3) with { Remaining = TimeSpan.FromSeconds(100) }, Device.Ref);
        await Region.ExpectNoMsgAsync(Silence);

        clock.Advance(TimeSpan.FromSeconds(10));

        Assert.Equal(new[] { 1, 3 }, new int[] { (await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier, (await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier });
        Assert.Equal(Answer(running, 2, qos) with { IsSkipped = true }, await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>());
    }

    [Fact]
    public async Task What_ended_while_it_waited_for_a_place_in_the_Receive_Maximum_is_skipped_too()
    {
        var clock = new ManualClock();
        var running = await Open(Given.Connect(MqttProtocolVersion.V500) with { ReceiveMaximum = 1 }, clock: clock);
        running.Stage.Tell(Given.Transmit(1), Device.Ref);
        running.Stage.Tell(Given.Transmit(2) with { Remaining = TimeSpan.FromSeconds(10) }, Device.Ref);
        await running.Client.ReceiveAsync<MqttPublishPacket>();

        clock.Advance(TimeSpan.FromSeconds(10));
        await running.Client.SendAsync(new MqttPubAckPacket { PacketIdentifier = 1 }, MqttPingReqPacket.Instance);

        await running.Client.ReceiveAsync<MqttPingRespPacket>(); // and no PUBLISH before it
        var heard = new[] { await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>(), await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>() };
        Assert.Equal([(1, false), (2, true)], heard.Select(a => ((int)a.Tag, a.IsSkipped)).Order());
    }

    // MQTT 5 repeats under a fresh packet id.
    [Fact]
    public async Task A_fresh_packet_of_a_message_that_is_still_queued_is_skipped()
    {
        var running = await Open(Given.Connect(MqttProtocolVersion.V500), window: Narrow);
        running.Stage.Tell(Given.Transmit(1), Device.Ref);
        await Region.ExpectNoMsgAsync(Silence);

        running.Stage.Tell(Given.Transmit(2), Device.Ref);
        running.Stage.Tell(Given.Transmit(3) with { MessageId = Given.Transmit(2).MessageId }, Device.Ref);

        Assert.Equal(Answer(running, 3, qos: 1) with { IsSkipped = true }, await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>());
    }

    [Fact]
    public async Task An_acknowledgement_is_told_again_until_the_device_has_taken_it_and_once_more_before_the_end()
    {
        var running = await Open();
        running.Stage.Tell(Given.Transmit(1), Device.Ref);
        await running.Client.ReceiveAsync<MqttPublishPacket>();
        await running.Client.SendAsync(new MqttPubAckPacket { PacketIdentifier = 1 });
        Assert.Equal(Answer(running, 1, qos: 1), await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>());

        Assert.Equal(Answer(running, 1, qos: 1) with { IsRepeated = true }, await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>(TimeSpan.FromSeconds(10)));
        running.Stage.Tell(new ToConnection.AcknowledgementsTaken(Epoch: 0, UpTo: 1), Device.Ref);
        await running.Client.SendAsync(new MqttPubAckPacket { PacketIdentifier = 2 }, new MqttDisconnectPacket());

        Assert.Equal(2, (await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>()).Tag);
        Assert.Equal((2, true), await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>() is var again ? (again.Tag, again.IsRepeated) : default);
        await Device.ExpectMsgAsync<ToDevice.Detach>(); // behind it
    }

    [Fact]
    public async Task A_queue_beyond_its_bound_ends_the_connection()
    {
        var running = await Open(options: Options with { OutgoingMax = 3, CloseTimeout = TimeSpan.FromMilliseconds(200) }, window: Narrow);
        running.Stage.Tell(Given.Transmit(1), Device.Ref);
        await Region.ExpectNoMsgAsync(Silence);

        for (ushort tag = 2; tag <= 5; tag++) running.Stage.Tell(Given.Transmit(tag), Device.Ref);

        await Device.ExpectMsgAsync<ToDevice.Detach>();
        Assert.Equal("outgoing queue full", (await Soon(running.Ended)).Why);
    }

    [Fact]
    public async Task While_a_client_does_not_read_nothing_is_read_from_it()
    {
        var running = await Open(window: Narrow);
        running.Stage.Tell(Given.Transmit(1), Device.Ref);
        await Region.ExpectNoMsgAsync(Silence); // the flush is pending now

        await running.Client.SendAsync(new MqttPubAckPacket { PacketIdentifier = 1 });
        await Device.ExpectNoMsgAsync(Silence);
        await running.Client.ReceiveAsync<MqttPublishPacket>();

        await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>();
    }

    // [MQTT-3.1.2-24] of MQTT 5
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task A_message_the_client_cannot_take_is_refused_in_its_name(int qos)
    {
        var running = await Open(Given.Connect(MqttProtocolVersion.V500) with { PacketBytesMax = 50 });

        running.Stage.Tell(Given.Transmit(6, qos), Device.Ref);

        Assert.Equal(Answer(running, 6, qos, code: 0x95), await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>());
        await running.Client.SendAsync(MqttPingReqPacket.Instance);
        await running.Client.ReceiveAsync<MqttPingRespPacket>(); // nothing was sent, and the connection lives
    }

    [Fact]
    public async Task A_message_nobody_can_say_is_refused_and_does_not_end_the_connection()
    {
        var running = await Open();

        running.Stage.Tell(Given.Transmit(6, body: Given.Body("not Base64!", encoding: ContentEncoding.Base64)), Device.Ref);
        running.Stage.Tell(Given.Transmit(7), Device.Ref);

        Assert.Equal(Answer(running, 6, qos: 1, code: 0x99), await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>());
        Assert.Equal(7, (await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier);
    }

    [Fact]
    public async Task A_device_that_has_moved_is_not_answered_for_what_its_predecessor_sent()
    {
        var impatient = Options with { AttachRetryMin = TimeSpan.FromMilliseconds(50), AttachRetryMax = TimeSpan.FromMilliseconds(50) };
        var running = await Open(options: impatient, window: Narrow);
        running.Stage.Tell(Given.Transmit(1, qos: 0), Device.Ref); // in the flush
        await Device.ExpectNoMsgAsync(Silence);
        running.Stage.Tell(Given.Transmit(2, qos: 0), Device.Ref); // in the queue

        Sys.Stop(Device.Ref);
        Device = CreateTestProbe();

        // The first one may have been repeated before its answer came.
        var again = (ToDevice.Attach)await Region.FishForMessageAsync(m => m is ToDevice.Attach { Epoch: > 0 });
        Acknowledge(again);
        running.Stage.Tell(Given.Transmit(3, qos: 0) with { Epoch = again.Epoch }, Device.Ref);

        Assert.Equal("message-1", await NextId(running));
        Assert.Equal("message-3", await NextId(running));
        Assert.Equal(Answer(running, 3, qos: 0, epoch: again.Epoch), await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>());
    }

    private static async Task<string?> NextId(Running running)
    {
        var publish = await running.Client.ReceiveAsync<MqttPublishPacket>();
        using var payload = JsonDocument.Parse(publish.Payload);
        return payload.RootElement.GetProperty("id").GetString();
    }

    private static ToDevice.PacketAcknowledged Answer(Running running, ushort tag, int qos, byte code = 0, int epoch = 0) =>
        new(Given.DeviceId, running.Connect.ConnectionId, tag, qos, code, epoch, Sequence: 1);

    private static async Task<bool> Cancelled(CancellationToken token)
    {
        var cancelled = new TaskCompletionSource<bool>();
        using var registration = token.Register(() => cancelled.TrySetResult(true));
        return await Soon(cancelled.Task);
    }
}
