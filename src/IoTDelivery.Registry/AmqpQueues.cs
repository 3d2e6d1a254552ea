using System.Text.Json;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Mapping;

namespace IoTDelivery.Registry;

/// <summary>A queue that consumers read over AMQP 1.0; what is in it are the backlogs of the actions that name it.</summary>
[Table("amqp_queue")]
public sealed record AmqpQueue
{
    [Column("queue_id"), PrimaryKey] public required string QueueId { get; init; }
    [Column("record_id")] public required string RecordId { get; init; }
    [Column("project_id")] public required string ProjectId { get; init; }
    [Column("queue_name")] public required string Name { get; init; }

    /// <summary>Milliseconds since 1970, UTC.</summary>
    [Column("created_at")] public required long CreatedAt { get; init; }
}

/// <summary>Where an AMQP action forwards to: <c>channel_detail.amqp_forwarding</c>.</summary>
public sealed record AmqpForwarding(string ProjectId, string QueueName)
{
    /// <summary>The member of <c>channel_detail</c> it is read from.</summary>
    public const string Member = "amqp_forwarding";

    /// <summary>What an action says, or null if it is of another channel.</summary>
    public static AmqpForwarding? Of(RuleAction action)
    {
        if (action.Channel != RuleAction.AmqpForwarding) return null;
        using var detail = JsonDocument.Parse(action.ChannelDetail);
        return new AmqpForwarding(action.ProjectId, detail.RootElement.GetProperty(Member).GetProperty("queue_name").GetString()!);
    }
}

/// <summary>What became of an attempt to add a queue.</summary>
public enum QueueAdded
{
    Added,
    NameTaken,
    TooMany,
}

/// <summary>What became of an attempt to remove a queue.</summary>
public enum QueueRemoved
{
    Removed,
    Missing,

    /// <summary>An action forwards to it, or it is the one that always exists.</summary>
    InUse,
}

/// <summary>The AMQP queues of this site; another project's read as missing.</summary>
public sealed class AmqpQueues(SqlDatabase database, TimeProvider? clock = null)
{
    /// <summary>Queues per project (manual).</summary>
    public const int Max = 100;

    /// <summary>The queue that every project has without creating it.</summary>
    public const string DefaultQueue = "DefaultQueue";

    /// <summary>The tables. Steps of their own: they stand on none of the registry's.</summary>
    public static readonly IReadOnlyList<Migration> Migrations =
    [
        new("amqp", 1,
            """
            create table amqp_queue (
              queue_id {id} not null primary key, record_id {id} not null, project_id {id} not null, queue_name {id} not null, created_at {bigint} not null)
            """,
            "create unique index amqp_queue_by_name on amqp_queue (project_id, queue_name)",
            "create index amqp_queue_by_record on amqp_queue (project_id, record_id)",
            """
            create table amqp_access (
              project_id {id} not null primary key, access_key {id} not null, code_hash {id} not null, disconnects {int} not null, created_at {bigint} not null)
            """,
            "create unique index amqp_access_by_key on amqp_access (access_key)"),
    ];

    private readonly TimeProvider _clock = clock ?? TimeProvider.System;

    /// <summary>Adds a queue of this name; the queue is null unless it was added.</summary>
    public async Task<(QueueAdded Outcome, AmqpQueue? Queue)> AddAsync(string projectId, string name, CancellationToken cancel)
    {
        await EnsureDefaultAsync(projectId, cancel);
        await using (var db = database.Open())
        {
            if (await db.GetTable<AmqpQueue>().CountAsync(q => q.ProjectId == projectId, cancel) >= Max) return (QueueAdded.TooMany, null);
        }

        var queue = NewQueue(projectId, name);
        return await TryInsertAsync(queue, cancel) ? (QueueAdded.Added, queue) : (QueueAdded.NameTaken, null);
    }

    /// <summary>The queue, or null if this project has none of this id.</summary>
    public async Task<AmqpQueue?> FindAsync(string projectId, string queueId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<AmqpQueue>().FirstOrDefaultAsync(q => q.QueueId == queueId && q.ProjectId == projectId, cancel);
    }

    /// <summary>True if the project has a queue of this name.</summary>
    public async Task<bool> ExistsAsync(string projectId, string name, CancellationToken cancel)
    {
        if (name == DefaultQueue) return true;
        await using var db = database.Open();
        return await db.GetTable<AmqpQueue>().AnyAsync(q => q.ProjectId == projectId && q.Name == name, cancel);
    }

    /// <summary>A page of queues, newest first, and how many there are in all; null as name means any, else a part of it.</summary>
    public async Task<(IReadOnlyList<AmqpQueue> Items, int Count)> ListAsync(string projectId, string? name, Page page, CancellationToken cancel)
    {
        await EnsureDefaultAsync(projectId, cancel);
        await using var db = database.Open();
        var all = db.GetTable<AmqpQueue>().Where(q => q.ProjectId == projectId);
        if (name is not null) all = all.Where(q => q.Name.Contains(name));
        var items = await all.Where(q => q.RecordId.CompareTo(page.Marker) < 0)
            .OrderByDescending(q => q.RecordId).Skip(page.Offset).Take(page.Limit).ToListAsync(cancel);
        return (items, await all.CountAsync(cancel));
    }

    /// <summary>Removes a queue nobody forwards to.</summary>
    public async Task<QueueRemoved> RemoveAsync(string projectId, string queueId, CancellationToken cancel)
    {
        if (await FindAsync(projectId, queueId, cancel) is not { } queue) return QueueRemoved.Missing;
        if (queue.Name == DefaultQueue) return QueueRemoved.InUse;
        await using var db = database.Open();
        var actions = await db.GetTable<RuleAction>().Where(a => a.ProjectId == projectId && a.Channel == RuleAction.AmqpForwarding).ToListAsync(cancel);
        if (actions.Any(a => AmqpForwarding.Of(a)?.QueueName == queue.Name)) return QueueRemoved.InUse;
        return await db.GetTable<AmqpQueue>().Where(q => q.QueueId == queueId).DeleteAsync(cancel) > 0 ? QueueRemoved.Removed : QueueRemoved.Missing;
    }

    private async Task EnsureDefaultAsync(string projectId, CancellationToken cancel) => await TryInsertAsync(NewQueue(projectId, DefaultQueue), cancel);

    private Task<bool> TryInsertAsync(AmqpQueue queue, CancellationToken cancel) => UniqueInsert.TryAsync(
        async () =>
        {
            await using var db = database.Open();
            return await db.InsertAsync(queue, token: cancel);
        },
        async () =>
        {
            await using var db = database.Open();
            return await db.GetTable<AmqpQueue>().AnyAsync(q => q.ProjectId == queue.ProjectId && q.Name == queue.Name, cancel);
        });

    private AmqpQueue NewQueue(string projectId, string name)
    {
        var now = _clock.GetUtcNow();
        return new() { QueueId = Guid.NewGuid().ToString("D"), RecordId = RecordIds.New(now), ProjectId = projectId, Name = name, CreatedAt = now.ToUnixTimeMilliseconds() };
    }
}
