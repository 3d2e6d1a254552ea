using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;
using LinqToDB.Mapping;

namespace IoTDelivery.Registry;

/// <summary>A routing rule: which notifications its actions receive while it is active.</summary>
[Table("routing_rule")]
public sealed record Rule
{
    /// <summary><see cref="AppType"/> of a rule for the devices of every application.</summary>
    public const string Global = "GLOBAL";

    /// <summary><see cref="AppType"/> of a rule for the devices of <see cref="AppId"/> only.</summary>
    public const string App = "APP";

    [Column("rule_id"), PrimaryKey] public required string RuleId { get; init; }
    [Column("record_id")] public required string RecordId { get; init; }
    [Column("project_id")] public required string ProjectId { get; init; }
    [Column("rule_name")] public string? Name { get; init; }
    [Column("description")] public string? Description { get; init; }
    [Column("resource")] public required string Resource { get; init; }
    [Column("event")] public required string Event { get; init; }
    [Column("app_type")] public string AppType { get; init; } = Global;
    [Column("app_id")] public string? AppId { get; init; }

    /// <summary>Stored as given; nothing evaluates it.</summary>
    [Column("select_part")] public string? Select { get; init; }

    /// <summary>Stored as given; nothing evaluates it.</summary>
    [Column("where_part")] public string? Where { get; init; }

    /// <summary>Milliseconds since 1970, UTC, like the other times; null while the rule is inactive. <see cref="Rules"/> sets it.</summary>
    [Column("active_since")] public long? ActiveSince { get; init; }
    [Column("created_at")] public required long CreatedAt { get; init; }

    /// <summary>Whether the rule is active now.</summary>
    public bool IsActive => ActiveSince is not null;
}

/// <summary>Where the notifications of a rule go.</summary>
[Table("routing_action")]
public sealed record RuleAction
{
    /// <summary><see cref="Channel"/> of a POST to <see cref="Url"/>.</summary>
    public const string HttpForwarding = "HTTP_FORWARDING";

    /// <summary><see cref="Channel"/> of a queue that consumers read over AMQP.</summary>
    public const string AmqpForwarding = "AMQP_FORWARDING";

    [Column("action_id"), PrimaryKey] public required string ActionId { get; init; }
    [Column("record_id")] public required string RecordId { get; init; }
    [Column("rule_id")] public required string RuleId { get; init; }
    [Column("project_id")] public required string ProjectId { get; init; }
    [Column("channel")] public required string Channel { get; init; }

    /// <summary>JSON, as given.</summary>
    [Column("channel_detail")] public required string ChannelDetail { get; init; }

    /// <summary>Absolute, http or https; null for channels without one.</summary>
    [Column("url")] public string? Url { get; init; }

    /// <summary>Milliseconds since 1970, UTC. <see cref="Rules"/> sets it: what happened earlier is not for this action.</summary>
    [Column("created_at")] public long CreatedAt { get; init; }
}

/// <summary>When a rule was active; <see cref="ActiveTo"/> is null while it still is.</summary>
[Table("rule_activity")]
internal sealed record RuleActivity
{
    [Column("id"), PrimaryKey, Identity] public long Id { get; init; }
    [Column("rule_id")] public required string RuleId { get; init; }
    [Column("active_from")] public required long ActiveFrom { get; init; }
    [Column("active_to")] public long? ActiveTo { get; init; }
}

[Table("rule_revision")]
internal sealed record RuleRevision
{
    [Column("id"), PrimaryKey] public required int Id { get; init; }
    [Column("revision")] public required long Revision { get; init; }
}

/// <summary>What a list of rules may be narrowed to; null means any.</summary>
public readonly record struct RuleFilter(string? Resource, string? Event, string? AppType, string? AppId, string? Name, bool? IsActive);

/// <summary>What a list of actions may be narrowed to; null means any.</summary>
public readonly record struct ActionFilter(string? RuleId, string? Channel, string? AppType = null, string? AppId = null);

/// <summary>What a PUT may change of a rule; null leaves as it is.</summary>
public readonly record struct RuleChange(string? Name, string? Description, string? Select, string? Where, bool? IsActive);

/// <summary>
/// The rules of this site and their actions; another project's read as missing. When a rule was active is kept to the millisecond, by the clock of the node that
/// changed it: nodes are expected to keep their clocks together (NTP), because a notification of another node is compared with it.
/// </summary>
public class Rules(SqlDatabase database, TimeProvider? clock = null)
{
    // A notification that is still pending after a month of outage may find the rule's past forgotten; one that toggles daily keeps thirty rows.
    private static readonly TimeSpan ActivityKept = TimeSpan.FromDays(30);

    // Half as much again as a snapshot may be used: durations of two nodes' monotonic clocks are compared, which
    // drift, and timers, which are coarse.
    private static readonly TimeSpan AnsweredAfter = RuleBook.MaxAge * 1.5;

    private readonly TimeProvider _clock = clock ?? TimeProvider.System;

    /// <summary>False if the id is taken. <see cref="Rule.ActiveSince"/> means "active from now on" if it is set; the time is ours.</summary>
    public Task<bool> AddAsync(Rule rule, CancellationToken cancel) => ChangeAsync(async (db, now) =>
    {
        if (await db.GetTable<Rule>().AnyAsync(r => r.RuleId == rule.RuleId, cancel)) return false;
        await db.InsertAsync(rule with { ActiveSince = rule.IsActive ? now : null }, token: cancel);
        if (rule.IsActive) await BeginAsync(db, rule.RuleId, now, cancel);
        return true;
    }, cancel);

    /// <summary>The rule, or null if this project has none of this id.</summary>
    public async Task<Rule?> FindAsync(string projectId, string ruleId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await FindAsync(db, projectId, ruleId, cancel);
    }

    /// <summary>A page of rules, newest first, and how many there are in all.</summary>
    public async Task<(IReadOnlyList<Rule> Items, int Count)> ListAsync(string projectId, RuleFilter filter, Page page, CancellationToken cancel)
    {
        await using var db = database.Open();
        var all = db.GetTable<Rule>().Where(r => r.ProjectId == projectId);
        if (filter.Resource is { } resource) all = all.Where(r => r.Resource == resource);
        if (filter.Event is { } @event) all = all.Where(r => r.Event == @event);
        if (filter.AppType is { } appType) all = all.Where(r => r.AppType == appType);
        if (filter.AppId is { } app) all = all.Where(r => r.AppId == app);
        if (filter.Name is { } name) all = all.Where(r => r.Name == name);
        if (filter.IsActive is { } isActive) all = isActive ? all.Where(r => r.ActiveSince != null) : all.Where(r => r.ActiveSince == null);
        var items = await all.Where(r => r.RecordId.CompareTo(page.Marker) < 0)
            .OrderByDescending(r => r.RecordId).Skip(page.Offset).Take(page.Limit).ToListAsync(cancel);
        return (items, await all.CountAsync(cancel));
    }

    /// <summary>The rule as it is afterwards, or null if this project has none of this id. Once this returns, every later notification obeys it.</summary>
    public Task<Rule?> UpdateAsync(string projectId, string ruleId, RuleChange change, CancellationToken cancel) => ChangeAsync(async (db, now) =>
    {
        var before = await FindAsync(db, projectId, ruleId, cancel);
        if (before is null) return null;
        var isActive = change.IsActive ?? before.IsActive;
        var after = before with
        {
            Name = change.Name ?? before.Name,
            Description = change.Description ?? before.Description,
            Select = change.Select ?? before.Select,
            Where = change.Where ?? before.Where,
            ActiveSince = isActive ? before.ActiveSince ?? now : null,
        };
        await db.UpdateAsync(after, token: cancel);
        if (isActive && !before.IsActive) await BeginAsync(db, ruleId, now, cancel);
        if (!isActive && before.IsActive) await EndAsync(db, ruleId, now, cancel);
        return after;
    }, cancel);

    /// <summary>Deletes the rule and its actions. The ids of these, whose backlog the caller drops next; null if this project has no such rule.</summary>
    public Task<IReadOnlyList<string>?> RemoveAsync(string projectId, string ruleId, CancellationToken cancel) => ChangeAsync<IReadOnlyList<string>?>(async (db, _) =>
    {
        if (await FindAsync(db, projectId, ruleId, cancel) is null) return null;
        var actions = await db.GetTable<RuleAction>().Where(a => a.RuleId == ruleId).Select(a => a.ActionId).ToListAsync(cancel);
        await db.GetTable<RuleAction>().Where(a => a.RuleId == ruleId).DeleteAsync(cancel);
        await db.GetTable<RuleActivity>().Where(a => a.RuleId == ruleId).DeleteAsync(cancel);
        await db.GetTable<Rule>().Where(r => r.RuleId == ruleId).DeleteAsync(cancel);
        return actions;
    }, cancel);

    /// <summary>The action as stored, or null if this project has no rule of that id or the action id is taken.</summary>
    public Task<RuleAction?> AddActionAsync(RuleAction action, CancellationToken cancel) => ChangeAsync(async (db, now) =>
    {
        if (await FindAsync(db, action.ProjectId, action.RuleId, cancel) is null) return null;
        if (await db.GetTable<RuleAction>().AnyAsync(a => a.ActionId == action.ActionId, cancel)) return null;
        var row = action with { CreatedAt = now };
        await db.InsertAsync(row, token: cancel);
        return row;
    }, cancel);

    /// <summary>The action, or null if this project has none of this id.</summary>
    public async Task<RuleAction?> FindActionAsync(string projectId, string actionId, CancellationToken cancel) =>
        await FindActionAsync(actionId, cancel) is { } action && action.ProjectId == projectId ? action : null;

    /// <summary>The action of whatever project, or null.</summary>
    public virtual async Task<RuleAction?> FindActionAsync(string actionId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<RuleAction>().FirstOrDefaultAsync(a => a.ActionId == actionId, cancel);
    }

    /// <summary>A page of actions, newest first, and how many there are in all.</summary>
    public async Task<(IReadOnlyList<RuleAction> Items, int Count)> ListActionsAsync(string projectId, ActionFilter filter, Page page, CancellationToken cancel)
    {
        await using var db = database.Open();
        var all = db.GetTable<RuleAction>().Where(a => a.ProjectId == projectId);
        if (filter.RuleId is { } rule) all = all.Where(a => a.RuleId == rule);
        if (filter.Channel is { } channel) all = all.Where(a => a.Channel == channel);

        // An application's actions are those of its rules.
        if (filter.AppType is { } appType) all = all.Where(a => db.GetTable<Rule>().Any(r => r.RuleId == a.RuleId && r.AppType == appType));
        if (filter.AppId is { } app) all = all.Where(a => db.GetTable<Rule>().Any(r => r.RuleId == a.RuleId && r.AppId == app));
        var items = await all.Where(a => a.RecordId.CompareTo(page.Marker) < 0)
            .OrderByDescending(a => a.RecordId).Skip(page.Offset).Take(page.Limit).ToListAsync(cancel);
        return (items, await all.CountAsync(cancel));
    }

    /// <summary>Another channel detail and address for an action; what waits for the old address goes to the new one. Null if this project has none of this id.</summary>
    public Task<RuleAction?> UpdateActionAsync(string projectId, string actionId, string channelDetail, string? url, CancellationToken cancel) => ChangeAsync(async (db, _) =>
    {
        var before = await db.GetTable<RuleAction>().FirstOrDefaultAsync(a => a.ActionId == actionId && a.ProjectId == projectId, cancel);
        if (before is null) return null;
        var after = before with { ChannelDetail = channelDetail, Url = url };
        await db.UpdateAsync(after, token: cancel);
        return after;
    }, cancel);

    /// <summary>False if this project has none of this id. The caller drops its backlog next.</summary>
    public Task<bool> RemoveActionAsync(string projectId, string actionId, CancellationToken cancel) => ChangeAsync(async (db, _) =>
        await db.GetTable<RuleAction>().Where(a => a.ActionId == actionId && a.ProjectId == projectId).DeleteAsync(cancel) > 0, cancel);

    private static Task<Rule?> FindAsync(DataConnection db, string projectId, string ruleId, CancellationToken cancel) =>
        db.GetTable<Rule>().FirstOrDefaultAsync(r => r.RuleId == ruleId && r.ProjectId == projectId, cancel);

    private static Task BeginAsync(DataConnection db, string ruleId, long now, CancellationToken cancel) =>
        db.InsertAsync(new RuleActivity { RuleId = ruleId, ActiveFrom = now }, token: cancel);

    private static async Task EndAsync(DataConnection db, string ruleId, long now, CancellationToken cancel)
    {
        var forgotten = now - (long)ActivityKept.TotalMilliseconds;
        await db.GetTable<RuleActivity>().Where(a => a.RuleId == ruleId && a.ActiveTo == null).Set(a => a.ActiveTo, now).UpdateAsync(cancel);
        await db.GetTable<RuleActivity>().Where(a => a.RuleId == ruleId && a.ActiveTo < forgotten).DeleteAsync(cancel);
    }

    // Counting the revision first makes changes wait for each other; the clock is read behind it, so the time is at most one commit old when others see the change.
    private async Task<T> ChangeAsync<T>(Func<DataConnection, long, Task<T>> change, CancellationToken cancel)
    {
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        await db.GetTable<RuleRevision>().Set(r => r.Revision, r => r.Revision + 1).UpdateAsync(cancel);
        var result = await change(db, _clock.GetUtcNow().ToUnixTimeMilliseconds());
        await transaction.CommitAsync(cancel);
        await Task.Delay(AnsweredAfter, _clock, cancel); // now no node matches by the rules as they were before
        return result;
    }
}
