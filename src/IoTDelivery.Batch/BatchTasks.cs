using System.Text.Json;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;

namespace IoTDelivery.Batch;

/// <summary>Why a task stayed as it was.</summary>
public enum BatchRefusal
{
    /// <summary>This project has no such task.</summary>
    NoSuchTask = 1,

    /// <summary>Not in the state the task is in.</summary>
    WrongStatus = 2,
}

/// <summary>What a list of tasks may be narrowed to; null means any.</summary>
public readonly record struct BatchFilter(string? AppId, BatchStatus? Status);

/// <summary>What became of a target that was asked.</summary>
/// <param name="Status"><see cref="TargetStatus.Processing"/>: no answer is known, it is asked again at <paramref name="DueAt"/>.</param>
internal sealed record Settled(BatchTarget Target, TargetStatus Status, long? DueAt = null, RefusalReason? Refusal = null, string? Problem = null);

/// <summary>
/// The tasks and their targets. All that is known of a task is in here, so that whoever works on it may die at any moment: a target is taken (Processing), asked, and
/// settled; taken and not settled means asking again, for the same message.
/// </summary>
public class BatchTasks(SqlDatabase database, DeviceGroups groups, TimeProvider clock)
{
    /// <summary>Targets of a task that is given a list (manual, "Creating a Batch Task").</summary>
    public const int TargetsMax = 30_000;

    private const int ChunkMax = 1_000; // rows written in one transaction: others write between two of them
    private static readonly BatchStatus[] Open = [BatchStatus.Initializing, BatchStatus.Waitting, BatchStatus.Processing, BatchStatus.Stopping];
    private static readonly TargetStatus[] Undone = [TargetStatus.Waitting, TargetStatus.Processing, TargetStatus.FailWaitRetry];
    private static readonly TargetStatus[] Stoppable = [TargetStatus.Waitting, TargetStatus.FailWaitRetry];
    private static readonly TargetStatus[] Retryable = [TargetStatus.Fail, TargetStatus.FailWaitRetry, TargetStatus.Stopped];

    /// <summary>The tables, step by step.</summary>
    public static readonly IReadOnlyList<Migration> Migrations =
    [
        new("batch", 1,
            """
            create table batch_task (
              task_id {id} not null primary key, project_id {id} not null, app_id {id}, task_name {text} not null, targets {text}, targets_filter {text}, document {text} not null,
              schedule_at {bigint}, retry_count {int} not null, retry_interval {int} not null, status {int} not null, total {int} not null, created_at {bigint} not null)
            """,
            "create index batch_task_by_project on batch_task (project_id, task_id)",
            "create index batch_task_by_status on batch_task (status, task_id)",
            """
            create table batch_target (
              task_id {id} not null, n {int} not null, target {id} not null, status {int} not null, refusals {int} not null, due_at {bigint}, refusal {int}, problem {text},
              primary key (task_id, n))
            """,
            "create index batch_target_by_due on batch_target (task_id, due_at)",
            "create index batch_target_by_status on batch_target (task_id, status)"),
    ];

    private long Now => clock.GetUtcNow().ToUnixTimeMilliseconds();

    // ---- for applications

    /// <summary>False if the project has <paramref name="openMax"/> tasks that have not ended.</summary>
    public async Task<bool> AddAsync(BatchTask task, int openMax, CancellationToken cancel)
    {
        await using var db = database.Open();
        if (await db.GetTable<BatchTask>().CountAsync(t => t.ProjectId == task.ProjectId && Open.Contains(t.Status), cancel) >= openMax) return false;
        await db.InsertAsync(task, token: cancel);
        return true;
    }

    /// <summary>The task and its progress, or null if this project has none of this id. Without its targets.</summary>
    public async Task<(BatchTask Task, BatchProgress Progress)?> FindAsync(string projectId, string taskId, CancellationToken cancel)
    {
        await using var db = database.Open();
        var task = await WithoutTargets(db.GetTable<BatchTask>().Where(t => t.TaskId == taskId && t.ProjectId == projectId)).FirstOrDefaultAsync(cancel);
        return task is null ? null : (await ProgressAsync(db, [task], cancel))[0];
    }

    /// <summary>A page of tasks, newest first, and how many there are in all. Without their targets.</summary>
    public async Task<(IReadOnlyList<(BatchTask Task, BatchProgress Progress)> Items, int Count)> ListAsync(string projectId, BatchFilter filter, Page page, CancellationToken cancel)
    {
        await using var db = database.Open();
        var all = db.GetTable<BatchTask>().Where(t => t.ProjectId == projectId);
        if (filter.AppId is { } app) all = all.Where(t => t.AppId == app);
        if (filter.Status is { } status) all = all.Where(t => t.Status == status);
        var tasks = await WithoutTargets(all.Where(t => t.TaskId.CompareTo(page.Marker) < 0).OrderByDescending(t => t.TaskId).Skip(page.Offset).Take(page.Limit)).ToListAsync(cancel);
        return (await ProgressAsync(db, tasks, cancel), await all.CountAsync(cancel));
    }

    /// <summary>A page of a task's targets, the last first, and how many there are in all.</summary>
    public async Task<(IReadOnlyList<BatchTarget> Items, int Count)> TargetsAsync(
        string taskId, TargetStatus? status, string? target, int below, int offset, int limit, CancellationToken cancel)
    {
        await using var db = database.Open();
        var all = db.GetTable<BatchTarget>().Where(t => t.TaskId == taskId);
        if (status is { } only) all = all.Where(t => t.Status == only);
        if (target is not null) all = all.Where(t => t.Target == target);
        var items = await all.Where(t => t.Number < below).OrderByDescending(t => t.Number).Skip(offset).Take(limit).ToListAsync(cancel);
        return (items, await all.CountAsync(cancel));
    }

    /// <summary>Null if the task is gone now. Only one that has ended can go.</summary>
    public async Task<BatchRefusal?> RemoveAsync(string projectId, string taskId, CancellationToken cancel)
    {
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        var task = db.GetTable<BatchTask>().Where(t => t.TaskId == taskId && t.ProjectId == projectId);
        if (await task.Where(t => !Open.Contains(t.Status)).DeleteAsync(cancel) == 0) return await task.AnyAsync(cancel) ? BatchRefusal.WrongStatus : BatchRefusal.NoSuchTask;
        await db.GetTable<BatchTarget>().Where(t => t.TaskId == taskId).DeleteAsync(cancel);
        await transaction.CommitAsync(cancel);
        return null;
    }

    /// <summary>Ends targets that wait, those of a list or all of them; all of them means that the task ends too, once what is in hand has answered.</summary>
    /// <returns>The targets of the list that waited, or why nothing was done.</returns>
    public Task<(IReadOnlySet<string> Done, BatchRefusal? Refusal)> StopAsync(string projectId, string taskId, IReadOnlyCollection<string>? targets, CancellationToken cancel) =>
        ChangeAsync(
            projectId, taskId, targets, Stoppable, [BatchStatus.Waitting, BatchStatus.Processing], targets is null ? BatchStatus.Stopping : null,
            rows => rows.Set(t => t.Status, TargetStatus.Stopped).Set(t => t.DueAt, (long?)null), cancel);

    /// <summary>Asks targets again that failed or were stopped, those of a list or all of them.</summary>
    /// <returns>The targets of the list that are asked again, or why nothing was done.</returns>
    public Task<(IReadOnlySet<string> Done, BatchRefusal? Refusal)> RetryAsync(string projectId, string taskId, IReadOnlyCollection<string>? targets, CancellationToken cancel)
    {
        var now = Now;
        return ChangeAsync(
            projectId, taskId, targets, Retryable, [BatchStatus.Processing, BatchStatus.Fail, BatchStatus.PartialSuccess], BatchStatus.Processing,
            rows => rows.Set(t => t.Status, TargetStatus.Waitting).Set(t => t.DueAt, now).Set(t => t.Refusals, 0).Set(t => t.Refusal, (RefusalReason?)null).Set(t => t.Problem, (string?)null),
            cancel);
    }

    private async Task<(IReadOnlySet<string> Done, BatchRefusal? Refusal)> ChangeAsync(
        string projectId, string taskId, IReadOnlyCollection<string>? targets, TargetStatus[] from, BatchStatus[] when, BatchStatus? then,
        Func<IQueryable<BatchTarget>, LinqToDB.Linq.IUpdatable<BatchTarget>> change, CancellationToken cancel)
    {
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        var task = db.GetTable<BatchTask>().Where(t => t.TaskId == taskId && t.ProjectId == projectId);

        // The task's row first, as everywhere: who changes it waits here for who is about to end it.
        if (await task.Where(t => when.Contains(t.Status)).Set(t => t.Status, t => then ?? t.Status).UpdateAsync(cancel) == 0)
        {
            return (new HashSet<string>(), await task.AnyAsync(cancel) ? BatchRefusal.WrongStatus : BatchRefusal.NoSuchTask);
        }

        var rows = db.GetTable<BatchTarget>().Where(t => t.TaskId == taskId && from.Contains(t.Status));
        if (targets is not null) rows = rows.Where(t => targets.Contains(t.Target));
        var done = targets is null ? [] : await rows.Select(t => t.Target).ToListAsync(cancel);
        await change(rows).UpdateAsync(cancel);
        await transaction.CommitAsync(cancel);
        return (done.ToHashSet(), null);
    }

    // ---- for the runner

    /// <summary>Whoever worked before is gone: what it held is asked again.</summary>
    internal async Task ReleaseAsync(CancellationToken cancel)
    {
        await using var db = database.Open();
        var open = db.GetTable<BatchTask>().Where(t => t.Status == BatchStatus.Processing || t.Status == BatchStatus.Stopping);
        await db.GetTable<BatchTarget>()
            .Where(t => open.Any(o => o.TaskId == t.TaskId) && t.Status == TargetStatus.Processing && t.DueAt == null)
            .Set(t => t.DueAt, Now).UpdateAsync(cancel);
    }

    /// <summary>Tasks that may have something to do, oldest first: those whose time has not come are left out.</summary>
    internal async Task<IReadOnlyList<(string TaskId, BatchStatus Status)>> OpenAsync(CancellationToken cancel)
    {
        var now = Now;
        await using var db = database.Open();
        var tasks = await db.GetTable<BatchTask>()
            .Where(t => Open.Contains(t.Status) && (t.Status != BatchStatus.Waitting || t.ScheduleAt == null || t.ScheduleAt <= now))
            .OrderBy(t => t.TaskId).Select(t => new { t.TaskId, t.Status }).ToListAsync(cancel);
        return [.. tasks.Select(t => (t.TaskId, t.Status))];
    }

    /// <summary>Writes the next targets of a task that is initializing; the last ones make it wait for its time.</summary>
    internal async Task InitializeAsync(string taskId, CancellationToken cancel)
    {
        await using var db = database.Open();
        if (await db.GetTable<BatchTask>().FirstOrDefaultAsync(t => t.TaskId == taskId, cancel) is not { Status: BatchStatus.Initializing } task) return;
        var last = await db.GetTable<BatchTarget>().Where(t => t.TaskId == taskId).OrderByDescending(t => t.Number).FirstOrDefaultAsync(cancel);
        var written = last?.Number ?? 0;
        var next = task.Targets is { } given
            ? JsonSerializer.Deserialize<string[]>(given)!.Skip(written).Take(ChunkMax).ToList()
            : await MembersAsync(task, last?.Target ?? "", cancel);

        await using var transaction = await db.BeginTransactionAsync(cancel);
        var due = task.ScheduleAt ?? task.CreatedAt;
        if (next.Count > 0)
        {
            var rows = next.Select((target, i) => new BatchTarget { TaskId = taskId, Number = written + i + 1, Target = target, DueAt = due });
            await db.BulkCopyAsync(new BulkCopyOptions { BulkCopyType = BulkCopyType.MultipleRows }, rows, cancel);
        }

        if (next.Count < ChunkMax)
        {
            await db.GetTable<BatchTask>().Where(t => t.TaskId == taskId)
                .Set(t => t.Status, BatchStatus.Waitting).Set(t => t.Total, written + next.Count).Set(t => t.Targets, (string?)null).UpdateAsync(cancel);
        }

        await transaction.CommitAsync(cancel);
    }

    /// <summary>Takes targets that are due, in their order. They are <see cref="TargetStatus.Processing"/> from now on, and in the hand of whoever took them.</summary>
    internal virtual async Task<(BatchTask? Task, IReadOnlyList<BatchTarget> Targets)> TakeAsync(string taskId, int max, CancellationToken cancel)
    {
        var now = Now;
        await using var db = database.Open();
        var task = await WithoutTargets(db.GetTable<BatchTask>().Where(t => t.TaskId == taskId)).FirstOrDefaultAsync(cancel);
        var due = db.GetTable<BatchTarget>().Where(t => t.TaskId == taskId && t.DueAt <= now);
        if (task is null || !await due.AnyAsync(cancel)) return (task, []); // a look costs no write
        await using var transaction = await db.BeginTransactionAsync(cancel);

        // The task's row first. A stop that came between is not undone.
        await db.GetTable<BatchTask>().Where(t => t.TaskId == taskId)
            .Set(t => t.Status, t => t.Status == BatchStatus.Waitting ? BatchStatus.Processing : t.Status).UpdateAsync(cancel);
        var taken = await due.OrderBy(t => t.DueAt).ThenBy(t => t.Number).Take(max).ToListAsync(cancel);
        var numbers = taken.Select(t => t.Number).ToArray();
        await db.GetTable<BatchTarget>().Where(t => t.TaskId == taskId && numbers.Contains(t.Number))
            .Set(t => t.Status, TargetStatus.Processing).Set(t => t.DueAt, (long?)null).UpdateAsync(cancel);
        await transaction.CommitAsync(cancel);
        return (task, taken);
    }

    /// <summary>Writes what became of targets, all or none. May be repeated when its outcome is unknown.</summary>
    internal virtual async Task SettleAsync(IReadOnlyList<Settled> settled, CancellationToken cancel)
    {
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        foreach (var same in settled.GroupBy(s => (s.Target.TaskId, s.Status, s.DueAt, s.Refusal, s.Problem)))
        {
            var (taskId, status, dueAt, refusal, problem) = same.Key;
            var numbers = same.Select(s => s.Target.Number).ToArray();
            var isRefused = status is TargetStatus.Fail or TargetStatus.FailWaitRetry;
            var rows = db.GetTable<BatchTarget>().Where(t => t.TaskId == taskId && numbers.Contains(t.Number));

            // "Accepted" holds whatever a runner that was thought dead says afterwards; all else only if nobody has said something meanwhile.
            rows = status == TargetStatus.Success ? rows : rows.Where(t => t.Status == TargetStatus.Processing && t.DueAt == null);
            await rows.Set(t => t.Status, status).Set(t => t.DueAt, dueAt).Set(t => t.Refusals, t => t.Refusals + (isRefused ? 1 : 0))
                .Set(t => t.Refusal, refusal).Set(t => t.Problem, problem).UpdateAsync(cancel);
        }

        await transaction.CommitAsync(cancel);
    }

    /// <summary>Ends the task if all its targets have ended.</summary>
    /// <returns>How it ended; null if it has not, or had before.</returns>
    internal async Task<BatchStatus?> EndAsync(string taskId, CancellationToken cancel)
    {
        await using var db = database.Open();
        if (await UndoneAsync()) return null; // most of the time, and then without a transaction
        await using var transaction = await db.BeginTransactionAsync(cancel);
        var task = db.GetTable<BatchTask>().Where(t => t.TaskId == taskId && (t.Status == BatchStatus.Waitting || t.Status == BatchStatus.Processing || t.Status == BatchStatus.Stopping));
        if (await task.Set(t => t.Total, t => t.Total).UpdateAsync(cancel) == 0 || await UndoneAsync()) return null;
        var isStopping = await task.AnyAsync(t => t.Status == BatchStatus.Stopping, cancel);
        var (_, progress) = (await ProgressAsync(db, [await task.FirstAsync(cancel)], cancel))[0];
        var status = isStopping ? BatchStatus.Stopped : progress switch
        {
            { Success: var success, Total: var total } when success == total => BatchStatus.Success,
            { Stopped: var stopped, Total: var total } when stopped == total => BatchStatus.Stopped,
            { Success: 0 } => BatchStatus.Fail,
            _ => BatchStatus.PartialSuccess,
        };
        await task.Set(t => t.Status, status).UpdateAsync(cancel);
        await transaction.CommitAsync(cancel);
        return status;

        Task<bool> UndoneAsync() => db.GetTable<BatchTarget>().AnyAsync(t => t.TaskId == taskId && Undone.Contains(t.Status), cancel);
    }

    private async Task<List<string>> MembersAsync(BatchTask task, string after, CancellationToken cancel)
    {
        using var filter = JsonDocument.Parse(task.TargetsFilter!);
        string[] Ids(string name) => filter.RootElement.TryGetProperty(name, out var ids) ? [.. ids.EnumerateArray().Select(i => i.GetString()!)] : [];
        return [.. await groups.MembersAsync(task.ProjectId, Ids("group_ids"), Ids("product_ids"), after, ChunkMax, cancel)];
    }

    private static async Task<IReadOnlyList<(BatchTask Task, BatchProgress Progress)>> ProgressAsync(DataConnection db, IReadOnlyList<BatchTask> tasks, CancellationToken cancel)
    {
        if (tasks.Count == 0) return [];
        var ids = tasks.Select(t => t.TaskId).ToArray();
        var counts = await db.GetTable<BatchTarget>().Where(t => ids.Contains(t.TaskId))
            .GroupBy(t => new { t.TaskId, t.Status }).Select(g => new { g.Key.TaskId, g.Key.Status, Count = g.Count() }).ToListAsync(cancel);
        var byTask = counts.ToLookup(c => c.TaskId, c => (c.Status, c.Count));
        return [.. tasks.Select(t => (t, BatchProgress.Of(t.Total, byTask[t.TaskId])))];
    }

    // Thirty thousand ids are told once, by those who gave them.
    private static IQueryable<BatchTask> WithoutTargets(IQueryable<BatchTask> tasks) => tasks.Select(t => new BatchTask
    {
        TaskId = t.TaskId,
        ProjectId = t.ProjectId,
        AppId = t.AppId,
        TaskName = t.TaskName,
        TargetsFilter = t.TargetsFilter,
        Document = t.Document,
        ScheduleAt = t.ScheduleAt,
        RetryCount = t.RetryCount,
        RetryInterval = t.RetryInterval,
        Status = t.Status,
        Total = t.Total,
        CreatedAt = t.CreatedAt,
    });
}
