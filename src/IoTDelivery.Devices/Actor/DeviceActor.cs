using Akka.Actor;
using Akka.Cluster.Sharding;
using Akka.Event;
using Akka.Persistence;
using IoTDelivery.Devices.Journal;
using IoTDelivery.Devices.Reminders;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices;

/// <summary>What every device on a node shares.</summary>
public sealed record DeviceServices(
    DeliveryPolicy Policy,
    DeviceOptions Options,
    TimeProvider Clock,
    ReminderTable Reminders,
    NotificationSink Sink,
    Fencing Fence,
    DeviceMetrics Metrics,
    ISnapshotLog SnapshotLog)
{
    /// <summary>Whether what is due by the wall clock of this node is due.</summary>
    public CalendarClock Calendar { get; } = new(Clock);

    /// <summary>What waits on this node to be stored.</summary>
    public JournalLoad Load { get; init; } = new(long.MaxValue);
}

/// <summary>Hears of every snapshot that is safely stored, so that the events below it can be deleted one day.</summary>
public interface ISnapshotLog
{
    /// <summary>Never fails; a snapshot that is not noted only leaves more events in the journal.</summary>
    void Note(string persistenceId, long sequenceNr);
}

/// <summary>
/// The shell round one device's <see cref="Outbox"/> and <see cref="Inflight"/>: persist, reply, transmit, offer
/// notifications, passivate. What messages may do is decided there; here is only who waits for what.
/// </summary>
//
//   a message comes ──► JournalWriter      decides, and replies once it is stored
//                       DeviceConnection   who is attached, what goes out
//                       NotificationOffer  what the application is to hear
//                       DeviceReminder     who wakes the device, should this actor be gone by then
//                   ──► Advance            transmit · offer · write · passivate · set the timer
//
public sealed class DeviceActor : UntypedPersistentActor
{
    private sealed record ReminderChanged(FiledReminder? Reminder);

    private sealed record ReminderNotChanged(Exception Cause);

    private sealed record Tick
    {
        public static readonly Tick Instance = new();
    }

    /// <summary>Finish what is being written, then stop.</summary>
    public sealed record Stop
    {
        public static readonly Stop Instance = new();
    }

    // How soon a wall clock that was not believed is looked at again.
    private static readonly TimeSpan ExpireAgainAfter = TimeSpan.FromSeconds(10);

    // Far below the remote frame (akka.hocon: 1 MiB), with room for escapes, the other members and one message of 256 KB.
    private const long ListBytesMax = 64 * 1024;

    // On disk for ever: changing this orphans every stored event.
    private const string PersistenceIdPrefix = "device-";

    private readonly DeviceId _deviceId;
    private readonly DeviceServices _services;
    private readonly DeviceClock _clock;
    private readonly JournalWriter _journal;
    private readonly DeviceConnection _connection;
    private readonly DeviceReminder _reminder;
    private readonly TickTimer _timer;
    private readonly ILoggingAdapter _log = Context.GetLogger();
    private readonly Action<DeviceEvents> _onStored;
    private NotificationOffer _offer;
    private bool _isFresh = true; // nothing but recovery has happened
    private bool _isStopping;
    private bool _isIdle; // all steps of passivation are done
    private DateTimeOffset _idleAt; // this and the next by the steady clock
    private DateTimeOffset _expireAgainAt;

    public DeviceActor(string deviceId, DeviceServices services)
    {
        (_deviceId, _services, PersistenceId) = (DeviceId.Parse(deviceId), services, PersistenceIdOf(deviceId));
        _clock = new DeviceClock(services.Clock, services.Calendar);
        var wire = Inflight.None;
        _journal = new JournalWriter(PersistenceId, services, wire, _clock);
        _connection = new DeviceConnection(_deviceId, services, _clock, _journal, wire, Context);
        _reminder = new DeviceReminder(services.Options.ReminderInterval);
        _timer = new TickTimer(Context.System.Scheduler, Self, Tick.Instance);
        _onStored = OnStored;
    }

    public override string PersistenceId { get; }

    /// <summary>The name of a device's events in the journal.</summary>
    public static string PersistenceIdOf(string deviceId) => PersistenceIdPrefix + deviceId;

    /// <summary>Whose events these are.</summary>
    public static string DeviceIdOf(string persistenceId) =>
        persistenceId.StartsWith(PersistenceIdPrefix, StringComparison.Ordinal)
            ? persistenceId[PersistenceIdPrefix.Length..]
            : persistenceId;

    private bool IsBusy => _journal.IsBusy || _reminder.IsChanging;

    protected override void PreStart()
    {
        _services.Metrics.Awake(+1);
        base.PreStart();
    }

    protected override void PostStop()
    {
        _timer.Cancel();
        _journal.ForgetWaiting();
        _reminder.ReplyHandled(_deviceId);
        _services.Metrics.Awake(-1);
        base.PostStop();
    }

    // ---- recovery

    protected override void OnRecover(object message)
    {
        switch (message)
        {
            case SnapshotOffer { Snapshot: OutboxSnapshot snapshot } offer:
                _journal.Recover(snapshot, offer.Metadata.SequenceNr);
                break;
            case DeviceEvents row:
                _journal.Recover(row, LastSequenceNr);
                break;
            case RecoveryCompleted:
                _journal.OnRecovered(LastSequenceNr);
                OnRecovered();
                break;
        }
    }

    private void OnRecovered()
    {
        _offer = NotificationOffer.After(_journal.Ahead);
        _idleAt = _clock.Steady + _services.Options.SleepAfter;
        if (_services.Fence.IsRaised) _journal.Decide(OutboxCommand.Fence.Instance);

        // The connection died with the former owner.
        if (_journal.Ahead.Open.HasWithoutTtl) _journal.Decide(OutboxCommand.LoseConnection.Instance);
        Advance();
    }

    protected override void OnRecoveryFailure(Exception reason, object? message = null) =>
        _log.Error(reason, "Device {0} cannot be recovered; it answers nothing until its journal can be read.", _deviceId);

    // ---- life

    protected override void OnCommand(object message)
    {
        switch (message)
        {
            case ToDevice.Command { Ask: var ask } when RefusalOf(ask) is { } reason:
                Sender.Tell(new OutboxReply.Refused(reason));
                return;
            case ToDevice.Command command: OnCommand(command.Ask); break;
            case ToDevice.List list: Show(() => Listed(list.Before)); break;
            case ToDevice.Show show: Show(() => Shown(show.MessageId)); break;
            case ToDevice.Attach attach: OnAttach(attach); break;
            case ToDevice.Detach detach when _connection.Is(detach.ConnectionId): OnGone(detach.SessionExpiry); break;
            case Terminated terminated when terminated.ActorRef.Equals(_connection.Ref): OnGone(null); break;
            case ToDevice.Disconnect disconnect: OnDisconnect(disconnect); break;
            case ToDevice.PacketAcknowledged acknowledged: OnAcknowledged(acknowledged); break;
            case ToDevice.ReserveSubDeviceIds reserve: OnReserveSubDeviceIds(reserve); break;
            case ToDevice.ReturnSubDeviceIds back: OnReturnSubDeviceIds(back); break;
            case ToDevice.AttachSubDevice attach: Forward(new ToConnection.AttachSubDevice(attach.SubDevice)); break;
            case ToDevice.SubDevicesChanged changed:
                Forward(new ToConnection.SubDevicesChanged(changed.Version));
                break;
            case ToDevice.NotificationsAcknowledged acknowledged: OnNotificationsAcknowledged(acknowledged.UpTo); break;
            case ToDevice.Reminder reminder: OnReminder(reminder); break;
            case Tick: OnTick(); break;
            case ReminderChanged changed: _reminder.OnChanged(changed.Reminder); break;
            case ReminderNotChanged failed: OnReminderNotChanged(failed.Cause); return;
            case SaveSnapshotSuccess success: OnSnapshotSaved(success.Metadata.SequenceNr); break;
            case SaveSnapshotFailure failure: OnSnapshotNotSaved(failure.Cause); break;
            case Stop: OnStop(); break;
            case ToDevice.Detach or Terminated: return; // of a connection that was evicted before
            default: Unhandled(message); return;
        }

        Advance();
    }

    // Whatever came in: what follows from it for the wire, the application, the journal and the actor itself.
    private void Advance()
    {
        var now = _clock.Now;
        if (!_isStopping) _connection.Transmit();
        Offer();
        Write(now);
        RenewReminder(now);
        PassivateWhenIdle(now);
        if (_isStopping && !IsBusy && _journal.Waiting == 0) Context.Stop(Self);
        else ScheduleNextTick(now);
    }

    private void KeepAwake()
    {
        _isFresh = _isIdle = false;
        _reminder.OnActivity();
        var (options, isAttached) = (_services.Options, _connection.IsAttached);
        _idleAt = _clock.Steady + (isAttached ? options.FlushAfter : options.SleepAfter);
    }

    // ---- applications

    private RefusalReason? RefusalOf(OutboxCommand ask)
    {
        if (ask is OutboxCommand.Accept && _journal.Waiting >= _services.Options.WaitingMax) return RefusalReason.TooMuchAtOnce;

        // The database is behind: nothing more becomes work here.
        if (ask is OutboxCommand.Accept && _services.Load.IsFull) return RefusalReason.Unavailable;

        // Another node may run this device, or will in a moment.
        var fence = _services.Fence;
        return fence.IsOnLosingSide || fence.IsQuarantined(_deviceId.Value) ? RefusalReason.Unavailable : null;
    }

    private void OnCommand(OutboxCommand ask)
    {
        _journal.Decide(ask, Sender);

        // A Retire of an earlier life leaves this one and its connection alone.
        if (ask is OutboxCommand.Retire && _journal.Ahead.IsRetired) _connection.Evict(ToConnection.Evicted.ByOperator);
        KeepAwake();
    }

    private void Show(Func<OutboxReply> known)
    {
        KeepAwake();
        _journal.Reply(Sender, _journal.Ahead.IsRetired ? new OutboxReply.Refused(RefusalReason.NoSuchDevice) : known());
    }

    private OutboxReply.Messages Listed(long before)
    {
        var (items, more) = _journal.Ahead.List(before, ListBytesMax);
        return new OutboxReply.Messages(items, more);
    }

    private OutboxReply.Messages Shown(MessageId messageId) =>
        new(_journal.Ahead.Show(messageId) is { } known ? [known] : []);

    // ---- the connection

    private void OnAttach(ToDevice.Attach attach)
    {
        _connection.OnAttach(attach);
        KeepAwake();
    }

    private void OnGone(TimeSpan? sessionExpiry)
    {
        _connection.OnGone(sessionExpiry);
        KeepAwake();
    }

    private void OnDisconnect(ToDevice.Disconnect disconnect)
    {
        _connection.EndLogins(disconnect.Generation, Sender);
        KeepAwake();
    }

    private void OnAcknowledged(ToDevice.PacketAcknowledged acknowledged)
    {
        _connection.OnAcknowledged(acknowledged);
        KeepAwake();
    }

    private void OnReserveSubDeviceIds(ToDevice.ReserveSubDeviceIds reserve)
    {
        _connection.OnReserveSubDeviceIds(reserve, Sender);
        KeepAwake();
    }

    private void OnReturnSubDeviceIds(ToDevice.ReturnSubDeviceIds back)
    {
        _journal.Decide(new OutboxCommand.ReturnSubDeviceIds(back.UsedUpTo, back.ReservedUpTo));
        KeepAwake();
    }

    // No activity of this device.
    private void Forward(ToConnection toGateway)
    {
        if (_connection.Ref is { } connection) connection.Forward(toGateway);
        else Sender.Tell(OutboxReply.Done.Instance);
    }

    // ---- notifications

    private void Offer()
    {
        var sink = _services.Sink.Current;
        (_offer, var offered) = _offer.Next(
            _journal.Ahead,
            _journal.Stored,
            _journal.IsRetirementStored,
            sink,
            _clock.Steady,
            _services.Options.OfferAgainAfter);
        if (offered.Count > 0) sink.Tell(new NotificationsOffered(_deviceId, offered));
    }

    private void OnNotificationsAcknowledged(long upTo)
    {
        if (_offer.Acknowledge(upTo, _clock.Steady + _services.Options.OfferAgainAfter) is not { } offer) return;
        _offer = offer;
        _journal.Ahead.AcknowledgeNotifications(upTo);
        _isIdle = false;
    }

    // ---- the journal

    private void Write(DateTimeOffset now, bool evenIfOnlyAcknowledged = false)
    {
        if (IsBusy) return;
        _journal.ReplyWhatIsStored();
        if (_journal.DueSnapshot() is { } reached)
        {
            SaveSnapshot(reached); // what lay before it were replies
            return;
        }

        var acknowledged = _offer.IsUnstored ? new OutboxEvent.NotificationsAcknowledged(_offer.Acknowledged) : null;
        if (_journal.NextRow(acknowledged, evenIfOnlyAcknowledged) is not { } events) return;

        // Whether this write succeeds or not.
        var needed = Earlier(ReminderNeededBy(_journal.Stored, now), ReminderNeededBy(_journal.AfterRow, now));
        var reminder = _reminder.WithRow(needed, now);
        var row = new DeviceEvents(events)
        {
            Reminder = reminder is null ? null : new ReminderRequest(reminder.Token, _clock.TimestampIn(reminder.DueAt - now)),
        };
        PersistAsync(row, _onStored);
    }

    private void OnStored(DeviceEvents row)
    {
        if (row.Events[0] is OutboxEvent.NotificationsAcknowledged acknowledged) _offer = _offer with { Stored = acknowledged.UpTo };
        _journal.OnStored();
        _reminder.OnRowStored(_deviceId);
        _isIdle = false;
        _services.Metrics.Stored(row.Events);
        if (_journal.DueSnapshot() is { } reached) SaveSnapshot(reached);
        Advance();
    }

    protected override void OnPersistFailure(Exception cause, object @event, long sequenceNr)
    {
        // Nothing else says that somebody else owns the device.
        if (cause is SequenceNumberTakenException) _services.Fence.Quarantine(_deviceId.Value);
        _journal.ReplyUnavailable(); // Akka stops the actor next
        base.OnPersistFailure(cause, @event, sequenceNr);
    }

    protected override void OnPersistRejected(Exception cause, object @event, long sequenceNr)
    {
        base.OnPersistRejected(cause, @event, sequenceNr);
        Fail();
    }

    // What was decided is ahead of the journal and can never get there: start again from what is stored.
    private void Fail()
    {
        _journal.ReplyUnavailable();
        Context.Stop(Self);
    }

    private void OnSnapshotSaved(long sequenceNr)
    {
        _services.SnapshotLog.Note(PersistenceId, sequenceNr);
        _journal.OnSnapshotDone();
    }

    private void OnSnapshotNotSaved(Exception cause)
    {
        _log.Warning(cause, "No snapshot of device {0}; its events stay in the journal.", _deviceId);
        _journal.OnSnapshotDone();
    }

    // ---- the reminder

    private void OnReminder(ToDevice.Reminder reminder)
    {
        if (!_isFresh)
        {
            // Filed by another owner: if it stored something since we recovered, this write collides, and we start again
            // from what is stored.
            if (_reminder.IsForeign(reminder.Token)) _journal.Decide(OutboxCommand.Fence.Instance);
            _reminder.Distrust(reminder.Token);
            _isIdle = false;
            Sender.Tell(new ReminderHandled(_deviceId)); // awake anyway; its own timer does what is due
            return;
        }

        _isFresh = false;
        _reminder.OnFired(reminder.Token, _clock.Now + reminder.DueIn, Sender);
        _idleAt = _clock.Steady;
        Expire();
        if (_journal.IsUpToDate) _reminder.ReplyHandled(_deviceId); // nothing is due by our clock, or it was done before
    }

    // A device with unfinished work has a reminder in the table, due no later than the moment it must act.
    private DateTimeOffset? ReminderNeededBy(JournalMark mark, DateTimeOffset now) =>
        _reminder.NeededBy(mark, _offer.IsPendingAt(mark), now);

    private void RenewReminder(DateTimeOffset now)
    {
        if (IsBusy || _isStopping || !_reminder.MayHaveFired(now)) return;
        _isIdle = false;
        if (_reminder.Renew(ReminderNeededBy(_journal.Stored, now), now) is { } renewed) ChangeReminder(renewed);
    }

    private void ChangeReminder(FiledReminder? reminder)
    {
        var change = reminder is null
            ? _services.Reminders.DeleteAsync(_deviceId.Value, _reminder.Filed!.Token)
            : _services.Reminders.FileAsync(_deviceId.Value, reminder.DueAt - _clock.Now, reminder.Token);
        _reminder.OnChanging();
        change.PipeTo(
            Self, success: () => new ReminderChanged(reminder), failure: cause => new ReminderNotChanged(cause));
    }

    private void OnReminderNotChanged(Exception cause)
    {
        _log.Warning(cause, "The reminder of device {0} cannot be written.", _deviceId);
        Fail();
    }

    // ---- time

    private void OnTick()
    {
        _timer.OnTick();
        if (_journal.Ahead.NextExpiry <= _clock.Now) Expire();
        if (_offer.IsPendingAt(_journal.Stored)) _offer = _offer.Retry(_clock.Steady);
    }

    // A ttl is calendar time. While the wall clock is not believed nothing ends by it.
    private void Expire()
    {
        if (_clock.IsBelieved) _journal.Decide(OutboxCommand.Expire.Instance);
        else _expireAgainAt = _clock.Steady + ExpireAgainAfter;
    }

    // One timer for all that is due.
    private void ScheduleNextTick(DateTimeOffset now)
    {
        var steady = _clock.Steady;
        var due = _connection.NextSendAt;
        if (_journal.Ahead.NextExpiry is { } expiry) due = Earlier(due, Later(steady + (expiry - now), _expireAgainAt));
        if (_offer.IsPendingAt(_journal.Stored)) due = Earlier(due, _offer.RetryAt);
        else if (!_isIdle && !IsBusy) due = Earlier(due, _idleAt);
        if (!IsBusy && _reminder.DueAt is { } reminder) due = Earlier(due, steady + (reminder - now));
        if (due is { } at) _timer.Set(at, steady);
    }

    private void PassivateWhenIdle(DateTimeOffset now)
    {
        if (_isIdle || _isStopping || IsBusy || _journal.Waiting > 0) return;
        if (_clock.Steady < _idleAt || _offer.IsPendingAt(_journal.Stored)) return;
        if (!_connection.IsAttached)
        {
            // After a crash nobody has said when the connection went.
            _journal.Decide(new OutboxCommand.LeaveSession(null));
            if (_offer.IsUnstored) _journal.Decide(OutboxCommand.ReturnPacketIds.Instance); // with a row that is written anyway
        }

        if (_journal.Waiting > 0) Write(now);
        else Take(NextStep(now), now);
    }

    private PassivationStep NextStep(DateTimeOffset now)
    {
        var expiry = _journal.Stored.NextExpiry;
        return new IdleDevice(
            _connection.IsAttached,
            _offer.IsUnstored,
            _journal.IsSnapshotWorthwhile,
            _journal.HasStored,
            Expires: expiry is not null,
            HasReminder: _reminder.Filed is not null,
            IsReminderSet: expiry is { } at && _reminder.IsSetFor(at, now, _clock.IsBelieved)).NextStep();
    }

    private void Take(PassivationStep step, DateTimeOffset now)
    {
        switch (step)
        {
            case PassivationStep.FlushAcknowledged: Write(now, evenIfOnlyAcknowledged: true); break;
            case PassivationStep.Snapshot: SaveSnapshot(_journal.Snapshot()); break;
            case PassivationStep.Fence:
                _journal.Decide(OutboxCommand.Fence.Instance);
                Write(now);
                break;
            case PassivationStep.MoveReminder:
                ChangeReminder(_reminder.MovedTo(_journal.Stored.NextExpiry!.Value, now, _clock.IsBelieved));
                break;
            case PassivationStep.DeleteReminder: ChangeReminder(null); break;
            case PassivationStep.Stay: _isIdle = true; break;
            case PassivationStep.Passivate:
                _isIdle = true;
                Context.Parent.Tell(new Passivate(Stop.Instance));
                break;
        }
    }

    private void OnStop()
    {
        _isStopping = true;
        _connection.OnStopping();
    }

    private static DateTimeOffset Later(DateTimeOffset a, DateTimeOffset b) => a > b ? a : b;

    private static DateTimeOffset? Earlier(DateTimeOffset? a, DateTimeOffset? b) =>
        a is null ? b : b is null ? a : a < b ? a : b;
}
