using Akka.Actor;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push;

//                       breaker closed                                              answered, refused
//   table ──page──► one lane per device ──POST, in parallel, per lane in order──┬──────────────────────► row removed ──► lane gone ──► page
//     ▲                                                                         └── failed ──► blocked: rows forgotten, its time comes, its rows are read again
//     │
//     └── breaker open: nothing in memory; every ProbeInterval the oldest row of a device that is not blocked (else the oldest) decides
//
// A page never contains devices that are in memory, and a lane goes only after its rows are removed. So rows of one device are read in order, once.
// Pages go forward: each begins behind the last. What a page passed over because its device was in memory, the device's lane reads itself when it has nothing else; so a
// backlog of one device is not looked through for others again and again. Rows of several nodes are not committed in the order of their ids: now and then, and before the end,
// pages begin at the oldest row again.

/// <summary>Sends the backlog of one action. Stops when there is none.</summary>
internal sealed class ReceiverDrainer : UntypedActor, IWithTimers
{
    private const int PageSize = 256;
    private const long BytesMax = 16 * 1024 * 1024; // in memory before another page is read

    // Devices whose oldest row keeps failing. When more fail, no others are begun: a receiver like that is as good as down.
    private const int BlockedMax = 256;

    private readonly string _actionId;
    private readonly Rules _rules;
    private readonly PushBacklog _backlog;
    private readonly Webhook _webhook;
    private readonly AmqpConsumers _consumers;
    private readonly PushOptions _options;
    private readonly PushMetrics _metrics;
    private readonly ILogger _logger;
    private readonly TimeProvider _clock;

    private readonly Dictionary<string, Lane> _lanes = [];
    private readonly Queue<Lane> _ready = new();
    private readonly CancellationTokenSource _stopped = new();
    private readonly CancellationToken _stop;
    private readonly IActorRef _self;
    private List<Done> _done = [];
    private HttpForwarding? _to;
    private AmqpForwarding? _queue; // instead: consumers fetch, and what counts is their credit, not a breaker
    private Breaker _breaker;
    private bool? _breakerToWrite;
    private int _breakerChanges;
    private int _sending;
    private bool _isReading;
    private List<Done>? _settling;
    private bool _isWritingBreaker;
    private bool _mustInspect = true;
    private bool _mayHaveMore = true;
    private long _readUpTo; // id; what is older is in memory, or its lane reads it
    private BacklogCount _count;
    private bool _isInspecting;
    private bool _mustTrim; // there was too much for one inspection
    private long _youngUntil; // rows younger than the first repetition are at the front of the page

    public ReceiverDrainer(
        string actionId, Rules rules, PushBacklog backlog, Webhook webhook, AmqpConsumers consumers, PushOptions options, PushMetrics metrics, ILogger logger, TimeProvider clock)
    {
        (_actionId, _rules, _backlog, _webhook, _consumers) = (actionId, rules, backlog, webhook, consumers);
        (_options, _metrics, _logger, _clock) = (options, metrics, logger, clock);
        _stop = _stopped.Token;
        _self = Self;
    }

    /// <summary>There may be new rows.</summary>
    internal sealed record More
    {
        public static readonly More Instance = new();
    }

    /// <summary>A consumer of the queue has credit.</summary>
    internal sealed record Room
    {
        public static readonly Room Instance = new();
    }

    private enum Tick
    {
        Bounds,
        Due,
    }

    private sealed record Inspected(RuleAction? Action, long? OpenedAt, Trimmed Trimmed);

    private sealed record Page(BacklogPage Read, IReadOnlyList<Lane> Due, bool IsProbe, long? OpenedAt, int BreakerChanges)
    {
        public IReadOnlyList<BacklogRow> Rows => Read.Rows;
        public bool IsCut => Read.IsCut;
    }

    private sealed record Sent(Lane Lane, BacklogRow Row, PushResult Result);

    private sealed record Settled(List<Done> Done);

    private readonly record struct Done(Lane Lane, BacklogRow Row, string? GivenUp);

    private sealed class Lane(string deviceId)
    {
        public string DeviceId { get; } = deviceId;
        public Queue<BacklogRow> Rows { get; } = new();
        public BacklogRow? Sending { get; set; }
        public int Unremoved { get; set; } // settled rows that are still in the table
        public int Attempts { get; set; }
        public long? RetryAt { get; set; }
        public bool MayHaveMore { get; set; } // in the table, older than what pages read
        public bool IsEmpty => Sending is null && Unremoved == 0 && RetryAt is null && Rows.Count == 0;
    }

    public ITimerScheduler Timers { get; set; } = null!;

    private bool IsInspected => _to is not null || _queue is not null;

    private bool MaySend => _queue is { } queue
        ? _sending < PageSize && _consumers.HasRoom(queue)
        : _to is not null && !_breaker.IsOpen && _sending < _options.ConcurrencyPerReceiver;

    private long Now => _clock.GetUtcNow().ToUnixTimeMilliseconds();

    protected override void PreStart()
    {
        Timers.StartPeriodicTimer(Tick.Bounds, Tick.Bounds, _options.BoundsInterval);
        Step();
    }

    protected override void PostStop()
    {
        _stopped.Cancel();
        if (_queue is not null) _consumers.Unwatch(_queue, _self);
        _metrics.NoBacklog(_actionId);
    }

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case Sent sent: OnSent(sent.Lane, sent.Row, sent.Result); break;
            case Settled settled: OnSettled(settled.Done); break;
            case Page page: OnPage(page); break;
            case Inspected inspected: OnInspected(inspected); break;
            case More: _mayHaveMore = true; break;
            case Room: break;
            case Tick.Bounds: OnBounds(); break;
            case Tick.Due: break;
            default: Unhandled(message); return;
        }

        Step();
    }

    // Whatever can be done now is begun here, and only here.
    private void Step()
    {
        while (MaySend && _ready.TryDequeue(out var lane)) Send(lane);

        if (_settling is null && !_isInspecting && (_done.Count > 0 || _breakerToWrite is not null)) StartSettling();
        if (!_isReading) StartReading();
        if (!_isReading && _settling is null && _sending == 0 && _lanes.Count == 0 && !_mayHaveMore && IsInspected)
        {
            if (_readUpTo > 0)
            {
                (_readUpTo, _mayHaveMore) = (0, true); // from the beginning, for what was committed late
                StartReading();
                return;
            }

            Context.Stop(Self); // nothing left; the supervisor looks once more
            return;
        }

        Schedule();
    }

    private void StartReading()
    {
        var now = Now;
        if (!IsInspected || _mustInspect)
        {
            if (_settling is not null) return; // counting and removing at once would count wrongly
            (_mustInspect, _isInspecting) = (false, true);
            Read(InspectAsync([.. InMemory().Select(r => r.Id)], _count));
            return;
        }

        if (_breakerToWrite is not null || _isWritingBreaker) return; // a page would bring the outdated one
        if (_breaker.IsOpen)
        {
            if (_sending == 0 && _done.Count == 0 && _settling is null && _breaker.MayProbe(now)) Read(ReadProbeAsync(Blocked().Select(l => l.DeviceId).ToArray(), _breakerChanges));
            return;
        }

        if (_queue is { } queue && !_consumers.HasRoom(queue)) return; // nothing in memory that nobody takes
        var due = Blocked().Where(l => l.RetryAt <= now).Take(PageSize).ToArray();
        if (due.Length > 0)
        {
            foreach (var lane in due) lane.MayHaveMore = false;
            Read(ReadDueAsync(due, _breakerChanges));
        }
        else if (_mayHaveMore && now >= _youngUntil && _ready.Count < PageSize / 2 && Blocked().Take(BlockedMax).Count() < BlockedMax
            && InMemory().Sum(r => (long)r.Bytes) < BytesMax)
        {
            _mayHaveMore = false;
            foreach (var lane in _lanes.Values) lane.MayHaveMore = true; // the page passes over them
            Read(ReadNextAsync(_readUpTo, [.. _lanes.Keys], _breakerChanges));
        }
    }

    private IEnumerable<BacklogRow> InMemory() => _lanes.Values.SelectMany(l => l.Sending is { } row ? l.Rows.Append(row) : l.Rows)
        .Concat(_done.Select(d => d.Row)).Concat((_settling ?? []).Select(d => d.Row));

    private IEnumerable<Lane> Blocked() => _lanes.Values.Where(l => l.RetryAt is not null && l.Unremoved == 0);

    private void OnBounds()
    {
        (_mustInspect, _readUpTo, _mayHaveMore) = (true, 0, true);
        if (_queue is not null) Forget(); // what waits for a slow consumer's credit has bounds too
    }

    private void OnInspected(Inspected inspected)
    {
        (_isReading, _isInspecting) = (false, false);
        (_count, _mustTrim) = (inspected.Trimmed.Count, inspected.Trimmed.IsCut);
        var to = inspected.Action is null ? null : HttpForwarding.Of(inspected.Action);
        var queue = inspected.Action is null ? null : AmqpForwarding.Of(inspected.Action);
        if (to is null && queue is null)
        {
            Context.Stop(Self); // deleted; its rows were dropped and counted
            return;
        }

        var isFirst = !IsInspected;
        _to = to;
        if (queue != _queue)
        {
            if (_queue is not null) _consumers.Unwatch(_queue, _self);
            if (queue is not null) _consumers.Watch(queue, _self);
            _queue = queue;
        }

        if (isFirst && inspected.OpenedAt is { } openedAt) _breaker = Breaker.OpenSince(openedAt, Now, _options);
    }

    private void OnPage(Page page)
    {
        (_isReading, _mustInspect, _mustTrim) = (false, _mustInspect || _mustTrim, false); // a page between two parts of a long trim
        if (_breaker.IsOpen && !page.IsProbe)
        {
            _mayHaveMore = true; // opened meanwhile: nothing stays in memory
            return;
        }

        if (page.OpenedAt is { } openedAt && !_breaker.IsOpen && page.BreakerChanges == _breakerChanges)
        {
            _breaker = Breaker.OpenSince(openedAt, Now, _options); // a node that sends new notifications has opened it
            Forget();
            return;
        }

        if (page.IsProbe)
        {
            if (page.Rows.Count == 0) Close();
            else Send(Probing(page.Rows[0]));
            return;
        }

        foreach (var lane in page.Due)
        {
            var hasRows = page.Rows.Any(r => r.DeviceId == lane.DeviceId);
            if (!hasRows && page.IsCut) continue; // did not fit: still due
            lane.RetryAt = null;
            lane.MayHaveMore |= page.IsCut || page.Rows.Count(r => r.DeviceId == lane.DeviceId) >= EachOf(page.Due.Count);
            if (hasRows) _ready.Enqueue(lane);
            else Drop(lane); // sent by somebody else, given up or deleted
        }

        var now = Now;
        foreach (var row in page.Rows)
        {
            if (!_lanes.TryGetValue(row.DeviceId, out var lane))
            {
                if (YoungUntil(row, now) is { } until)
                {
                    _readUpTo = row.Id - 1;
                    _youngUntil = until; // the rows behind it wait too: taking them would take later ones of the same device first
                    _mayHaveMore = true;
                    return;
                }

                _lanes.Add(row.DeviceId, lane = new Lane(row.DeviceId));
                _ready.Enqueue(lane);
            }

            lane.Rows.Enqueue(row);
        }

        if (page.Due.Count > 0) return;
        _readUpTo = page.Read.UpTo;
        if (page.IsCut) _mayHaveMore = true;
    }

    private static int EachOf(int devices) => Math.Max(16, PageSize / devices);

    // A row is written when a POST has failed: the first repetition comes RetryFirst later. A time in the future is a clock ahead of ours and no reason to wait.
    private long? YoungUntil(BacklogRow row, long now)
    {
        if (_queue is not null) return null; // nothing has failed
        var until = row.CreatedAt + (long)_options.RetryFirst.TotalMilliseconds;
        return row.CreatedAt <= now && until > now ? until : null;
    }

    private Lane Probing(BacklogRow row)
    {
        if (!_lanes.TryGetValue(row.DeviceId, out var lane)) _lanes.Add(row.DeviceId, lane = new Lane(row.DeviceId));
        lane.RetryAt = null;
        lane.Rows.Enqueue(row);
        return lane;
    }

    private void Send(Lane lane)
    {
        if (lane.Sending is not null || !lane.Rows.TryPeek(out var row)) return; // forgotten when the breaker opened
        if (_queue is { } queue)
        {
            if (_consumers.TryGive(queue, row) is not { } settled)
            {
                _ready.Enqueue(lane); // somebody else took the credit
                return;
            }

            _ = SendAsync(lane, row, settled);
        }
        else
        {
            _ = SendAsync(lane, row, _webhook.PostAsync(_to!, row.Body, _stop));
        }

        lane.Sending = row;
        _sending++;
    }

    private void OnSent(Lane lane, BacklogRow row, PushResult result)
    {
        _sending--;
        lane.Sending = null;
        if (result.Outcome == PushOutcome.Failed)
        {
            _metrics.Failed();
            _logger.PushFailed(_actionId, row.DeviceId, row.Number, result.Reason);
            lane.Rows.Clear();
            lane.RetryAt = Now + (long)RetryDelay.Of(++lane.Attempts, _options.RetryFirst, _options.RetryMax).TotalMilliseconds;

            // One device that keeps failing at a working receiver must not close it for the others: only its first failure counts.
            if (_queue is null && (lane.Attempts == 1 || _breaker.IsOpen)) Fail(result.Reason);
            return;
        }

        if (result.Outcome == PushOutcome.Answered) _metrics.Pushed();
        else _logger.Refused(_actionId, row.DeviceId, row.Number, result.Reason);
        if (_breaker.IsOpen) Close();
        _breaker = _breaker.Answered();
        lane.Attempts = 0;
        lane.Unremoved++;
        _done.Add(new Done(lane, row, result.Outcome == PushOutcome.Refused ? result.Reason : null));
        if (lane.Rows.TryPeek(out var head) && head.Id == row.Id) lane.Rows.Dequeue(); // else the breaker opened meanwhile and it was forgotten
        if (lane.Rows.Count > 0) _ready.Enqueue(lane);
    }

    private void Fail(string reason)
    {
        var wasOpen = _breaker.IsOpen;
        _breaker = _breaker.Failed(Now, _options);
        if (wasOpen || !_breaker.IsOpen) return;
        _logger.BreakerOpened(_actionId, reason);
        _breakerChanges++;
        _breakerToWrite = true;
        Forget();
    }

    private void Close()
    {
        _logger.BreakerClosed(_actionId);
        _breaker = default;
        _breakerChanges++;
        _breakerToWrite = false;
        (_readUpTo, _mayHaveMore) = (0, true);
        foreach (var lane in _lanes.Values.Where(l => l.RetryAt is not null)) lane.RetryAt = Now; // perhaps they only failed because it was down
    }

    private void Forget()
    {
        _ready.Clear();
        (_readUpTo, _mayHaveMore) = (0, true);
        foreach (var lane in _lanes.Values.ToArray())
        {
            lane.Rows.Clear();
            lane.MayHaveMore = false;
            Drop(lane);
        }
    }

    private void Drop(Lane lane)
    {
        if (!lane.IsEmpty) return;
        if (lane.MayHaveMore)
        {
            lane.RetryAt = Now; // its own rows are read next
            return;
        }

        _lanes.Remove(lane.DeviceId);
        _mayHaveMore = true; // pages did not contain it
    }

    private void StartSettling()
    {
        var (done, breaker) = (_done, _breakerToWrite);
        (_settling, _done) = (_done, []);
        (_isWritingBreaker, _breakerToWrite) = (_breakerToWrite is not null, null);
        _ = TellAsync(async () =>
        {
            await _backlog.SettleAsync(_actionId, done.ConvertAll(d => (d.Row, d.GivenUp)), breaker, _stop);
            return new Settled(done);
        });
    }

    private void OnSettled(List<Done> done)
    {
        (_settling, _isWritingBreaker) = (null, false);
        foreach (var (lane, row, _) in done)
        {
            _count = _count.Without(row.Id, row.Bytes);
            lane.Unremoved--;
            Drop(lane);
        }
    }

    // For what time alone brings; all else that may be due waits for an answer that comes as a message.
    private void Schedule()
    {
        var now = Now;
        var next = _breaker.ProbeAt ?? long.MaxValue;
        if (!_breaker.IsOpen)
        {
            foreach (var lane in _lanes.Values) next = Math.Min(next, lane.RetryAt ?? long.MaxValue);
            if (_mayHaveMore && _youngUntil > now) next = Math.Min(next, _youngUntil);
        }

        if (next > now && next < long.MaxValue) Timers.StartSingleTimer(Tick.Due, Tick.Due, TimeSpan.FromMilliseconds(next - now));
    }

    private void Read<T>(Func<Task<T>> read)
    {
        _isReading = true;
        _ = TellAsync(read);
    }

    private Func<Task<Inspected>> InspectAsync(long[] busy, BacklogCount count) => async () =>
    {
        var action = await _rules.FindActionAsync(_actionId, _stop);
        if (action is null)
        {
            var (rows, deadLetters) = await _backlog.DropActionAsync(_actionId, _stop);
            _logger.Dropped(_actionId, rows, deadLetters);
            return new Inspected(null, null, default);
        }

        var trimmed = await _backlog.TrimAsync(_actionId, busy, _options, count, _stop);
        if (trimmed.TooOld + trimmed.TooMany > 0) _logger.Trimmed(_actionId, trimmed.TooOld, trimmed.TooMany);
        _metrics.Backlog(_actionId, trimmed.Count.AllRows);
        return new Inspected(action, await _backlog.OpenedAtAsync(_actionId, _stop), trimmed);
    };

    private Func<Task<Page>> ReadNextAsync(long afterId, string[] inMemory, int breakerChanges) => async () =>
    {
        var openedAt = await _backlog.OpenedAtAsync(_actionId, _stop);
        var page = await _backlog.ReadAsync(_actionId, afterId, inMemory, PageSize, _stop);
        return new Page(page, [], IsProbe: false, openedAt, breakerChanges);
    };

    private Func<Task<Page>> ReadDueAsync(Lane[] due, int breakerChanges) => async () =>
    {
        var openedAt = await _backlog.OpenedAtAsync(_actionId, _stop);
        var page = await _backlog.ReadDevicesAsync(_actionId, Array.ConvertAll(due, l => l.DeviceId), EachOf(due.Length), _stop);
        return new Page(page, due, IsProbe: false, openedAt, breakerChanges);
    };

    private Func<Task<Page>> ReadProbeAsync(string[] blocked, int breakerChanges) => async () =>
    {
        var page = await _backlog.ReadAsync(_actionId, 0, blocked, 1, _stop);
        if (page.Rows.Count == 0) page = await _backlog.ReadAsync(_actionId, 0, [], 1, _stop);
        return new Page(page, [], IsProbe: true, null, breakerChanges);
    };

    private async Task SendAsync(Lane lane, BacklogRow row, Task<PushResult> sending)
    {
        try
        {
            _self.Tell(new Sent(lane, row, await sending.ConfigureAwait(false)), ActorRefs.NoSender);
        }
        catch (OperationCanceledException)
        {
            // The row stays; the next drainer sends it.
        }
    }

    private Task TellAsync<T>(Func<Task<T>> work) => _backlog.AsideAsync(async () =>
    {
        try
        {
            _self.Tell(await RetryDelay.UntilDoneAsync(work, _logger.DatabaseAway, _stop, _clock), ActorRefs.NoSender);
        }
        catch (Exception) when (_stop.IsCancellationRequested)
        {
            // All it knew is in the tables.
        }
    });
}
