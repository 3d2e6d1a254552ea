using Akka.TestKit.Xunit2;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;

namespace IoTDelivery.Batch.Tests;

/// <summary>Batch tasks and whoever works on them. On every database.</summary>
public abstract class BatchSpec<TDatabase>(TDatabase server) : TestKit("akka.loglevel = WARNING"), IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    private static readonly OutboxReply Full = new OutboxReply.Refused(RefusalReason.TooMuchAtOnce);

    [SkippableFact]
    public async Task Every_target_gets_the_message_once_and_the_figures_say_so()
    {
        await using var world = await WorldAsync();
        var ids = await world.AddDevicesAsync(450);
        var task = await world.AddTaskAsync(ids);
        Assert.Equal(new BatchProgress { Total = 450, Waitting = 450 }, (await world.ShowAsync(task)).Progress);

        world.StartRunner();

        Assert.Equal(new BatchProgress { Total = 450, Success = 450 }, await world.UntilAsync(task, BatchStatus.Success));
        Assert.Equal(ids.Order(), world.Told.Accepted.Keys.Order());
        Assert.All(world.Told.Accepted, d => Assert.Equal([task.MessageIdFor(DeviceId.Parse(d.Key)).Value], d.Value));
        Assert.Equal(450, world.Told.Accepted.Values.SelectMany(m => m).Distinct().Count()); // a notification's message_id names one target
    }

    public static TheoryData<string> Gaps => ["taken", "asked", "answered", "settled"];

    [SkippableTheory]
    [MemberData(nameof(Gaps))]
    public async Task A_runner_that_dies_leaves_a_task_that_the_next_one_finishes_with_one_message_per_target(string gap)
    {
        await using var world = await WorldAsync();
        var ids = await world.AddDevicesAsync(30);
        var task = await world.AddTaskAsync(ids);
        var dying = new DyingTasks(world.Database, world.Groups, world.Clock, gap);
        world.Told.IsMute = gap == "asked";

        world.StartRunner(dying);
        if (gap == "asked") await BatchWorld.UntilAsync(() => Task.FromResult(world.Told.Accepted.Count > 0), () => Task.FromResult("nobody was asked"));
        else await dying.Reached.WaitAsync(TimeSpan.FromSeconds(30));
        await world.KillRunnersAsync();
        var before = await world.ShowAsync(task);
        Assert.Equal((BatchStatus.Processing, 30), (before.Task.Status, before.Progress.Processing + before.Progress.Success));

        world.Told.IsMute = false;
        world.StartRunner();

        Assert.Equal(new BatchProgress { Total = 30, Success = 30 }, await world.UntilAsync(task, BatchStatus.Success));
        Assert.Equal(30, world.Told.Accepted.Count);
        Assert.All(world.Told.Accepted.Values, m => Assert.Single(m));
    }

    [SkippableFact]
    public async Task A_runner_that_dies_while_targets_are_written_down_is_followed_by_one_that_writes_the_rest()
    {
        await using var world = await WorldAsync();
        var ids = await world.AddDevicesAsync(2_500);
        var byList = await world.AddTaskAsync(ids);
        var byProduct = await world.AddTaskAsync(null, t => t with { TargetsFilter = """{"product_ids":["lamp"]}""" });
        await world.Tasks.InitializeAsync(byList.TaskId, default);
        await world.Tasks.InitializeAsync(byProduct.TaskId, default);
        Assert.Equal(new BatchProgress { Total = 2_500, Waitting = 2_500 }, (await world.ShowAsync(byList)).Progress);
        Assert.Equal(BatchStatus.Initializing, (await world.ShowAsync(byProduct)).Task.Status);

        world.StartRunner();

        Assert.Equal(new BatchProgress { Total = 2_500, Success = 2_500 }, await world.UntilAsync(byList, BatchStatus.Success));
        Assert.Equal(new BatchProgress { Total = 2_500, Success = 2_500 }, await world.UntilAsync(byProduct, BatchStatus.Success));
        Assert.Equal(ids, (await world.TargetsAsync(byList)).OrderBy(t => t.Number).Select(t => t.Target));
        Assert.All(world.Told.Accepted.Values, m => Assert.Equal(2, m.Count)); // one of each task
    }

    [SkippableFact]
    public async Task Of_groups_and_products_each_device_is_a_target_once()
    {
        await using var world = await WorldAsync();
        var lamps = await world.AddDevicesAsync(3);
        var fans = await world.AddDevicesAsync(3, "fan", "f");
        var group = new DeviceGroup { GroupId = "g", RecordId = RecordIds.New(world.Clock.GetUtcNow()), ProjectId = BatchWorld.Project, Name = "g", NameKey = "g", CreatedAt = 1 };
        Assert.Null(await world.Groups.AddAsync(group, default));
        foreach (var id in new[] { lamps[0], fans[1] }) Assert.Null(await world.Groups.AddDeviceAsync(BatchWorld.Project, "g", DeviceId.Parse(id), world.Clock.GetUtcNow(), default));
        var task = await world.AddTaskAsync(null, t => t with { TargetsFilter = """{"group_ids":["g","unknown"],"product_ids":["lamp"]}""" });

        world.StartRunner();

        Assert.Equal(new BatchProgress { Total = 4, Success = 4 }, await world.UntilAsync(task, BatchStatus.Success));
        Assert.Equal(["d0", "d1", "d2", "f1"], world.Told.Accepted.Keys.Order());
    }

    [SkippableFact]
    public async Task A_sub_device_gets_the_message_on_its_gateways_topics_and_connection()
    {
        await using var world = await WorldAsync();
        await world.AddDevicesAsync(1);
        await world.AddDevicesAsync(1, prefix: "sub", gateway: "d0");
        var task = await world.AddTaskAsync(["sub0", "d0"]);

        world.StartRunner();

        await world.UntilAsync(task, BatchStatus.Success);
        var down = SystemTopics.MessagesDown(DeviceId.Parse("d0"));
        Assert.Equal((down, down), (world.Told.Topics["sub0"], world.Told.Topics["d0"]));
        Assert.Equal([("d0", "sub0")], world.Told.AttachSubDevice);
    }

    [SkippableFact]
    public async Task A_target_that_refuses_fails_with_the_reason_and_the_others_do_not()
    {
        await using var world = await WorldAsync();
        await world.AddDevicesAsync(2);
        var task = await world.AddTaskAsync(["d0", "nobody", "d1"]);
        world.Told.Answers = (device, _) => device == "d1" ? Full : Told.Accept;

        world.StartRunner();

        Assert.Equal(new BatchProgress { Total = 3, Success = 1, Fail = 2 }, await world.UntilAsync(task, BatchStatus.PartialSuccess));
        Assert.Equal(["d1 Fail TooMuchAtOnce", "nobody Fail NoSuchDevice", "d0 Success "], (await world.TargetsAsync(task)).Select(t => $"{t.Target} {t.Status} {t.Refusal}"));

        var alone = await world.AddTaskAsync(["nobody"]);
        Assert.Equal(new BatchProgress { Total = 1, Fail = 1 }, await world.UntilAsync(alone, BatchStatus.Fail));
    }

    [SkippableFact]
    public async Task By_its_policy_a_refused_target_is_asked_again_after_the_interval_and_fails_after_the_last_attempt()
    {
        await using var world = await WorldAsync();
        await world.AddDevicesAsync(2);
        var task = await world.AddTaskAsync(["d0", "d1"], t => t with { RetryCount = 2, RetryInterval = 5 });
        world.Told.Answers = (device, n) => device == "d0" && n == 2 ? Told.Accept : Full;

        world.StartRunner();
        await UntilProgressAsync(world, task, new BatchProgress { Total = 2, FailWaitRetry = 2 });
        Assert.Equal(2, world.Told.Asked.Count);

        world.Clock.Move(TimeSpan.FromMinutes(6));
        await UntilProgressAsync(world, task, new BatchProgress { Total = 2, Success = 1, FailWaitRetry = 1 });
        Assert.Equal(BatchStatus.Processing, (await world.ShowAsync(task)).Task.Status);

        world.Clock.Move(TimeSpan.FromMinutes(6));
        Assert.Equal(new BatchProgress { Total = 2, Success = 1, Fail = 1 }, await world.UntilAsync(task, BatchStatus.PartialSuccess));
        Assert.Equal(3, world.Told.Asked.Count(a => a.Device == "d1"));
    }

    [SkippableFact]
    public async Task A_target_that_does_not_answer_neither_fails_nor_holds_up_the_others_and_is_asked_for_the_same_message_again()
    {
        await using var world = await WorldAsync();
        world.Options.Concurrency = 1;
        await world.AddDevicesAsync(5);
        var task = await world.AddTaskAsync(["d0", "d1", "d2", "d3", "d4"]);
        var isAway = true;
        world.Told.Answers = (device, _) => device == "d0" && Volatile.Read(ref isAway) ? null : Told.Accept;

        world.StartRunner();
        await UntilProgressAsync(world, task, new BatchProgress { Total = 5, Processing = 1, Success = 4 });
        await BatchWorld.UntilAsync(() => Task.FromResult(world.Told.Asked.Count(a => a.Device == "d0") > 4), () => Task.FromResult("asked again")); // two asks each time
        Assert.Equal(BatchStatus.Processing, (await world.ShowAsync(task)).Task.Status);

        Volatile.Write(ref isAway, false);
        await world.UntilAsync(task, BatchStatus.Success);
        Assert.Single(world.Told.Asked.Where(a => a.Device == "d0").Distinct());
    }

    [SkippableFact]
    public async Task The_id_the_application_gave_is_every_targets_and_one_that_is_taken_is_a_failure()
    {
        await using var world = await WorldAsync();
        await world.AddDevicesAsync(2);
        var first = await world.AddTaskAsync(["d0"], t => t with { Document = """{"message":"one","message_id":"m"}""" });
        world.StartRunner();
        await world.UntilAsync(first, BatchStatus.Success);

        var second = await world.AddTaskAsync(["d0", "d1"], t => t with { Document = """{"message":"two","message_id":"m"}""" });
        await world.UntilAsync(second, BatchStatus.PartialSuccess);

        Assert.Equal(["d1 Success ", "d0 Fail IdConflict"], (await world.TargetsAsync(second)).Select(t => $"{t.Target} {t.Status} {t.Refusal}"));
        Assert.All(world.Told.Accepted.Values, m => Assert.Equal(["m"], m));
    }

    [SkippableFact]
    public async Task A_document_that_can_no_longer_be_read_fails_its_targets_and_nobody_elses()
    {
        await using var world = await WorldAsync();
        await world.AddDevicesAsync(1);
        var bad = await world.AddTaskAsync(["d0"], t => t with { Document = """{"message":""}""" });
        var good = await world.AddTaskAsync(["d0"]);

        world.StartRunner();

        await world.UntilAsync(bad, BatchStatus.Fail);
        await world.UntilAsync(good, BatchStatus.Success);
        Assert.Contains("message is missing", (await world.TargetsAsync(bad))[0].Problem);
    }

    [SkippableFact]
    public async Task A_scheduled_task_waits_for_its_time()
    {
        await using var world = await WorldAsync();
        await world.AddDevicesAsync(1);
        var later = await world.AddTaskAsync(["d0"], t => t with { ScheduleAt = world.Clock.GetUtcNow().AddHours(1).ToUnixTimeMilliseconds() });
        var now = await world.AddTaskAsync(["d0"]);

        world.StartRunner();
        await world.UntilAsync(now, BatchStatus.Success); // it is looked at after the other
        Assert.Equal(new BatchProgress { Total = 1, Waitting = 1 }, await world.UntilAsync(later, BatchStatus.Waitting));

        world.Clock.Move(TimeSpan.FromMinutes(61));
        await world.UntilAsync(later, BatchStatus.Success);
    }

    [SkippableFact]
    public async Task A_stopped_task_asks_nobody_more_and_ends_when_what_was_asked_has_answered()
    {
        await using var world = await WorldAsync();
        world.Options.Concurrency = 1;
        await world.AddDevicesAsync(1_000);
        var task = await world.AddTaskAsync([.. Enumerable.Range(0, 1_000).Select(i => $"d{i}")]);
        world.Told.IsMute = true; // the first one holds everybody up
        world.StartRunner();
        await BatchWorld.UntilAsync(() => Task.FromResult(world.Told.Accepted.Count > 0), () => Task.FromResult("asked"));

        var (done, refusal) = await world.Tasks.StopAsync(BatchWorld.Project, task.TaskId, null, default);
        Assert.Null(refusal);
        Assert.Empty(done);
        Assert.Equal(BatchStatus.Stopping, (await world.ShowAsync(task)).Task.Status);
        Assert.Equal(BatchRefusal.WrongStatus, (await world.Tasks.StopAsync(BatchWorld.Project, task.TaskId, null, default)).Refusal);
        Assert.Equal(BatchRefusal.WrongStatus, await world.Tasks.RemoveAsync(BatchWorld.Project, task.TaskId, default));

        world.Told.IsMute = false;
        var progress = await world.UntilAsync(task, BatchStatus.Stopped);
        Assert.Equal((1_000, 0), (progress.Success + progress.Stopped, progress.Processing));
        Assert.Equal(progress.Success, world.Told.Accepted.Count);
        Assert.InRange(progress.Stopped, 500, 999); // what was in hand is less than two pages
        Assert.Equal(BatchRefusal.WrongStatus, (await world.Tasks.RetryAsync(BatchWorld.Project, task.TaskId, null, default)).Refusal);
    }

    [SkippableFact]
    public async Task Named_targets_are_stopped_and_asked_again_while_the_others_go_on()
    {
        await using var world = await WorldAsync();
        await world.AddDevicesAsync(3);
        var task = await world.AddTaskAsync(["d0", "d1", "d2"], t => t with { ScheduleAt = world.Clock.GetUtcNow().AddHours(1).ToUnixTimeMilliseconds() });
        await world.Tasks.InitializeAsync(task.TaskId, default);

        var (stopped, _) = await world.Tasks.StopAsync(BatchWorld.Project, task.TaskId, ["d1", "d2", "d9"], default);
        Assert.Equal(["d1", "d2"], stopped.Order());
        world.Clock.Move(TimeSpan.FromHours(2));
        world.StartRunner();
        Assert.Equal(new BatchProgress { Total = 3, Success = 1, Stopped = 2 }, await world.UntilAsync(task, BatchStatus.PartialSuccess));

        var (retried, _) = await world.Tasks.RetryAsync(BatchWorld.Project, task.TaskId, ["d0", "d1"], default);
        Assert.Equal(["d1"], retried);
        Assert.Equal(new BatchProgress { Total = 3, Success = 2, Stopped = 1 }, await UntilProgressAsync(world, task, new BatchProgress { Total = 3, Success = 2, Stopped = 1 }));
        await world.UntilAsync(task, BatchStatus.PartialSuccess);
        Assert.Equal(BatchRefusal.NoSuchTask, (await world.Tasks.RetryAsync("project-2", task.TaskId, null, default)).Refusal);
    }

    [SkippableFact]
    public async Task A_retry_gives_failed_targets_all_their_attempts_again()
    {
        await using var world = await WorldAsync();
        await world.AddDevicesAsync(2);
        var task = await world.AddTaskAsync(["d0", "d1"]);
        var isFull = true;
        world.Told.Answers = (_, _) => Volatile.Read(ref isFull) ? Full : Told.Accept;
        world.StartRunner();
        await world.UntilAsync(task, BatchStatus.Fail);

        Volatile.Write(ref isFull, false);
        Assert.Null((await world.Tasks.RetryAsync(BatchWorld.Project, task.TaskId, null, default)).Refusal);

        Assert.Equal(new BatchProgress { Total = 2, Success = 2 }, await world.UntilAsync(task, BatchStatus.Success));
        Assert.All(await world.TargetsAsync(task), t => Assert.Null(t.Refusal));
    }

    [SkippableFact]
    public async Task Two_runners_at_once_ask_for_the_same_messages()
    {
        await using var world = await WorldAsync();
        var ids = await world.AddDevicesAsync(300);
        var task = await world.AddTaskAsync(ids);

        world.StartRunner();
        world.StartRunner(world.NewTasks()); // releases what the first one holds

        Assert.Equal(new BatchProgress { Total = 300, Success = 300 }, await world.UntilAsync(task, BatchStatus.Success));
        Assert.All(world.Told.Accepted.Values, m => Assert.Single(m));
    }

    [SkippableFact]
    public async Task A_database_that_is_away_for_a_while_is_waited_for()
    {
        await using var world = await WorldAsync();
        var ids = await world.AddDevicesAsync(300);
        var task = await world.AddTaskAsync(ids);
        var failing = new FailingTasks(world.Database, world.Groups, world.Clock);

        world.StartRunner(failing);

        Assert.Equal(new BatchProgress { Total = 300, Success = 300 }, await world.UntilAsync(task, BatchStatus.Success));
        Assert.True(failing.Failures > 2);
        Assert.All(world.Told.Accepted.Values, m => Assert.Single(m));
    }

    [SkippableFact]
    public async Task Tasks_and_targets_are_listed_in_pages_and_belong_to_their_project()
    {
        await using var world = await WorldAsync();
        var tasks = new List<BatchTask>();
        for (var i = 0; i < 3; i++) tasks.Add(await world.AddTaskAsync([.. Enumerable.Range(0, 5).Select(n => $"d{n}")], t => t with { AppId = i == 0 ? "app" : null }));
        await world.Tasks.InitializeAsync(tasks[2].TaskId, default);

        var (first, count) = await world.Tasks.ListAsync(BatchWorld.Project, default, Page.First with { Limit = 2 }, default);
        Assert.Equal((3, $"{tasks[2].TaskId} {tasks[1].TaskId}"), (count, string.Join(' ', first.Select(t => t.Task.TaskId))));
        Assert.Equal(tasks[0].TaskId, Assert.Single((await world.Tasks.ListAsync(BatchWorld.Project, default, new Page(2, tasks[1].TaskId, 0), default)).Items).Task.TaskId);
        Assert.Equal(1, (await world.Tasks.ListAsync(BatchWorld.Project, new BatchFilter("app", null), Page.First, default)).Count);
        Assert.Equal(1, (await world.Tasks.ListAsync(BatchWorld.Project, new BatchFilter(null, BatchStatus.Waitting), Page.First, default)).Count);
        Assert.Equal(0, (await world.Tasks.ListAsync("project-2", default, Page.First, default)).Count);
        Assert.Null(await world.Tasks.FindAsync("project-2", tasks[0].TaskId, default));

        var (items, targets) = await world.Tasks.TargetsAsync(tasks[2].TaskId, null, null, 5, 1, 2, default);
        Assert.Equal((5, "d2 d1"), (targets, string.Join(' ', items.Select(t => t.Target))));
        Assert.Equal("d3", Assert.Single((await world.Tasks.TargetsAsync(tasks[2].TaskId, TargetStatus.Waitting, "d3", int.MaxValue, 0, 10, default)).Items).Target);
    }

    [SkippableFact]
    public async Task A_task_that_has_ended_can_be_removed_and_makes_room_for_another()
    {
        await using var world = await WorldAsync();
        await world.AddDevicesAsync(1);
        var task = await world.AddTaskAsync(["d0"]);
        Assert.False(await world.Tasks.AddAsync(task with { TaskId = "another" }, 1, default));
        Assert.Equal(BatchRefusal.WrongStatus, await world.Tasks.RemoveAsync(BatchWorld.Project, task.TaskId, default));
        world.StartRunner();
        await world.UntilAsync(task, BatchStatus.Success);

        Assert.Equal(BatchRefusal.NoSuchTask, await world.Tasks.RemoveAsync("project-2", task.TaskId, default));
        Assert.Null(await world.Tasks.RemoveAsync(BatchWorld.Project, task.TaskId, default));
        Assert.Null(await world.Tasks.FindAsync(BatchWorld.Project, task.TaskId, default));
        Assert.Empty(await world.TargetsAsync(task));
        Assert.True(await world.Tasks.AddAsync(task with { TaskId = "another" }, 1, default));
    }

    [SkippableFact]
    public async Task No_more_messages_go_out_per_second_than_the_setting_says()
    {
        await using var world = await WorldAsync();
        world.Options.RatePerSecond = 50;
        var task = await world.AddTaskAsync(await world.AddDevicesAsync(60));
        var clock = System.Diagnostics.Stopwatch.StartNew();

        world.StartRunner();
        await world.UntilAsync(task, BatchStatus.Success);

        Assert.True(clock.Elapsed > TimeSpan.FromSeconds(1), $"60 messages took {clock.Elapsed}"); // 5 at once, 55 at 50 a second
    }

    private static async Task<BatchProgress> UntilProgressAsync(BatchWorld world, BatchTask task, BatchProgress progress)
    {
        await BatchWorld.UntilAsync(async () => (await world.ShowAsync(task)).Progress == progress, async () => $"{await world.ShowAsync(task)}");
        return progress;
    }

    private async Task<BatchWorld> WorldAsync()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        return await BatchWorld.StartAsync(Sys, await server.CreateAsync());
    }

    // Hangs at a point, until it is killed.
    private sealed class DyingTasks(SqlDatabase database, DeviceGroups groups, TimeProvider clock, string gap) : BatchTasks(database, groups, clock)
    {
        private readonly TaskCompletionSource _reached = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task Reached => _reached.Task;

        internal override async Task<(BatchTask? Task, IReadOnlyList<BatchTarget> Targets)> TakeAsync(string taskId, int max, CancellationToken cancel)
        {
            var taken = await base.TakeAsync(taskId, max, cancel);
            await HangAsync("taken", cancel);
            return taken;
        }

        internal override async Task SettleAsync(IReadOnlyList<Settled> settled, CancellationToken cancel)
        {
            await HangAsync("answered", cancel);
            await base.SettleAsync(settled, cancel);
            await HangAsync("settled", cancel);
        }

        private async Task HangAsync(string point, CancellationToken cancel)
        {
            if (point != gap) return;
            _reached.TrySetResult();
            await Task.Delay(Timeout.Infinite, cancel);
        }
    }

    // Every other write is in doubt: it was made, or not, and the caller hears of an error.
    private sealed class FailingTasks(SqlDatabase database, DeviceGroups groups, TimeProvider clock) : BatchTasks(database, groups, clock)
    {
        private int _writes;

        public int Failures => _writes / 2;

        internal override async Task SettleAsync(IReadOnlyList<Settled> settled, CancellationToken cancel)
        {
            var n = Interlocked.Increment(ref _writes);
            if (n % 4 == 1) throw new TimeoutException("not made");
            await base.SettleAsync(settled, cancel);
            if (n % 4 == 3) throw new TimeoutException("made");
        }
    }
}

public sealed class SqliteBatchSpec(SqliteDatabase database) : BatchSpec<SqliteDatabase>(database);

public sealed class PostgreSqlBatchSpec(PostgreSqlDatabase database) : BatchSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerBatchSpec(SqlServerDatabase database) : BatchSpec<SqlServerDatabase>(database);
