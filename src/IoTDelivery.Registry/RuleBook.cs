using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Registry;

/// <summary>An action with all it needs to know whether a notification is for it.</summary>
public sealed class RuleTarget(
    RuleAction action, HttpForwarding? to, string? appId, (long From, long To)[] active)
{
    /// <summary>The action.</summary>
    public string ActionId { get; } = action.ActionId;

    /// <summary>Where it is POSTed to; null if consumers fetch it from a queue.</summary>
    public HttpForwarding? To { get; } = to;

    /// <summary>The shape it asks for; null if it leaves that to the site.</summary>
    public PushShape? Shape { get; } = PushShapes.Of(action);

    /// <summary>True if the rule was active at this time (milliseconds since 1970), the action existed, and the device is of the rule's application.</summary>
    public bool AppliesAt(long at, string? deviceAppId)
    {
        if (at < action.CreatedAt || (appId is not null && appId != deviceAppId)) return false;

        // Both ends belong to it: of two things in the same millisecond nobody knows which came first, and one notification too many is better than one lost.
        foreach (var (from, to) in active)
        {
            if (from <= at && at <= to) return true;
        }

        return false;
    }
}

/// <summary>All rules as they were at one moment.</summary>
public sealed record RuleSnapshot
{
    private readonly record struct Subject(string ProjectId, string Resource, string Event);

    private readonly Dictionary<Subject, RuleTarget[]> _targets;
    private readonly HashSet<(string Resource, string Event)> _subjects;

    private RuleSnapshot(long revision, long loadedFrom, Dictionary<Subject, RuleTarget[]> targets)
    {
        (Revision, LoadedFrom, _targets) = (revision, loadedFrom, targets);
        _subjects = [.. targets.Keys.Select(s => (s.Resource, s.Event))];
    }

    /// <summary>The snapshot of a site without rules.</summary>
    public static readonly RuleSnapshot Empty = new(0, long.MinValue, []);

    /// <summary>Which state of the tables it is.</summary>
    public long Revision { get; }

    /// <summary>When reading began, as <see cref="TimeProvider.GetTimestamp"/> told: everything that was written before is in here.</summary>
    public long LoadedFrom { get; init; }

    /// <summary>True if no notification can match anything.</summary>
    public bool IsEmpty => _targets.Count == 0;

    /// <summary>False if nothing of this subject can match in any project.</summary>
    public bool Knows(string resource, string @event) => _subjects.Contains((resource, @event));

    /// <summary>The actions of a subject, active or not: ask each <see cref="RuleTarget.AppliesAt"/>.</summary>
    public ReadOnlySpan<RuleTarget> Targets(string projectId, string resource, string @event) =>
        _targets.TryGetValue(new Subject(projectId, resource, @event), out var targets) ? targets : [];

    internal static RuleSnapshot Of(long revision, long loadedFrom, List<Rule> rules, ILookup<string, RuleActivity> activities, ILookup<string, RuleAction> actions) =>
        new(revision, loadedFrom, rules
            .GroupBy(r => new Subject(r.ProjectId, r.Resource, r.Event), rule => actions[rule.RuleId].Select(action => Target(rule, activities[rule.RuleId], action)).OfType<RuleTarget>())
            .Select(subject => (subject.Key, Targets: subject.SelectMany(t => t).ToArray()))
            .Where(subject => subject.Targets.Length > 0)
            .ToDictionary(subject => subject.Key, subject => subject.Targets));

    private static RuleTarget? Target(Rule rule, IEnumerable<RuleActivity> activities, RuleAction action) =>
        HttpForwarding.Of(action) is var to && (to is not null || action.Channel == RuleAction.AmqpForwarding)
            ? new RuleTarget(action, to, rule.AppType == Rule.App ? rule.AppId ?? "" : null, [.. activities.Select(a => (a.ActiveFrom, a.ActiveTo ?? long.MaxValue))])
            : null;
}

/// <summary>
/// The rules in memory, right without anybody telling other nodes about a change: a notification is matched only by a snapshot whose reading began after the
/// notification existed. Visibility therefore asks no clock but this node's monotonic one; which of two moments was earlier (was the rule active then?) compares
/// the wall clocks of the nodes that wrote the rule and the notification.
/// Readers share loads, loads are at least 8 ms apart, and an unchanged book costs one read of one number.
/// Who matches very often asks for a snapshot that is at most <see cref="MaxAge"/> older than what it matches: a
/// change of the rules is answered only when no older snapshot
/// is used any more, so that what happens after the answer obeys it all the same.
/// </summary>
public partial class RuleBook(SqlDatabase database, ILogger<RuleBook> logger, TimeProvider? clock = null) : IDisposable
{
    /// <summary>
    /// How much earlier than a notification the reading of the snapshot may have begun that it is matched with; by this
    /// node's monotonic clock.
    /// </summary>
    public static readonly TimeSpan MaxAge = TimeSpan.FromMilliseconds(50);

    // How long a notification may wait for others to be matched with it; a load costs about as much as one message.
    private static readonly TimeSpan Apart = TimeSpan.FromMilliseconds(8);
    private static readonly TimeSpan RetryMax = TimeSpan.FromSeconds(5);

    private readonly TimeProvider _clock = clock ?? TimeProvider.System;
    private readonly CancellationTokenSource _disposed = new();
    private readonly Lock _gate = new();
    private volatile RuleSnapshot _newest = RuleSnapshot.Empty;
    private Task<RuleSnapshot> _running = Task.FromResult(RuleSnapshot.Empty);
    private long _runningFrom = long.MinValue;
    private Task<RuleSnapshot>? _next; // has not begun to read: whoever asks now may share it

    /// <summary>What was read last, however long ago that is; before the first reading its <see cref="RuleSnapshot.LoadedFrom"/> is the earliest there is.</summary>
    public RuleSnapshot Newest => _newest;

    /// <summary>A snapshot whose reading began at or after this <see cref="TimeProvider.GetTimestamp"/>. While the database is away, waits for it.</summary>
    public virtual ValueTask<RuleSnapshot> LoadedAfterAsync(long timestamp, CancellationToken cancel)
    {
        var newest = _newest;
        if (newest.LoadedFrom >= timestamp) return new(newest);
        lock (_gate)
        {
            if (_newest.LoadedFrom >= timestamp) return new(_newest);
            if (_runningFrom >= timestamp && !_running.IsCompleted) return new(_running.WaitAsync(cancel)); // began to read late enough
            _next ??= LoadAsync(_running);
            return new(_next.WaitAsync(cancel));
        }
    }

    public void Dispose()
    {
        _disposed.Cancel();
        _disposed.Dispose();
        GC.SuppressFinalize(this);
    }

    private async Task<RuleSnapshot> LoadAsync(Task previous)
    {
        await Task.Yield(); // the caller holds the gate
        var stop = _disposed.Token;
        await previous.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (_newest.LoadedFrom != long.MinValue)
        {
            var sinceLast = _clock.GetElapsedTime(_newest.LoadedFrom);
            if (sinceLast < Apart) await Task.Delay(Apart - sinceLast, stop);
        }

        lock (_gate)
        {
            (_running, _runningFrom) = (_next!, _clock.GetTimestamp());
            _next = null; // from here on, whoever asks needs a later load
        }

        for (var retryIn = TimeSpan.FromMilliseconds(100); ; retryIn = retryIn * 2 < RetryMax ? retryIn * 2 : RetryMax)
        {
            try
            {
                return _newest = await ReadAsync(_clock.GetTimestamp(), stop);
            }
            catch (Exception cause) when (!stop.IsCancellationRequested)
            {
                NotRead(logger, cause); // matching against nothing would lose what is pending: everybody waits
                await Task.Delay(retryIn, stop);
            }
        }
    }

    private async Task<RuleSnapshot> ReadAsync(long from, CancellationToken cancel)
    {
        await using var db = database.Open();

        // The number first: if a change comes in between, the snapshot may know some of it and is read again next time.
        var revision = await db.GetTable<RuleRevision>().Select(r => r.Revision).FirstAsync(cancel);
        if (_newest.LoadedFrom != long.MinValue && _newest.Revision == revision) return _newest with { LoadedFrom = from };

        var rules = await db.GetTable<Rule>().OrderBy(r => r.RecordId).ToListAsync(cancel);
        var activities = await db.GetTable<RuleActivity>().ToListAsync(cancel);
        var actions = await db.GetTable<RuleAction>().Where(a => a.Channel == RuleAction.HttpForwarding || a.Channel == RuleAction.AmqpForwarding).OrderBy(a => a.RecordId).ToListAsync(cancel);
        return RuleSnapshot.Of(revision, from, rules, activities.ToLookup(a => a.RuleId), actions.ToLookup(a => a.RuleId));
    }

    [LoggerMessage(2101, LogLevel.Warning, "The rules cannot be read: the database does not answer. Notifications wait.")]
    private static partial void NotRead(ILogger logger, Exception cause);
}
