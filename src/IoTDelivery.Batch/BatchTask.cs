using System.Security.Cryptography;
using System.Text;
using IoTDelivery.Domain;
using LinqToDB.Mapping;

namespace IoTDelivery.Batch;

/// <summary>Where a batch task stands. The names are the wire's, <c>Waitting</c> included.</summary>
//
//   Initializing ── all targets are rows ──► Waitting ── schedule_time ──► Processing ── every target has ended ──► Success · PartialSuccess · Fail
//                                               │                             │  ▲                                            │          │
//                                               └──────────── stop ───────────┤  └──────────────────── retry ─────────────────┴──────────┘
//                                                                             ▼
//                                                                          Stopping ── nothing in hand any more ──► Stopped
//
public enum BatchStatus
{
    /// <summary>Its targets are being written down.</summary>
    Initializing = 0,

    /// <summary>Its time has not come.</summary>
    Waitting = 1,

    /// <summary>Its targets are being asked.</summary>
    Processing = 2,

    /// <summary>Every target took the message.</summary>
    Success = 3,

    /// <summary>No target took it.</summary>
    Fail = 4,

    /// <summary>Some did.</summary>
    PartialSuccess = 5,

    /// <summary>Ended by an application before it was through.</summary>
    Stopped = 6,

    /// <summary>Stopped, but some targets had been asked and have not answered.</summary>
    Stopping = 7,
}

/// <summary>Where one target of a task stands. The names are the wire's.</summary>
public enum TargetStatus
{
    /// <summary>Not asked yet.</summary>
    Waitting = 0,

    /// <summary>Asked, or about to be; no answer is known.</summary>
    Processing = 1,

    /// <summary>The message was accepted.</summary>
    Success = 2,

    /// <summary>It was refused, and is not tried again.</summary>
    Fail = 3,

    /// <summary>It was refused, and is tried again.</summary>
    FailWaitRetry = 4,

    /// <summary>Not asked, because the task was stopped.</summary>
    Stopped = 5,
}

/// <summary>One message for many devices. Times are milliseconds since 1970, UTC.</summary>
[Table("batch_task")]
public sealed record BatchTask
{
    /// <summary>24 hex digits that grow with time: also its marker in a list.</summary>
    [Column("task_id"), PrimaryKey] public required string TaskId { get; init; }
    [Column("project_id")] public required string ProjectId { get; init; }
    [Column("app_id")] public string? AppId { get; init; }
    [Column("task_name")] public required string TaskName { get; init; }

    /// <summary>The targets as given, a JSON array; null once they are rows, or if there is a <see cref="TargetsFilter"/> instead.</summary>
    [Column("targets")] public string? Targets { get; init; }

    /// <summary><c>targets_filter</c> as given: JSON with <c>group_ids</c>, <c>product_ids</c>.</summary>
    [Column("targets_filter")] public string? TargetsFilter { get; init; }

    /// <summary>The message request as given, JSON.</summary>
    [Column("document")] public required string Document { get; init; }
    [Column("schedule_at")] public long? ScheduleAt { get; init; }

    /// <summary>How often a refused target is asked again; 0 without a policy.</summary>
    [Column("retry_count")] public int RetryCount { get; init; }

    /// <summary>Minutes between two attempts.</summary>
    [Column("retry_interval")] public int RetryInterval { get; init; }
    [Column("status")] public BatchStatus Status { get; init; }

    /// <summary>How many targets there are; of a filter not known before it is <see cref="BatchStatus.Waitting"/> or further.</summary>
    [Column("total")] public int Total { get; init; }
    [Column("created_at")] public required long CreatedAt { get; init; }

    /// <summary>The message id of a target: from the task and the target, so that asking twice is asking for the same message. 41 characters.</summary>
    public MessageId MessageIdFor(DeviceId target) =>
        MessageId.Parse($"{TaskId}-{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(target.Value)).AsSpan(0, 8))}");
}

/// <summary>One target of a task.</summary>
[Table("batch_target")]
public sealed record BatchTarget
{
    [Column("task_id"), PrimaryKey(0)] public required string TaskId { get; init; }

    /// <summary>Its place in the task, from 1; also its marker in a list.</summary>
    [Column("n"), PrimaryKey(1)] public required int Number { get; init; }

    /// <summary>A device id.</summary>
    [Column("target")] public required string Target { get; init; }
    [Column("status")] public TargetStatus Status { get; init; }

    /// <summary>How often it was refused.</summary>
    [Column("refusals")] public int Refusals { get; init; }

    /// <summary>When to ask; null while it is in hand or has ended.</summary>
    [Column("due_at")] public long? DueAt { get; init; }

    /// <summary>Why it was refused the last time, if it was.</summary>
    [Column("refusal")] public RefusalReason? Refusal { get; init; }

    /// <summary>What is wrong with the document for this target, in words, if that is why it failed.</summary>
    [Column("problem")] public string? Problem { get; init; }
}

/// <summary>How many targets stand where. What is not written down yet counts as waiting.</summary>
public readonly record struct BatchProgress(int Total, int Waitting, int Processing, int Success, int Fail, int FailWaitRetry, int Stopped)
{
    internal static BatchProgress Of(int total, IEnumerable<(TargetStatus Status, int Count)> counts)
    {
        var by = counts.ToDictionary(c => c.Status, c => c.Count);
        int Count(TargetStatus status) => by.GetValueOrDefault(status);
        var rows = by.Values.Sum();
        return new(
            Math.Max(total, rows), Count(TargetStatus.Waitting) + Math.Max(0, total - rows), Count(TargetStatus.Processing), Count(TargetStatus.Success),
            Count(TargetStatus.Fail), Count(TargetStatus.FailWaitRetry), Count(TargetStatus.Stopped));
    }
}
