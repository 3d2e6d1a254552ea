using System.Collections.Concurrent;
using System.Diagnostics;
using Akka.Actor;
using Akka.Cluster;
using IoTDelivery.Domain;
using IoTDelivery.Tests.Databases;
using static IoTDelivery.Devices.Tests.Talk;

namespace IoTDelivery.Devices.Tests;

/// <summary>Real shards that really move, and connections that attach again behind them.</summary>
public sealed class MovingShardsSpec(PostgreSqlDatabase server) : IClassFixture<PostgreSqlDatabase>
{
    private const int Devices = 60;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    [SkippableFact]
    public async Task However_often_a_shard_moves_a_re_attach_never_evicts_a_younger_connection()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var storage = await server.CreateAsync();
        await using var first = await DeviceNode.StartAsync(storage);
        await using var second = await DeviceNode.StartAsync(storage, join: first.Address);
        await MembersAsync(first, 2);

        // Two connections of each device, on two nodes. The older one never hears that it was evicted, and attaches again and again.
        var at = DateTimeOffset.UtcNow.AddMinutes(-1);
        var pairs = Enumerable.Range(0, Devices).Select(i => (Older: new Attached(second, Device($"lamp_{i}"), at, isDeaf: true), Younger: new Attached(first, Device($"lamp_{i}"), at.AddSeconds(30), isDeaf: false))).ToList();
        foreach (var (older, _) in pairs) await older.UntilAttachedAsync();
        foreach (var (_, younger) in pairs) younger.Start();
        foreach (var (_, younger) in pairs) await younger.UntilAttachedAsync();

        var homes = new HashSet<string>();
        for (var round = 0; round < 4; round++)
        {
            var before = pairs.Sum(p => p.Younger.Moves);
            await using (var third = await DeviceNode.StartAsync(storage, join: first.Address))
            {
                await MembersAsync(first, 3);
                await UntilAsync(() => pairs.Sum(p => p.Younger.Moves) > before, "no shard moved to the node that came");
            } // it leaves: what moved to it moves on

            await MembersAsync(first, 2);
            await Task.WhenAll(pairs.Select(p => p.Younger.UntilAttachedAsync()));
        }

        Assert.All(pairs, p => Assert.Equal(0, p.Younger.Evictions));
        Assert.True(pairs.Sum(p => p.Older.Evictions) >= Devices, "The older ones were never sent away: they did not attach.");

        // And the younger one is who gets the message, on every device.
        await Parallel.ForEachAsync(pairs, async (pair, _) =>
        {
            Assert.IsType<OutboxReply.Accepted>(await first.Devices.SendAsync(pair.Younger.Device, "m"));
            await pair.Younger.TransmittedAsync();
        });
        Assert.All(pairs, p => Assert.Equal(0, p.Older.Transmits));
    }

    private static Task MembersAsync(DeviceNode node, int count) =>
        UntilAsync(() => Cluster.Get(node.System).State.Members.Count(m => m.Status == MemberStatus.Up) == count && Cluster.Get(node.System).State.Members.Count == count, $"not {count} members");

    private static async Task UntilAsync(Func<bool> holds, string what)
    {
        var clock = Stopwatch.StartNew();
        while (!holds())
        {
            Assert.True(clock.Elapsed < Patience, what);
            await Task.Delay(20); // a state of the cluster that nobody tells
        }
    }

    // What the stage does: attach until it is acknowledged, watch the device, attach again when it is gone.
    private sealed class Attached
    {
        private readonly IActorRef _actor;
        private readonly TaskCompletionSource _transmitted = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private volatile bool _isAttached;
        private int _moves, _evictions, _transmits;

        public Attached(DeviceNode node, DeviceId device, DateTimeOffset at, bool isDeaf)
        {
            Device = device;
            _actor = node.System.ActorOf(Props.Create(() => new Connection(this, node, at, isDeaf)));
            if (isDeaf) Start();
        }

        public DeviceId Device { get; }

        public int Moves => Volatile.Read(ref _moves);

        public int Evictions => Volatile.Read(ref _evictions);

        public int Transmits => Volatile.Read(ref _transmits);

        public void Start() => _actor.Tell("attach");

        public Task UntilAttachedAsync() => UntilAsync(() => _isAttached, $"{Device} is not attached");

        public Task TransmittedAsync() => _transmitted.Task.WaitAsync(Patience);

        private sealed class Connection(Attached self, DeviceNode node, DateTimeOffset at, bool isDeaf) : UntypedActor, IWithTimers
        {
            private readonly Guid _id = Guid.NewGuid();
            private int _challenge;

            public ITimerScheduler Timers { get; set; } = null!;

            protected override void OnReceive(object message)
            {
                switch (message)
                {
                    case "attach":
                        node.Devices.Tell(
                            new ToDevice.Attach(
                                self.Device, _id, at, new WireConnection(false, 65535), TimeSpan.Zero, StartsClean: true, Revision: 1,
                                [new Subscription(SystemTopics.MessagesDown(self.Device), 1)], [], Implicit: false, Self, Age: DateTimeOffset.UtcNow - at, Challenge: _challenge), Self);
                        Timers.StartSingleTimer("again", "attach", TimeSpan.FromMilliseconds(200));
                        break;
                    case ToConnection.Challenged challenged:
                        _challenge = challenged.Challenge;
                        Self.Tell("attach");
                        break;
                    case ToConnection.Attached:
                        Timers.Cancel("again");
                        self._isAttached = true;
                        Context.Watch(Sender);
                        break;
                    case Terminated:
                        Interlocked.Increment(ref self._moves);
                        self._isAttached = false;
                        Self.Tell("attach");
                        break;
                    case ToConnection.Evicted:
                        Interlocked.Increment(ref self._evictions);
                        if (isDeaf) Timers.StartSingleTimer("again", "attach", TimeSpan.FromMilliseconds(200));
                        break;
                    case ToConnection.Transmit:
                        Interlocked.Increment(ref self._transmits);
                        self._transmitted.TrySetResult();
                        break;
                }
            }
        }
    }
}
