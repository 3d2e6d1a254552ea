using Akka.Actor;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push;

/// <summary>What the senders of a backlog work with.</summary>
public sealed record SenderServices(
    Rules Rules, PushBacklog Backlog, Webhook Webhook, AmqpConsumers Consumers, PushOptions Options,
    PushMetrics Metrics, ILogger<BacklogSenders> Logger, TimeProvider Clock);

//                       breaker closed                         answered, refused          when their time comes
//   table ──page──► one lane per device ──POST, per lane in order──┬──► row removed ──► lane gone ──► page
//     ▲                                                            └── failed ──► blocked: rows forgotten, read again
//     │
//     └── breaker open: nothing in memory; every ProbeInterval the oldest row of a device that is not blocked
//         (else the oldest) decides

/// <summary>Sends the backlog of one action. Stops when there is none.</summary>
internal sealed class BacklogSender : UntypedActor, IWithTimers
{
    /// <summary>Rows per page, and devices that are in memory at once.</summary>
    public const int PageSize = 256;

    private const long BytesMax = 16 * 1024 * 1024; // in memory before another page is read

    // Devices whose oldest row keeps failing. When more fail, no others are begun: a receiver like that is as good as
    // down.
    private const int BlockedMax = 256;

    private readonly string _actionId;
    private readonly SenderServices _services;
    private readonly (long Milliseconds, long Timestamp) _began;
    private readonly ActorWork _work;
    private readonly SenderLanes _lanes = new();
    private readonly BacklogCursor _cursor = new();
    private readonly SenderBreaker _breaker;
    private IReceiver? _receiver;
    private BacklogCount _count;

    public BacklogSender(string actionId, SenderServices services)
    {
        (_actionId, _services, _breaker) = (actionId, services, new SenderBreaker(services.Options));
        _began = (services.Clock.GetUtcNow().ToUnixTimeMilliseconds(), services.Clock.GetTimestamp());
        _work = new ActorWork(Self, services.Logger, services.Clock, services.Backlog.AsideAsync);
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

    private sealed record Page(
        BacklogPage Read, IReadOnlyList<SenderLane> Due, bool IsProbe, long? OpenedAt, int BreakerChanges)
    {
        public IReadOnlyList<BacklogRow> Rows => Read.Rows;
        public bool IsCut => Read.IsCut;
    }

    private sealed record Sent(SenderLane Lane, BacklogRow Row, PushResult Result);

    private sealed record Removed(IReadOnlyList<SenderLanes.Completed> Rows, IReadOnlyList<RefusedRow> Refused);

    public ITimerScheduler Timers { get; set; } = null!;

    private PushOptions Options => _services.Options;

    private bool MaySend => _receiver is not null && !_breaker.IsOpen && _receiver.HasRoom(_lanes.Sending);

    // Since 1970, and never jumps: a clock that is set must not put off a retry or a probe.
    private long Now => _began.Milliseconds + (long)_services.Clock.GetElapsedTime(_began.Timestamp).TotalMilliseconds;

    protected override void PreStart()
    {
        Timers.StartPeriodicTimer(Tick.Bounds, Tick.Bounds, Options.BoundsInterval);
        Step();
    }

    protected override void PostStop()
    {
        _work.Cancel();
        _receiver?.Unwatch(Self);
        _services.Metrics.NoBacklog(_actionId);
    }

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case Sent sent: OnSent(sent.Lane, sent.Row, sent.Result); break;
            case Removed removed: OnRemoved(removed); break;
            case Page page: OnPage(page); break;
            case Inspected inspected: OnInspected(inspected); break;
            case More: _cursor.HasMore(); break;
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
        while (MaySend && _lanes.TryTakeReady(out var lane)) Send(lane);

        var mayRemove = !_lanes.IsRemoving && !_cursor.IsInspecting;
        if (mayRemove && (_lanes.HasCompleted || _breaker.MustWrite)) RemoveCompleted();
        if (!_cursor.IsReading) StartReading();
        if (!_cursor.IsReading && !_lanes.IsRemoving && _lanes.IsEmpty && !_cursor.MayHaveMore && _receiver is not null)
        {
            if (_cursor.ReadUpTo == 0)
            {
                Context.Stop(Self); // nothing left; the supervisor looks once more
                return;
            }

            _cursor.StartOver(); // for what was committed late
            StartReading();
        }

        Schedule();
    }

    // ---- reading

    private void StartReading()
    {
        var now = Now;
        if (_receiver is null || _cursor.MustInspect)
        {
            if (!_lanes.IsRemoving) Inspect();
            return;
        }

        if (_breaker.IsAhead) return; // a page would bring the outdated one
        if (_breaker.IsOpen)
        {
            var isQuiet = _lanes.Sending == 0 && !_lanes.HasCompleted && !_lanes.IsRemoving;
            if (isQuiet && _breaker.MayProbe(now)) ReadProbe();
            return;
        }

        if (!_receiver.CountsFailures && !_receiver.HasRoom(0)) return; // nothing in memory that nobody takes
        var due = _lanes.Blocked.Where(l => l.RetryAt <= now).Take(PageSize).ToArray();
        if (due.Length > 0) ReadDue(due);
        else if (MayReadPage(now)) ReadNext();
    }

    private bool MayReadPage(long now) => _cursor.MayReadPage(now) && _lanes.Ready < PageSize / 2
        && _lanes.Blocked.Take(BlockedMax).Count() < BlockedMax
        && _lanes.Rows.Sum(r => (long)r.Bytes) < BytesMax;

    private void Inspect()
    {
        long[] busy = [.. _lanes.Rows.Select(r => r.Id)];
        var count = _count;
        _cursor.BeginInspection();
        _work.UntilDone(async () =>
        {
            var action = await _services.Rules.FindActionAsync(_actionId, _work.Stop);
            if (action is null)
            {
                var (rows, deadLetters) = await _services.Backlog.DropActionAsync(_actionId, _work.Stop);
                _services.Logger.Dropped(_actionId, rows, deadLetters);
                return new Inspected(null, null, default);
            }

            var trimmed = await _services.Backlog.TrimAsync(_actionId, busy, Options, count, _work.Stop);
            var (tooOld, tooMany) = (trimmed.TooOld, trimmed.TooMany);
            if (tooOld + tooMany > 0) _services.Logger.Trimmed(_actionId, tooOld, tooMany);
            if (trimmed.Refused is { Count: > 0 } refused)
            {
                _services.Logger.LettersRefused(_actionId, string.Join(", ", refused));
            }

            _services.Metrics.Backlog(_actionId, trimmed.Count.AllRows);
            return new Inspected(action, await _services.Backlog.OpenedAtAsync(_actionId, _work.Stop), trimmed);
        });
    }

    private void ReadNext()
    {
        _lanes.PassOver();
        var (from, inMemory, changes) = (_cursor.ReadUpTo, _lanes.Devices.ToArray(), _breaker.Changes);
        _cursor.BeginPage();
        _work.UntilDone(async () =>
        {
            var openedAt = await _services.Backlog.OpenedAtAsync(_actionId, _work.Stop);
            var page = await _services.Backlog.ReadAsync(_actionId, from, inMemory, PageSize, _work.Stop);
            return new Page(page, [], IsProbe: false, openedAt, changes);
        });
    }

    private void ReadDue(SenderLane[] due)
    {
        foreach (var lane in due) lane.MayHaveMore = false;
        var devices = Array.ConvertAll(due, l => l.DeviceId);
        var changes = _breaker.Changes;
        _cursor.BeginRead();
        _work.UntilDone(async () =>
        {
            var openedAt = await _services.Backlog.OpenedAtAsync(_actionId, _work.Stop);
            var page = await _services.Backlog.ReadDevicesAsync(_actionId, devices, EachOf(due.Length), _work.Stop);
            return new Page(page, due, IsProbe: false, openedAt, changes);
        });
    }

    private void ReadProbe()
    {
        string[] blocked = [.. _lanes.Blocked.Select(l => l.DeviceId)];
        var changes = _breaker.Changes;
        _cursor.BeginRead();
        _work.UntilDone(async () =>
        {
            var page = await _services.Backlog.ReadAsync(_actionId, 0, blocked, 1, _work.Stop);
            if (page.Rows.Count == 0) page = await _services.Backlog.ReadAsync(_actionId, 0, [], 1, _work.Stop);
            return new Page(page, [], IsProbe: true, null, changes);
        });
    }

    private void OnInspected(Inspected inspected)
    {
        _cursor.EndInspection(inspected.Trimmed.IsCut, pagesMayCome: MaySend);
        _count = inspected.Trimmed.Count;
        var receiver = IReceiver.Of(inspected.Action, _services);
        if (receiver is null)
        {
            Context.Stop(Self); // deleted; its rows were dropped and counted
            return;
        }

        if (_receiver is null) _breaker.Read(inspected.OpenedAt, _breaker.Changes, Now);
        if (!receiver.IsSameAs(_receiver))
        {
            _receiver?.Unwatch(Self);
            receiver.Watch(Self);
        }

        _receiver = receiver;
    }

    private void OnBounds()
    {
        _cursor.Inspect();
        if (_receiver is { CountsFailures: false }) Forget(); // what waits for a slow consumer's credit has bounds too
    }

    private void OnPage(Page page)
    {
        _cursor.EndRead();
        if (_breaker.IsOpen && !page.IsProbe)
        {
            _cursor.HasMore(); // opened meanwhile: nothing stays in memory
            return;
        }

        if (page.IsProbe)
        {
            if (page.Rows.Count == 0) Close();
            else Send(_lanes.Probe(page.Rows[0]));
            return;
        }

        // A node that sends new notifications may have opened it.
        if (_breaker.Read(page.OpenedAt, page.BreakerChanges, Now)) Forget();
        else if (page.Due.Count > 0) TakeDue(page);
        else TakeNext(page);
    }

    private void TakeDue(Page page)
    {
        foreach (var row in page.Rows) _lanes.Add(row);
        foreach (var lane in page.Due)
        {
            if (lane.Rows.Count == 0 && page.IsCut) continue; // did not fit: still due
            lane.RetryAt = null;
            lane.MayHaveMore |= page.IsCut || lane.Rows.Count >= EachOf(page.Due.Count);
            if (lane.Rows.Count > 0) _lanes.MakeReady(lane);
            else Close(lane); // sent by somebody else, given up or deleted
        }
    }

    private void TakeNext(Page page)
    {
        if (page.Read.HasOlder)
        {
            _cursor.StartOver(); // or the younger one would be sent first
            return;
        }

        var now = Now;
        foreach (var row in page.Rows)
        {
            if (!_lanes.Has(row.DeviceId) && YoungUntil(row, now) is { } until)
            {
                _cursor.StopAt(row.Id, until);
                return;
            }

            _lanes.Add(row);
        }

        _cursor.Passed(page.Read.UpTo, page.IsCut);
    }

    // A time in the future is a clock ahead of ours and no reason to wait.
    private long? YoungUntil(BacklogRow row, long now)
    {
        var until = row.CreatedAt + (long)_receiver!.FirstRetryAfter.TotalMilliseconds;
        return row.CreatedAt <= now && until > now ? until : null;
    }

    private static int EachOf(int devices) => Math.Max(16, PageSize / devices);

    // ---- sending

    private void Send(SenderLane lane)
    {
        if (lane.Sending is not null || !lane.Rows.TryPeek(out var row)) return; // forgotten when the breaker opened
        if (_receiver!.TrySend(row, _work.Stop) is not { } sending)
        {
            _lanes.MakeReady(lane); // somebody else took the credit
            return;
        }

        _lanes.Begin(lane, row);
        _work.WhenDone(sending, result => new Sent(lane, row, result));
    }

    private void OnSent(SenderLane lane, BacklogRow row, PushResult result)
    {
        if (result.Outcome == PushOutcome.Failed)
        {
            _services.Metrics.Failed();
            _services.Logger.PushFailed(_actionId, row.DeviceId, row.Number, result.Reason);
            _lanes.Fail(lane, Now, Options, result.RetryAfter);

            // One device that keeps failing at a working receiver must not close it for the others: only its first
            // failure counts.
            if (_receiver!.CountsFailures && (lane.Attempts == 1 || _breaker.IsOpen)) CountFailure(result.Reason);
            return;
        }

        if (result.Outcome == PushOutcome.Answered) _services.Metrics.Pushed();
        else _services.Logger.Refused(_actionId, row.DeviceId, row.Number, result.Reason);
        if (_breaker.IsOpen) Close();
        _breaker.Answered();
        _lanes.Complete(lane, row, result.Outcome == PushOutcome.Refused ? result.Reason : null);
    }

    private void CountFailure(string reason)
    {
        if (!_breaker.Failed(Now)) return;
        _services.Logger.BreakerOpened(_actionId, reason);
        Forget();
    }

    private void Close()
    {
        _services.Logger.BreakerClosed(_actionId);
        _breaker.Close();
        _cursor.StartOver();
        _lanes.RetryAll(Now);
    }

    private void Close(SenderLane lane)
    {
        if (_lanes.TryClose(lane, Now)) _cursor.HasMore(); // pages did not contain it
    }

    private void Forget()
    {
        _cursor.StartOver();
        _lanes.Forget(Now);
    }

    private void RemoveCompleted()
    {
        var (rows, breaker) = (_lanes.BeginRemoving(), _breaker.BeginWrite());
        _work.UntilDone(async () =>
        {
            var settled = rows.ConvertAll(d => (d.Row, d.GivenUp));
            return new Removed(rows, await _services.Backlog.SettleAsync(_actionId, settled, breaker, _work.Stop));
        });
    }

    private void OnRemoved(Removed removed)
    {
        _breaker.EndWrite();
        foreach (var (row, cause) in removed.Refused)
        {
            _services.Metrics.RowRefused();
            _services.Logger.LetterRefused(row.DeviceId, row.Number, _actionId, cause);
        }

        HashSet<long> refused = [.. removed.Refused.Select(r => r.Row.Id)];
        foreach (var (_, row, _) in removed.Rows.Where(r => !refused.Contains(r.Row.Id)))
        {
            _count = _count.Without(row.Id, row.Bytes);
        }

        // Pages did not contain the lanes that are gone.
        if (_lanes.EndRemoving(Now, refused, Options)) _cursor.HasMore();
    }

    // For what time alone brings; all else that may be due waits for an answer that comes as a message.
    private void Schedule()
    {
        var now = Now;
        var next = Math.Min(_lanes.NextRetry ?? long.MaxValue, _cursor.YoungUntil(now) ?? long.MaxValue);
        if (_breaker.ProbeAt is { } probeAt) next = probeAt;
        if (next <= now || next == long.MaxValue) return;
        Timers.StartSingleTimer(Tick.Due, Tick.Due, TimeSpan.FromMilliseconds(next - now));
    }
}
