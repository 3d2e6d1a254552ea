using Akka.Actor;
using IoTDelivery.Domain;
using IoTDelivery.Tests.Databases;
using static IoTDelivery.Devices.Tests.Talk;

namespace IoTDelivery.Devices.Tests;

/// <summary>
/// Packet ids outlive the memory of their owner: after sleep, a move or a crash no PUBACK is taken for another message, and a
/// session that goes on gets the packets it had under the ids they had [MQTT-4.4.0-1].
/// </summary>
public sealed class PacketIdsSpec(SqliteDatabase server) : IClassFixture<SqliteDatabase>
{
    private static readonly DeliveryPolicy Slow = DeviceNode.Policy with
    {
        RepeatInterval = TimeSpan.FromSeconds(60),
        RoundInterval = TimeSpan.FromSeconds(600),
    };

    private static readonly DeviceOptions SleepsAtOnce = new() { SleepAfter = TimeSpan.FromMilliseconds(50) };

    /// <summary>How the memory of the device is lost while its client is away or there.</summary>
    public enum Loss
    {
        None,
        Sleep,
        NodeKilled,
    }

    private sealed class Payer : UntypedActor
    {
        protected override void OnReceive(object message)
        {
            var pending = (NotificationsOffered)message;
            Sender.Tell(new ToDevice.NotificationsAcknowledged(pending.DeviceId, pending.Notifications[^1].Number));
        }
    }

    private sealed class Client(DeviceNode node, DeviceId device, bool isMqtt5, bool keeps)
    {
        private readonly Ear _ear = new(node.System);
        private readonly Guid _id = Guid.NewGuid();
        private int _acknowledged, _epoch;

        public async Task<ToConnection.Attached> ConnectAsync(bool subscribes)
        {
            var attach = Attach(device, _ear, _id, keeps: keeps) with { Wire = new WireConnection(isMqtt5, 65535) };
            if (!subscribes) attach = attach with { Subscriptions = null, Subscribed = [] };
            node.Devices.Tell(attach, _ear.Ref);
            var (attached, actor) = await _ear.HearAsync<ToConnection.Attached>();
            Actor = actor;
            return attached;
        }

        // The device is gone under the connection: the next epoch.
        public async Task AttachAgainAsync()
        {
            (_epoch, _acknowledged) = (_epoch + 1, 0);
            var attach = Attach(device, _ear, _id, keeps: keeps, revision: 2) with { Wire = new WireConnection(isMqtt5, 65535), StartsClean = false };
            node.Devices.Tell(attach with { Epoch = _epoch, Subscribed = [] }, _ear.Ref);
            await _ear.HearAsync<ToConnection.Attached>();
        }

        public IActorRef Actor { get; private set; } = ActorRefs.Nobody;

        public async Task<ToConnection.Transmit> ReceiveAsync() => (await _ear.HearAsync<ToConnection.Transmit>()).Message;

        public void Acknowledge(ushort packetId) =>
            node.Devices.Tell(new ToDevice.PacketAcknowledged(device, _id, packetId, 1, 0, _epoch, ++_acknowledged), _ear.Ref);

        public async Task LeaveAsync(bool untilAsleep)
        {
            var gone = untilAsleep ? GoneAsync() : Task.CompletedTask;
            node.Devices.Tell(new ToDevice.Detach(device, _id), _ear.Ref);
            await gone;
        }

        public async Task StopOwnerAsync(object message)
        {
            var gone = GoneAsync();
            Actor.Tell(message);
            await gone;
        }

        private Task GoneAsync()
        {
            var watcher = new Ear(node.System);
            node.System.ActorOf(Props.Create(typeof(Watch), Actor, watcher.Ref));
            return watcher.HearAsync<string>();
        }

        private sealed class Watch : UntypedActor
        {
            private readonly IActorRef _to;

            public Watch(IActorRef actor, IActorRef to)
            {
                _to = to;
                Context.Watch(actor);
            }

            protected override void OnReceive(object message)
            {
                if (message is Terminated) _to.Tell("stopped");
            }
        }
    }

    public static TheoryData<bool, Loss> Cases => new()
    {
        { false, Loss.None }, { false, Loss.Sleep }, { false, Loss.NodeKilled },
        { true, Loss.None }, { true, Loss.Sleep }, { true, Loss.NodeKilled },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task A_session_that_goes_on_gets_its_packet_again_under_the_id_it_had_and_its_PUBACK_counts_for_no_other(bool isMqtt5, Loss loss)
    {
        var storage = await server.CreateAsync();
        var node = await DeviceNode.StartAsync(storage, Slow, SleepsAtOnce);
        try
        {
            node.Sink.Current = node.System.ActorOf(Props.Create(typeof(Payer)));
            var device = Device("resumes");
            var first = new Client(node, device, isMqtt5, keeps: true);
            Assert.False((await first.ConnectAsync(subscribes: true)).SessionPresent);
            await node.Devices.SendAsync(device, "m1");
            first.Acknowledge((await first.ReceiveAsync()).Tag);
            await node.Devices.SendAsync(device, "m2"); // the client has it and works on it: a manual acknowledgement
            var held = await first.ReceiveAsync();
            await first.LeaveAsync(untilAsleep: loss == Loss.Sleep);
            await node.Devices.SendAsync(device, "m3");
            if (loss == Loss.NodeKilled)
            {
                await node.KillAsync();
                node = await DeviceNode.StartAsync(storage, Slow, SleepsAtOnce);
            }

            var second = new Client(node, device, isMqtt5, keeps: true);
            Assert.True((await second.ConnectAsync(subscribes: false)).SessionPresent);
            var (again, next) = (await second.ReceiveAsync(), await second.ReceiveAsync());
            second.Acknowledge(held.Tag);

            Assert.Equal(("m2", held.Tag, true), (again.MessageId.Value, again.Tag, again.Dup));
            Assert.Equal("m3", next.MessageId.Value);
            Assert.NotEqual(held.Tag, next.Tag);
            Assert.Equal(MessageStatus.Delivered, (await EndedAsync(node, device, "m2")).Status);
            Assert.Null((await ShowAsync(node, device, "m3")).EndedAt);
        }
        finally
        {
            await node.DisposeAsync();
        }
    }

    public static TheoryData<bool, bool> Connections => new() { { false, false }, { false, true }, { true, false }, { true, true } };

    [Theory]
    [MemberData(nameof(Connections))]
    public async Task When_the_owner_crashes_under_a_live_connection_an_old_PUBACK_is_nobodys_and_everything_comes_again_under_new_ids(bool isMqtt5, bool keeps)
    {
        await using var node = await DeviceNode.StartAsync(await server.CreateAsync(), Slow, SleepsAtOnce);
        node.Sink.Current = node.System.ActorOf(Props.Create(typeof(Payer)));
        var device = Device("crashed");
        var client = new Client(node, device, isMqtt5, keeps);
        await client.ConnectAsync(subscribes: true);
        await node.Devices.SendAsync(device, "m1");
        await node.Devices.SendAsync(device, "m2");
        var held = new[] { (await client.ReceiveAsync()).Tag, (await client.ReceiveAsync()).Tag };
        await client.StopOwnerAsync(Kill.Instance);

        await client.AttachAgainAsync();
        var again = new[] { (await client.ReceiveAsync()).Tag, (await client.ReceiveAsync()).Tag };
        foreach (var id in held) client.Acknowledge(id);
        client.Acknowledge(again[1]);

        Assert.Empty(held.Intersect(again));
        Assert.Equal(MessageStatus.Delivered, (await EndedAsync(node, device, "m2")).Status);
        Assert.Null((await ShowAsync(node, device, "m1")).EndedAt);
    }

    [Theory]
    [MemberData(nameof(Connections))]
    public async Task When_the_owner_moves_in_order_an_old_PUBACK_counts_for_its_message(bool isMqtt5, bool keeps)
    {
        await using var node = await DeviceNode.StartAsync(await server.CreateAsync(), Slow, SleepsAtOnce);
        node.Sink.Current = node.System.ActorOf(Props.Create(typeof(Payer)));
        var device = Device("moved");
        var client = new Client(node, device, isMqtt5, keeps);
        await client.ConnectAsync(subscribes: true);
        await node.Devices.SendAsync(device, "m1");
        var held = await client.ReceiveAsync();
        await client.StopOwnerAsync(DeviceActor.Stop.Instance); // as the shard says before it is handed over

        await client.AttachAgainAsync();
        var again = await client.ReceiveAsync();
        client.Acknowledge(held.Tag);

        Assert.Equal((!isMqtt5, !isMqtt5), (again.Tag == held.Tag, again.Dup));
        Assert.Equal(MessageStatus.Delivered, (await EndedAsync(node, device, "m1")).Status);
    }

    [Fact]
    public async Task A_clean_start_forgets_them_and_a_device_that_sleeps_gives_back_what_it_did_not_use()
    {
        await using var node = await DeviceNode.StartAsync(await server.CreateAsync(), Slow, SleepsAtOnce);
        node.Sink.Current = node.System.ActorOf(Props.Create(typeof(Payer)));
        var device = Device("clean");
        ushort last = 0;
        for (var i = 1; i <= 40; i++)
        {
            var client = new Client(node, device, isMqtt5: false, keeps: false);
            await client.ConnectAsync(subscribes: true);
            await node.Devices.SendAsync(device, $"m{i}");
            var received = await client.ReceiveAsync();
            Assert.False(received.Dup);
            Assert.True(received.Tag > last && received.Tag < PacketIds.ReservedAhead, $"Packet {i} has the id {received.Tag}, behind {last}.");
            last = received.Tag;
            client.Acknowledge(received.Tag);
            await EndedAsync(node, device, $"m{i}");
            await client.LeaveAsync(untilAsleep: true);
        }
    }

    [Fact]
    public async Task A_device_that_comes_back_at_a_node_whose_clock_is_behind_is_let_in_and_the_older_connection_never_comes_back()
    {
        await using var node = await DeviceNode.StartAsync(await server.CreateAsync());
        var device = Device("skewed");
        var (older, younger) = (new Ear(node.System), new Ear(node.System));
        var (at, id) = (DateTimeOffset.UtcNow, Guid.NewGuid());
        older.Attach(node.Devices, Attach(device, older, id, at: at) with { Age = TimeSpan.FromSeconds(5) });
        await older.HearAsync<ToConnection.Attached>();

        younger.Attach(node.Devices, Attach(device, younger, at: at.AddHours(-1))); // accepted later, by a clock that is an hour behind
        await younger.HearAsync<ToConnection.Attached>();
        Assert.True((await older.HearAsync<ToConnection.Evicted>()).Message.TakenOver);

        older.Attach(node.Devices, Attach(device, older, id, at: at.AddHours(1)));
        Assert.True((await older.HearAsync<ToConnection.Evicted>()).Message.TakenOver);
        await node.Devices.SendAsync(device, "m1");
        await younger.HearAsync<ToConnection.Transmit>();
    }

    private static async Task<KnownMessage> ShowAsync(DeviceNode node, DeviceId device, string id) => Assert.Single(
        Assert.IsType<OutboxReply.Messages>(await node.Devices.AskAsync(new ToDevice.Show(device, MessageId.Parse(id)), CancellationToken.None)).Items);

    private static async Task<KnownMessage> EndedAsync(DeviceNode node, DeviceId device, string id)
    {
        while (true)
        {
            var shown = await ShowAsync(node, device, id);
            if (shown.EndedAt is not null) return shown;
        }
    }
}
