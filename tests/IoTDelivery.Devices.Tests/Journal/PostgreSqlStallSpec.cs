using System.Collections.Concurrent;
using System.Diagnostics;
using Akka.Actor;
using Akka.Hosting;
using IoTDelivery.Domain;
using IoTDelivery.Tests.Databases;
using Npgsql;
using Xunit.Abstractions;
using static IoTDelivery.Devices.Tests.Talk;

namespace IoTDelivery.Devices.Tests.Journal;

/// <summary>
/// PostgreSQL that stands still for ten seconds and longer while thousands of devices write: for all connections of the journal or
/// for one of the three. With a server of its own, because it is stopped.
/// </summary>
public sealed class PostgreSqlStallSpec(PostgreSqlDatabase server, ITestOutputHelper output)
    : IClassFixture<PostgreSqlDatabase>
{
    // More than any queue of the package is long. A few suffice for the rules; ./build.sh e2e takes all.
    private static readonly bool IsFullSize = Environment.GetEnvironmentVariable("IOTDELIVERY_E2E") == "full";
    private static readonly int Devices = IsFullSize ? 7_000 : 1_000;

    // Who has a connection, too.
    private const int OneIn = 50;

    private static readonly TimeSpan Stall = TimeSpan.FromSeconds(10);

    // Longer than a statement's time-out and all tries of one row together.
    private static readonly TimeSpan LongStall = TimeSpan.FromSeconds(25);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan EndPatience = TimeSpan.FromMinutes(2);

    public enum Way
    {
        /// <summary>The table is locked: no connection can write, and a new one cannot either.</summary>
        TableLocked,

        /// <summary>No process of the server runs: no answer to anybody, and none to a new connection.</summary>
        ServerStopped,

        /// <summary>One of three connections' processes does not run, in the middle of its transaction: its locks stay.</summary>
        OneBackendStopped,
    }

    [SkippableTheory]
    [InlineData(Way.TableLocked)]
    [InlineData(Way.ServerStopped)]
    [InlineData(Way.OneBackendStopped)]
    public async Task A_stall_under_thousands_of_writing_devices_costs_time_and_no_device(Way way)
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        Skip.If(
            way == Way.ServerStopped && !IsFullSize,
            "StallSpec stops SQLite as a whole: set IOTDELIVERY_E2E=full for this.");
        var storage = await server.CreateAsync();
        var awake = new DeviceOptions { SleepAfter = TimeSpan.FromHours(1), FlushAfter = TimeSpan.FromHours(1) };
        await using var node = await DeviceNode.StartAsync(storage, options: awake);
        node.Sink.Current = node.System.ActorOf(Props.Create(typeof(Acknowledging)));
        var stopped = new ConcurrentQueue<string>();
        var watcher = node.System.ActorOf(Props.Create(typeof(Watcher), stopped));
        var clock = Stopwatch.StartNew();
        var accepted = new ConcurrentBag<(DeviceId Device, string Id)>();
        var ears = new ConcurrentQueue<Ear>();
        var refused = new ConcurrentDictionary<DeviceId, int>();
        await Parallel.ForEachAsync(
            Enumerable.Range(0, Devices), new ParallelOptions { MaxDegreeOfParallelism = 64 }, async (d, _) =>
            {
                var device = Device($"p{d}");
                await AcceptedAsync(device, "first");
                if (d % OneIn == 0)
                {
                    var ear = new Ear(node.System);
                    ear.Attach(node.Devices, Attach(device, ear));
                    await ear.HearAsync<ToConnection.Attached>();
                    ears.Enqueue(ear);
                }

                await WatchAsync(node, device, watcher);
            });
        var made = clock.Elapsed;
        refused.Clear();

        await using var db = new NpgsqlConnection(storage.ConnectionString + ";Pooling=false;Command Timeout=30");
        await db.OpenAsync();
        var isFirst = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task[] SendAll() => [.. Enumerable.Range(0, Devices).Select(d => Task.Run(async () =>
        {
            await AcceptedAsync(Device($"p{d}"), "second");
            isFirst.TrySetResult();
        }))];
        Task[] sending;
        Func<Task> end;
        switch (way)
        {
            case Way.TableLocked:
                await ExecuteAsync(db, "begin; lock table journal in access exclusive mode");
                end = () => ExecuteAsync(db, "commit");
                sending = SendAll();
                break;
            case Way.ServerStopped:
                sending = SendAll();
                await isFirst.Task.WaitAsync(Patience); // in the middle of it
                server.Freeze();
                end = () =>
                {
                    server.Thaw();
                    return Task.CompletedTask;
                };
                break;
            default:
                await server.HoldCommitsAsync(storage.ConnectionString!);
                sending = SendAll();
                var one = await server.StopWriterAsync(storage.ConnectionString!, Patience);
                end = () =>
                {
                    server.Continue(one);
                    return Task.CompletedTask;
                };
                break;
        }

        var before = accepted.Count;
        await Task.Delay(way == Way.OneBackendStopped ? LongStall : Stall); // this is what is tested: how long the database stands still
        var during = accepted.Count - before;
        await end();
        clock.Restart();
        await Task.WhenAll(sending).WaitAsync(EndPatience);
        output.WriteLine(
            $"{way}: {Devices} devices made in {made.TotalSeconds:0.0} s; {during} of them answered 201 while it lasted, all " +
            $"{clock.Elapsed.TotalSeconds:0.0} s after it; {refused.Count} heard 503 before, {refused.Values.Sum()} times; " +
            $"{stopped.Count} stopped");
        if (way == Way.TableLocked) Assert.Equal(0, during); // of the others some were stored a moment before
        Assert.NotEmpty(refused); // an application hears within four seconds

        // A device that answers again has heard of all that happened to it; a connection hears nothing but its messages.
        foreach (var d in Enumerable.Range(0, Devices)) await AcceptedAsync(Device($"p{d}"), "third");
        Assert.True(stopped.IsEmpty, $"{stopped.Count} stopped: {string.Join(' ', stopped.Take(10))}");
        foreach (var ear in ears)
        {
            while (ear.HasHeard) Assert.IsType<ToConnection.Transmit>((await ear.HearAsync<ToConnection>()).Message);
        }

        // Whoever owns them next knows every one of them: the same id with another body is refused.
        await node.KillAsync();
        await using var next = await DeviceNode.StartAsync(storage, options: awake);
        await Parallel.ForEachAsync(
            accepted.Where((_, n) => n % 10 == 0), new ParallelOptions { MaxDegreeOfParallelism = 64 }, async (message, _) =>
            {
                OutboxReply reply;
                do reply = await next.Devices.SendAsync(message.Device, message.Id, "something else");
                while (IsUnavailable(reply));
                Assert.Equal(RefusalReason.IdConflict, Assert.IsType<OutboxReply.Refused>(reply).Reason);
            });
        var rows = (long)(await ScalarAsync(db, "select count(*) from journal"))!;
        Assert.True(rows >= accepted.Count, $"{rows} rows for {accepted.Count} messages.");

        // What an application does: the same id, until it is answered 201.
        async Task AcceptedAsync(DeviceId device, string id)
        {
            while (true)
            {
                var reply = await node.Devices.SendAsync(device, id);
                if (reply is OutboxReply.Accepted) break;
                Assert.True(IsUnavailable(reply), $"{device} {id}: {reply}");
                refused.AddOrUpdate(device, 1, (_, n) => n + 1);
                await Task.Delay(200); // an application pauses before it asks again
            }

            accepted.Add((device, id));
        }
    }

    private static bool IsUnavailable(OutboxReply reply) =>
        reply is OutboxReply.Refused { Reason: RefusalReason.Unavailable };

    private static async Task WatchAsync(DeviceNode node, DeviceId device, IActorRef watcher)
    {
        var region = node.Get<IReadOnlyActorRegistry>().Get<DeviceActor>();
        var path = region.Path / new DeviceMessageExtractor().ShardId(device.Value) / device.Value;
        watcher.Tell(await node.System.ActorSelection(path).ResolveOne(Patience));
    }

    private static async Task ExecuteAsync(NpgsqlConnection db, string sql)
    {
        await using var command = new NpgsqlCommand(sql, db);
        await command.ExecuteNonQueryAsync();
    }

    private static async Task<object?> ScalarAsync(NpgsqlConnection db, string sql)
    {
        await using var command = new NpgsqlCommand(sql, db);
        return await command.ExecuteScalarAsync();
    }

    private sealed class Watcher(ConcurrentQueue<string> stopped) : UntypedActor
    {
        protected override void OnReceive(object message)
        {
            if (message is Terminated terminated) stopped.Enqueue(terminated.ActorRef.Path.Name);
            else Context.Watch((IActorRef)message);
        }
    }

    private sealed class Acknowledging : UntypedActor
    {
        protected override void OnReceive(object message)
        {
            var pending = (NotificationsOffered)message;
            Sender.Tell(new ToDevice.NotificationsAcknowledged(pending.DeviceId, pending.Notifications[^1].Number));
        }
    }
}
