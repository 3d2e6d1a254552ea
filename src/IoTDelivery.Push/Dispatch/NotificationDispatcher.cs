using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push;

/// <summary>
/// Who a device is; null if the registry does not know it. A device that is being deleted is still known.
/// </summary>
public delegate ValueTask<DeviceHeader?> DeviceHeaders(DeviceId deviceId);

/// <summary>What the dispatcher of a node works with.</summary>
public sealed record DispatcherServices(
    NotificationSink Sink, VolatileNotifications Volatile, RuleBook Rules, PushBacklog Backlog, Webhook Webhook,
    DeviceHeaders Headers, BacklogSignal Signal,
    PushOptions Options, PushMetrics Metrics, ILogger<NotificationDispatcher> Logger, TimeProvider Clock);

//                                                                     ┌── no action ─────────────────────────────┐
//                                                                     │                                          ▼
//   NotificationsOffered ──► header ──► look at rules and backlog ──► match ──► one lane per (action, device)          settled ──► NotificationsAcknowledged
//             └── none, or no room: dropped with all behind it; the device offers it again
//                                                                     │                                       ▲  ▲
//                     ┌── nothing of the device waits there, a slot is free ──► POST ── 200 ─────────────────┘  │
//   head of the lane ─┤                                                          ├── refused ──► dead letter ───┤
//                     │                                                          └── failed ──┐                 │
//                     └── older rows, too many wait, or too long, breaker open ─────────────────┴──► backlog row ─┘
//
// What has become a row is its sender's business: this actor never reads it again.
// A VolatileNotification goes the same way; instead of NotificationsAcknowledged its source is told.

/// <summary>
/// Settles what the devices of this node have pending: every matching action answered 200, or a row in the backlog, or a dead
/// letter; then the device is acknowledged. A healthy receiver costs no write; one that is down costs a row and no memory. So
/// that devices notice, the actor never restarts with its old address; its supervisor stops it and starts another.
/// </summary>
public sealed class NotificationDispatcher : UntypedActor, IWithTimers
{
    private readonly DispatcherServices _services;
    private readonly ActorWork _work;
    private readonly IActorRef _self;
    private readonly Dictionary<DeviceId, DeviceNotifications> _devices = [];
    private readonly Dictionary<DeviceId, DeviceNotifications> _volatile = []; // the same for what is in no outbox
    private readonly Dictionary<string, ReceiverLanes> _receivers = [];
    private readonly MatchQueue _matching = new();
    private readonly RowWrites _writes = new();
    private readonly RowlessDevices _rowless = new();
    private readonly List<DeviceNotifications> _settled = [];
    private int _pending; // notifications of devices that are here and not settled

    public NotificationDispatcher(DispatcherServices services)
    {
        (_services, _self) = (services, Self);
        _work = new ActorWork(Self, services.Logger, services.Clock, services.Backlog.AsideAsync);
    }

    private sealed record Sent(Lane Lane, PushResult Result);

    private sealed record HeaderRead(DeviceNotifications Device, int Count, DeviceHeader? Header);

    private sealed record ObjectRead(PendingNotification Notification, DeviceHeader? Header);

    private sealed record Written(List<LaneWrite> Batch, List<ReceiverLanes> Opened, WriteResult[] Results);

    private sealed record Retry(Lane Lane);

    public ITimerScheduler Timers { get; set; } = null!;

    private PushOptions Options => _services.Options;

    private TimeSpan Now => _services.Clock.GetElapsedTime(0);

    protected override void PreStart()
    {
        _services.Sink.Current = Self;
        foreach (var left in _services.Volatile.TakeOver(Self)) OnVolatile(left); // by another dispatcher
    }

    protected override void PostStop()
    {
        if (_services.Sink.Current.Equals(Self)) _services.Sink.Current = ActorRefs.Nobody;
        _services.Volatile.Leave(Self);
        _work.Cancel();
    }

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case Sent sent: OnSent(sent.Lane, sent.Result); break;
            case NotificationsOffered pending: OnOffer(pending); break;
            case VolatileNotification notification: OnVolatile(notification); break;
            case Look look: OnLook(look); break;
            case Written written: OnWritten(written); break;
            case HeaderRead read: OnHeaderRead(read); break;
            case ObjectRead read: OnObjectRead(read); break;
            case Retry retry: OnRetry(retry.Lane); break;
            case Terminated gone: OnDeviceGone(gone.ActorRef); break;
            default: Unhandled(message); break;
        }

        AcknowledgeSettled();
    }

    // ---- offers

    private void OnOffer(NotificationsOffered pending)
    {
        if (pending.Notifications.Count == 0) return;
        if (!_devices.TryGetValue(pending.DeviceId, out var device))
        {
            _devices.Add(pending.DeviceId, device = new DeviceNotifications(pending.DeviceId));
        }

        var offer = device.Take(Sender, pending.Notifications, Math.Max(0, Options.PendingMax - _pending), Now);
        _pending += offer.Taken;
        if (offer.MustLookAgain)
        {
            foreach (var receiver in _receivers.Values) receiver.LookAgain(device.DeviceId);
        }

        if (offer.MustAcknowledge) Acknowledge(device);
        if (!device.IsReadingHeader) ResolveHeaders(device);
        WatchWhileIncomplete(device);
        if (device.IsForgettable) _devices.Remove(device.DeviceId);
    }

    private void OnVolatile(VolatileNotification notification)
    {
        if (!_volatile.TryGetValue(notification.DeviceId, out var device))
        {
            _volatile.Add(notification.DeviceId, device = new DeviceNotifications(notification.DeviceId));
        }

        device.Add(new PendingNotification(device, notification, Now));
        if (!device.IsReadingHeader) ResolveHeaders(device);
    }

    // What was dropped has to be offered again before anything behind it is taken, and only this actor knows that: it
    // keeps the numbers as long as the device lives here.
    private void WatchWhileIncomplete(DeviceNotifications device)
    {
        var (before, now) = (device.Watched, device.IsIncomplete ? device.Device : null);
        if (Equals(before, now)) return;
        device.Watched = now;
        if (before is not null && !_devices.Values.Any(d => before.Equals(d.Watched))) Context.Unwatch(before);
        if (now is not null) Context.Watch(now);
    }

    private void OnDeviceGone(IActorRef actor)
    {
        foreach (var device in _devices.Values.Where(d => actor.Equals(d.Watched)).ToArray())
        {
            device.DeviceGone();
            if (device.IsForgettable) _devices.Remove(device.DeviceId);
        }
    }

    // ---- headers

    private void ResolveHeaders(DeviceNotifications device)
    {
        if (device.Unresolved.Count == 0) return;
        if (device.Unresolved.Any(n => n.IsUnresolved))
        {
            var (count, reading) = (device.Unresolved.Count, _services.Headers(device.DeviceId));
            if (!reading.IsCompletedSuccessfully)
            {
                ReadHeader(device, device.DeviceId, reading.AsTask(), header => new HeaderRead(device, count, header));
                return;
            }

            device.Resolve(count, reading.Result);
        }

        foreach (var notification in device.Unresolved)
        {
            if (notification.ObjectDeviceId is not { } objectId) continue;
            var reading = _services.Headers(objectId);
            if (!reading.IsCompletedSuccessfully)
            {
                ReadHeader(device, objectId, reading.AsTask(), header => new ObjectRead(notification, header));
                return;
            }

            notification.ResolveObject(reading.Result);
        }

        QueueForMatching(device);
    }

    private void ReadHeader<T>(
        DeviceNotifications device, DeviceId deviceId, Task<DeviceHeader?> reading, Func<DeviceHeader?, T> message)
    {
        device.IsReadingHeader = true;
        _work.UntilDone(async () => message(reading.IsFaulted ? await _services.Headers(deviceId) : await reading));
    }

    private void OnHeaderRead(HeaderRead read)
    {
        read.Device.IsReadingHeader = false;
        read.Device.Resolve(read.Count, read.Header);
        ResolveHeaders(read.Device);
    }

    private void OnObjectRead(ObjectRead read)
    {
        read.Notification.Device.IsReadingHeader = false;
        read.Notification.ResolveObject(read.Header);
        ResolveHeaders(read.Notification.Device);
    }

    private void QueueForMatching(DeviceNotifications device)
    {
        int dropped;
        while (device.NextResolved(Now, out dropped) is { } notification) _matching.Add(notification);
        if (dropped > 0)
        {
            _pending -= dropped;
            _services.Logger.OfferDropped(device.DeviceId, device.OfferedUpTo + 1);
            WatchWhileIncomplete(device);
        }

        MatchAll();
    }

    // ---- matching

    private void MatchAll()
    {
        while (_matching.TryNext(out var notification, out var look)) Match(notification, look);
        if (_matching.TryBeginLook(Now)) LoadRules();
    }

    private void LoadRules()
    {
        var (from, timestamp) = (Now, _services.Clock.GetTimestamp());
        _work.UntilDone(async () =>
        {
            var rules = await _services.Rules.LoadedAfterAsync(timestamp, _work.Stop);
            var backlog = rules.IsEmpty ? BacklogView.Empty : await _services.Backlog.ViewAsync(_work.Stop);
            return new Look(from, rules, backlog);
        });
    }

    private void OnLook(Look look)
    {
        foreach (var receiver in _receivers.Values) receiver.Look(look.From, look.IsOpen(receiver.ActionId));
        foreach (var receiver in _receivers.Values.Where(r => r.IsIdle).ToArray()) _receivers.Remove(receiver.ActionId);
        _matching.EndLook(look);
        MatchAll();
    }

    private void Match(PendingNotification notification, Look look)
    {
        if (notification.Header is { } header)
        {
            var at = notification.At.ToUnixTimeMilliseconds();
            foreach (var target in look.Rules.Targets(header.ProjectId, notification.Resource, notification.Event))
            {
                if (!target.AppliesAt(at, header.AppId)) continue;
                var receiver = ReceiverOf(target, look);
                notification.Match(receiver.Shape);
                AddToLane(receiver, notification, look);
            }
        }
        else
        {
            _services.Logger.UnknownDevice(notification.Device.DeviceId, notification.Number);
        }

        Settle(notification);
    }

    private ReceiverLanes ReceiverOf(RuleTarget target, Look look)
    {
        if (!_receivers.TryGetValue(target.ActionId, out var receiver))
        {
            _receivers.Add(target.ActionId, receiver = new ReceiverLanes(target.ActionId, Options));
            receiver.Look(look.From, look.IsOpen(target.ActionId));
        }

        (receiver.To, receiver.Shape) = (target.To, target.Shape ?? Options.Shape);
        return receiver;
    }

    private void AddToLane(ReceiverLanes receiver, PendingNotification notification, Look look)
    {
        var device = notification.Device;
        var hasRows = look.Backlog.HasRows.Contains(receiver.ActionId);
        var isRowless = _rowless.Contains(receiver.ActionId, device);
        var lane = receiver.LaneOf(device.DeviceId, look.From, hasRows, isRowless);
        if (receiver.Add(lane, notification)) AdvanceLane(lane);
    }

    // ---- lanes

    private void AdvanceLane(Lane lane)
    {
        var receiver = lane.Receiver;
        switch (receiver.Next(lane, Now))
        {
            case LaneStep.Close:
                receiver.Close(lane);
                if (receiver.IsIdle) _receivers.Remove(receiver.ActionId);
                break;
            case LaneStep.Append:
                Write(lane, WriteMode.Append);
                break;
            case LaneStep.AppendIfBehind:
                Write(lane, WriteMode.AppendIfBehind);
                break;
            case LaneStep.AwaitSlot:
                receiver.AwaitSlot(lane);
                FillSlots(receiver);
                break;
        }
    }

    private void FillSlots(ReceiverLanes receiver)
    {
        while (receiver.TryTakeSlot(Now, out var lane, out var step))
        {
            // A receiver that is slow keeps neither memory nor devices awake.
            if (step == LaneStep.Append) Write(lane, WriteMode.Append);
            else Post(lane, receiver.To!);
        }
    }

    private void Post(Lane lane, HttpForwarding to)
    {
        var posting = _services.Webhook.PostAsync(to, lane.Notifications.Peek().Body(lane.Receiver.Shape), _work.Stop);
        _work.WhenDone(posting, result => new Sent(lane, result));
    }

    private void OnSent(Lane lane, PushResult result)
    {
        var (receiver, number) = (lane.Receiver, lane.Notifications.Peek().Number);
        receiver.FreeSlot();
        switch (result.Outcome)
        {
            case PushOutcome.Answered:
                _services.Metrics.Pushed();
                receiver.Answered();
                CompleteHead(lane);
                AdvanceLane(lane);
                break;
            case PushOutcome.Refused:
                _services.Logger.Refused(receiver.ActionId, lane.DeviceId.Value, number, result.Reason);
                receiver.Answered();
                Write(lane, WriteMode.GiveUp, result.Reason);
                break;
            default:
                _services.Metrics.Failed();
                _services.Logger.PushFailed(receiver.ActionId, lane.DeviceId.Value, number, result.Reason);
                Write(lane, WriteMode.Append); // what is behind it in the lane goes with it
                CountFailure(receiver, result.Reason);
                break;
        }

        FillSlots(receiver);
    }

    private void CountFailure(ReceiverLanes receiver, string reason)
    {
        if (!receiver.Failed(_services.Clock.GetUtcNow().ToUnixTimeMilliseconds(), out var waiting)) return;
        _services.Logger.BreakerOpened(receiver.ActionId, reason);
        _writes.Open(receiver);
        foreach (var lane in waiting) Write(lane, WriteMode.Append);
        StartWriting();
    }

    // ---- rows

    private void Write(Lane lane, WriteMode mode, string reason = "")
    {
        _writes.Add(lane, mode, reason);
        StartWriting();
    }

    private void StartWriting()
    {
        if (!_writes.TryBegin(out var batch, out var opened)) return;
        _work.UntilDone(async () =>
        {
            var writes = batch.ConvertAll(w => w.Write);
            var results = await _services.Backlog.WriteAsync(writes, opened.ConvertAll(r => r.ActionId), _work.Stop);
            for (var i = 0; i < writes.Count; i++)
            {
                var hasRows = results[i].Outcome == WriteOutcome.Written && writes[i].Mode != WriteMode.GiveUp;
                if (hasRows) _services.Signal.RowsWritten(writes[i].ActionId);
            }

            return new Written(batch, opened, results);
        });
    }

    private void OnWritten(Written written)
    {
        _writes.End();
        StartWriting(); // first: the next batch is on its way while this one is told
        foreach (var receiver in written.Opened) receiver.OpenedAt(Now);
        for (var i = 0; i < written.Batch.Count; i++) OnWritten(written.Batch[i], written.Results[i]);
    }

    private void OnWritten(LaneWrite write, WriteResult result)
    {
        var lane = write.Lane;
        switch (result.Outcome)
        {
            case WriteOutcome.Refused:
                PutAside(lane, result.Refused!);
                return;
            case WriteOutcome.NothingOlder:
                lane.MayHaveOlderRows = false;
                _rowless.Add(lane);
                break;
            case WriteOutcome.Written:
                if (write.Write.Mode != WriteMode.GiveUp)
                {
                    lane.MayHaveOlderRows = true;
                    lane.Receiver.RowsWrittenAt(Now);
                    _rowless.Remove(lane);
                }

                for (var left = write.Count; left > 0; left--) CompleteHead(lane);
                break;
        }

        AdvanceLane(lane);
    }

    // Neither acknowledged nor lost: its lane tries again later, one row at a time, and holds up nobody else.
    private void PutAside(Lane lane, Exception cause)
    {
        lane.State = LaneState.Aside;
        _services.Metrics.RowRefused();
        _services.Logger.RowRefused(lane.DeviceId, lane.Notifications.Peek().Number, lane.Receiver.ActionId, cause);
        var delay = RetryDelay.Of(++lane.Refusals, Options.RetryFirst, Options.RetryMax);
        Timers.StartSingleTimer(lane, new Retry(lane), delay);
    }

    private void OnRetry(Lane lane)
    {
        if (lane.State == LaneState.Aside) AdvanceLane(lane);
    }

    // ---- settled

    private void CompleteHead(Lane lane) => Settle(lane.Receiver.CompleteHead(lane));

    private void Settle(PendingNotification notification)
    {
        if (!notification.Settle() || notification.Device.IsTouched) return;
        notification.Device.IsTouched = true;
        _settled.Add(notification.Device);
    }

    private void AcknowledgeSettled()
    {
        foreach (var device in _settled)
        {
            device.IsTouched = false;
            var before = device.SettledUpTo;
            while (device.TryComplete(out var notification))
            {
                if (notification.Volatile is not { } source) _pending--;
                else _services.Volatile.Settled(source, notification.Header is not null || source.IsKeptElsewhere);
            }

            if (device.SettledUpTo > before) Acknowledge(device);
            if (!device.IsForgettable) continue;
            if (_devices.GetValueOrDefault(device.DeviceId) == device) _devices.Remove(device.DeviceId);
            else _volatile.Remove(device.DeviceId);
        }

        _settled.Clear();
    }

    private void Acknowledge(DeviceNotifications device) =>
        device.Device.Tell(new ToDevice.NotificationsAcknowledged(device.DeviceId, device.SettledUpTo), _self);
}
