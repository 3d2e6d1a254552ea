using System.Collections.Immutable;
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
    DeliveryPolicy Policy, DeviceOptions Options, TimeProvider Clock, ReminderTable Reminders, OwedSettler Settler, FenceWatch Fence, DeviceMetrics Metrics, ISnapshotLog SnapshotLog)
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
/// The shell round one device's <see cref="Outbox"/> and <see cref="Inflight"/>: persist, reply, transmit, offer what is owed, sleep.
/// What messages may do is decided there; here is only who waits for what.
/// </summary>
//
//   command ──Decide──► waiting ──► journal, with the call that the row makes necessary ──► stored: reply · transmit ·
// offer what is owed
//              │            ▲
//              └── against the state with everything decided so far: one write takes all that came in while the last one ran
//
//   idle ──► write what was paid ──► snapshot, if it is worth one ──► call: moved to the next expiry, or deleted ──► passivate
//
public sealed class DeviceActor : UntypedPersistentActor
{
    private sealed record Reminder(Guid Token, DateTimeOffset DueAt);

    private sealed record ReminderChanged(Reminder? Reminder);

    private sealed record ReminderNotChanged(Exception Cause);

    private sealed record Tick
    {
        public static readonly Tick Instance = new();
    }

    /// <summary>Finish what is being written, then stop.</summary>
    public sealed record GoToSleep
    {
        public static readonly GoToSleep Instance = new();
    }

    // How far the journal has come, or will have come with an entry: what may be told of a state that is ahead of it.
    private readonly record struct Mark(
        long NextNumber, long NextNotification, long PacketIdsUpTo, DateTimeOffset? NextExpiry, int Retirements);

    // Something decided and not stored yet, with the mark after it and who waits for it.
    private readonly record struct Entry(
        IReadOnlyList<OutboxEvent> Events, Mark After, IActorRef? ReplyTo, object? Reply);

    // ConnectedAt: by the steady clock of this actor.
    private sealed record Connection(
        Guid Id,
        DateTimeOffset LoginAt,
        DateTimeOffset ConnectedAt,
        int Epoch,
        int Revision,
        bool SessionPresent,
        ImmutableArray<Subscription> Subscriptions,
        IActorRef Ref)
    {
        public int Transmitted { get; set; }      // sequence number of the last packet of the epoch
        public int Acknowledged { get; set; }     // sequence number of the last acknowledgement taken
        public int AcknowledgedTold { get; set; } // of which the connection knows
    }

    // A CONNECT that is older than another by less than this counts as younger when it arrives later.
    private static readonly TimeSpan AgeTolerance = TimeSpan.FromSeconds(1);

    // How soon a wall clock that was not believed is looked at again.
    private static readonly TimeSpan ExpireAgainAfter = TimeSpan.FromSeconds(10);

    private const int EvictedMax = 4;
    private const int AcknowledgedUntoldMax = 64;

    // Far below the remote frame (akka.hocon: 1 MiB), with room for escapes, the other members and one message of 256 KB.
    private const long ListBytesMax = 64 * 1024;

    private readonly DeviceId _deviceId;
    private readonly string _downTopic;
    private readonly DeviceServices _services;
    private readonly DeliveryPolicy _policy;
    private readonly DeviceOptions _options;
    private readonly ILoggingAdapter _log = Context.GetLogger();
    private readonly Action<DeviceEvents> _onStored;
    private readonly Guid _token = Guid.NewGuid();
    private readonly DateTimeOffset _bornAt;
    private readonly long _bornTimestamp;

    // What the journal will have once everything decided is stored. It never goes back: when a write fails, this actor
    // ends, and another one begins with what is stored.
    private Outbox _ahead = Outbox.Empty;
    private Mark _stored;     // what the journal has
    private int _retirements; // decided by this actor
    private readonly Inflight _wire = Inflight.None;
    private Connection? _connection;
    private readonly Queue<Guid> _evicted = []; // the last connections that were let go: they never come back
    private ToConnection.SubDeviceIdsReserved? _granted; // the last answer to a gateway's connection
    private Guid _grantedTo;
    private (Guid ConnectionId, int Value) _challenge; // of the connection that would evict another
    private DateTimeOffset _letInAfter = DateTimeOffset.MinValue; // a login proven before that is not worth anything any more

    private readonly Queue<Entry> _waiting = [];
    private readonly List<Entry> _writing = [];
    private bool _endsUnsent;     // something not stored yet ends a message that was not sent: nothing may overtake it
    private DeviceEvents? _row;   // being written
    private Reminder? _rowsReminder;      // stored with it
    private bool _isChangingReminder;
    private bool _isTakingSnapshot;
    private OutboxSnapshot? _snapshot; // of the state that is stored once _beforeSnapshot more entries are
    private int _beforeSnapshot;
    private Reminder? _reminder;          // what we know to be on file
    private bool _isReminderInDoubt;  // it rang: where it lies now is not known
    private bool _isReminderFromRing; // all we know of it is that it rang

    private IActorRef _settler = ActorRefs.Nobody; // who was offered what
    private long _offered;
    private long _paid;
    private long _paidStored;
    private DateTimeOffset _offerAgainAt;

    private int _rowsSinceSnapshot;
    private long _expectedSequenceNr;
    private bool _isFresh = true; // nothing but recovery has happened
    private bool _isResting;
    private bool _isLeaving;
    private DateTimeOffset _restAt;        // this and the times below are steady ones
    private DateTimeOffset _expireAgainAt;
    private IActorRef? _ringer;
    private ICancelable? _timer;
    private DateTimeOffset _timerAt;

    public DeviceActor(string deviceId, DeviceServices services)
    {
        _deviceId = DeviceId.Parse(deviceId);
        _downTopic = SystemTopics.MessagesDown(_deviceId);
        (_services, _policy, _options) = (services, services.Policy, services.Options);
        (_bornAt, _bornTimestamp) = (services.Clock.GetUtcNow(), services.Clock.GetTimestamp());
        PersistenceId = PersistenceIdOf(deviceId);
        _onStored = OnStored;
    }

    // On disk for ever: changing this orphans every stored event.
    private const string PersistenceIdPrefix = "device-";

    public override string PersistenceId { get; }

    /// <summary>The name of a device's events in the journal.</summary>
    public static string PersistenceIdOf(string deviceId) => PersistenceIdPrefix + deviceId;

    /// <summary>Whose events these are.</summary>
    public static string DeviceIdOf(string persistenceId) =>
        persistenceId.StartsWith(PersistenceIdPrefix, StringComparison.Ordinal) ? persistenceId[PersistenceIdPrefix.Length..] : persistenceId;

    private DateTimeOffset Now => _services.Clock.GetUtcNow();

    // Never jumps. For what is only a delay: the clock of a node may be set while it runs.
    private DateTimeOffset Steady => _bornAt + _services.Clock.GetElapsedTime(_bornTimestamp);

    private bool IsWriting => _row is not null;

    private bool IsBusy => IsWriting || _isChangingReminder || _isTakingSnapshot;

    protected override void PreStart()
    {
        _services.Metrics.Awake(+1);
        base.PreStart();
    }

    protected override void PostStop()
    {
        _timer?.Cancel();
        ForgetWaiting();
        AnswerRinger();
        _services.Metrics.Awake(-1);
        base.PostStop();
    }

    // ---- recovery: the same Apply as in life

    protected override void OnRecover(object message)
    {
        switch (message)
        {
            case SnapshotOffer { Snapshot: OutboxSnapshot snapshot } offer:
                _ahead = Outbox.From(snapshot);
                _expectedSequenceNr = offer.Metadata.SequenceNr;
                break;
            case DeviceEvents row:
                if (LastSequenceNr != _expectedSequenceNr + 1)
                {
                    throw new InvalidOperationException(
                        $"The journal of {PersistenceId} has a gap: after {_expectedSequenceNr} comes {LastSequenceNr}. Events are missing; nothing is guessed.");
                }

                _expectedSequenceNr = LastSequenceNr;
                _ahead.Apply(row.Events, _policy);
                _rowsSinceSnapshot++;
                break;
            case RecoveryCompleted:
                if (LastSequenceNr != _expectedSequenceNr)
                {
                    throw new InvalidOperationException(
                        $"The journal of {PersistenceId} ends at {_expectedSequenceNr}, but number {LastSequenceNr} was given out. Events are missing; nothing is guessed.");
                }

                OnRecovered();
                break;
        }
    }

    private void OnRecovered()
    {
        _stored = MarkAhead();
        _paid = _paidStored = _offered = _ahead.Owed.IsEmpty ? _ahead.NextNotification - 1 : _ahead.Owed[0].Number - 1;
        _restAt = Steady + _options.SleepAfter;
        if (_services.Fence.IsRaised) Decide(OutboxCommand.Fence.Instance, null);
        // the connection died with the former life
        if (_ahead.Open.HasWithoutTtl) Decide(OutboxCommand.LoseConnection.Instance, null);
        Advance();
    }

    protected override void OnRecoveryFailure(Exception reason, object? message = null) =>
        _log.Error(reason, "Device {0} cannot be recovered; it answers nothing until its journal can be read.", _deviceId);

    // ---- life

    protected override void OnCommand(object message)
    {
        switch (message)
        {
            case ToDevice.Command { Ask: OutboxCommand.Accept } when _waiting.Count >= _options.WaitingMax:
                Sender.Tell(new OutboxReply.Refused(RefusalReason.TooMuchAtOnce));
                return;
            case ToDevice.Command { Ask: OutboxCommand.Accept } when _services.Load.IsFull:
                // the database is behind: nothing more becomes work here
                Sender.Tell(new OutboxReply.Refused(RefusalReason.Unavailable));
                return;
            case ToDevice.Command when _services.Fence.IsCutOff || _services.Fence.IsInDoubt(_deviceId.Value):
                Sender.Tell(new OutboxReply.Refused(RefusalReason.Unavailable)); // another node may run this device, or will in a moment
                return;
            case ToDevice.Command command:
                Stir();
                Decide(command.Ask, Sender);
                // A Retire of an earlier life leaves this one and its connection alone.
                if (command.Ask is OutboxCommand.Retire && _ahead.IsRetired) LetGo(ToConnection.Evicted.ByOperator);
                break;
            case ToDevice.List list:
                Stir();
                Answer(Sender, _ahead.IsRetired ? new OutboxReply.Refused(RefusalReason.NoSuchDevice) : Listed(list.Before));
                break;
            case ToDevice.Show show:
                Stir();
                Answer(Sender, _ahead.IsRetired
                    ? new OutboxReply.Refused(RefusalReason.NoSuchDevice)
                    : new OutboxReply.Messages(_ahead.Show(show.MessageId) is { } known ? [known] : []));
                break;
            case ToDevice.Knock knock: // no activity of this device
                if (_connection is { } carrier) carrier.Ref.Forward(new ToConnection.Knocked(knock.SubDevice));
                else Sender.Tell(OutboxReply.Done.Instance);
                break;
            case ToDevice.Disconnect disconnect:
                Stir();
                _letInAfter = disconnect.At;
                if (_connection?.LoginAt <= _letInAfter) LetGo(ToConnection.Evicted.ByOperator);
                Answer(Sender, OutboxReply.Done.Instance);
                break;
            case ToDevice.PacketAcknowledged acknowledged:
                Stir();
                OnAcknowledged(acknowledged);
                break;
            case ToDevice.ReserveSubDeviceIds reserve:
                Stir();
                OnReserveSubDeviceIds(reserve);
                break;
            case ToDevice.ReturnSubDeviceIds back:
                Stir();
                Decide(new OutboxCommand.ReturnSubDeviceIds(back.UsedUpTo, back.ReservedUpTo), null);
                break;
            case ToDevice.Attach attach:
                Stir();
                OnAttach(attach);
                break;
            case ToDevice.Detach detach when detach.ConnectionId == _connection?.Id:
                Stir();
                OnConnectionGone(detach.SessionExpiry);
                break;
            case Terminated terminated when terminated.ActorRef.Equals(_connection?.Ref):
                Stir();
                OnConnectionGone();
                break;
            case ToDevice.Paid paid:
                OnPaid(paid.UpTo);
                break;
            case ToDevice.Reminder reminder:
                OnReminder(reminder);
                break;
            case Tick:
                _timer = null;
                OnTick();
                break;
            case ReminderChanged changed:
                _isChangingReminder = false;
                Know(changed.Reminder);
                break;
            case ReminderNotChanged failed:
                _log.Warning(failed.Cause, "The reminder of device {0} cannot be written.", _deviceId);
                Fail();
                return;
            case SaveSnapshotSuccess success:
                _services.SnapshotLog.Note(PersistenceId, success.Metadata.SequenceNr);
                _isTakingSnapshot = false;
                break;
            case SaveSnapshotFailure failure:
                _log.Warning(failure.Cause, "No snapshot of device {0}; its events stay in the journal.", _deviceId);
                _isTakingSnapshot = false;
                break;
            case GoToSleep:
                _isLeaving = true;
                if (_connection is not null) Decide(new OutboxCommand.NoteUnacknowledged(_wire.Unacknowledged()), null);
                break;
            case ToDevice.Detach or Terminated:
                return; // of a connection that was let go before
            default:
                Unhandled(message);
                return;
        }

        Advance();
    }

    // Whatever came in: what follows from it for the wire, the application, the journal and sleep.
    private void Advance()
    {
        var now = Now;
        Transmit();
        Offer(Steady);
        Write(now);
        KeepReminder(now);
        Rest(now);
        if (_isLeaving && !IsBusy && _waiting.Count == 0) Context.Stop(Self);
        else Arm(now);
    }

    private void Stir()
    {
        _isFresh = false;
        _isResting = false;
        if (_isReminderFromRing && _reminder is not null) Distrust(_reminder.Token);
        _restAt = Steady + (_connection is null ? _options.SleepAfter : _options.SettleAfter);
    }

    // ---- deciding and storing

    private void Decide(OutboxCommand command, IActorRef? replyTo, object? reply = null)
    {
        var decision = _ahead.Decide(command, _wire, Now, _policy);
        if (decision.Events.Count > 0)
        {
            _endsUnsent |= _wire.EndsUnsent(_ahead, decision.Events);
            _wire.Follow(_ahead, decision.Events);
            _ahead.Apply(decision.Events, _policy);
            if (command is OutboxCommand.Retire) _retirements++;
            _services.Load.Add(SizeOf(decision.Events));
            _waiting.Enqueue(new Entry(decision.Events, MarkAhead(), replyTo, reply ?? decision.Reply));
        }
        else if (replyTo is not null)
        {
            Answer(replyTo, reply ?? decision.Reply);
        }
    }

    // What is not stored yet may be part of this answer, so it waits for all that was decided before it.
    private void Answer(IActorRef to, object reply)
    {
        if (_waiting.Count == 0 && !IsWriting) to.Tell(reply);
        else _waiting.Enqueue(new Entry([], MarkAhead(), to, reply));
    }

    private Mark MarkAhead() =>
        new(_ahead.NextNumber, _ahead.NextNotification, _ahead.PacketIdsUpTo, _ahead.NextExpiry, _retirements);

    // True if something up to this mark is owed.
    private bool Owes(Mark mark) => _paid < mark.NextNotification - 1;

    private void Write(DateTimeOffset now, bool alsoJustPaid = false)
    {
        if (IsBusy) return;
        while (_waiting.TryPeek(out var answer) && answer.Events.Count == 0)
        {
            answer.ReplyTo?.Tell(answer.Reply);
            Dequeue();
        }

        if (_snapshot is { } reached && _beforeSnapshot == 0)
        {
            TakeSnapshot(reached); // what lay before it were answers
            return;
        }

        var isPaymentDue = _paid > _paidStored;
        if (_waiting.Count == 0 && !(alsoJustPaid && isPaymentDue)) return;

        // Taken down now, stored when the journal has come up to it: the state itself is always ahead.
        if (_snapshot is null && _rowsSinceSnapshot + 1 >= _options.SnapshotEvery)
        {
            (_snapshot, _beforeSnapshot) = (_ahead.ToSnapshot(), _waiting.Count);
        }

        var (events, bytes) = (new List<OutboxEvent>(), 0);
        if (isPaymentDue) events.Add(new OutboxEvent.Paid(_paid));
        while (_waiting.TryPeek(out var entry))
        {
            if (_snapshot is not null && _beforeSnapshot == 0) break; // the row ends where the snapshot does
            var size = SizeOf(entry.Events);
            if (_writing.Count > 0 && (events.Count + entry.Events.Count > _options.BatchEventsMax || bytes + size > _options.BatchBytesMax)) break;
            events.AddRange(entry.Events);
            bytes += size;
            _writing.Add(Dequeue());
            _services.Load.Add(-size); // counted by the journal from here on
        }

        var after = _writing.Count > 0 ? _writing[^1].After : _stored;
        // whether this write succeeds or not
        _rowsReminder = Earlier(ReminderNeededBy(_stored, now), ReminderNeededBy(after, now)) is { } needed && !IsOnFile(needed, now)
            ? NewReminder(needed, now)
            : null;
        _row = new DeviceEvents(events)
        {
            Reminder = _rowsReminder is null ? null : new ReminderRequest(_rowsReminder.Token, _services.Clock.TimestampIn(_rowsReminder.DueAt - now)),
        };
        PersistAsync(_row, _onStored);
    }

    private void OnStored(DeviceEvents row)
    {
        if (row.Events[0] is OutboxEvent.Paid paid) _paidStored = paid.UpTo;
        if (_writing.Count > 0) _stored = _writing[^1].After;
        _row = null;
        if (_rowsReminder is not null) Know(_rowsReminder);
        _isResting = false;
        AnswerRinger(); // what was due is stored: telling of it is no concern of those who ring
        _services.Metrics.Stored(row.Events);
        foreach (var entry in _writing) entry.ReplyTo?.Tell(entry.Reply); // all of it is in the journal: nobody hears of what a crash could forget
        _writing.Clear();
        if (_waiting.Count == 0) _endsUnsent = false;

        _rowsSinceSnapshot++;
        if (_snapshot is not null && _beforeSnapshot == 0) TakeSnapshot(_snapshot);
        Advance();
    }

    private Entry Dequeue()
    {
        if (_beforeSnapshot > 0) _beforeSnapshot--;
        return _waiting.Dequeue();
    }

    protected override void OnPersistFailure(Exception cause, object @event, long sequenceNr)
    {
        // nothing else says that somebody else owns the device
        if (cause is SequenceNumberTakenException) _services.Fence.Doubt(_deviceId.Value);
        ReplyUnavailable(); // Akka stops the actor next; whoever asked asks again with the same id
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
        ReplyUnavailable();
        Context.Stop(Self);
    }

    private void ReplyUnavailable()
    {
        foreach (var entry in _writing.Concat(_waiting))
        {
            if (entry.Reply is OutboxReply) entry.ReplyTo?.Tell(new OutboxReply.Refused(RefusalReason.Unavailable));
        }

        ForgetWaiting();
    }

    private void ForgetWaiting()
    {
        foreach (var entry in _waiting) _services.Load.Add(-SizeOf(entry.Events));
        _writing.Clear();
        _waiting.Clear();
    }

    // Of exactly what is stored.
    private void TakeSnapshot(OutboxSnapshot snapshot)
    {
        (_snapshot, _beforeSnapshot) = (null, 0);
        _isTakingSnapshot = true;
        _rowsSinceSnapshot = 0;
        SaveSnapshot(snapshot);
    }

    private static int SizeOf(IReadOnlyList<OutboxEvent> events)
    {
        var bytes = 0;
        for (var i = 0; i < events.Count; i++) bytes += events[i] is OutboxEvent.MessageAccepted accepted ? accepted.Body.Bytes : 0;
        return bytes;
    }

    private OutboxReply.Messages Listed(long before)
    {
        var (items, more) = _ahead.List(before, ListBytesMax);
        return new OutboxReply.Messages(items, more);
    }

    // ---- the wire

    private void OnAttach(ToDevice.Attach attach)
    {
        if (_ahead.IsRetired || attach.ConnectedAt <= _letInAfter)
        {
            attach.Connection.Tell(ToConnection.Evicted.ByOperator);
            return;
        }

        var connectedAt = Steady - attach.Age;
        if (_connection?.Id != attach.ConnectionId)
        {
            // A sub-device that was let go by its gateway's connection may come back on it, but not past another one.
            var wasEvicted = _evicted.Contains(attach.ConnectionId) && (_connection is not null || attach.StartsClean);
            if (wasEvicted || connectedAt < _connection?.ConnectedAt - AgeTolerance)
            {
                attach.Connection.Tell(ToConnection.Evicted.ByYounger); // a late re-attach of the older one
                return;
            }

            if (_connection is not null && !HasMetChallenge(attach)) return;
            LetGo(ToConnection.Evicted.ByYounger);
        }

        var goesOn = true;
        if (_connection?.Epoch < attach.Epoch)
        {
            // It lost this device, and ignored what was sent since.
            var unacknowledged = _wire.Unacknowledged();
            goesOn = Connect(attach, connectedAt, unacknowledged);
        }
        else if (_connection is null) goesOn = Connect(attach, connectedAt, _ahead.Unacknowledged);
        else if (attach.Revision > _connection.Revision) Subscribe(attach);

        var attached = new ToConnection.Attached(_connection!.Revision, _connection.SessionPresent, _connection.Subscriptions);

        // Subscribed, too: what was subscribed and unsubscribed again before we heard of either was asked for all the same.
        if (_connection.Subscriptions.Concat(attach.Subscribed).Any(s => s.QoS == 1 && s.Matches(_downTopic))) Decide(OutboxCommand.NoteQoS1.Instance, null);
        var session = attach.KeepsSession ? new KeptSession(_connection.Subscriptions, attach.SessionExpiry) : null;
        Decide(new OutboxCommand.KeepSession(session, goesOn), attach.Connection, attached);
    }

    // An Attach may have lain in a buffer while a younger connection came: then its age says less than it should. One that is to evict
    // another connection is asked to come again at once.
    private bool HasMetChallenge(ToDevice.Attach attach)
    {
        if (_challenge.ConnectionId == attach.ConnectionId && _challenge.Value == attach.Challenge) return true;
        if (_challenge.ConnectionId != attach.ConnectionId) _challenge = (attach.ConnectionId, Random.Shared.Next(1, int.MaxValue));
        attach.Connection.Tell(new ToConnection.Challenged(_challenge.Value));
        return false;
    }

    // Returns whether packet ids that were sent before still mean something to the client.
    private bool Connect(ToDevice.Attach attach, DateTimeOffset connectedAt, ImmutableSortedDictionary<long, ushort> unacknowledged)
    {
        var remembered = attach.StartsClean ? null : _ahead.SessionAt(Now)?.Subscriptions; // [MQTT-3.1.2-5]
        var subscriptions = attach.Subscriptions ?? Replaced(remembered ?? [], attach.Subscribed);
        _connection = new Connection(
            attach.ConnectionId, attach.ConnectedAt, connectedAt, attach.Epoch, attach.Revision, remembered is not null, subscriptions, attach.Connection);
        Context.Watch(attach.Connection);
        _restAt = Steady + _options.SettleAfter;
        var goesOn = remembered is not null || attach.IsReattach;
        if (!goesOn) unacknowledged = unacknowledged.Clear();
        _wire.Connect(attach.Wire, Effective(attach, subscriptions), _ahead, unacknowledged, attach.IsReattach, _policy);
        return goesOn;
    }

    // [MQTT-3.8.4-3] A SUBSCRIBE replaces the subscription of the same filter.
    private static ImmutableArray<Subscription> Replaced(ImmutableArray<Subscription> kept, ImmutableArray<Subscription> by) =>
        [.. kept.Where(k => !by.Any(b => b.TopicFilter == k.TopicFilter)), .. by];

    private void Subscribe(ToDevice.Attach attach)
    {
        var subscriptions = attach.Subscriptions ?? _connection!.Subscriptions;
        var effective = Effective(attach, subscriptions);
        var subscribed = attach.Implicit ? [.. attach.Subscribed, .. effective.Except(subscriptions)] : attach.Subscribed;
        _connection = _connection! with { Revision = attach.Revision, Subscriptions = subscriptions };
        _wire.Subscribe(effective, subscribed, _ahead, Steady, _policy);
    }

    // The implicit subscription counts where nothing else matches, and never for a device that once asked for QoS 1.
    private ImmutableArray<Subscription> Effective(ToDevice.Attach attach, ImmutableArray<Subscription> subscriptions) =>
        attach.Implicit && !_ahead.AskedForQoS1 && !subscriptions.Any(s => s.Matches(_downTopic))
            ? subscriptions.Add(new Subscription(SystemTopics.AllSystem(_deviceId), 0))
            : subscriptions;

    private void OnAcknowledged(ToDevice.PacketAcknowledged acknowledged)
    {
        if (_connection is not { } connection || acknowledged.ConnectionId != connection.Id || acknowledged.Epoch != connection.Epoch) return;
        var isNext = acknowledged.Sequence == connection.Acknowledged + 1;
        if (isNext) connection.Acknowledged++;
        if (acknowledged.IsRepeated || connection.Acknowledged - connection.AcknowledgedTold >= AcknowledgedUntoldMax)
        {
            connection.AcknowledgedTold = connection.Acknowledged;
            connection.Ref.Tell(new ToConnection.AcknowledgementsTaken(connection.Epoch, connection.Acknowledged));
        }

        if (!isNext) return; // taken already; or one before it was lost: it is repeated, and this one behind it
        if (acknowledged.IsSkipped)
        {
            _wire.Skip(acknowledged.Tag);
            return;
        }

        if (_wire.Acknowledge(acknowledged.Tag, acknowledged.QoS) is not { } number || _ahead.FindOpen(number) is not { } message)
        {
            _services.Metrics.LateAck();
            return;
        }

        Decide(
            acknowledged.ReasonCode < 0x80
                ? new OutboxCommand.Acknowledge(message.MessageId)
                : new OutboxCommand.Refuse(message.MessageId, acknowledged.ReasonCode),
            null);
    }

    private void OnReserveSubDeviceIds(ToDevice.ReserveSubDeviceIds reserve)
    {
        if (_granted?.Request == reserve.Request && _grantedTo == reserve.ConnectionId)
        {
            Answer(Sender, _granted);
            return;
        }

        var from = _ahead.SubDeviceIdsUpTo;
        _grantedTo = reserve.ConnectionId;
        _granted = new ToConnection.SubDeviceIdsReserved(reserve.Request, from, from + PacketIds.ReservedAhead);
        Decide(OutboxCommand.ReserveSubDeviceIds.Instance, Sender, _granted);
    }

    private void OnConnectionGone(TimeSpan? sessionExpiry = null)
    {
        if (_connection is null) return;
        Context.Unwatch(_connection.Ref);
        _connection = null;
        var unacknowledged = _wire.Unacknowledged();
        _wire.Disconnect();
        _restAt = Steady + _options.SleepAfter;
        Decide(OutboxCommand.LoseConnection.Instance, null);
        Decide(new OutboxCommand.LeaveSession(sessionExpiry, unacknowledged), null);
    }

    private void LetGo(ToConnection.Evicted why)
    {
        if (_connection is null) return;
        _connection.Ref.Tell(why);
        if (_evicted.Count == EvictedMax) _evicted.Dequeue();
        _evicted.Enqueue(_connection.Id);
        OnConnectionGone();
    }

    private void Transmit()
    {
        if (_connection is not { } connection || _isLeaving) return;
        var sends = _wire.Next(_ahead, _stored.NextNumber - 1, _stored.PacketIdsUpTo, Steady, _policy, onlyAgain: _endsUnsent);
        if (_wire.NeedsPacketIds) Decide(OutboxCommand.ReservePacketIds.Instance, null);
        if (sends.Count == 0) return;
        var now = _services.Calendar.IsBelieved ? Now : (DateTimeOffset?)null; // what is left of a ttl is not known then
        connection.AcknowledgedTold = connection.Acknowledged;
        foreach (var send in sends)
        {
            connection.Ref.Tell(new ToConnection.Transmit(
                send.Message.MessageId,
                send.Message.Body,
                send.Tag,
                send.QoS,
                send.Dup,
                send.Message.ExpiresAt - now,
                connection.Epoch,
                ++connection.Transmitted,
                connection.Acknowledged));
        }
    }

    // ---- what is owed

    private void Offer(DateTimeOffset now)
    {
        if (!Owes(_stored)) return;
        var settler = _services.Settler.Current;
        if (settler.IsNobody())
        {
            _offerAgainAt = now + TimeSpan.FromMilliseconds(200); // the node is starting
            return;
        }

        // Another one than before has heard nothing: it is offered everything unpaid, or it would pay what it never saw along with what it sees.
        if (!settler.Equals(_settler)) (_settler, _offered) = (settler, _paid);
        var upTo = _stored.NextNotification - 1;
        if (upTo <= _offered || _offered - _paid >= Owed.UnsettledMax) return;

        // A retirement that is not stored has changed what is owed already: nobody hears of it before it is.
        if (_stored.Retirements == _retirements)
        {
            var owed = _ahead.Owed.Between(_offered, Math.Min(upTo, _paid + Owed.UnsettledMax));
            settler.Tell(new Owed(_deviceId, owed));
            _offered = owed[^1].Number;
        }

        _offerAgainAt = now + _options.OfferAgainAfter;
    }

    private void OnPaid(long upTo)
    {
        if (upTo <= _paid || upTo > _offered) return;
        _paid = upTo;
        _ahead.PaidUpTo(upTo);
        _isResting = false;
        _offerAgainAt = Steady + _options.OfferAgainAfter;
    }

    // ---- waking and sleeping

    private void OnReminder(ToDevice.Reminder reminder)
    {
        if (!_isFresh)
        {
            // Filed by another owner: if it stored something since we recovered, this write collides, and we start again from what is stored.
            if (reminder.Token != _token && reminder.Token != _reminder?.Token)
            {
                Decide(OutboxCommand.Fence.Instance, null);
            }
            Distrust(reminder.Token);
            Sender.Tell(new ReminderHandled(_deviceId)); // awake anyway; its own timer does what is due
            return;
        }

        _isFresh = false;
        var now = Now;
        Know(new Reminder(reminder.Token, now + reminder.DueIn));
        _isReminderFromRing = true;
        _ringer = Sender;
        _restAt = Steady;
        Expire();
        if (_waiting.Count == 0 && !IsWriting) AnswerRinger(); // nothing is due by our clock, or it was done before
    }

    private void Know(Reminder? reminder) =>
        (_reminder, _isReminderInDoubt, _isReminderFromRing) = (reminder, false, false);

    // A ring may be late: what rang can have been deleted since, or filed anew. It is tidied up one day, but nothing relies on it.
    private void Distrust(Guid token)
    {
        Know(new Reminder(token, DateTimeOffset.MaxValue));
        _isReminderInDoubt = true;
        _isResting = false;
    }

    // A call whose time has come may have rung, whether we heard of it or not, and lies a lease ahead then. With
    // unfinished work it is filed anew.
    private void KeepReminder(DateTimeOffset now)
    {
        if (IsBusy || _isLeaving || _reminder is null || !(_isReminderInDoubt || _reminder.DueAt <= now)) return;
        if (ReminderNeededBy(_stored, now) is { } needed) ChangeReminder(NewReminder(needed, now));
        else if (!_isReminderInDoubt) Distrust(_reminder.Token);
        _isReminderInDoubt = false;
    }

    private bool IsOnFile(DateTimeOffset needed, DateTimeOffset now) =>
        _reminder is not null && _reminder.DueAt > now && _reminder.DueAt <= needed;

    private Reminder NewReminder(DateTimeOffset needed, DateTimeOffset now)
    {
        var recall = now + _options.ReminderInterval;
        return new Reminder(_token, needed < recall ? needed : recall);
    }

    private void AnswerRinger()
    {
        _ringer?.Tell(new ReminderHandled(_deviceId));
        _ringer = null;
    }

    private void OnTick()
    {
        if (_ahead.NextExpiry <= Now) Expire();
        if (Owes(_stored) && _offerAgainAt <= Steady) _offered = _paid;
    }

    // A ttl is calendar time. While the wall clock is not believed nothing ends by it.
    private void Expire()
    {
        if (_services.Calendar.IsBelieved) Decide(OutboxCommand.Expire.Instance, null);
        else _expireAgainAt = Steady + ExpireAgainAfter;
    }

    // One step at a time, each behind the last: payments, snapshot, call, sleep. Whatever comes in meanwhile ends the rest.
    private void Rest(DateTimeOffset now)
    {
        if (_isResting || _isLeaving || IsBusy || _waiting.Count > 0 || Steady < _restAt || Owes(_stored)) return;
        if (_connection is null)
        {
            Decide(new OutboxCommand.LeaveSession(null), null); // after a crash nobody has said when the connection went
            if (_paid > _paidStored) Decide(OutboxCommand.ReturnPacketIds.Instance, null); // with the row that is written anyway
        }

        if (_waiting.Count > 0)
        {
            Write(now);
            return;
        }

        if (_paid > _paidStored)
        {
            Write(now, alsoJustPaid: true);
        }
        else if (_connection is null && _rowsSinceSnapshot >= _options.SnapshotEvery / 10)
        {
            TakeSnapshot(_ahead.ToSnapshot()); // nothing is ahead of the journal
        }
        else if (_stored.NextExpiry is { } expiry && !IsReminded(expiry, now))
        {
            ChangeReminder(new Reminder(_reminder?.Token ?? _token, expiry > now ? expiry : now + _options.ReminderInterval));
        }
        else if (_stored.NextExpiry is null && _reminder is not null)
        {
            ChangeReminder(null);
        }
        else
        {
            _isResting = true;
            if (_connection is null) Context.Parent.Tell(new Passivate(GoToSleep.Instance));
        }
    }

    // What is due and does not end yet, because the wall clock is not believed, is looked at when it rings again.
    private bool IsReminded(DateTimeOffset expiry, DateTimeOffset now) =>
        _reminder is { } reminder && (expiry > now ? reminder.DueAt == expiry : reminder.DueAt > now && reminder.DueAt < DateTimeOffset.MaxValue);

    // A device with unfinished work has a call on file, due no later than the moment it must act. Null: nothing is unfinished. What is due already is being done.
    private DateTimeOffset? ReminderNeededBy(Mark mark, DateTimeOffset now)
    {
        var recall = now + _options.ReminderInterval;
        return Earlier(mark.NextExpiry <= now ? recall : mark.NextExpiry, Owes(mark) ? recall : null);
    }

    private void ChangeReminder(Reminder? reminder)
    {
        _isChangingReminder = true;
        var change = reminder is null ? _services.Reminders.DeleteAsync(_deviceId.Value, _reminder!.Token) : _services.Reminders.FileAsync(_deviceId.Value, reminder.DueAt - Now, reminder.Token);
        change.PipeTo(Self, success: () => new ReminderChanged(reminder), failure: cause => new ReminderNotChanged(cause));
    }

    // One timer for all that is due, set anew only when something is due earlier than it.
    private void Arm(DateTimeOffset now)
    {
        var steady = Steady;
        var expiry = _ahead.NextExpiry is { } expires ? Later(steady + (expires - now), _expireAgainAt) : (DateTimeOffset?)null;
        var due = Earlier(_wire.NextAt, expiry);
        if (Owes(_stored)) due = Earlier(due, _offerAgainAt);
        if (!_isResting && !Owes(_stored) && !IsBusy) due = Earlier(due, _restAt);
        if (_reminder is not null && !IsBusy && _reminder.DueAt < DateTimeOffset.MaxValue) due = Earlier(due, steady + (_reminder.DueAt - now));
        if (due is not { } at || (_timer is not null && _timerAt <= at)) return;
        _timer?.Cancel();
        _timerAt = at;
        var delay = at > steady ? at - steady : TimeSpan.Zero;
        if (delay > TimeSpan.FromHours(1)) delay = TimeSpan.FromHours(1);
        _timer = Context.System.Scheduler.ScheduleTellOnceCancelable(delay, Self, Tick.Instance, Self);
    }

    private static DateTimeOffset Later(DateTimeOffset a, DateTimeOffset b) => a > b ? a : b;

    private static DateTimeOffset? Earlier(DateTimeOffset? a, DateTimeOffset? b) => a is null ? b : b is null ? a : a < b ? a : b;
}
