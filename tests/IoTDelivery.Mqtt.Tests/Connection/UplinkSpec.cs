using System.Buffers;
using System.Text;
using System.Threading.Channels;
using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>Chapters 4.3, 4.4 and 4.6: a PUBLISH of the device is acknowledged when somebody has taken it, in order, and never more wait than agreed.</summary>
public sealed class UplinkSpec : StageSpec
{
    private readonly Channel<Taking> _takings = Channel.CreateUnbounded<Taking>();

    public UplinkSpec() => TakeUplink = (deviceId, topic, payload) =>
    {
        var taking = new Taking(deviceId, topic, Encoding.UTF8.GetString(payload.ToArray()));
        _takings.Writer.TryWrite(taking);
        return new ValueTask(taking.Taken.Task);
    };

    [Theory]
    [InlineData(MqttProtocolVersion.V311, 1)]
    [InlineData(MqttProtocolVersion.V311, 2)]
    [InlineData(MqttProtocolVersion.V500, 1)]
    [InlineData(MqttProtocolVersion.V500, 2)]
    public async Task A_PUBLISH_is_acknowledged_when_it_is_taken_and_not_before(MqttProtocolVersion version, int qos)
    {
        var running = await Open(Given.Connect(version));

        await running.Client.SendAsync(Given.Publish(Given.Up, qos, id: 7), MqttPingReqPacket.Instance);
        await running.Client.ReceiveAsync<MqttPingRespPacket>(); // came later, is answered first
        var taking = await NextAsync();
        Assert.Equal((Given.DeviceId, Given.Up, "hi"), (taking.DeviceId, taking.Topic, taking.Payload));

        taking.Taken.SetResult();
        var acknowledged = await running.Client.ReceiveAsync();
        Assert.Equal(7, qos == 1 ? Assert.IsType<MqttPubAckPacket>(acknowledged).PacketIdentifier : Assert.IsType<MqttPubRecPacket>(acknowledged).PacketIdentifier);
    }

    // [MQTT-4.6.0-2], [MQTT-4.6.0-3]
    [Fact]
    public async Task Acknowledgements_go_in_the_order_of_the_PUBLISHes_whatever_is_taken_first()
    {
        var running = await Open(Given.Connect(MqttProtocolVersion.V500));
        await running.Client.SendAsync(
            Given.Publish(Given.Up, 1, id: 1), Given.Publish(Given.Up, 2, id: 2), Given.Publish(Given.Up, 0), Given.Publish("$oc/devices/other/sys/messages/up", 1, id: 3));
        var (first, second, third) = (await NextAsync(), await NextAsync(), await NextAsync());

        third.Taken.SetResult();
        second.Taken.SetResult();
        await running.Client.SendAsync(MqttPingReqPacket.Instance);
        await running.Client.ReceiveAsync<MqttPingRespPacket>();
        first.Taken.SetResult();

        Assert.Equal(1, (await running.Client.ReceiveAsync<MqttPubAckPacket>()).PacketIdentifier);
        Assert.Equal(2, (await running.Client.ReceiveAsync<MqttPubRecPacket>()).PacketIdentifier);
        var refused = await running.Client.ReceiveAsync<MqttPubAckPacket>();
        Assert.Equal((3, MqttPubAckReasonCode.NotAuthorized), (refused.PacketIdentifier, refused.ReasonCode));
    }

    [Fact]
    public async Task What_comes_down_goes_on_and_is_acknowledged_while_the_window_is_full()
    {
        var running = await Open(options: Options with { ReceiveMax = 1 });
        await running.Client.SendAsync(Given.Publish(Given.Up, 1, id: 1));
        await NextAsync();

        running.Stage.Tell(Given.Transmit(77), Device.Ref);
        await running.Client.ReceiveAsync<MqttPublishPacket>();
        await running.Client.SendAsync(new MqttPubAckPacket { PacketIdentifier = 77 });

        Assert.Equal(77, (await Device.ExpectMsgAsync<ToDevice.PacketAcknowledged>()).Tag);
    }

    [Theory]
    [InlineData(MqttProtocolVersion.V311)]
    [InlineData(MqttProtocolVersion.V500)]
    public async Task A_PUBLISH_beyond_the_window_and_what_is_behind_it_wait_in_the_pipe(MqttProtocolVersion version)
    {
        var running = await Open(Given.Connect(version), Options with { ReceiveMax = 2 });
        await running.Client.SendAsync(
            Given.Publish(Given.Up, 1, id: 1), Given.Publish(Given.Up, 0), MqttPingReqPacket.Instance, Given.Publish(Given.Up, 1, id: 3), MqttPingReqPacket.Instance);
        var (first, second) = (await NextAsync(), await NextAsync());

        await running.Client.ReceiveAsync<MqttPingRespPacket>(); // the one before it
        Assert.False(_takings.Reader.TryRead(out _));
        first.Taken.SetResult();

        Assert.Equal(1, (await running.Client.ReceiveAsync<MqttPubAckPacket>()).PacketIdentifier);
        await running.Client.ReceiveAsync<MqttPingRespPacket>();
        var third = await NextAsync();
        third.Taken.SetResult();
        second.Taken.SetResult();
        Assert.Equal(3, (await running.Client.ReceiveAsync<MqttPubAckPacket>()).PacketIdentifier);
    }

    [Fact]
    public async Task When_the_node_holds_too_much_each_connection_still_has_room_for_one()
    {
        var options = Options with { UplinkBytesMax = 1 };
        var (one, other) = (await Open(options: options), await Open(options: options));
        await one.Client.SendAsync(Given.Publish(Given.Up, 1, id: 1), Given.Publish(Given.Up, 1, id: 2));
        var first = await NextAsync();
        await other.Client.SendAsync(Given.Publish(Given.Up, 1, id: 3));
        (await NextAsync()).Taken.SetResult();

        Assert.Equal(3, (await other.Client.ReceiveAsync<MqttPubAckPacket>()).PacketIdentifier);
        Assert.True(one.Client.HearsNothing());
        first.Taken.SetResult();
        Assert.Equal(1, (await one.Client.ReceiveAsync<MqttPubAckPacket>()).PacketIdentifier);
        (await NextAsync()).Taken.SetResult();
        Assert.Equal(2, (await one.Client.ReceiveAsync<MqttPubAckPacket>()).PacketIdentifier);
    }

    [Fact]
    public async Task A_client_we_do_not_listen_to_is_not_closed_for_its_silence_but_when_its_transport_is_gone()
    {
        var clock = new ManualClock();
        using var gone = new CancellationTokenSource();
        var running = Run(Given.Connect(keepAlive: TimeSpan.FromMilliseconds(200)), Options with { ReceiveMax = 1 }, clock: clock);
        running.Client.Connection.ConnectionClosed = gone.Token;
        await AttachAsync();
        await running.Client.ReceiveAsync<MqttConnAckPacket>();
        await running.Client.SendAsync(Given.Publish(Given.Up, 1, id: 1), Given.Publish(Given.Up, 1, id: 2));
        await NextAsync();

        clock.Advance(TimeSpan.FromMinutes(1));
        await Task.WhenAny(running.Ended, Task.Delay(TimeSpan.FromMilliseconds(600))); // twice the time to look at the clock
        Assert.False(running.Ended.IsCompleted);

        gone.Cancel();
        Assert.Equal("connection lost", (await Soon(running.Ended)).Why);
    }

    [Fact]
    public async Task A_connection_that_ends_leaves_what_was_not_taken_unacknowledged()
    {
        var running = await Open();
        await running.Client.SendAsync(Given.Publish(Given.Up, 1, id: 1), new MqttDisconnectPacket());

        Assert.Equal("disconnect", (await Soon(running.Ended)).Why);
        (await NextAsync()).Taken.SetResult();
        Assert.True(running.Client.HearsNothing());
    }

    private Task<Taking> NextAsync() => Soon(_takings.Reader.ReadAsync().AsTask());

    private sealed record Taking(DeviceId DeviceId, string Topic, string Payload)
    {
        public TaskCompletionSource Taken { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
