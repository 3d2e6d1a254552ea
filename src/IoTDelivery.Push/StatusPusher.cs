using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push;

/// <summary>Who a device is; null if the registry does not know it. A device that is being deleted is still known.</summary>
public delegate ValueTask<DeviceHeader?> DeviceHeaders(DeviceId deviceId);

//                                                                     ┌── no action ─────────────────────────────┐
//                                                                     │                                          ▼
//   Owed ──► header ──► look at rules and backlog ──► match ──► one lane per (action, device)               settled ──► Paid
//             └── none, or no room: dropped with all behind it; the device offers it again, after a deletion with its header
//                                                                     │                                       ▲  ▲
//                     ┌── nothing of the device waits there, a slot is free ──► POST ── 200 ─────────────────┘  │
//   head of the lane ─┤                                                          ├── refused ──► dead letter ───┤
//                     │                                                          └── failed ──┐                 │
//                     └── older rows, too many wait, or too long, breaker open ─────────────────┴──► backlog row ─┘
//
// A lane does one thing at a time, so the order of a device is the order of its lane. Lanes do not wait for each other. What has become a row is the
// drainer's business: this actor never reads it again.
// What no outbox owes, a Report, goes the same way; instead of Paid it is told to Reports.

/// <summary>
/// Settles what the devices of this node owe: every matching action answered 200, or a row in the backlog, or a dead letter; then the device is paid.
/// A healthy receiver costs no write; a dead one costs a row and no memory.
/// A device offers another pusher everything unpaid, oldest first, and only then what is new: this one cannot know of anything before the first number it hears.
/// So that devices notice, the actor never restarts with its old address; its supervisor stops it and starts another.
/// </summary>
public sealed class StatusPusher : UntypedActor, IWithTimers
{
    private const int RowsPerWrite = 1000;
    private const long BytesPerWrite = 8 * 1024 * 1024; // what a device published may have a megabyte
    private const int ClearMax = 100_000; // some 10 MB

    // A device offers again after Devices:OfferAgainAfter. An offer that comes this long after a drop was made behind it, and behind the deletion of the device's row,
    // which stores the header with everything that is owed. No header even then: the device was never in the registry.
    private static readonly TimeSpan UnknownAfter = TimeSpan.FromSeconds(10);

    private readonly OwedSettler _settler;
    private readonly Reports _reports;
    private readonly RuleBook _rules;
    private readonly PushBacklog _backlog;
    private readonly Webhook _webhook;
    private readonly DeviceHeaders _headers;
    private readonly BacklogSignal _signal;
    private readonly PushOptions _options;
    private readonly PushMetrics _metrics;
    private readonly ILogger<StatusPusher> _logger;
    private readonly TimeProvider _clock;

    private readonly Dictionary<DeviceId, Debt> _debts = [];
    private readonly Dictionary<DeviceId, Debt> _reporting = []; // the same for what no outbox owes
    private readonly Dictionary<string, Receiver> _receivers = [];
    private readonly List<Debt> _touched = [];
    private readonly CancellationTokenSource _stopped = new();
    private readonly CancellationToken _stop; // outlives its source: results still come in when the actor is gone
    private readonly IActorRef _self;
    private readonly Queue<Item> _arrived = new(); // waits for a look that is young enough

    // Devices of this node that had no row at an action when it was looked at, by the actor that offered: while it is the same one, only this node writes rows for it.
    private readonly Dictionary<(string ActionId, DeviceId DeviceId), IActorRef> _clear = [];
    private Looked? _look;
    private Queue<LaneWrite> _writes = new();
    private List<Receiver> _opened = [];
    private int _pending; // notifications of devices that are here and not settled
    private bool _isAsked; // something was matched by the look that is there
    private bool _isLooking;
    private bool _isWriting;

    public StatusPusher(
        OwedSettler settler, Reports reports, RuleBook rules, PushBacklog backlog, Webhook webhook, DeviceHeaders headers, BacklogSignal signal,
        PushOptions options, PushMetrics metrics, ILogger<StatusPusher> logger, TimeProvider clock)
    {
        (_settler, _reports, _rules, _backlog, _webhook, _headers, _signal) = (settler, reports, rules, backlog, webhook, headers, signal);
        (_options, _metrics, _logger, _clock) = (options, metrics, logger, clock);
        _stop = _stopped.Token;
        _self = Self;
    }

    public ITimerScheduler Timers { get; set; } = null!;

    protected override void PreStart()
    {
        _settler.Current = Self;
        foreach (var report in _reports.TakeOver(Self)) OnReport(report); // what another pusher left
    }

    protected override void PostStop()
    {
        if (_settler.Current.Equals(Self)) _settler.Current = ActorRefs.Nobody;
        _reports.Leave(Self);
        _stopped.Cancel();
    }

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case Sent sent: OnSent(sent.Lane, sent.Result); break;
            case Owed owed: OnOwed(owed); break;
            case Report report: OnReport(report); break;
            case Looked looked: OnLooked(looked); break;
            case Written written: OnWritten(written); break;
            case HeaderRead read: OnHeaderRead(read); break;
            case ObjectRead read: OnObjectRead(read.Item, read.Header); break;
            case Retry retry: OnRetry(retry.Lane); break;
            case Terminated gone: OnDeviceGone(gone.ActorRef); break;
            default: Unhandled(message); break;
        }

        PayWhatIsSettled();
    }

    private void OnOwed(Owed owed)
    {
        if (owed.Notifications.Count == 0) return;
        var first = owed.Notifications[0].Number;
        if (!_debts.TryGetValue(owed.DeviceId, out var debt))
        {
            _debts.Add(owed.DeviceId, debt = new Debt(owed.DeviceId) { SettledUpTo = first - 1, OfferedUpTo = first - 1 });
        }

        // It was somewhere else meanwhile, or started again, and offers everything it knows to be unpaid: what is before that was settled there.
        if (!Sender.Equals(debt.Device) && first > debt.OfferedUpTo + 1) debt.OfferedUpTo = first - 1;
        if (!Sender.Equals(debt.Device) && debt.Items.Count > 0) LookAgain(debt.DeviceId);
        MoveTo(debt, Sender); // a device that moved or restarted offers again and wants to be paid where it is now
        if (first <= debt.SettledUpTo) debt.Pay(_self); // it has not heard
        if (first > debt.OfferedUpTo + 1) return; // an offer in between was lost; paying this one would pay that one too. The device offers again

        var now = _clock.GetTimestamp();
        foreach (var notification in owed.Notifications)
        {
            if (notification.Header is { } header) debt.Retire(notification.Number, header);
            if (notification.Number <= debt.OfferedUpTo) continue; // being settled
            if (_pending >= _options.PendingMax)
            {
                Remember(debt);
                break; // no room: the device offers it again, and until then nothing behind it is taken
            }

            debt.OfferedUpTo = notification.Number;
            var item = new Item(debt, notification) { ArrivedAt = now };
            debt.Items.Enqueue(item);
            debt.Headerless.Enqueue(item);
            _pending++;
        }

        if (!debt.IsReadingHeader) Admit(debt);
        if (debt.OfferedUpTo >= owed.Notifications[^1].Number) Forget(debt);
        if (debt.Items.Count == 0 && !debt.IsRemembered) _debts.Remove(debt.DeviceId);
    }

    // What was dropped has to be offered again before anything behind it is taken, and only this actor knows that: it keeps the numbers as long as the device lives here.
    private void Remember(Debt debt)
    {
        if (debt.IsRemembered) return;
        debt.IsRemembered = true;
        Context.Watch(debt.Device);
    }

    private void Forget(Debt debt)
    {
        if (!debt.IsRemembered) return;
        debt.IsRemembered = false;
        if (!_debts.Values.Any(d => d.IsRemembered && d.Device.Equals(debt.Device))) Context.Unwatch(debt.Device);
    }

    private void MoveTo(Debt debt, IActorRef device)
    {
        if (device.Equals(debt.Device)) return;
        var isRemembered = debt.IsRemembered;
        Forget(debt);
        debt.Device = device;
        if (isRemembered) Remember(debt);
    }

    private void OnDeviceGone(IActorRef device)
    {
        foreach (var debt in _debts.Values.Where(d => d.IsRemembered && d.Device.Equals(device)).ToArray())
        {
            debt.IsRemembered = false;
            if (debt.Items.Count == 0) _debts.Remove(debt.DeviceId); // its next actor offers everything unpaid
        }
    }

    // Another node may have written rows for the device since its lanes here began: what comes now belongs behind them.
    private void LookAgain(DeviceId device)
    {
        foreach (var receiver in _receivers.Values)
        {
            if (receiver.Lanes.TryGetValue(device, out var lane)) lane.MayBeBehind = true;
        }
    }

    private void OnReport(Report report)
    {
        if (!_reporting.TryGetValue(report.DeviceId, out var debt)) _reporting.Add(report.DeviceId, debt = new Debt(report.DeviceId));
        var item = new Item(debt, report);
        debt.Items.Enqueue(item);
        debt.Headerless.Enqueue(item);
        if (!debt.IsReadingHeader) Admit(debt);
    }

    // A header counts for what was offered before it was read, and for nothing later: by then the device may be another one of the same id.
    private void Admit(Debt debt)
    {
        if (debt.Headerless.Count == 0) return;
        if (debt.Headerless.Any(i => i.IsUnresolved))
        {
            var (count, reading) = (debt.Headerless.Count, _headers(debt.DeviceId));
            if (!reading.IsCompletedSuccessfully)
            {
                debt.IsReadingHeader = true;
                _ = ReadHeaderAsync(debt.DeviceId, reading.AsTask(), header => new HeaderRead(debt, count, header));
                return;
            }

            Resolve(debt, count, reading.Result);
        }

        foreach (var item in debt.Headerless)
        {
            if (item.ObjectDeviceId is not { } objectId) continue;
            var reading = _headers(objectId);
            if (!reading.IsCompletedSuccessfully)
            {
                debt.IsReadingHeader = true;
                _ = ReadHeaderAsync(objectId, reading.AsTask(), header => new ObjectRead(item, header));
                return;
            }

            item.IsAbout(objectId, reading.Result);
        }

        Arrive(debt);
    }

    private void OnHeaderRead(HeaderRead read)
    {
        read.Debt.IsReadingHeader = false;
        Resolve(read.Debt, read.Count, read.Header);
        Admit(read.Debt);
    }

    private void OnObjectRead(Item item, DeviceHeader? header)
    {
        item.Debt.IsReadingHeader = false;
        item.IsAbout(item.ObjectDeviceId!, header);
        Admit(item.Debt);
    }

    private static void Resolve(Debt debt, int count, DeviceHeader? header)
    {
        foreach (var item in debt.Headerless.Take(count)) item.Resolve(header);
    }

    private void Arrive(Debt debt)
    {
        var now = _clock.GetTimestamp();
        _isAsked |= debt.Headerless.Count > 0;
        while (debt.Headerless.TryDequeue(out var item))
        {
            if (item.Header is null && item.Report is null && !IsUnknown(debt, item.ArrivedAt))
            {
                Drop(debt, item, now);
                break;
            }

            item.ArrivedAt = now;
            _arrived.Enqueue(item);
        }

        Look();
    }

    // The registry does not know the device, and the offer is older than that answer: the device may have been deleted in between. Then its outbox has the header by now.
    private void Drop(Debt debt, Item first, long now)
    {
        _logger.OfferDropped(debt.DeviceId, first.Number);
        debt.DropFrom(first);
        _pending -= debt.Dropped;
        debt.DroppedAt ??= now;
        Remember(debt);
    }

    private bool IsUnknown(Debt debt, long offeredAt) => debt.DroppedAt is { } at && _clock.GetElapsedTime(at, offeredAt) >= UnknownAfter;

    // A look serves for a while: rules are answered only when no older look is used any more (RuleBook.MaxAge), what this node wrote since is known here, and a device that
    // comes from another node takes longer than that, after what it was paid for there was written down. A new one begins before the old one is too old.
    private void Look()
    {
        var now = _clock.GetTimestamp();
        if (_look is { } look)
        {
            while (_arrived.TryPeek(out var item) && _clock.GetElapsedTime(look.From, item.ArrivedAt) <= RuleBook.MaxAge) Match(_arrived.Dequeue(), look);
        }

        if (_isLooking || (_look is { } last && _clock.GetElapsedTime(last.From, now) < RuleBook.MaxAge / 2) || (_arrived.Count == 0 && !_isAsked)) return;
        (_isLooking, _isAsked) = (true, false);
        _ = LookAsync(now);
    }

    private void OnLooked(Looked look)
    {
        (_look, _isLooking) = (look, false);
        foreach (var receiver in _receivers.Values)
        {
            if (receiver.RowsWrittenAt < look.From) receiver.RowsWrittenAt = long.MinValue; // the look knows
            if (receiver.OpenedAt >= look.From) continue; // opened after this look began: it does not know yet
            var isOpen = look.Backlog.IsOpen.Contains(receiver.ActionId);
            if (receiver.IsOpen && !isOpen) receiver.Breaker = default;
            receiver.IsOpen = isOpen;
        }

        foreach (var receiver in _receivers.Values.Where(r => r.IsIdle).ToArray()) _receivers.Remove(receiver.ActionId);
        Look();
    }

    private void Match(Item item, Looked look)
    {
        if (item.Header is { } header)
        {
            var at = item.At.ToUnixTimeMilliseconds();
            foreach (var target in look.Rules.Targets(header.ProjectId, item.Resource, item.Event))
            {
                if (!target.AppliesAt(at, header.AppId)) continue;
                item.Body ??= item.Write(header, _options.Shape);
                item.Unsettled++;
                Join(ReceiverOf(target, look), item, look);
            }
        }
        else
        {
            _logger.UnknownDevice(item.Debt.DeviceId, item.Number);
        }

        Settle(item);
    }

    private Receiver ReceiverOf(RuleTarget target, Looked look)
    {
        if (!_receivers.TryGetValue(target.ActionId, out var receiver))
        {
            _receivers.Add(target.ActionId, receiver = new Receiver(target.ActionId) { IsOpen = look.Backlog.IsOpen.Contains(target.ActionId) });
        }

        receiver.To = target.To;
        return receiver;
    }

    private void Join(Receiver receiver, Item item, Looked look)
    {
        var deviceId = item.Debt.DeviceId;
        if (!receiver.Lanes.TryGetValue(deviceId, out var lane))
        {
            // A row this node wrote after the look began is not in it.
            var mayBeBehind = (look.Backlog.HasRows.Contains(receiver.ActionId) || receiver.RowsWrittenAt >= look.From) && !IsClear(receiver, item.Debt);
            receiver.Lanes.Add(deviceId, lane = new Lane(receiver, deviceId) { MayBeBehind = mayBeBehind });
        }

        lane.Items.Enqueue(item);
        receiver.Items++;
        if (lane.State == LaneState.Idle || (lane.State == LaneState.Queued && MustWrite(receiver))) Next(lane);
    }

    private bool IsClear(Receiver receiver, Debt debt) =>
        _clear.TryGetValue((receiver.ActionId, debt.DeviceId), out var device) && device.Equals(debt.Device);

    // Reports come from connections, which move from node to node faster than devices: of their devices nothing is known.
    private void Clear(Lane lane)
    {
        var item = lane.Items.Peek();
        if (item.Report is not null) return;
        if (_clear.Count >= ClearMax) _clear.Clear();
        _clear[(lane.Receiver.ActionId, lane.DeviceId)] = item.Debt.Device;
    }

    // What is for a queue always becomes a row: consumers fetch it from there.
    private bool MustWrite(Receiver receiver) => receiver.To is null || receiver.IsOpen || receiver.Items - receiver.Sending > _options.WaitingMax;

    private void Next(Lane lane)
    {
        var receiver = lane.Receiver;
        if (lane.Items.Count == 0)
        {
            receiver.Lanes.Remove(lane.DeviceId);
            if (receiver.IsIdle) _receivers.Remove(receiver.ActionId);
            lane.State = LaneState.Idle;
        }
        else if (MustWrite(receiver) || WaitedTooLong(lane))
        {
            Write(lane, WriteMode.Append);
        }
        else if (lane.MayBeBehind)
        {
            Write(lane, WriteMode.AppendIfBehind);
        }
        else
        {
            lane.State = LaneState.Queued;
            receiver.Queue.Enqueue(lane); // at the end, also after an answer: a busy device must not keep the slots
            Fill(receiver);
        }
    }

    private bool WaitedTooLong(Lane lane) => _clock.GetElapsedTime(lane.Items.Peek().ArrivedAt) > _options.WaitMax;

    private void Fill(Receiver receiver)
    {
        while (receiver.Sending < _options.ConcurrencyPerReceiver && receiver.Queue.TryDequeue(out var lane))
        {
            if (lane.State != LaneState.Queued) continue; // went to the backlog instead
            if (WaitedTooLong(lane))
            {
                Write(lane, WriteMode.Append); // a receiver that is slow keeps neither memory nor devices awake
                continue;
            }

            lane.State = LaneState.Sending;
            receiver.Sending++;
            _ = SendAsync(lane, receiver.To!, lane.Items.Peek().Body!);
        }
    }

    private void OnSent(Lane lane, PushResult result)
    {
        var receiver = lane.Receiver;
        var item = lane.Items.Peek();
        receiver.Sending--;
        switch (result.Outcome)
        {
            case PushOutcome.Answered:
                _metrics.Pushed();
                receiver.Breaker = receiver.Breaker.Answered();
                Leave(lane);
                Next(lane);
                break;
            case PushOutcome.Refused:
                _logger.Refused(receiver.ActionId, lane.DeviceId.Value, item.Number, result.Reason);
                receiver.Breaker = receiver.Breaker.Answered();
                Write(lane, WriteMode.GiveUp, result.Reason);
                break;
            default:
                _metrics.Failed();
                _logger.PushFailed(receiver.ActionId, lane.DeviceId.Value, item.Number, result.Reason);
                Write(lane, WriteMode.Append); // what is behind it in the lane goes with it
                Count(receiver, result.Reason);
                break;
        }

        Fill(receiver);
    }

    private void Count(Receiver receiver, string reason)
    {
        receiver.Breaker = receiver.Breaker.Failed(_clock.GetUtcNow().ToUnixTimeMilliseconds(), _options);
        if (!receiver.Breaker.IsOpen || receiver.IsOpen) return;
        _logger.BreakerOpened(receiver.ActionId, reason);
        receiver.IsOpen = true;
        receiver.OpenedAt = long.MaxValue; // until it is written
        _opened.Add(receiver);
        while (receiver.Queue.TryDequeue(out var lane))
        {
            if (lane.State == LaneState.Queued) Write(lane, WriteMode.Append);
        }

        StartWriting();
    }

    private void Write(Lane lane, WriteMode mode, string reason = "")
    {
        lane.State = LaneState.Writing;
        var items = mode == WriteMode.GiveUp || lane.Refusals > 0 ? [lane.Items.Peek()] : lane.Items.ToArray();
        _writes.Enqueue(new LaneWrite(lane, items.Length, new BacklogWrite(
            lane.Receiver.ActionId, lane.DeviceId.Value, Array.ConvertAll(items, i => (i.Number, i.Body!)), mode, reason)));
        StartWriting();
    }

    // One transaction at a time: what comes meanwhile goes with the next one, so a dead receiver costs few commits however many devices it has.
    private void StartWriting()
    {
        if (_isWriting || (_writes.Count == 0 && _opened.Count == 0)) return;
        _isWriting = true;
        var batch = new List<LaneWrite>();
        var (rows, bytes) = (0, 0L);
        while (rows < RowsPerWrite && bytes < BytesPerWrite && _writes.TryDequeue(out var write))
        {
            batch.Add(write);
            rows += write.Items;
            bytes += write.Write.Notifications.Sum(n => (long)n.Body.Length);
        }

        var opened = _opened;
        _opened = [];
        _ = WriteAsync(batch, opened);
    }

    private void OnWritten(Written written)
    {
        _isWriting = false;
        StartWriting(); // first: the next batch is on its way while this one is told
        var now = _clock.GetTimestamp();
        foreach (var receiver in written.Opened) receiver.OpenedAt = now;
        for (var i = 0; i < written.Batch.Count; i++)
        {
            var (lane, items, write) = written.Batch[i];
            var (outcome, cause) = written.Results[i];
            switch (outcome)
            {
                case WriteOutcome.Refused:
                    PutAside(lane, cause!);
                    continue;
                case WriteOutcome.NothingOlder:
                    lane.MayBeBehind = false;
                    Clear(lane);
                    break;
                case WriteOutcome.Written:
                    if (write.Mode != WriteMode.GiveUp)
                    {
                        lane.MayBeBehind = true;
                        lane.Receiver.RowsWrittenAt = now;
                        _clear.Remove((write.ActionId, lane.DeviceId));
                    }

                    for (var left = items; left > 0; left--) Leave(lane);
                    break;
            }

            Next(lane);
        }
    }

    // Neither paid nor lost: its lane tries again later, one row at a time, and holds up nobody else.
    private void PutAside(Lane lane, Exception cause)
    {
        lane.State = LaneState.Aside;
        _metrics.RowRefused();
        _logger.RowRefused(lane.DeviceId, lane.Items.Peek().Number, lane.Receiver.ActionId, cause);
        Timers.StartSingleTimer(lane, new Retry(lane), RetryDelay.Of(++lane.Refusals, _options.RetryFirst, _options.RetryMax));
    }

    private void OnRetry(Lane lane)
    {
        if (lane.State == LaneState.Aside) Next(lane);
    }

    private void Leave(Lane lane)
    {
        lane.Receiver.Items--;
        Settle(lane.Items.Dequeue());
    }

    private void Settle(Item item)
    {
        if (--item.Unsettled > 0 || item.Debt.IsTouched) return;
        item.Debt.IsTouched = true;
        _touched.Add(item.Debt);
    }

    private void PayWhatIsSettled()
    {
        foreach (var debt in _touched)
        {
            debt.IsTouched = false;
            var before = debt.SettledUpTo;
            while (debt.Items.TryPeek(out var item) && item.Unsettled == 0)
            {
                debt.Items.Dequeue();
                if (item.Report is { } report)
                {
                    _reports.Settled(report, isTold: item.Header is not null || report.IsKeptElsewhere);
                }
                else
                {
                    debt.SettledUpTo = item.Number;
                    debt.DroppedAt = null;
                    _pending--;
                }
            }

            if (debt.SettledUpTo > before) debt.Pay(_self);
            if (debt.Items.Count > 0 || debt.IsRemembered) continue;
            if (_debts.GetValueOrDefault(debt.DeviceId) == debt) _debts.Remove(debt.DeviceId);
            else _reporting.Remove(debt.DeviceId);
        }

        _touched.Clear();
    }

    private async Task SendAsync(Lane lane, HttpForwarding to, byte[] body)
    {
        try
        {
            _self.Tell(new Sent(lane, await _webhook.PostAsync(to, body, _stop).ConfigureAwait(false)), ActorRefs.NoSender);
        }
        catch (OperationCanceledException)
        {
            // The actor is gone; the device offers it again to the next one.
        }
    }

    private Task LookAsync(long from) => UnlessStoppedAsync(async () =>
    {
        var rules = await _rules.LoadedAfterAsync(from, _stop);
        var backlog = rules.IsEmpty ? BacklogView.Empty : await _backlog.ViewAsync(_stop);
        return new Looked(from, rules, backlog);
    });

    private Task ReadHeaderAsync<T>(DeviceId deviceId, Task<DeviceHeader?> reading, Func<DeviceHeader?, T> tell) => UnlessStoppedAsync(async () =>
        tell(reading.IsFaulted ? await _headers(deviceId) : await reading));

    private Task WriteAsync(List<LaneWrite> batch, List<Receiver> opened) => UnlessStoppedAsync(async () =>
    {
        var results = await _backlog.WriteAsync(batch.ConvertAll(w => w.Write), opened.ConvertAll(r => r.ActionId), _stop);
        for (var i = 0; i < batch.Count; i++)
        {
            if (results[i].Outcome == WriteOutcome.Written && batch[i].Write.Mode != WriteMode.GiveUp) _signal.RowsWritten(batch[i].Write.ActionId);
        }

        return new Written(batch, opened, results);
    });

    private Task UnlessStoppedAsync<T>(Func<Task<T>> work) => _backlog.AsideAsync(async () =>
    {
        try
        {
            _self.Tell(await RetryDelay.UntilDoneAsync(work, _logger.DatabaseAway, _stop, _clock), ActorRefs.NoSender);
        }
        catch (Exception) when (_stop.IsCancellationRequested)
        {
            // Unpaid: the device offers it again to the next one.
        }
    });

    private sealed record Sent(Lane Lane, PushResult Result);

    private sealed record Looked(long From, RuleSnapshot Rules, BacklogView Backlog);

    private sealed record HeaderRead(Debt Debt, int Count, DeviceHeader? Header);

    private sealed record ObjectRead(Item Item, DeviceHeader? Header);

    private sealed record Written(List<LaneWrite> Batch, List<Receiver> Opened, WriteResult[] Results);

    private sealed record Retry(Lane Lane);

    private readonly record struct LaneWrite(Lane Lane, int Items, BacklogWrite Write);

    private enum LaneState
    {
        Idle,
        Queued,
        Sending,
        Writing,
        Aside,
    }

    // What a device owes, as far as it was offered here and is not settled.
    private sealed class Debt(DeviceId deviceId)
    {
        public DeviceId DeviceId { get; } = deviceId;
        public IActorRef Device { get; set; } = ActorRefs.Nobody;
        public bool IsReadingHeader { get; set; }
        public bool IsTouched { get; set; }
        public long OfferedUpTo { get; set; }
        public long SettledUpTo { get; set; }

        /// <summary>True while something that was offered was not taken: it has to be offered again.</summary>
        public bool IsRemembered { get; set; }

        /// <summary>When the registry first knew nothing of the device since something was settled.</summary>
        public long? DroppedAt { get; set; }

        /// <summary>How many the last drop took.</summary>
        public int Dropped { get; private set; }
        public Queue<Item> Items { get; private set; } = new();
        public Queue<Item> Headerless { get; } = new();

        // A device that is deleted gives everything it owes its header. What comes with one tells whose everything before it was.
        public void Retire(long upTo, DeviceHeader header)
        {
            foreach (var item in Items.Where(i => i.Number <= upTo)) item.Retire(header);
        }

        // What is before it goes on; it has arrived already.
        public void DropFrom(Item first)
        {
            var kept = Items.Where(i => i.Number < first.Number).ToArray();
            Dropped = Items.Count - kept.Length;
            Items = new Queue<Item>(kept);
            Headerless.Clear();
            OfferedUpTo = first.Number - 1;
        }

        public void Pay(IActorRef self) => Device.Tell(new ToDevice.Paid(DeviceId, SettledUpTo), self);
    }

    private sealed class Item
    {
        private readonly Notification? _notification;
        private DeviceId _about;

        public Item(Debt debt, Notification notification)
        {
            (Debt, _about, _notification) = (debt, debt.DeviceId, notification);
            (Number, At, Header, IsUnresolved) = (notification.Number, notification.At, notification.Header, notification.Header is null);
        }

        public Item(Debt debt, Report report)
        {
            (Debt, _about, Report) = (debt, debt.DeviceId, report);
            (Number, At, ObjectDeviceId) = (report.Number, report.At, report.ObjectDeviceId);
        }

        public Debt Debt { get; }
        public Report? Report { get; }
        public long Number { get; }
        public DateTimeOffset At { get; }
        public string Resource => Report?.Resource ?? StatusNotification.Resource;
        public string Event => Report?.Event ?? StatusNotification.Event;
        public DeviceHeader? Header { get; private set; }

        /// <summary>True until it has a header, or the registry has none.</summary>
        public bool IsUnresolved { get; private set; } = true;

        /// <summary>Whom it claims to be about, as long as nobody has looked whether that is so.</summary>
        public DeviceId? ObjectDeviceId { get; private set; }
        public long ArrivedAt { get; set; }
        public byte[]? Body { get; set; }
        public int Unsettled { get; set; } = 1; // the match itself; each matching action adds one

        public byte[] Write(DeviceHeader header, PushShape shape) =>
            Report is null ? StatusNotification.Write(_about, _notification!, header, shape) : Report.Write(_about, header, shape);

        public void Resolve(DeviceHeader? header)
        {
            if (!IsUnresolved) return;
            (Header, IsUnresolved) = (header, false);
        }

        // What the registry said meanwhile counts no more: it may have been said of the next device of that id. What is matched is written.
        public void Retire(DeviceHeader header)
        {
            if (Unsettled == 1 && Body is null) (Header, IsUnresolved) = (header, false);
        }

        // A gateway speaks for the devices behind it and for nobody else.
        public void IsAbout(DeviceId deviceId, DeviceHeader? header)
        {
            ObjectDeviceId = null;
            if (header is not null && header.GatewayId == Debt.DeviceId.Value) (_about, Header) = (deviceId, header);
        }
    }

    private sealed class Receiver(string actionId)
    {
        public string ActionId { get; } = actionId;
        public HttpForwarding? To { get; set; } // null: a queue
        public Dictionary<DeviceId, Lane> Lanes { get; } = [];
        public Queue<Lane> Queue { get; } = new();
        public int Items { get; set; }
        public int Sending { get; set; }
        public Breaker Breaker { get; set; }
        public bool IsOpen { get; set; }
        public long OpenedAt { get; set; } = long.MinValue;
        public long RowsWrittenAt { get; set; } = long.MinValue;
        public bool IsIdle => Lanes.Count == 0 && Breaker == default && !IsOpen && RowsWrittenAt == long.MinValue;
    }

    private sealed class Lane(Receiver receiver, DeviceId deviceId)
    {
        public Receiver Receiver { get; } = receiver;
        public DeviceId DeviceId { get; } = deviceId;
        public Queue<Item> Items { get; } = new();
        public LaneState State { get; set; }
        public bool MayBeBehind { get; set; }
        public int Refusals { get; set; }
    }
}
