using System.Collections.Concurrent;
using System.Diagnostics;
using Akka.Actor;
using Akka.Hosting;
using IoTDelivery.Devices.Journal;
using IoTDelivery.Devices.Reminders;
using IoTDelivery.Domain;
using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;
using LinqToDB.Data;
using Microsoft.Extensions.DependencyInjection;
using static IoTDelivery.Devices.Tests.Talk;

namespace IoTDelivery.Devices.Tests;

/// <summary>Who is woken when, by whose clock, and what a ring is worth. On every database.</summary>
public abstract class ReminderSpec<TDatabase>(TDatabase server) : IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private static readonly DeviceOptions Awake = new() { SleepAfter = TimeSpan.FromHours(1), FlushAfter = TimeSpan.FromHours(1) };

    [SkippableFact]
    public async Task A_device_whose_clock_is_behind_is_woken_once_too_early_and_then_when_it_is_due()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        CountingCalls? calls = null;
        var behind = new Behind(TimeSpan.Zero);
        await using var node = await DeviceNode.StartAsync(
            await server.CreateAsync(), DeviceNode.Policy with { TtlUnit = TimeSpan.FromMilliseconds(400) }, replace: s => s
                .AddSingleton<TimeProvider>(behind)
                .AddSingleton<ReminderTable>(p => calls = new CountingCalls(p.GetRequiredService<SqlDatabase>(), p.GetRequiredService<JournalQueue>())));
        var ended = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        const int devices = 30;
        node.Sink.Current = node.System.ActorOf(Props.Create(typeof(Payer), devices, ended));
        // due in two seconds
        await Task.WhenAll(Enumerable.Range(0, devices).Select(i => node.Devices.SendAsync(Device($"c{i}"), "m", ttl: 5)));

        behind.By = TimeSpan.FromSeconds(3); // the clock is set back: by it, nothing is due when the database says so

        await ended.Task.WaitAsync(Patience);
        Assert.InRange(calls!.Rings, devices, 3 * devices); // what is late by a beat may ring once more
    }

    [SkippableFact]
    public async Task Many_that_fire_at_once_take_each_reminder_once_and_no_more_than_they_ask_for()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        await using var node = await DeviceNode.StartAsync(await server.CreateAsync(), options: Awake, replace: s => s.AddSingleton(Quiet));
        var calls = node.Get<ReminderTable>();
        await Task.WhenAll(Enumerable.Range(0, 200).Select(i => calls.FileAsync($"due{i}", TimeSpan.FromSeconds(-1), Guid.NewGuid())));
        await calls.FileAsync("later", TimeSpan.FromHours(1), Guid.NewGuid());

        var pages = await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => calls.TakeDueAsync(7, TimeSpan.FromMinutes(1), CancellationToken.None)));

        Assert.All(pages, p => Assert.InRange(p.Count, 0, 7));
        var rung = pages.SelectMany(p => p).ToList();
        Assert.Equal(rung.Count, rung.Select(r => r.DeviceId).Distinct().Count());
        Assert.DoesNotContain("later", rung.Select(r => r.DeviceId));
        Assert.All(rung, r => Assert.Equal(TimeSpan.FromMinutes(1), r.DueIn));
    }

    [SkippableFact]
    public async Task A_reminder_is_answered_when_the_fact_is_stored_however_slow_the_receiver_is()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        await using var node = await DeviceNode.StartAsync(
            await server.CreateAsync(), DeviceNode.Policy with { TtlUnit = TimeSpan.FromMilliseconds(100) }, replace: s => s.AddSingleton(Quiet));
        node.Sink.Current = new Ear(node.System).Ref; // deaf: whatever is pending stays pending
        await node.Devices.SendAsync(Device("late"), "m", ttl: 5);
        await node.KillDeviceAsync("late");
        var ringer = new Ear(node.System);
        var clock = Stopwatch.StartNew();
        while (clock.Elapsed < TimeSpan.FromMilliseconds(600)) await Task.Yield(); // until the ttl is over

        node.Devices.Tell(new ToDevice.Reminder(Device("late"), Guid.NewGuid(), TimeSpan.FromSeconds(30)), ringer.Ref);

        await ringer.HearAsync<ReminderHandled>();
        var shown = Assert.IsType<OutboxReply.Messages>(await node.Devices.AskAsync(new ToDevice.Show(Device("late"), MessageId.Parse("m")), CancellationToken.None));
        Assert.Equal(MessageStatus.TimedOut, Assert.Single(shown.Items).Status);
    }

    // The ring was lost, and with the row a lease ahead a crash would end the message that much too late.
    [SkippableFact]
    public async Task A_device_with_unfinished_work_whose_reminder_should_have_fired_files_it_anew()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        await using var node = await DeviceNode.StartAsync(
            await server.CreateAsync(), options: new DeviceOptions { SleepAfter = Awake.SleepAfter, FlushAfter = Awake.FlushAfter, ReminderInterval = TimeSpan.FromSeconds(1) },
            replace: s => s.AddSingleton(Quiet));
        Assert.IsType<OutboxReply.Accepted>(await node.Devices.SendAsync(Device("waits"), "m"));
        await using var db = node.Database.Open();
        // somebody took it, and his ring never came
        await db.ExecuteAsync($"update {ReminderSql.Table} set due_at = due_at + 3600000");

        var clock = Stopwatch.StartNew();
        while (await db.ExecuteAsync<long>($"select due_at - {node.Database.Dialect.Now} from {ReminderSql.Table} where device_id = 'waits'") > 2_000)
        {
            Assert.True(clock.Elapsed < Patience, "The call lies where the ring that was lost has put it.");
            await Task.Delay(50); // only the table shows it
        }
    }

    [SkippableFact]
    public async Task A_slow_receiver_does_not_delay_the_end_of_messages_of_a_healthy_one()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        await using var node = await DeviceNode.StartAsync(await server.CreateAsync(), DeviceNode.Policy with { TtlUnit = TimeSpan.FromSeconds(1) });
        var (healthy, slow) = (new TaskCompletionSource<int>(TaskCreationOptions.RunContinuationsAsynchronously), new ConcurrentDictionary<string, byte>());
        node.Sink.Current = node.System.ActorOf(Props.Create(typeof(NeverForSlowOnes), slow, healthy));
        const int devices = 100;
        await Task.WhenAll(Enumerable.Range(0, devices).Select(i => node.Devices.SendAsync(Device($"slow{i}"), "m", ttl: 5)));
        await node.Devices.SendAsync(Device("healthy"), "m", ttl: 5);

        // five times as many slow ones as may ring at once, and none is ever answered
        await healthy.Task.WaitAsync(Patience);
        var clock = Stopwatch.StartNew();
        while (slow.Count < devices)
        {
            Assert.True(clock.Elapsed < Patience, $"Only {slow.Count} slow ones were woken.");
            await Task.Delay(50);
        }
    }

    // Nobody rings but the test.
    private static ReminderOptions Quiet => new() { PollInterval = TimeSpan.FromHours(1), Lease = TimeSpan.FromHours(1) };

    private sealed class Behind(TimeSpan by) : TimeProvider
    {
        public TimeSpan By { get; set; } = by;

        public override DateTimeOffset GetUtcNow() => base.GetUtcNow() - By;
    }

    private sealed class CountingCalls(SqlDatabase database, JournalQueue queue) : ReminderTable(database, queue, TimeProvider.System)
    {
        private int _rings;

        public int Rings => Volatile.Read(ref _rings);

        public override async Task<IReadOnlyList<DueReminder>> TakeDueAsync(int count, TimeSpan lease, CancellationToken cancel)
        {
            var rings = await base.TakeDueAsync(count, lease, cancel);
            Interlocked.Add(ref _rings, rings.Count);
            return rings;
        }
    }

    private sealed class Payer(int devices, TaskCompletionSource ended) : UntypedActor
    {
        private int _ends;

        protected override void OnReceive(object message)
        {
            var pending = (NotificationsOffered)message;
            Sender.Tell(new ToDevice.NotificationsAcknowledged(pending.DeviceId, pending.Notifications[^1].Number));
            if ((_ends += pending.Notifications.Count(n => n.Status == MessageStatus.TimedOut)) == devices)
            {
                ended.TrySetResult();
            }
        }
    }

    private sealed class NeverForSlowOnes(ConcurrentDictionary<string, byte> slow, TaskCompletionSource<int> healthy) : UntypedActor
    {
        protected override void OnReceive(object message)
        {
            var pending = (NotificationsOffered)message;
            var isEnd = pending.Notifications.Any(n => n.Status == MessageStatus.TimedOut);
            if (isEnd && pending.DeviceId.Value == "healthy") healthy.TrySetResult(slow.Count);
            else if (isEnd) slow.TryAdd(pending.DeviceId.Value, 0);
            else Sender.Tell(new ToDevice.NotificationsAcknowledged(pending.DeviceId, pending.Notifications[^1].Number));
        }
    }
}

public sealed class SqliteReminderSpec(SqliteDatabase database) : ReminderSpec<SqliteDatabase>(database);

public sealed class PostgreSqlReminderSpec(PostgreSqlDatabase database) : ReminderSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerReminderSpec(SqlServerDatabase database) : ReminderSpec<SqlServerDatabase>(database);
