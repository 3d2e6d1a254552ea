using System.Collections.Concurrent;
using System.Diagnostics;
using Akka.Actor;
using IoTDelivery.Domain;
using IoTDelivery.Tests.Databases;
using static IoTDelivery.Devices.Tests.Talk;

namespace IoTDelivery.Devices.Tests;

/// <summary>
/// Two nodes that do not know of each other run the same device on one database: a partition at its worst, or a machine that was suspended and goes on. Each is a
/// cluster of its own here, so nothing but the journal stands between them.
/// </summary>
public abstract class FenceSpec<TDatabase>(TDatabase server) : IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    // No call rings before the test is over: both nodes would answer it.
    private static readonly DeviceOptions Awake = new() { SleepAfter = TimeSpan.FromMinutes(5), FlushAfter = TimeSpan.FromMinutes(5), ReminderInterval = TimeSpan.FromMinutes(5) };

    [SkippableFact]
    public async Task What_the_old_owner_writes_behind_an_idle_new_one_is_refused_and_amid_200_messages_a_second_nobody_else_notices()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var storage = await server.CreateAsync();
        await using var old = await DeviceNode.StartAsync(storage, options: Awake);
        await using var young = await DeviceNode.StartAsync(storage, options: Awake);
        var victim = Device("victim");
        Assert.IsType<OutboxReply.Accepted>(await old.Devices.SendAsync(victim, "before"));

        // The new owner: a connected device that asked for nothing and has nothing to write.
        young.Get<Fencing>().Raise(TimeSpan.FromMinutes(1));
        var connection = new Ear(young.System);
        young.Devices.Tell(Attach(victim, connection), connection.Ref);
        await connection.HearAsync<ToConnection.Attached>();
        Assert.Equal("before", (await connection.HearAsync<ToConnection.Transmit>()).Message.MessageId.Value);

        // The old one, with everything else it has to do: 200 messages a second of forty devices, in the very batches of the write that is refused.
        var (others, refused) = (new ConcurrentBag<OutboxReply>(), new List<OutboxReply>());
        var (clock, region, loaded) = (Stopwatch.StartNew(), Region(old), new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
        var load = Enumerable.Range(0, 40).Select(async device =>
        {
            for (var n = 0; n < 20; n++)
            {
                var due = TimeSpan.FromMilliseconds(n * 200 + device * 5);
                if (due > clock.Elapsed) await Task.Delay(due - clock.Elapsed);
                others.Add(await region.Ask<OutboxReply>(Accept(Device($"busy_{device}"), $"m{n}"), Patience));
                if (others.Count >= 200) loaded.TrySetResult();
            }
        }).ToList();
        await loaded.Task; // in the middle of it
        refused.Add(await region.Ask<OutboxReply>(Accept(victim, "late"), Patience));
        await Task.WhenAll(load);

        Assert.Equal(RefusalReason.Unavailable, Assert.IsType<OutboxReply.Refused>(Assert.Single(refused)).Reason);
        Assert.Equal(800, others.Count);
        Assert.All(others, reply => Assert.IsType<OutboxReply.Accepted>(reply)); // no other write failed, no breaker opened: one refusal would show it

        // Whoever was refused asks again, and comes to the new owner.
        Assert.IsType<OutboxReply.Accepted>(await young.Devices.SendAsync(victim, "late"));
        while ((await connection.HearAsync<ToConnection.Transmit>()).Message.MessageId.Value != "late") { } // "before" is repeated
        var known = Assert.IsType<OutboxReply.Messages>(await young.Devices.AskAsync(new ToDevice.List(victim), CancellationToken.None));
        Assert.Equal(["late", "before"], known.Items.Select(m => m.MessageId.Value));
    }

    [SkippableFact]
    public async Task What_an_old_owner_wrote_all_the_same_is_found_by_the_idle_new_one_when_a_reminder_fires_that_is_not_its_own()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var (storage, soon) = (await server.CreateAsync(), new DeviceOptions { SleepAfter = Awake.SleepAfter, FlushAfter = Awake.FlushAfter, ReminderInterval = TimeSpan.FromSeconds(2) });
        var old = await DeviceNode.StartAsync(storage, options: soon);
        await using var young = await DeviceNode.StartAsync(storage, options: soon);
        var victim = Device("victim");
        var connection = new Ear(young.System);
        young.Devices.Tell(Attach(victim, connection), connection.Ref);
        await connection.HearAsync<ToConnection.Attached>();

        // Not fenced: it read the journal behind the new owner's back, wrote, answered 201, and died.
        Assert.IsType<OutboxReply.Accepted>(await old.Devices.SendAsync(victim, "unseen"));
        await old.KillAsync();

        // The new owner is awake and would never look: the call of the other one rings, and has it take a number that is taken.
        var clock = Stopwatch.StartNew();
        while (await young.Devices.AskAsync(new ToDevice.Show(victim, MessageId.Parse("unseen")), CancellationToken.None) is OutboxReply.Messages { Items.Count: 0 })
        {
            Assert.True(clock.Elapsed < Patience, "The message that was accepted is never found.");
            await Task.Delay(50); // only the device itself shows what it knows
        }
    }

    [SkippableFact]
    public async Task A_node_that_sees_itself_cut_off_accepts_nothing()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        await using var node = await DeviceNode.StartAsync(await server.CreateAsync(), options: Awake);
        Assert.IsType<OutboxReply.Accepted>(await node.Devices.SendAsync(Device("lamp"), "before"));
        node.Get<Fencing>().IsOnLosingSide = true;

        var clock = Stopwatch.StartNew();
        Assert.Equal(RefusalReason.Unavailable, Assert.IsType<OutboxReply.Refused>(await node.Devices.SendAsync(Device("lamp"), "during")).Reason);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(1), "It tried first.");
        var direct = await Region(node).Ask<OutboxReply>(Accept(Device("lamp"), "during"), Patience); // asked by another node of the same side
        Assert.Equal(RefusalReason.Unavailable, Assert.IsType<OutboxReply.Refused>(direct).Reason);

        node.Get<Fencing>().IsOnLosingSide = false;
        Assert.IsType<OutboxReply.Accepted>(await node.Devices.SendAsync(Device("lamp"), "during"));
    }

    [Fact]
    public void A_downed_node_keeps_the_fence_up_until_its_process_is_known_to_be_gone()
    {
        var fence = new Fencing(TimeProvider.System);
        Assert.False(fence.IsRaised);
        fence.OnDowned("7");
        Assert.True(fence.IsRaised); // not on file yet
        fence.OnFile(written: [], mayHaveZombies: false);
        Assert.True(fence.IsRaised); // what was read is older than that
        fence.OnFile(written: ["7"], mayHaveZombies: true);
        Assert.True(fence.IsRaised);
        fence.OnFile(written: [], mayHaveZombies: false);
        Assert.False(fence.IsRaised);
    }

    private static IActorRef Region(DeviceNode node) => node.Get<Akka.Hosting.IReadOnlyActorRegistry>().Get<DeviceActor>();

    private static ToDevice.Command Accept(DeviceId device, string id) => new(device, new OutboxCommand.Accept(MessageId.Parse(id), Body(device, id)));
}

public sealed class SqliteFenceSpec(SqliteDatabase database) : FenceSpec<SqliteDatabase>(database);

public sealed class PostgreSqlFenceSpec(PostgreSqlDatabase database) : FenceSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerFenceSpec(SqlServerDatabase database) : FenceSpec<SqlServerDatabase>(database);
