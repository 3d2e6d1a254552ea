using System.Text;
using Akka.Actor;
using Akka.TestKit;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>A gateway's connection and the sub-devices that share it.</summary>
public sealed class SubDevicesSpec : StageSpec
{
    private static readonly DeviceId Plug = DeviceId.Parse("plug"), Bulb = DeviceId.Parse("bulb");

    [Fact]
    public async Task A_gateway_that_comes_attaches_the_sub_devices_that_have_something_waiting_with_its_own_subscriptions()
    {
        WaitingOf = gateway => gateway == Given.DeviceId ? [Plug, Bulb] : [];
        var running = await Open(Given.Connect() with { IsGateway = true });
        var (one, two) = (await Region.ExpectMsgAsync<ToDevice.Attach>(), await Region.ExpectMsgAsync<ToDevice.Attach>());
        Assert.Equal([Bulb, Plug], new[] { one.DeviceId, two.DeviceId }.OrderBy(d => d.Value));
        Assert.All([one, two], a => Assert.Equal((running.Connect.ConnectionId, running.Connect.ConnectedAt, 1), (a.ConnectionId, a.ConnectedAt, a.Wire.MessagesMax)));

        await running.Client.SendAsync(Given.Subscribe((Given.Down, 1)));
        var heard = await ReceiveAttachesAsync(3); // each is told of the change, beside the gateway's own device
        Assert.All(heard, a => Assert.Equal(new Subscription(Given.Down, 1), Assert.Single(a.Subscriptions!.Value)));
        Assert.Equal([2, 2, 2], heard.Select(a => a.Revision));
    }

    [Fact]
    public async Task A_device_without_sub_devices_asks_nobody()
    {
        WaitingOf = _ => [Plug];
        await Open();
        await Region.ExpectNoMsgAsync(Silence);
    }

    [Fact]
    public async Task Its_packets_name_it_under_ids_the_gateway_never_uses_and_the_answer_finds_the_way_back()
    {
        var (running, sub, probe) = await CarryAsync();
        sub.Tell(Given.Transmit(5), probe.Ref);
        var publish = await running.Client.ReceiveAsync<MqttPublishPacket>();
        Assert.True(publish.PacketIdentifier > PacketIds.Max);
        Assert.Contains("\"object_device_id\":\"plug\"", Encoding.UTF8.GetString(publish.Payload));

        sub.Tell(Given.Transmit(5, dup: true), probe.Ref);
        var again = await running.Client.ReceiveAsync<MqttPublishPacket>();
        Assert.Equal((publish.PacketIdentifier, true), (again.PacketIdentifier, again.Dup));

        await running.Client.SendAsync(new MqttPubAckPacket { PacketIdentifier = publish.PacketIdentifier });
        Assert.Equal(new ToDevice.PacketAcknowledged(Plug, running.Connect.ConnectionId, 5, 1, 0, Sequence: 1), await probe.ExpectMsgAsync<ToDevice.PacketAcknowledged>());

        sub.Tell(Given.Transmit(6, qos: 0), probe.Ref);
        await running.Client.ReceiveAsync<MqttPublishPacket>();
        Assert.Equal(new ToDevice.PacketAcknowledged(Plug, running.Connect.ConnectionId, 6, 0, 0, Sequence: 2), await probe.ExpectMsgAsync<ToDevice.PacketAcknowledged>());
    }

    [Fact]
    public async Task Who_asks_for_a_sub_device_is_answered_when_the_sub_device_is_attached()
    {
        var running = await Open();
        var asker = CreateTestProbe();
        running.Stage.Tell(new ToConnection.AttachSubDevice(Plug), asker.Ref);
        var attach = await Region.ExpectMsgAsync<ToDevice.Attach>();
        Assert.Equal(Plug, attach.DeviceId);
        await asker.ExpectNoMsgAsync(Silence);

        Acknowledge(attach);
        Assert.IsType<OutboxReply.Done>(await asker.ExpectMsgAsync<OutboxReply>());
        running.Stage.Tell(new ToConnection.AttachSubDevice(Plug), asker.Ref);
        Assert.IsType<OutboxReply.Done>(await asker.ExpectMsgAsync<OutboxReply>()); // and at once when it is there
    }

    [Fact]
    public async Task A_sub_device_that_moves_is_attached_again_and_the_answer_to_its_old_packet_is_nobodys()
    {
        var (running, sub, probe) = await CarryAsync(Options with { AttachRetryMin = TimeSpan.FromMilliseconds(10), AttachRetryMax = TimeSpan.FromMilliseconds(20) });
        sub.Tell(Given.Transmit(1), probe.Ref);
        var old = await running.Client.ReceiveAsync<MqttPublishPacket>();

        Sys.Stop(probe.Ref);
        ToDevice.Attach attach;
        do attach = await Region.ExpectMsgAsync<ToDevice.Attach>();
        while (attach.DeviceId != Plug);
        Assert.Equal(2, attach.Revision);
        var next = CreateTestProbe();
        attach.Connection.Tell(new ToConnection.Attached(2, false, []), next.Ref);
        attach.Connection.Tell(Given.Transmit(1) with { Epoch = attach.Epoch }, next.Ref);
        var fresh = await running.Client.ReceiveAsync<MqttPublishPacket>();
        Assert.NotEqual(old.PacketIdentifier, fresh.PacketIdentifier);

        await running.Client.SendAsync(new MqttPubAckPacket { PacketIdentifier = old.PacketIdentifier });
        await running.Client.SendAsync(new MqttPubAckPacket { PacketIdentifier = fresh.PacketIdentifier });
        Assert.Equal(1, (await next.ExpectMsgAsync<ToDevice.PacketAcknowledged>()).Tag); // once
        await next.ExpectNoMsgAsync(Silence);
    }

    [Fact]
    public async Task When_one_for_a_sub_device_was_lost_between_the_nodes_nothing_overtakes_it()
    {
        var (running, sub, probe) = await CarryAsync();
        sub.Tell(Given.Transmit(2) with { Sequence = 2 }, probe.Ref);
        var again = await Region.ExpectMsgAsync<ToDevice.Attach>();
        Assert.Equal((Plug, 1), (again.DeviceId, again.Epoch));

        again.Connection.Tell(new ToConnection.Attached(again.Revision, false, []), probe.Ref);
        again.Connection.Tell(Given.Transmit(1) with { Epoch = again.Epoch, Sequence = 1 }, probe.Ref);
        await running.Client.ReceiveAsync<MqttPublishPacket>();
        await running.Client.SendAsync(new MqttPingReqPacket());
        await running.Client.ReceiveAsync<MqttPingRespPacket>(); // one PUBLISH, not two
    }

    [Fact]
    public async Task Together_they_keep_to_the_receive_maximum_of_an_MQTT_5_gateway()
    {
        var (running, sub, probe) = await CarryAsync(connect: Given.Connect(MqttProtocolVersion.V500) with { ReceiveMaximum = 1 });
        running.Stage.Tell(Given.Transmit(1), Device.Ref);
        var first = await running.Client.ReceiveAsync<MqttPublishPacket>();
        sub.Tell(Given.Transmit(1), probe.Ref);
        await running.Client.SendAsync(new MqttPingReqPacket());
        await running.Client.ReceiveAsync<MqttPingRespPacket>(); // the second PUBLISH would have come before it

        await running.Client.SendAsync(new MqttPubAckPacket { PacketIdentifier = first.PacketIdentifier });
        Assert.True((await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier > PacketIds.Max);
    }

    [Fact]
    public async Task When_the_gateway_goes_its_sub_devices_hear_of_it()
    {
        var (running, _, probe) = await CarryAsync();
        await running.Client.SendAsync(new MqttDisconnectPacket());
        Assert.Equal(Plug, (await probe.ExpectMsgAsync<ToDevice.Detach>()).DeviceId);
        Assert.Equal(Given.DeviceId, (await Device.ExpectMsgAsync<ToDevice.Detach>()).DeviceId);
    }

    [Fact]
    public async Task What_came_before_a_sub_device_said_that_it_is_attached_goes_out_when_it_has()
    {
        WaitingOf = _ => [Plug];
        var running = await Open(Given.Connect(MqttProtocolVersion.V500) with { IsGateway = true });
        var attach = await Region.ExpectMsgAsync<ToDevice.Attach>();
        var probe = CreateTestProbe();

        attach.Connection.Tell(Given.Transmit(1) with { Sequence = 1 }, probe.Ref);
        attach.Connection.Tell(new ToConnection.Attached(attach.Revision, false, []), probe.Ref);

        Assert.Contains("message-1", Encoding.UTF8.GetString((await running.Client.ReceiveAsync<MqttPublishPacket>()).Payload));
    }

    [Fact]
    public async Task A_late_PUBACK_of_an_earlier_connection_names_no_packet_of_this_one_and_what_was_not_used_is_given_back()
    {
        var (first, sub, probe) = await CarryAsync();
        sub.Tell(Given.Transmit(1), probe.Ref);
        var old = (await first.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier;
        await first.Client.HangUpAsync();
        Assert.Equal((1, PacketIds.ReservedAhead), Returned.Take() is var back ? (back.UsedUpTo, back.ReservedUpTo) : default);
        SubDeviceIdsFrom = 1;

        var (second, again, owner) = await CarryAsync();
        again.Tell(Given.Transmit(9), owner.Ref);
        var fresh = (await second.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier;
        await second.Client.SendAsync(new MqttPubAckPacket { PacketIdentifier = old }, new MqttPubAckPacket { PacketIdentifier = fresh });

        Assert.NotEqual(old, fresh);
        Assert.Equal(9, (await owner.ExpectMsgAsync<ToDevice.PacketAcknowledged>()).Tag);
    }

    // 10,000 of them asked for by each SUBSCRIBE, and a gateway may subscribe as often as it likes.
    [Fact]
    public void Who_waits_to_be_carried_waits_once_and_in_order_and_their_number_is_bounded()
    {
        var waiting = new WaitingSubDevices(max: 3);
        for (var round = 0; round < 100; round++)
        {
            foreach (var id in new[] { "a", "b", "c", "d" }) waiting.Add(DeviceId.Parse(id));
        }

        Assert.Equal(3, waiting.Count);
        Assert.Equal(["a", "b", "c"], Enumerable.Range(0, 3).Select(_ => waiting.Next()!.Value));
        Assert.Null(waiting.Next());
    }

    private async Task<(Running Running, IActorRef Sub, TestProbe Device)> CarryAsync(MqttOptions? options = null, AcceptedConnect? connect = null)
    {
        WaitingOf = _ => [Plug];
        var running = await Open((connect ?? Given.Connect()) with { IsGateway = true }, options);
        var attach = await Region.ExpectMsgAsync<ToDevice.Attach>();
        var probe = CreateTestProbe();
        attach.Connection.Tell(new ToConnection.Attached(attach.Revision, false, []), probe.Ref);
        attach.Connection.Tell(new ToConnection.AttachSubDevice(Plug), probe.Ref);
        await probe.ExpectMsgAsync<OutboxReply.Done>(); // it has heard that it is attached
        return (running, attach.Connection, probe);
    }

    private async Task<List<ToDevice.Attach>> ReceiveAttachesAsync(int count)
    {
        var heard = new List<ToDevice.Attach>();
        while (heard.Count < count) heard.Add(await Region.ExpectMsgAsync<ToDevice.Attach>());
        return heard;
    }
}
