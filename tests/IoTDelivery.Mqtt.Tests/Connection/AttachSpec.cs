using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>How a connection and its device actor find, lose and find each other.</summary>
public sealed class AttachSpec : StageSpec
{
    private static readonly Subscription Down1 = new(Given.Down, 1);
    private static readonly MqttOptions Impatient = new() { AttachRetryMin = TimeSpan.FromMilliseconds(50), AttachRetryMax = TimeSpan.FromMilliseconds(100) };

    [Fact]
    public async Task A_clean_session_gets_its_CONNACK_before_the_device_has_answered()
    {
        var running = Run();

        var connAck = await running.Client.ReceiveAsync<MqttConnAckPacket>();
        var attach = await Region.ExpectMsgAsync<ToDevice.Attach>();

        Assert.False(connAck.IsSessionPresent);
        Assert.Equal((running.Connect.ConnectionId, 1, true, false), (attach.ConnectionId, attach.Revision, attach.StartsClean, attach.KeepsSession));
        Assert.Empty(attach.Subscriptions!.Value);
        Assert.Equal(new WireConnection(ForbidsRepeats: false, 65535), attach.Wire);
    }

    [Fact]
    public async Task An_MQTT_5_device_learns_what_its_client_takes()
    {
        Run(Given.Connect(MqttProtocolVersion.V500) with { ReceiveMaximum = 3 });

        Assert.Equal(new WireConnection(ForbidsRepeats: true, 3), (await Region.ExpectMsgAsync<ToDevice.Attach>()).Wire);
    }

    [Fact]
    public async Task A_session_that_may_go_on_waits_for_the_device_and_is_told_what_it_knows()
    {
        var running = Run(Given.Connect(startsClean: false, keepsSession: true));
        var attach = await Region.ExpectMsgAsync<ToDevice.Attach>();
        await running.Client.SendAsync(MqttPingReqPacket.Instance); // allowed before CONNACK (3.1.4), answered after it
        await Region.ExpectNoMsgAsync(Silence);
        Assert.True(running.Client.HearsNothing());
        Assert.Null(attach.Subscriptions);

        Acknowledge(attach, sessionPresent: true, Down1);

        Assert.True((await running.Client.ReceiveAsync<MqttConnAckPacket>()).IsSessionPresent);
        await running.Client.ReceiveAsync<MqttPingRespPacket>();

        await running.Client.SendAsync(Given.Subscribe(("a", 0)));
        Assert.Equal<Subscription>([Down1, new("a", 0)], (await AttachAsync()).Subscriptions!.Value);
    }

    [Fact]
    public async Task What_the_device_sends_before_it_has_told_of_the_session_goes_out_behind_CONNACK()
    {
        var running = Run(Given.Connect(startsClean: false, keepsSession: true));
        var attach = await Region.ExpectMsgAsync<ToDevice.Attach>();

        attach.Connection.Tell(Given.Transmit(7), Device.Ref);
        await Region.ExpectNoMsgAsync(Silence);
        Assert.True(running.Client.HearsNothing());
        Acknowledge(attach, sessionPresent: true, Down1);

        Assert.True((await running.Client.ReceiveAsync<MqttConnAckPacket>()).IsSessionPresent);
        Assert.Equal(7, (await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier);
    }

    [Fact]
    public async Task Of_two_owners_only_the_one_that_has_attached_it_is_heard_and_when_another_says_so_whoever_has_it_starts_over()
    {
        var running = await Open();
        await running.Client.SendAsync(Given.Subscribe((Down1.TopicFilter, 1)));
        await AttachAsync();
        await running.Client.ReceiveAsync<MqttSubAckPacket>();

        // One that nobody knows here: what it sends is not taken.
        var other = CreateTestProbe();
        running.Stage.Tell(Given.Transmit(6), other.Ref);
        running.Stage.Tell(Given.Transmit(7), Device.Ref);
        Assert.Equal(7, (await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier);

        // It answers the next revision, for its node knows where the device is now: a new turn, behind the last packet id, and nobody is heard until it is attached.
        await running.Client.SendAsync(Given.Subscribe(("a", 0)));
        var asked = await Region.ExpectMsgAsync<ToDevice.Attach>();
        asked.Connection.Tell(new ToConnection.Attached(asked.Revision, false, asked.Subscriptions!.Value), other.Ref);
        var again = await Region.ExpectMsgAsync<ToDevice.Attach>();
        Assert.Equal((asked.Epoch + 1, asked.Revision + 1), (again.Epoch, again.Revision));
        running.Stage.Tell(Given.Transmit(8), Device.Ref);
        again.Connection.Tell(new ToConnection.Attached(again.Revision, false, again.Subscriptions!.Value), other.Ref);
        running.Stage.Tell(Given.Transmit(9), other.Ref); // of the turn before
        running.Stage.Tell(Given.Transmit(10) with { Epoch = again.Epoch }, other.Ref);
        await running.Client.ReceiveAsync<MqttSubAckPacket>();
        Assert.Equal(10, (await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier);
    }

    [Fact]
    public async Task When_one_was_lost_between_the_nodes_nothing_overtakes_it_the_device_starts_over()
    {
        var running = await Open();
        await running.Client.SendAsync(Given.Subscribe((Down1.TopicFilter, 1)));
        var subscribed = await AttachAsync();
        await running.Client.ReceiveAsync<MqttSubAckPacket>();

        running.Stage.Tell(Given.Transmit(1) with { Sequence = 1 }, Device.Ref);
        running.Stage.Tell(Given.Transmit(3) with { Sequence = 3 }, Device.Ref);
        var again = await Region.ExpectMsgAsync<ToDevice.Attach>();
        Assert.Equal(subscribed.Epoch + 1, again.Epoch);
        running.Stage.Tell(Given.Transmit(4) with { Sequence = 4 }, Device.Ref); // of the turn before
        running.Stage.Tell(Given.Transmit(2) with { Epoch = again.Epoch, Sequence = 1 }, Device.Ref); // before it says so, as devices do
        Acknowledge(again);
        running.Stage.Tell(Given.Transmit(5) with { Epoch = again.Epoch, Sequence = 2 }, Device.Ref);

        Assert.Equal(1, (await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier);
        Assert.Equal(2, (await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier);
        Assert.Equal(5, (await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier);
    }

    [Fact]
    public async Task The_first_one_may_be_lost_too()
    {
        var running = await Open();
        running.Stage.Tell(Given.Transmit(2) with { Sequence = 2 }, Device.Ref);
        var again = await Region.ExpectMsgAsync<ToDevice.Attach>();
        again.Connection.Tell(Given.Transmit(2) with { Epoch = again.Epoch, Sequence = 2 }, Device.Ref); // and again, before Attached is heard
        Acknowledge(again);

        Assert.Equal(again.Epoch + 1, (await Region.ExpectMsgAsync<ToDevice.Attach>()).Epoch);
    }

    [Fact]
    public async Task A_client_that_goes_while_it_waits_for_its_CONNACK_is_let_go()
    {
        var running = Run(Given.Connect(startsClean: false, keepsSession: true));
        await Region.ExpectMsgAsync<ToDevice.Attach>();

        await running.Client.HangUpAsync();

        await Region.ExpectMsgAsync<ToDevice.Detach>();
        Assert.Equal("connection lost", (await Soon(running.Ended)).Why);
    }

    [Fact]
    public async Task Attach_is_repeated_until_it_is_acknowledged()
    {
        Run(options: Impatient);
        var first = await Region.ExpectMsgAsync<ToDevice.Attach>();
        var again = await Region.ExpectMsgAsync<ToDevice.Attach>();
        Assert.Equal((first.Revision, first.StartsClean), (again.Revision, again.StartsClean));

        Acknowledge(again);

        // One more may be on its way already.
        Region.ReceiveWhile(TimeSpan.FromSeconds(1), Silence, m => m as ToDevice.Attach, msgs: 1);
        await Region.ExpectNoMsgAsync(Silence);
    }

    [Fact]
    public async Task Each_SUBSCRIBE_is_a_revision_with_all_subscriptions_and_what_it_subscribed()
    {
        var running = await Open();

        await running.Client.SendAsync(Given.Subscribe((Given.Down, 1)));
        var second = await AttachAsync();
        await running.Client.ReceiveAsync<MqttSubAckPacket>();
        await HeardAsync(running);
        await running.Client.SendAsync(Given.Subscribe(("a", 0)));
        var third = await AttachAsync();

        Assert.Equal((2, false), (second.Revision, second.StartsClean));
        Assert.Equal<Subscription>([Down1], second.Subscribed);
        Assert.Equal<Subscription>([Down1, new("a", 0)], third.Subscriptions!.Value);
        Assert.Equal<Subscription>([new("a", 0)], third.Subscribed);
    }

    [Fact]
    public async Task What_was_subscribed_and_never_acknowledged_is_said_again_with_the_next_revision()
    {
        var running = await Open();
        await running.Client.SendAsync(Given.Subscribe((Given.Down, 1)));
        await Region.ExpectMsgAsync<ToDevice.Attach>(); // lost

        await running.Client.SendAsync(Given.Subscribe(("a", 0)));
        var third = await AttachAsync();
        await running.Client.ReceiveAsync<MqttSubAckPacket>();
        await running.Client.ReceiveAsync<MqttSubAckPacket>();
        await HeardAsync(running);
        await running.Client.SendAsync(Given.Unsubscribe("a"));
        var fourth = await AttachAsync();

        Assert.Equal<Subscription>([Down1, new("a", 0)], third.Subscribed);
        Assert.Equal<Subscription>([Down1], fourth.Subscriptions!.Value);
        Assert.Empty(fourth.Subscribed);
    }

    [Fact]
    public async Task A_clean_session_gets_its_SUBACK_at_once()
    {
        var running = await Open();

        await running.Client.SendAsync(Given.Subscribe((Given.Down, 1)));

        await running.Client.ReceiveAsync<MqttSubAckPacket>(); // nobody has acknowledged anything
    }

    [Fact]
    public async Task A_kept_session_gets_its_SUBACK_when_the_subscription_is_kept()
    {
        var running = await Open(Given.Connect(MqttProtocolVersion.V500, keepsSession: true));
        await running.Client.SendAsync(Given.Subscribe((Given.Down, 1)), MqttPingReqPacket.Instance);
        var attach = await Region.ExpectMsgAsync<ToDevice.Attach>();
        await running.Client.ReceiveAsync<MqttPingRespPacket>(); // not held up by it
        Assert.True(running.Client.HearsNothing());

        Acknowledge(attach);

        await running.Client.ReceiveAsync<MqttSubAckPacket>();
    }

    [Fact]
    public async Task A_kept_session_that_subscribes_and_is_never_answered_is_not_read_for_ever()
    {
        var running = await Open(Given.Connect(keepsSession: true));

        for (ushort i = 1; i <= 40; i++) await running.Client.SendAsync(Given.Subscribe(($"a/{i % 3}", 0)));

        var attaches = Region.ReceiveWhile(TimeSpan.FromSeconds(2), Silence, m => m as ToDevice.Attach);
        Assert.Equal(16, attaches.Count);

        Acknowledge(attaches[^1]!);

        for (var i = 0; i < 16; i++) await running.Client.ReceiveAsync<MqttSubAckPacket>();
        await Region.ExpectMsgAsync<ToDevice.Attach>(); // and on it goes
    }

    [Fact]
    public async Task When_the_device_moves_the_connection_stays_and_attaches_again()
    {
        var running = await Open(options: Impatient);
        await running.Client.SendAsync(Given.Subscribe((Given.Down, 1)));
        await AttachAsync();
        await running.Client.ReceiveAsync<MqttSubAckPacket>();

        Sys.Stop(Device.Ref);
        Device = CreateTestProbe();
        var again = await AttachAsync();

        Assert.Equal((3, false), (again.Revision, again.StartsClean));
        Assert.Equal<Subscription>([Down1], again.Subscriptions!.Value);
        Assert.Empty(again.Subscribed);

        again.Connection.Tell(Given.Transmit(5) with { Epoch = again.Epoch }, Device.Ref);
        Assert.Equal(5, (await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier);

        Sys.Stop(Device.Ref);
        Assert.Equal(4, (await Region.ExpectMsgAsync<ToDevice.Attach>()).Revision); // the new one is watched too
    }

    [Fact]
    public async Task A_client_that_does_not_subscribe_is_subscribed_implicitly_after_the_grace_if_so_set()
    {
        await Open(Given.Connect(isImplicit: true), Options with { ImplicitSubscriptionGrace = TimeSpan.FromMilliseconds(50) });

        var attach = await AttachAsync();

        Assert.Equal((2, true), (attach.Revision, attach.Implicit));
        Assert.Empty(attach.Subscriptions!.Value);
    }

    [Fact]
    public async Task An_explicit_subscription_within_the_grace_wins()
    {
        var running = await Open(Given.Connect(isImplicit: true), Options with { ImplicitSubscriptionGrace = TimeSpan.FromMilliseconds(500) });
        await running.Client.SendAsync(Given.Subscribe((Given.Down, 1)));

        Assert.False((await AttachAsync()).Implicit);
        await Region.ExpectNoMsgAsync(TimeSpan.FromSeconds(1));
    }

    [Fact]
    public async Task When_the_client_goes_the_device_is_told()
    {
        var running = await Open();
        Watch(running.Stage);

        await running.Client.SendAsync(new MqttDisconnectPacket());

        Assert.Equal(running.Connect.ConnectionId, (await Device.ExpectMsgAsync<ToDevice.Detach>()).ConnectionId);
        Assert.Equal("disconnect", (await Soon(running.Ended)).Why);
        await ExpectTerminatedAsync(running.Stage);
    }

    [Fact]
    public async Task When_the_actor_system_stops_the_connection_ends()
    {
        var running = await Open();

        await Sys.Terminate();

        Assert.Equal("stopped", (await Soon(running.Ended)).Why);
    }
}
