using System.Collections.Concurrent;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;
using LinqToDB.Data;

namespace IoTDelivery.Push.Tests;

public abstract class BacklogSendersSpec<TDatabase>(TDatabase server) : PushSpec(server), IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    [SkippableFact]
    public async Task After_a_restart_with_a_backlog_it_goes_on_by_itself()
    {
        await using var world = await WorldAsync(drains: false);
        await world.AddReceiverAsync("a");
        await FillAsync(world, devices: 3, each: 200);
        world.StartDrainers();
        await world.Application.UntilAsync(() => world.Application.Taken("a").Count == 600);
        for (var d = 1; d <= 3; d++) Assert.Equal(Enumerable.Range(1, 200).Select(n => (long)n), world.Application.Numbers("a", $"device-{d}"));
        await PushWorld.UntilAsync(async () => await world.RowsAsync("a") == 0);
    }

    [SkippableFact]
    public async Task Rows_another_node_wrote_are_found()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        await FillAsync(world, devices: 1, each: 1); // without a signal
        await world.Application.UntilAsync(() => world.Application.Taken("a").Count == 1);
    }

    [SkippableFact]
    public async Task A_device_that_keeps_failing_does_not_block_the_others_of_a_working_receiver()
    {
        await using var world = await WorldAsync(o => o.BreakerFailures = 3);
        await world.AddReceiverAsync("a");
        var isPoison = true;
        world.Application.Answers = post => Task.FromResult(post.DeviceId == "lamp" && isPoison ? 500 : 200);
        world.Notify(Given.Lamp, 1, 2);
        await world.Application.UntilAsync(() => world.Application.All("a").Count > 10); // the same device, over and over: no reason to open
        Assert.Empty((await world.Backlog.ViewAsync(default)).IsOpen);
        await FillAsync(world, devices: 20, each: 3);
        await world.Application.UntilAsync(() => world.Application.Taken("a").Count == 60);

        world.Notify(Given.Device(99), 1); // has no rows: goes directly, although its receiver has a backlog
        await world.Owing.UntilAcknowledgedAsync(Given.Device(99), 1);
        Assert.Equal([1], world.Application.Numbers("a", "device-99"));

        Volatile.Write(ref isPoison, false);
        await world.Application.UntilAsync(() => world.Application.Numbers("a", "lamp").SequenceEqual([1, 2]));
    }

    [SkippableFact]
    public async Task The_breaker_opens_then_only_probes_go_and_one_that_is_answered_closes_it()
    {
        await using var world = await WorldAsync(o => (o.BreakerFailures, o.ProbeInterval, o.ConcurrencyPerReceiver) = (5, TimeSpan.FromMilliseconds(700), 1));
        await world.AddReceiverAsync("a");
        var isDown = true;
        world.Application.Answers = _ => Task.FromResult(isDown ? 503 : 200);
        for (var d = 1; d <= 8; d++) world.Notify(Given.Device(d), 1);
        for (var d = 1; d <= 8; d++) await world.Owing.UntilAcknowledgedAsync(Given.Device(d), 1);
        await PushWorld.UntilAsync(async () => (await world.Backlog.ViewAsync(default)).IsOpen.Contains("a"));
        var before = world.Application.All("a").Count;

        for (var d = 11; d <= 30; d++)
        {
            world.Notify(Given.Device(d), 1);
            await world.Owing.UntilAcknowledgedAsync(Given.Device(d), 1); // as a row
        }

        Assert.InRange(world.Application.All("a").Count - before, 0, 2);

        await world.Application.UntilAsync(() => world.Application.All("a").Count >= before + 2); // probes
        Volatile.Write(ref isDown, false);
        await world.Application.UntilAsync(() => world.Application.Taken("a").Count == 28);
        await PushWorld.UntilAsync(async () => await world.RowsAsync("a") == 0);
        world.Notify(Given.Device(1), 2);
        await world.Application.UntilAsync(() => world.Application.Numbers("a", "device-1").SequenceEqual([1, 2]));
    }

    [SkippableFact]
    public async Task A_receiver_that_stays_down_beyond_the_limit_leaves_dead_letters_that_can_be_replayed()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        world.Application.Answers = _ => Task.FromResult(503);
        world.Notify(Given.Lamp, 1, 2, 3);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 3);
        world.Clock.Move(TimeSpan.FromHours(25));
        await PushWorld.UntilAsync(async () => (await world.DeadLettersAsync("a")).Count == 3);
        Assert.Equal(0, await world.RowsAsync("a"));

        world.Application.Answers = _ => Task.FromResult(200);
        Assert.Equal(3, await world.Backlog.ReplayAsync("a", default));
        await world.Application.UntilAsync(() => world.Application.Numbers("a", "lamp").SequenceEqual([1, 2, 3]));
    }

    [SkippableFact]
    public async Task A_dead_letter_that_the_database_refuses_holds_up_nobody_and_is_written_when_it_can_be()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        await world.PoisonLetterAsync(1);
        var asked = new ConcurrentDictionary<string, int>();
        world.Application.Answers = post =>
            Task.FromResult(asked.AddOrUpdate(post.RequestId, 1, (_, n) => n + 1) == 1 ? 503 : 413);
        world.Notify(Given.Lamp, 1, 2);
        for (var d = 1; d <= 5; d++) world.Notify(Given.Device(d), 7);

        await PushWorld.UntilAsync(async () => (await world.DeadLettersAsync("a")).Count == 6);
        Assert.Equal(1, await world.RowsAsync("a"));
        Assert.DoesNotContain(await world.DeadLettersAsync("a"), l => l.Number == 1);

        await world.CureLettersAsync();
        await PushWorld.UntilAsync(async () => await world.RowsAsync("a") == 0);
        Assert.Equal(7, (await world.DeadLettersAsync("a")).Count);
    }

    [SkippableFact]
    public async Task Beyond_its_bytes_an_action_loses_the_oldest_to_the_dead_letters()
    {
        await using var world = await WorldAsync(o => o.BacklogBytesMax = 1000);
        await world.AddReceiverAsync("a");
        world.Application.Answers = _ => Task.FromResult(503);
        world.Notify(Given.Lamp, [.. Enumerable.Range(1, 20)]);
        await PushWorld.UntilAsync(async () => (await world.DeadLettersAsync("a")).Count >= 15);
        var (rows, bytes) = await world.Backlog.CountAsync("a", default);
        Assert.InRange(bytes, 1, 1000);
        Assert.Equal(20, rows + (await world.DeadLettersAsync("a")).Count);
        Assert.Equal(1, (await world.DeadLettersAsync("a"))[0].Number);
    }

    [SkippableFact]
    public async Task A_row_refused_for_good_becomes_a_dead_letter_and_the_next_goes_on()
    {
        await using var world = await WorldAsync(drains: false);
        await world.AddReceiverAsync("a");
        await FillAsync(world, devices: 1, each: 3);
        world.Application.Answers = post => Task.FromResult(post.Number == 2 ? 410 : 200);
        world.StartDrainers();
        await PushWorld.UntilAsync(async () => await world.RowsAsync("a") == 0);
        Assert.Equal([1, 3], world.Application.Numbers("a", "device-1"));
        Assert.Equal([2], (await world.DeadLettersAsync("a")).Select(l => l.Number));
    }

    [SkippableFact]
    public async Task The_backlog_of_a_deleted_action_is_dropped_also_what_was_written_too_late()
    {
        await using var world = await WorldAsync();
        var rule = await world.AddReceiverAsync("a");
        world.Application.Answers = _ => Task.FromResult(503);
        world.Notify(Given.Lamp, 1, 2);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 2);
        await world.Rules.RemoveAsync(Given.Project, rule.RuleId, default);
        await world.Backlog.DropActionAsync("a", default); // or its sender was quicker
        Assert.Equal(0, await world.RowsAsync("a"));

        await FillAsync(world, devices: 2, each: 2); // a pusher that had matched before
        await PushWorld.UntilAsync(async () => await world.RowsAsync("a") == 0);
        Assert.Empty(world.Application.Taken("a"));
        Assert.Empty(await world.DeadLettersAsync("a"));
    }

    [SkippableFact]
    public async Task A_changed_address_is_used_for_what_waits()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        world.Application.Answers = post => Task.FromResult(post.Receiver == "a" ? 503 : 200);
        world.Notify(Given.Lamp, 1);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 1);
        await world.Rules.UpdateActionAsync(Given.Project, "a", "{}", world.Application.Url("moved").ToString(), default);
        await world.Application.UntilAsync(() => world.Application.Numbers("moved", "lamp").SequenceEqual([1]));
    }

    [SkippableFact]
    public async Task Many_devices_drain_in_order_each()
    {
        await using var world = await WorldAsync(drains: false);
        await world.AddReceiverAsync("a");
        await FillAsync(world, devices: 700, each: 3);
        world.StartDrainers();
        await world.Application.UntilAsync(() => world.Application.Taken("a").Count == 2100);
        foreach (var device in world.Application.Taken("a").GroupBy(p => p.DeviceId)) Assert.Equal([1, 2, 3], device.Select(p => p.Number));
    }

    [SkippableFact]
    public async Task A_row_whose_commit_took_long_is_not_overtaken_by_a_younger_one_of_its_device()
    {
        var rarely = TimeSpan.FromMinutes(1); // so that only the younger row can make the sender look
        await using var world = await WorldAsync(o => o.BoundsInterval = o.PollInterval = rarely, drains: false);
        Skip.If(
            world.Database.Provider == DatabaseProvider.Sqlite,
            "SQLite has one writer: ids are committed in their order.");
        await world.AddReceiverAsync("a");
        var open = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        world.Application.Answers = async post =>
        {
            if (post.DeviceId == "device-2") await open.Task; // or the sender would be done, and begin again
            return 200;
        };

        await using var late = world.Database.Open();
        await using var commit = await late.BeginTransactionAsync();
        var body = Body(Given.Device(9), 1);
        await late.ExecuteAsync(
            "insert into push_backlog (action_id, device_id, n, body, bytes, created_at) "
            + "values ('a', 'device-9', 1, @body, @bytes, 0)",
            new DataParameter("body", body), new DataParameter("bytes", body.Length));
        await FillAsync(world, devices: 2, each: 1);
        world.StartDrainers();

        // A page has passed the late one.
        await world.Application.UntilAsync(() => world.Application.Taken("a").Count == 1);

        await commit.CommitAsync();
        await world.Backlog.WriteAsync(
            [new BacklogWrite("a", "device-9", [(2, Body(Given.Device(9), 2))], WriteMode.Append)], [], default);
        world.Signal.RowsWritten("a");
        await world.Application.UntilAsync(() => world.Application.Numbers("a", "device-9").Length == 2);
        Assert.Equal([1, 2], world.Application.Numbers("a", "device-9"));
        open.SetResult();
    }

    private static byte[] Body(DeviceId device, int number) =>
        StatusNotification.Write(device, Given.Notification(number, Given.Noon), Given.Header, PushShape.Flat);

    private static async Task FillAsync(PushWorld world, int devices, int each)
    {
        var writes = new List<BacklogWrite>();
        for (var n = 1; n <= each; n++)
        {
            for (var d = 1; d <= devices; d++)
            {
                writes.Add(new BacklogWrite("a", $"device-{d}", [(n, Body(Given.Device(d), n))], WriteMode.Append));
            }
        }

        await world.Backlog.WriteAsync(writes, [], default);
    }
}

public sealed class SqliteBacklogSendersSpec(SqliteDatabase database) : BacklogSendersSpec<SqliteDatabase>(database);

public sealed class PostgreSqlBacklogSendersSpec(PostgreSqlDatabase database) : BacklogSendersSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerBacklogSendersSpec(SqlServerDatabase database) : BacklogSendersSpec<SqlServerDatabase>(database);
