using System.Diagnostics;
using Akka.Actor;
using Akka.Persistence;
using IoTDelivery.Devices.Journal;
using IoTDelivery.Devices.Reminders;
using IoTDelivery.Domain;
using IoTDelivery.Tests.Databases;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;
using Microsoft.Extensions.DependencyInjection;
using static IoTDelivery.Devices.Tests.Talk;

namespace IoTDelivery.Devices.Tests;

/// <summary>One device on a real node: what it stores, says, transmits and has pending, and when it sleeps. On every database.</summary>
public abstract class DeviceSpec<TDatabase>(TDatabase server) : IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    private async Task<DeviceNode> NodeAsync(DeliveryPolicy? policy = null, DeviceOptions? options = null, Action<IServiceCollection>? replace = null)
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        return await DeviceNode.StartAsync(await server.CreateAsync(), policy, options, replace);
    }

    // Settles whatever is offered, as a healthy receiver does, and tells what it was.
    private static Ear SettleEverything(DeviceNode node, List<(string Device, Notification Notification)> pushed)
    {
        var ear = new Ear(node.System);
        node.Sink.Current = node.System.ActorOf(Props.Create(typeof(Payer), pushed, ear.Ref));
        return ear;
    }

    private sealed class Payer(List<(string, Notification)> pushed, IActorRef tell) : UntypedActor
    {
        protected override void OnReceive(object message)
        {
            var pending = (NotificationsOffered)message;
            lock (pushed) pushed.AddRange(pending.Notifications.Select(n => (pending.DeviceId.Value, n)));
            Sender.Tell(new ToDevice.NotificationsAcknowledged(pending.DeviceId, pending.Notifications[^1].Number));
            tell.Tell(pending);
        }
    }

    private static Task<int> RowsAsync(DeviceNode node, string device) => CountAsync(node, $"select count(*) from journal where persistence_id = 'device-{device}'");

    private static Task<int> CallsAsync(DeviceNode node, string device) =>
        CountAsync(node, $"select count(*) from reminder where device_id = '{device}'");

    private static async Task<long> DueAsync(DeviceNode node, string device)
    {
        await using var db = node.Database.Open();
        return await db.ExecuteAsync<long>($"select due_at from reminder where device_id = '{device}'");
    }

    private static async Task<int> CountAsync(DeviceNode node, string statement)
    {
        await using var db = node.Database.Open();
        return await db.ExecuteAsync<int>(statement);
    }

    // Awaits a state that only the database shows.
    private static async Task EventuallyAsync(Func<Task<bool>> holds, string what)
    {
        var clock = Stopwatch.StartNew();
        while (!await holds())
        {
            Assert.True(clock.Elapsed < Patience, $"Never came about: {what}");
            await Task.Delay(20);
        }
    }

    [SkippableFact]
    public async Task A_message_for_a_sleeping_device_is_stored_answered_PENDING_and_has_a_reminder_on_file()
    {
        await using var node = await NodeAsync();
        var device = Device("sleeper");

        var reply = await node.Devices.SendAsync(device, "m1");

        Assert.Equal(MessageStatus.Pending, Assert.IsType<OutboxReply.Accepted>(reply).Status);
        Assert.Equal(1, await RowsAsync(node, "sleeper"));
        Assert.Equal(1, await CallsAsync(node, "sleeper"));
    }

    [SkippableFact]
    public async Task What_was_accepted_is_there_after_the_node_died_and_goes_out_in_order_when_the_device_comes()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var storage = await server.CreateAsync();
        var device = Device("back");
        var node = await DeviceNode.StartAsync(storage);
        for (var i = 1; i <= 5; i++) Assert.IsType<OutboxReply.Accepted>(await node.Devices.SendAsync(device, $"m{i}"));
        await node.KillAsync();

        await using var next = await DeviceNode.StartAsync(storage);
        var connection = new Ear(next.System);
        next.Devices.Tell(Attach(device, connection), connection.Ref);

        for (var i = 1; i <= 5; i++) Assert.Equal($"m{i}", (await connection.HearAsync<ToConnection.Transmit>()).Message.MessageId.Value);
    }

    [SkippableFact]
    public async Task A_busy_connected_device_costs_two_rows_of_the_journal_per_message_and_no_write_of_its_reminder()
    {
        var calls = new CountingCalls();
        await using var node = await NodeAsync(replace: s => s.AddSingleton<ReminderTable>(calls.Over));
        SettleEverything(node, []);
        var device = Device("busy");
        var (connection, id) = (new Ear(node.System), Guid.NewGuid());
        connection.Attach(node.Devices, Attach(device, connection, id));
        await connection.HearAsync<ToConnection.Attached>();
        var before = await RowsAsync(node, "busy"); // that it asked for QoS 1 is a fact, too: once per device
        Assert.Equal(1, before);

        for (var i = 1; i <= 10; i++)
        {
            Assert.Equal(MessageStatus.Delivered, Assert.IsType<OutboxReply.Accepted>(await node.Devices.SendAsync(device, $"m{i}")).Status);
            var transmit = (await connection.HearAsync<ToConnection.Transmit>()).Message;
            node.Devices.Tell(new ToDevice.PacketAcknowledged(device, id, transmit.Tag, 1, 0, Sequence: i), connection.Ref);
            await EventuallyAsync(async () => await RowsAsync(node, "busy") == before + 2 * i, $"two rows for message {i}");
        }

        Assert.Equal(1, await CallsAsync(node, "busy")); // filed with the first row, for the whole busy time
        Assert.Equal((0, 0), (calls.Filed, calls.Deleted));
    }

    [SkippableFact]
    public async Task A_sleeping_device_costs_two_rows_and_one_reminder_write_per_message_and_sleeps_again()
    {
        var calls = new CountingCalls();
        await using var node = await NodeAsync(replace: s => s.AddSingleton<ReminderTable>(calls.Over));
        SettleEverything(node, []);

        await node.Devices.SendAsync(Device("dozer"), "m1");

        await EventuallyAsync(async () => await RowsAsync(node, "dozer") == 2 && calls.Filed == 1, "accepted with its call, acknowledged, and the call moved to the end of the ttl");
        await AsleepAsync(node, "dozer");
        Assert.Equal((1, 0), (calls.Filed, calls.Deleted));
        Assert.Equal(2, await RowsAsync(node, "dozer"));
    }

    [SkippableFact]
    public async Task The_reminder_fires_and_the_message_of_a_sleeping_device_times_out_and_is_pushed()
    {
        await using var node = await NodeAsync(DeviceNode.Policy with { TtlUnit = TimeSpan.FromMilliseconds(300) });
        var pushed = new List<(string, Notification)>();
        var settled = SettleEverything(node, pushed);

        await node.Devices.SendAsync(Device("late"), "m1", ttl: 5);

        await settled.HearAsync<NotificationsOffered>();
        await settled.HearAsync<NotificationsOffered>();
        Assert.Equal([MessageStatus.Pending, MessageStatus.TimedOut], pushed.Select(p => p.Item2.Status));
        await EventuallyAsync(async () => await CallsAsync(node, "late") == 0, "the call is deleted when nothing is left to do");
    }

    [SkippableFact]
    public async Task Pending_notifications_are_offered_again_after_a_crash_with_the_same_numbers()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var storage = await server.CreateAsync();
        var options = new DeviceOptions { SleepAfter = TimeSpan.FromMilliseconds(100), ReminderInterval = TimeSpan.FromSeconds(1) };
        var node = await DeviceNode.StartAsync(storage, options: options);
        var deaf = new Ear(node.System);
        node.Sink.Current = deaf.Ref;
        await node.Devices.SendAsync(Device("debtor"), "m1");
        var first = (await deaf.HearAsync<NotificationsOffered>()).Message;
        await node.KillAsync();

        await using var next = await DeviceNode.StartAsync(storage, options: options);
        var settled = SettleEverything(next, []);
        var again = (await settled.HearAsync<NotificationsOffered>()).Message; // nobody spoke to the device: its call rang

        Assert.Equal(first.Notifications, again.Notifications);
    }

    [SkippableFact]
    public async Task Another_sink_is_offered_everything_that_is_not_acknowledged()
    {
        await using var node = await NodeAsync();
        var (first, second) = (new Ear(node.System), new Ear(node.System));
        node.Sink.Current = first.Ref;
        await node.Devices.SendAsync(Device("moved"), "m1");
        Assert.Equal(1, Assert.Single((await first.HearAsync<NotificationsOffered>()).Message.Notifications).Number);

        node.Sink.Current = second.Ref;
        await node.Devices.SendAsync(Device("moved"), "m2");

        var offered = new List<long>();
        while (offered.Count < 2) offered.AddRange((await second.HearAsync<NotificationsOffered>()).Message.Notifications.Select(n => n.Number));
        Assert.Equal([1, 2], offered);
    }

    [SkippableFact]
    public async Task Snapshot_and_upkeep_delete_old_events_and_nothing_is_forgotten()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var storage = await server.CreateAsync();
        var options = new DeviceOptions { SleepAfter = TimeSpan.FromMilliseconds(50), SnapshotEvery = 10, UpkeepAge = TimeSpan.Zero };
        await using (var node = await DeviceNode.StartAsync(storage, options: options))
        {
            SettleEverything(node, []);
            for (var i = 1; i <= 30; i++) await node.Devices.SendAsync(Device("old"), $"m{i}", ttl: 0);
            await EventuallyAsync(async () => await CountAsync(node, "select count(*) from snapshot where persistence_id = 'device-old'") > 0, "a snapshot");
            var upkeep = node.Get<JournalUpkeep>();
            var deleted = 0;
            await EventuallyAsync(async () => (deleted += await upkeep.RunAsync(CancellationToken.None)) > 0, "events are deleted");
            Assert.InRange(await RowsAsync(node, "old"), 1, 40);
        }

        await using var next = await DeviceNode.StartAsync(storage, options: options);
        var reply = Assert.IsType<OutboxReply.Accepted>(await next.Devices.SendAsync(Device("old"), "m1", ttl: 0));
        Assert.Equal(MessageStatus.Failed, reply.Status);
        Assert.IsType<OutboxReply.Refused>(await next.Devices.SendAsync(Device("old"), "m1", "other", ttl: 0));
        var list = Assert.IsType<OutboxReply.Messages>(await next.Devices.AskAsync(new ToDevice.List(Device("old")), CancellationToken.None));
        Assert.Equal(Enumerable.Range(11, 20).Select(i => $"m{i}").Reverse(), list.Items.Select(m => m.MessageId.Value));
    }

    [SkippableFact]
    public async Task A_gap_in_the_journal_stops_the_device_instead_of_guessing()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var storage = await server.CreateAsync();
        await using (var node = await DeviceNode.StartAsync(storage))
        {
            for (var i = 1; i <= 3; i++) await node.Devices.SendAsync(Device("holed"), $"m{i}");
        }

        await using var next = await DeviceNode.StartAsync(storage);
        await using (var db = next.Database.Open()) await db.ExecuteAsync("delete from journal where persistence_id = 'device-holed' and sequence_number = 2");
        var impatient = new DeviceGateway(() => next.Get<Akka.Hosting.IReadOnlyActorRegistry>().Get<DeviceActor>(), TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(2));

        Assert.Equal(new OutboxReply.Refused(RefusalReason.Unavailable), await impatient.SendAsync(Device("holed"), "m4"));
    }

    [SkippableFact]
    public async Task While_a_write_is_in_flight_commands_collect_and_leave_as_one_batch()
    {
        await using var node = await NodeAsync(DeviceNode.Policy with { PendingMax = 2_000, NotificationsMax = 2_000 });
        await node.Devices.SendAsync(Device("flood"), "warm-up");
        var before = await RowsAsync(node, "flood");

        var replies = await Task.WhenAll(Enumerable.Range(1, 1_000).Select(i => node.Devices.SendAsync(Device("flood"), $"m{i}")));

        Assert.All(replies, r => Assert.IsType<OutboxReply.Accepted>(r));
        Assert.InRange(await RowsAsync(node, "flood") - before, 1, 300);
    }

    [SkippableFact]
    public async Task A_younger_connection_evicts_the_older_one_and_a_late_re_attach_of_the_older_one_evicts_nobody()
    {
        await using var node = await NodeAsync();
        var device = Device("twice");
        var (old, young) = (new Ear(node.System), new Ear(node.System));
        var (oldId, at) = (Guid.NewGuid(), DateTimeOffset.UtcNow);
        old.Attach(node.Devices, Attach(device, old, oldId, at));
        await old.HearAsync<ToConnection.Attached>();

        young.Attach(node.Devices, Attach(device, young, at: at.AddSeconds(1)));
        await young.HearAsync<ToConnection.Attached>();
        Assert.True((await old.HearAsync<ToConnection.Evicted>()).Message.TakenOver);

        old.Attach(node.Devices, Attach(device, old, oldId, at, revision: 2));
        await old.HearAsync<ToConnection.Evicted>();
        await node.Devices.SendAsync(device, "m1");
        Assert.Equal("m1", (await young.HearAsync<ToConnection.Transmit>()).Message.MessageId.Value);
    }

    [SkippableFact]
    public async Task A_connection_that_died_while_its_Attach_lay_in_a_buffer_does_not_keep_the_younger_one_out()
    {
        await using var node = await NodeAsync();
        var device = Device("buffered");
        var (dead, young) = (new Ear(node.System), new Ear(node.System));
        node.Devices.Tell(Attach(device, dead), dead.Ref); // says an age of 0, whenever it was sent
        await dead.HearAsync<ToConnection.Attached>();

        // It attaches again and again, as a connection does until it is attached.
        var id = Guid.NewGuid();
        for (var attached = young.HearAsync<ToConnection.Attached>(); !attached.IsCompleted;)
        {
            young.Attach(node.Devices, Attach(device, young, id) with { Age = TimeSpan.FromSeconds(4) });
            await Task.WhenAny(attached, Task.Delay(100));
        }

        Assert.True((await dead.HearAsync<ToConnection.Evicted>()).Message.TakenOver);
        await node.Devices.SendAsync(device, "m1");
        Assert.Equal("m1", (await young.HearAsync<ToConnection.Transmit>()).Message.MessageId.Value);
    }

    [SkippableFact]
    public async Task An_older_connection_that_comes_to_a_device_that_has_just_recovered_does_not_throw_out_the_younger_one()
    {
        await using var node = await NodeAsync();
        var device = Device("recovered");
        var (old, young) = (new Ear(node.System), new Ear(node.System));
        young.Attach(node.Devices, Attach(device, young));
        await young.HearAsync<ToConnection.Attached>();

        var id = Guid.NewGuid();
        for (var evicted = old.HearAsync<ToConnection.Evicted>(); !evicted.IsCompleted;)
        {
            old.Attach(node.Devices, Attach(device, old, id) with { Age = TimeSpan.FromSeconds(60) });
            await Task.WhenAny(evicted, Task.Delay(100));
        }

        await node.Devices.SendAsync(device, "m1");
        Assert.Equal("m1", (await young.HearAsync<ToConnection.Transmit>()).Message.MessageId.Value);
    }

    // By how many seconds the clock of the node that froze the device is ahead of those the logins came to.
    [SkippableTheory]
    [InlineData(-20)]
    [InlineData(0)]
    [InlineData(20)]
    public async Task Whoever_logged_in_before_the_device_was_frozen_is_let_go_even_if_he_attaches_later(int ahead)
    {
        await using var node = await NodeAsync();
        var device = Device("frozen");
        var (present, late, after, at) = (new Ear(node.System), new Ear(node.System), new Ear(node.System), DateTimeOffset.UtcNow);
        present.Attach(node.Devices, Attach(device, present, at: at) with { Generation = 3 });
        await present.HearAsync<ToConnection.Attached>();

        await EndLoginsAsync(node, device, 4, at.AddSeconds(ahead));
        Assert.False((await present.HearAsync<ToConnection.Evicted>()).Message.TakenOver);
        late.Attach(node.Devices, Attach(device, late, at: at) with { Generation = 3 });
        Assert.False((await late.HearAsync<ToConnection.Evicted>()).Message.TakenOver);
        after.Attach(node.Devices, Attach(device, after, at: at) with { Generation = 4 });
        await after.HearAsync<ToConnection.Attached>();
    }

    [SkippableFact]
    public async Task A_login_from_before_the_freeze_is_refused_also_after_the_device_has_slept()
    {
        var options = new DeviceOptions { SleepAfter = TimeSpan.FromMilliseconds(20) };
        await using var node = await NodeAsync(options: options);
        var device = Device("thawed");
        var (late, after) = (new Ear(node.System), new Ear(node.System));
        await EndLoginsAsync(node, device, 4);
        await AsleepAsync(node, "thawed");

        late.Attach(node.Devices, Attach(device, late) with { Generation = 3 });
        Assert.False((await late.HearAsync<ToConnection.Evicted>()).Message.TakenOver);
        after.Attach(node.Devices, Attach(device, after) with { Generation = 4 });
        await after.HearAsync<ToConnection.Attached>();
    }

    [SkippableFact]
    public async Task A_freeze_that_is_told_once_more_or_late_leaves_the_logins_after_it_alone()
    {
        await using var node = await NodeAsync();
        var device = Device("told-twice");
        var present = new Ear(node.System);
        await EndLoginsAsync(node, device, 4);
        present.Attach(node.Devices, Attach(device, present) with { Generation = 4 });
        await present.HearAsync<ToConnection.Attached>();

        var rows = await RowsAsync(node, "told-twice");

        foreach (var generation in (long[])[4, 3]) await EndLoginsAsync(node, device, generation);

        Assert.Equal(rows, await RowsAsync(node, "told-twice"));
        var sent = Assert.IsType<OutboxReply.Accepted>(await node.Devices.SendAsync(device, "m1"));
        Assert.Equal(MessageStatus.Delivered, sent.Status); // connected and subscribed
    }

    // While a site is upgraded, either end may be of an older release.
    [SkippableTheory]
    [InlineData(3L, null)]
    [InlineData(null, 4L)]
    public async Task Where_one_end_names_no_generation_whoever_is_connected_is_let_go(long? login, long? frozen)
    {
        await using var node = await NodeAsync();
        var device = Device("older");
        var present = new Ear(node.System);
        present.Attach(node.Devices, Attach(device, present) with { Generation = login });
        await present.HearAsync<ToConnection.Attached>();

        await EndLoginsAsync(node, device, frozen);

        Assert.False((await present.HearAsync<ToConnection.Evicted>()).Message.TakenOver);
    }

    private static async Task EndLoginsAsync(
        DeviceNode node, DeviceId device, long? generation, DateTimeOffset? at = null) =>
        Assert.IsType<OutboxReply.Done>(await node.Devices.AskAsync(
            new ToDevice.Disconnect(device, generation, at ?? DateTimeOffset.UtcNow), CancellationToken.None));

    [SkippableFact]
    public async Task A_connected_device_stays_awake_and_a_lasting_session_remembers_its_subscriptions()
    {
        await using var node = await NodeAsync(options: new DeviceOptions { SleepAfter = TimeSpan.FromMilliseconds(20), FlushAfter = TimeSpan.FromMilliseconds(50) });
        SettleEverything(node, []);
        var device = Device("lasting");
        var (first, second) = (new Ear(node.System), new Ear(node.System));
        var id = Guid.NewGuid();
        first.Attach(node.Devices, Attach(device, first, id, keeps: true));
        var (attached, actor) = await first.HearAsync<ToConnection.Attached>();
        Assert.False(attached.SessionPresent);
        var death = new Ear(node.System);

        await node.Devices.SendAsync(device, "m1");
        var transmit = (await first.HearAsync<ToConnection.Transmit>()).Message;
        node.Devices.Tell(new ToDevice.PacketAcknowledged(device, id, transmit.Tag, 1, 0, Sequence: 1), first.Ref);
        await EventuallyAsync(async () => await CallsAsync(node, "lasting") == 0, "settled: the call is off while it stays connected");
        Assert.False(actor.Equals(ActorRefs.Nobody));

        node.Devices.Tell(new ToDevice.Detach(device, id), first.Ref);
        await AsleepAsync(node, "lasting");
        second.Attach(node.Devices, Attach(device, second, keeps: true) with { Subscriptions = null, Subscribed = [] });
        var resumed = (await second.HearAsync<ToConnection.Attached>()).Message;
        Assert.True(resumed.SessionPresent);
        Assert.Equal(SystemTopics.MessagesDown(device), Assert.Single(resumed.Subscriptions).TopicFilter);
    }

    [SkippableFact]
    public async Task The_actor_killed_in_the_middle_of_a_write_forgets_nothing_it_answered()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var storage = await server.CreateAsync();
        var policy = DeviceNode.Policy with { PendingMax = 5_000 };
        var node = await DeviceNode.StartAsync(storage, policy);
        var accepted = new List<string>();
        var sending = Enumerable.Range(1, 400).Select(async i =>
        {
            if (await node.Devices.SendAsync(Device("victim"), $"m{i}") is OutboxReply.Accepted) lock (accepted) accepted.Add($"m{i}");
        }).ToList();
        await Task.WhenAny(sending);
        await node.KillAsync();
        string[] answered;
        lock (accepted) answered = [.. accepted]; // the other asks never hear again

        await using var next = await DeviceNode.StartAsync(storage, policy);
        foreach (var id in answered)
        {
            var shown = Assert.IsType<OutboxReply.Messages>(await next.Devices.AskAsync(new ToDevice.Show(Device("victim"), MessageId.Parse(id)), CancellationToken.None));
            Assert.Single(shown.Items);
        }

        Assert.NotEmpty(answered);
    }

    [SkippableFact]
    public async Task A_recovery_while_the_fence_is_raised_takes_a_number_before_it_answers()
    {
        await using var node = await NodeAsync();
        node.Get<Fencing>().Raise(TimeSpan.FromMinutes(1));

        await node.Devices.AskAsync(new ToDevice.List(Device("fenced")), CancellationToken.None);

        Assert.Equal(1, await RowsAsync(node, "fenced"));
    }

    [SkippableFact]
    public async Task A_device_that_comes_back_to_a_node_it_has_left_is_recovered()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var storage = await server.CreateAsync();
        await using var one = await DeviceNode.StartAsync(storage);
        await using var other = await DeviceNode.StartAsync(storage);
        foreach (var node in new[] { one, other }) SettleEverything(node, []);

        // As its shard would: here, there, here again, and there it is read.
        foreach (var (node, message) in new[] { (one, "m1"), (other, "m2"), (one, "m3") })
        {
            Assert.IsType<OutboxReply.Accepted>(await node.Devices.SendAsync(Device("wanderer"), message));
            await AsleepAsync(node, "wanderer");
        }

        var list = Assert.IsType<OutboxReply.Messages>(await other.Devices.AskAsync(new ToDevice.List(Device("wanderer")), CancellationToken.None));
        Assert.Equal(["m3", "m2", "m1"], list.Items.Select(m => m.MessageId.Value));
    }

    [SkippableFact]
    public async Task A_message_does_not_put_off_the_reminder_of_an_older_one_that_ends_sooner()
    {
        await using var node = await NodeAsync(DeviceNode.Policy with { TtlUnit = TimeSpan.FromSeconds(6) }); // half a minute; the call for what is pending is a minute ahead
        SettleEverything(node, []);
        await node.Devices.SendAsync(Device("two"), "m1", ttl: 5);
        await AsleepAsync(node, "two");
        var due = await DueAsync(node, "two");
        node.Sink.Current = new Ear(node.System).Ref; // deaf: the next notification stays pending

        await node.Devices.SendAsync(Device("two"), "m2", ttl: 1440);

        Assert.True(await DueAsync(node, "two") <= due, "the call was put off");
    }

    [SkippableFact]
    public async Task A_reminder_of_another_owner_is_only_ever_moved_earlier()
    {
        await using var node = await NodeAsync();
        var (calls, hour, mine) = (node.Get<ReminderTable>(), TimeSpan.FromHours(1), Guid.NewGuid());
        await calls.FileAsync("owned", hour, mine);
        var due = await DueAsync(node, "owned");

        await calls.FileAsync("owned", 2 * hour, Guid.NewGuid());
        Assert.Equal(due, await DueAsync(node, "owned"));
        await calls.FileAsync("owned", hour / 2, mine);
        Assert.True(await DueAsync(node, "owned") < due);
        await calls.FileAsync("owned", 2 * hour, mine);
        Assert.True(await DueAsync(node, "owned") > due);
    }

    [SkippableFact]
    public async Task An_awake_device_that_hears_the_reminder_of_another_owner_takes_a_number()
    {
        await using var node = await NodeAsync();
        var connection = new Ear(node.System);
        connection.Attach(node.Devices, Attach(Device("doubted"), connection, qos: 0));
        await connection.HearAsync<ToConnection.Attached>();

        node.Devices.Tell(new ToDevice.Reminder(Device("doubted"), Guid.NewGuid(), TimeSpan.FromSeconds(30)), connection.Ref);

        await EventuallyAsync(async () => await RowsAsync(node, "doubted") == 1, "the fence");
    }

    private static async Task AsleepAsync(DeviceNode node, string device)
    {
        var shard = (await node.Get<Akka.Hosting.IReadOnlyActorRegistry>().Get<DeviceActor>().Ask<Akka.Cluster.Sharding.CurrentShardRegionState>(
            Akka.Cluster.Sharding.GetShardRegionState.Instance, Patience)).Shards;
        var clock = Stopwatch.StartNew();
        while (shard.Any(s => s.EntityIds.Contains(device)))
        {
            Assert.True(clock.Elapsed < Patience, $"{device} never went to sleep");
            await Task.Delay(20);
            shard = (await node.Get<Akka.Hosting.IReadOnlyActorRegistry>().Get<DeviceActor>().Ask<Akka.Cluster.Sharding.CurrentShardRegionState>(
                Akka.Cluster.Sharding.GetShardRegionState.Instance, Patience)).Shards;
        }
    }

    private sealed class CountingCalls
    {
        private int _filed, _deleted;

        public int Filed => Volatile.Read(ref _filed);

        public int Deleted => Volatile.Read(ref _deleted);

        public ReminderTable Over(IServiceProvider services) => new Counted(
            services.GetRequiredService<IoTDelivery.Storage.SqlDatabase>(), services.GetRequiredService<JournalQueue>(), services.GetRequiredService<TimeProvider>(), this);

        private sealed class Counted(IoTDelivery.Storage.SqlDatabase database, JournalQueue queue, TimeProvider clock, CountingCalls count) : ReminderTable(database, queue, clock)
        {
            public override async Task FileAsync(string deviceId, TimeSpan dueIn, Guid token)
            {
                await base.FileAsync(deviceId, dueIn, token);
                Interlocked.Increment(ref count._filed);
            }

            public override async Task DeleteAsync(string deviceId, Guid token)
            {
                await base.DeleteAsync(deviceId, token);
                Interlocked.Increment(ref count._deleted);
            }
        }
    }
}

public sealed class SqliteDeviceSpec(SqliteDatabase database) : DeviceSpec<SqliteDatabase>(database);

public sealed class PostgreSqlDeviceSpec(PostgreSqlDatabase database) : DeviceSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerDeviceSpec(SqlServerDatabase database) : DeviceSpec<SqlServerDatabase>(database);
