using System.Collections.Immutable;

namespace IoTDelivery.Domain;

/// <summary>
/// The durable state of one device: its open messages in order of acceptance, the newest ended ones, the ids it must answer for, and what it has pending
/// to the application. <see cref="Decide"/> turns a command into facts, <see cref="Apply"/> is the only way facts change it.
/// </summary>
//
//             cannot go out now                         QoS 0: bytes taken · QoS 1: PUBACK
//   Accept ──────────────────► PENDING ──sent──► on the wire ──────────────────────────► DELIVERED
//      │                          ▲ │                 ▲  │
//      │ can go out now           │ └─ displaced,     │  ├── ttl over ──────────────────► TIMEOUT
//      └──── answered DELIVERED, awaiting PUBACK ─────┘  └── refused, deleted, ttl 0 ────► FAILED
//                                                             and the connection lost
//
// Nothing leaves the right-hand column. "Answered DELIVERED" is what the 201 said; it is stored with the message.
// It changes in place. Whoever needs it as it is now takes a snapshot; messages and notifications never change.
public sealed class Outbox
{
    private static readonly Comparer<KnownMessage> ByNumber = Comparer<KnownMessage>.Create((a, b) => a.Number.CompareTo(b.Number));

    private static readonly ImmutableSortedDictionary<long, ushort> NoPackets =
        ImmutableSortedDictionary<long, ushort>.Empty;

    private readonly List<KnownMessage> _ended = [];

    /// <summary>An outbox nobody has used yet: a new one each time.</summary>
    public static Outbox Empty => new();

    /// <summary>Messages that have not ended, in order of acceptance.</summary>
    public OpenMessages Open { get; } = new();

    /// <summary>Ended messages among the newest <see cref="DeliveryPolicy.HistoryMax"/>, in order of acceptance.</summary>
    public IReadOnlyList<KnownMessage> Ended => _ended;

    /// <summary>Ended messages whose id is still answered for, in the order they ended.</summary>
    public RememberedIds Remembered { get; } = new();

    /// <summary>Notifications that are not settled yet, in order.</summary>
    public PendingNotifications Notifications { get; } = new();

    /// <summary>The lasting session; null without one. Look at it through <see cref="SessionAt"/>: its time may be over.</summary>
    public KeptSession? Session { get; private set; }

    /// <summary>Packet ids below this position may be in use (<see cref="PacketIds"/>). 0: an older release wrote none.</summary>
    public long PacketIdsUpTo { get; private set; }

    /// <summary>The same for the sub-devices that share the connections of this gateway.</summary>
    public long SubDeviceIdsUpTo { get; private set; }

    /// <summary>
    /// The last packet id of each open message that was on the wire when the last connection ended, by message number: what
    /// a PUBACK of the client's session may still name.
    /// </summary>
    public ImmutableSortedDictionary<long, ushort> Unacknowledged { get; private set; } = NoPackets;

    /// <summary>True once the device subscribed its down topic at QoS 1.</summary>
    public bool AskedForQoS1 { get; private set; }

    /// <summary>True once the device was deleted, until it is registered again.</summary>
    public bool IsRetired { get; private set; }

    /// <summary>
    /// Number of the newest life that began behind another one, or that ended. 0 in the first life of a device. The
    /// registry numbers the lives: a device that is created again has a greater number than ever before. So a
    /// <see cref="OutboxCommand.Retire"/> that comes late never ends the life after its own.
    /// </summary>
    public long Life { get; private set; }

    /// <summary>
    /// Generation that the last freeze or reset of the secret gave the registry's row in this life. 0 if there was none.
    /// </summary>
    public long LoginsEndedBy { get; private set; }

    /// <summary>
    /// A login that was proven against an earlier generation of the registry's row counts no more. Lives and
    /// generations are numbers of one sequence: a login of a former life is an earlier one, too.
    /// </summary>
    public long Generation => Math.Max(Life, LoginsEndedBy);

    /// <summary>Number of the next accepted message.</summary>
    public long NextNumber { get; private set; } = 1;

    /// <summary>Number of the next notification; never restarts, so that an event id is never used twice.</summary>
    public long NextNotification { get; private set; } = 1;

    /// <summary>Bytes of content of the open messages.</summary>
    public long OpenBytes { get; private set; }

    /// <summary>Bytes of content of the ended messages.</summary>
    public long EndedBytes { get; private set; }

    /// <summary>When the first open message outlives its ttl; null if none is open.</summary>
    public DateTimeOffset? NextExpiry => Open.NextExpiry;

    /// <summary>The outbox that was written down.</summary>
    public static Outbox From(OutboxSnapshot snapshot)
    {
        var outbox = new Outbox
        {
            Session = snapshot.Session,
            PacketIdsUpTo = snapshot.PacketIdsUpTo,
            SubDeviceIdsUpTo = snapshot.SubDeviceIdsUpTo,
            Unacknowledged = snapshot.Unacknowledged,
            AskedForQoS1 = snapshot.AskedForQoS1,
            IsRetired = snapshot.IsRetired,
            Life = snapshot.Life,
            LoginsEndedBy = snapshot.LoginsEndedBy,
            NextNumber = snapshot.NextNumber,
            NextNotification = snapshot.NextNotification,
            OpenBytes = snapshot.Open.Sum(m => (long)m.Body.Bytes),
            EndedBytes = snapshot.Ended.Sum(m => (long)m.Body.Bytes),
        };
        foreach (var message in snapshot.Open) outbox.Open.Add(message);
        foreach (var item in snapshot.Remembered) outbox.Remembered.Add(item);
        foreach (var notification in snapshot.Notifications) outbox.Notifications.Add(notification);
        outbox._ended.AddRange(snapshot.Ended);
        return outbox;
    }

    /// <summary>All of it as it is now.</summary>
    public OutboxSnapshot ToSnapshot() => new()
    {
        Open = [.. Open],
        Ended = [.. _ended],
        Remembered = [.. Remembered],
        Notifications = [.. Notifications],
        Session = Session,
        PacketIdsUpTo = PacketIdsUpTo,
        SubDeviceIdsUpTo = SubDeviceIdsUpTo,
        Unacknowledged = Unacknowledged,
        AskedForQoS1 = AskedForQoS1,
        IsRetired = IsRetired,
        Life = Life,
        LoginsEndedBy = LoginsEndedBy,
        NextNumber = NextNumber,
        NextNotification = NextNotification,
    };

    /// <summary>
    /// The lasting session if there is one at this time. One that an older release kept has no mark of its packet ids: it
    /// does not go on.
    /// </summary>
    public KeptSession? SessionAt(DateTimeOffset now) => Session?.EndsAt <= now || PacketIdsUpTo == 0 ? null : Session;

    /// <summary>
    /// What follows from a command in this state at this time. <paramref name="wire"/> says what the connection can take. A
    /// row that is written anyway reserves packet ids, before they run out.
    /// </summary>
    public Decision Decide(OutboxCommand command, Inflight wire, DateTimeOffset now, DeliveryPolicy policy)
    {
        var decision = DecideAlone(command, wire, now, policy);
        var mustReserve = command is OutboxCommand.ReservePacketIds || (PacketIdsUpTo == 0 && command is OutboxCommand.KeepSession { Session: not null });
        if (decision.Events.Count == 0 && !mustReserve) return decision;
        return wire.ReservationFor(this) is { } upTo
            ? decision with { Events = [.. decision.Events, new OutboxEvent.PacketIdsReserved(upTo)] }
            : decision;
    }

    private Decision DecideAlone(OutboxCommand command, Inflight wire, DateTimeOffset now, DeliveryPolicy policy) => command switch
    {
        OutboxCommand.Accept when IsRetired => Decision.Refuse(RefusalReason.NoSuchDevice),
        OutboxCommand.Accept accept when Known(accept.MessageId, now, policy) is { } first =>
            first.Hash == accept.Body.Hash
                ? Decision.Answer(new OutboxReply.Accepted(accept.MessageId, first.Answer, first.AcceptedAt))
                : Decision.Refuse(RefusalReason.IdConflict),
        OutboxCommand.Accept accept => Decide(accept, wire, now, policy),

        OutboxCommand.Acknowledge ack when FindOpen(ack.MessageId) is null => Decision.Nothing, // a PUBACK after the end changes nothing
        OutboxCommand.Acknowledge ack => Decision.Of(new OutboxEvent.MessageDelivered(ack.MessageId, now)),

        OutboxCommand.Refuse refuse when FindOpen(refuse.MessageId) is null => Decision.Nothing,
        OutboxCommand.Refuse refuse => Decision.Of(new OutboxEvent.MessageFailed(refuse.MessageId, ErrorInfo.RefusedByDevice(refuse.ReasonCode), now)),

        OutboxCommand.Delete when IsRetired => Decision.Refuse(RefusalReason.NoSuchDevice),
        OutboxCommand.Delete delete => FindOpen(delete.MessageId) switch
        {
            null => Decision.Refuse(_ended.Exists(m => m.MessageId == delete.MessageId) ? RefusalReason.NotWaiting : RefusalReason.NoSuchMessage),
            var open when !StillWaits(open, wire) => Decision.Refuse(RefusalReason.NotWaiting),
            _ => Decision.Of(new OutboxEvent.MessageDeleted(delete.MessageId, now)),
        },
        OutboxCommand.DeleteAll when IsRetired => Decision.Refuse(RefusalReason.NoSuchDevice),
        OutboxCommand.DeleteAll => Decision.Of([.. Open.Where(m => StillWaits(m, wire)).Select(m => new OutboxEvent.MessageDeleted(m.MessageId, now))]),

        OutboxCommand.Expire => Decision.Of(
            [.. Open.DueAt(now).Select(m => new OutboxEvent.MessageTimedOut(m.MessageId, now))]),
        OutboxCommand.LoseConnection when !Open.HasWithoutTtl => Decision.Nothing,
        OutboxCommand.LoseConnection => Decision.Of(
            [.. Open.Where(m => m.Body.Ttl == 0).Select(m => new OutboxEvent.MessageFailed(m.MessageId, ErrorInfo.DeviceNotOnline, now))]),

        OutboxCommand.KeepSession when IsRetired => Decision.Nothing,
        OutboxCommand.KeepSession keep => Decision.Of([.. Kept(keep.Session), .. Sent(keep.GoesOn ? Unacknowledged : NoPackets)]),
        OutboxCommand.LeaveSession leave => Decision.Of([.. Leave(leave.Expiry, now), .. Left(leave.Unacknowledged)]),
        OutboxCommand.NoteUnacknowledged note => Decision.Of(Sent(note.PacketIds)),
        OutboxCommand.ReservePacketIds => Decision.Nothing,
        OutboxCommand.ReturnPacketIds => wire.UsedIdsUpTo is { } used && Math.Max(used, 1) < PacketIdsUpTo // 0 means: no mark
            ? Decision.Of(new OutboxEvent.PacketIdsReserved(Math.Max(used, 1)))
            : Decision.Nothing,
        OutboxCommand.ReserveSubDeviceIds => Decision.Of(new OutboxEvent.SubDeviceIdsReserved(SubDeviceIdsUpTo + PacketIds.ReservedAhead)),
        OutboxCommand.ReturnSubDeviceIds back => back.ReservedUpTo == SubDeviceIdsUpTo && back.UsedUpTo < SubDeviceIdsUpTo
            ? Decision.Of(new OutboxEvent.SubDeviceIdsReserved(back.UsedUpTo))
            : Decision.Nothing,
        OutboxCommand.NoteQoS1 => AskedForQoS1 ? Decision.Nothing : Decision.Of(new OutboxEvent.QoS1Noted()),

        // A first life is not written down: nothing that could come late belongs to an earlier one.
        OutboxCommand.Register register when HasEnded(register.Life) => Decision.Refuse(RefusalReason.NoSuchDevice),
        OutboxCommand.Register register when IsRetired => Decision.Of(new OutboxEvent.Registered(now, register.Life)),
        OutboxCommand.Register => Decision.Nothing,

        // The number is stored even if no life was begun under it: its Register may still be on the way.
        OutboxCommand.Retire retire when retire.Life < Life || (IsRetired && retire.Life == Life) => Decision.Nothing,
        OutboxCommand.Retire retire => Decision.Of(new OutboxEvent.Retired(retire.Header, now, retire.Life)),

        // One that comes late, or once more, changes nothing.
        OutboxCommand.EndLogins end when IsRetired || end.Generation <= Generation => Decision.Nothing,
        OutboxCommand.EndLogins end => Decision.Of(new OutboxEvent.LoginsEnded(end.Generation)),
        OutboxCommand.Fence => Decision.Of(new OutboxEvent.Fenced()),

        _ => throw new ArgumentOutOfRangeException(nameof(command), command, "Unknown outbox command."),
    };

    // The rows of the manual's table for a new message, first match wins.
    private Decision Decide(OutboxCommand.Accept accept, Inflight wire, DateTimeOffset now, DeliveryPolicy policy)
    {
        if (Notifications.Count >= policy.NotificationsMax) return Decision.Refuse(RefusalReason.TooMuchAtOnce);

        var body = accept.Body;
        var isSubscribed = wire.IsSubscribed(body.Topic);
        if (body.Ttl == 0 && !isSubscribed) return FailedAtOnce(wire.IsConnected ? ErrorInfo.NotSubscribed : ErrorInfo.DeviceNotOnline);

        var fits = OpenBytes + body.Bytes <= policy.PendingBytesMax;
        if (isSubscribed && fits && wire.HasRoomForNew(this)) return Accepted(MessageStatus.Delivered);

        var waiting = Open.Count - wire.Count;
        if (waiting < policy.PendingMax && fits) return Accepted(MessageStatus.Pending);
        if (isSubscribed) return Decision.Refuse(RefusalReason.TooMuchAtOnce);

        var bytes = OpenBytes + body.Bytes - policy.PendingBytesMax;
        var displaced = Displaceable(wire, waiting - policy.PendingMax + 1, bytes);
        return displaced is null
            ? Decision.Refuse(RefusalReason.TooMuchAtOnce)
            : Accepted(MessageStatus.Pending, [.. displaced.Select(m => new OutboxEvent.MessageFailed(m.MessageId, ErrorInfo.Displaced, now))]);

        Decision Accepted(MessageStatus answer, params OutboxEvent[] before) => new(
            new OutboxReply.Accepted(accept.MessageId, answer, now),
            [.. before, new OutboxEvent.MessageAccepted(accept.MessageId, body, answer, now, policy.ExpiresAt(body.Ttl, now))]);

        Decision FailedAtOnce(ErrorInfo error) => new(
            new OutboxReply.Accepted(accept.MessageId, MessageStatus.Failed, now),
            [
                new OutboxEvent.MessageAccepted(accept.MessageId, body, MessageStatus.Failed, now, now),
                new OutboxEvent.MessageFailed(accept.MessageId, error, now),
            ]);
    }

    /// <summary>Open and ended messages below a number, newest first, as many as fit <paramref name="bytesMax"/> (one at least), and whether there are more.</summary>
    public (IReadOnlyList<KnownMessage> Items, bool More) List(long before = long.MaxValue, long bytesMax = long.MaxValue)
    {
        var items = new List<KnownMessage>();
        foreach (var message in NewestFirst(before))
        {
            bytesMax -= message.Body.Bytes;
            if (bytesMax < 0 && items.Count > 0) return (items, true);
            items.Add(message);
        }

        return (items, false);
    }

    /// <summary>One message, or null if it is unknown by now.</summary>
    public KnownMessage? Show(MessageId messageId) =>
        FindOpen(messageId) ?? _ended.FindLast(m => m.MessageId == messageId);

    /// <summary>
    /// Goes on to the state after a fact. Only copies what the event says; <paramref name="policy"/> bounds what is kept
    /// of ended messages.
    /// </summary>
    /// <returns>This outbox.</returns>
    public Outbox Apply(OutboxEvent @event, DeliveryPolicy policy)
    {
        switch (@event)
        {
            case OutboxEvent.MessageAccepted e: Accepted(e, policy); break;
            case OutboxEvent.MessageDelivered e: End(e.MessageId, MessageStatus.Delivered, e.At, null, policy); break;
            case OutboxEvent.MessageTimedOut e: End(e.MessageId, MessageStatus.TimedOut, e.At, null, policy); break;
            case OutboxEvent.MessageFailed e: End(e.MessageId, MessageStatus.Failed, e.At, e.Error, policy); break;
            case OutboxEvent.MessageDeleted e:
                End(e.MessageId, MessageStatus.Failed, e.At, ErrorInfo.Deleted, policy);
                Forget(e.MessageId);
                break;
            case OutboxEvent.SessionKept e:
                Session = e.Subscriptions is { } all ? new KeptSession(all, e.Expiry ?? TimeSpan.MaxValue) : null;
                break;
            case OutboxEvent.SessionLeft e: Session = Session! with { EndsAt = e.EndsAt }; break;
            case OutboxEvent.PacketIdsReserved e: PacketIdsUpTo = e.UpTo; break;
            case OutboxEvent.SubDeviceIdsReserved e: SubDeviceIdsUpTo = e.UpTo; break;
            case OutboxEvent.PacketsUnacknowledged e: Unacknowledged = e.PacketIds; break;
            case OutboxEvent.QoS1Noted: AskedForQoS1 = true; break;
            case OutboxEvent.Registered e: (IsRetired, Life, LoginsEndedBy) = (false, e.Life, 0); break;
            case OutboxEvent.Retired e: Retire(e); break;
            case OutboxEvent.LoginsEnded e: LoginsEndedBy = e.Generation; break;
            case OutboxEvent.Fenced: break;
            case OutboxEvent.NotificationsAcknowledged e: AcknowledgeNotifications(e.UpTo); break;
            default: throw new ArgumentOutOfRangeException(nameof(@event), @event, "Unknown outbox event.");
        }

        return this;
    }

    /// <summary>Goes on to the state after several facts.</summary>
    /// <returns>This outbox.</returns>
    public Outbox Apply(IReadOnlyList<OutboxEvent> events, DeliveryPolicy policy)
    {
        for (var i = 0; i < events.Count; i++) Apply(events[i], policy);
        return this;
    }

    /// <summary>The open message of this id, or null.</summary>
    public KnownMessage? FindOpen(MessageId messageId) => Open.Find(messageId);

    /// <summary>The open message of this number, or null.</summary>
    public KnownMessage? FindOpen(long number) => Open.Find(number);

    /// <summary>Every notification up to <paramref name="number"/> is settled.</summary>
    /// <returns>This outbox.</returns>
    public Outbox AcknowledgeNotifications(long number)
    {
        Notifications.RemoveUpTo(number);
        return this;
    }

    // Two orders in one. Each has few that the other lies between.
    private IEnumerable<KnownMessage> NewestFirst(long before)
    {
        var ended = _ended.Count - 1;
        foreach (var open in Open.Below(before))
        {
            for (; ended >= 0 && _ended[ended].Number > open.Number; ended--)
            {
                if (_ended[ended].Number < before) yield return _ended[ended];
            }

            yield return open;
        }

        for (; ended >= 0; ended--)
        {
            if (_ended[ended].Number < before) yield return _ended[ended];
        }
    }

    // An older release gives its lives no numbers: such a Register is always a new one.
    private bool HasEnded(long life) => life != 0 && (life < Life || (IsRetired && life == Life));

    // What was answered DELIVERED or is on its way cannot be taken back.
    private static bool StillWaits(KnownMessage open, Inflight wire) => open.Answer != MessageStatus.Delivered && !wire.IsOnTheWire(open.Number);

    // The oldest messages whose going makes room for count messages and for bytes; null if all of them are not enough.
    // What is subscribed now is being delivered and stays: or one message for a topic that nobody subscribed would empty
    // the queue of a working device.
    private List<KnownMessage>? Displaceable(Inflight wire, int count, long bytes)
    {
        var displaced = new List<KnownMessage>();
        foreach (var message in Open.OfTopics(topic => !wire.IsSubscribed(topic)))
        {
            if (count <= 0 && bytes <= 0) break;
            if (wire.IsOnTheWire(message.Number)) continue;
            displaced.Add(message);
            count--;
            bytes -= message.Body.Bytes;
        }

        return count <= 0 && bytes <= 0 ? displaced : null;
    }

    private Remembered? Known(MessageId id, DateTimeOffset now, DeliveryPolicy policy) =>
        FindOpen(id) is { } open ? new Remembered(default, open.Body.Hash, open.Answer, open.AcceptedAt, now)
        : Remembered.Find(id) is { } ended && now < ended.EndedAt + policy.IdempotencyWindow ? ended
        : null;

    private bool IsSame(KeptSession? session) => (Session, session) switch
    {
        (null, null) => true,
        ({ EndsAt: null } mine, { } theirs) => mine.Expiry == theirs.Expiry && mine.Subscriptions.SequenceEqual(theirs.Subscriptions),
        _ => false,
    };

    private IReadOnlyList<OutboxEvent> Kept(KeptSession? session) => IsSame(session) ? [] : [KeptOf(session)];

    private static OutboxEvent.SessionKept KeptOf(KeptSession? session) =>
        new(session?.Subscriptions, session is null || session.Expiry == TimeSpan.MaxValue ? null : session.Expiry);

    // A crash leaves no such fact: the session is then taken for held until the device is seen without a connection. It may last longer, never shorter.
    private IReadOnlyList<OutboxEvent> Leave(TimeSpan? lastWord, DateTimeOffset now)
    {
        if (Session is not { EndsAt: null } session) return [];
        var expiry = lastWord ?? session.Expiry;
        if (expiry == TimeSpan.Zero) return [KeptOf(null)];
        if (expiry != TimeSpan.MaxValue) return [new OutboxEvent.SessionLeft(now + expiry)];
        return session.Expiry == expiry ? [] : [KeptOf(session with { Expiry = expiry })];
    }

    // Only of a lasting session: a client without one knows no packet ids on its next connection. Null: nobody knows.
    private IReadOnlyList<OutboxEvent> Left(ImmutableSortedDictionary<long, ushort>? packetIds) =>
        packetIds is null || Session is null ? [] : Sent(packetIds);

    private IReadOnlyList<OutboxEvent> Sent(ImmutableSortedDictionary<long, ushort> packetIds)
    {
        var open = packetIds.RemoveRange(packetIds.Keys.Where(number => FindOpen(number) is null));
        return open.SequenceEqual(Unacknowledged) ? [] : [new OutboxEvent.PacketsUnacknowledged(open)];
    }

    private void Accepted(OutboxEvent.MessageAccepted e, DeliveryPolicy policy)
    {
        var message = new KnownMessage(NextNumber++, e.MessageId, e.Body, e.Answer, e.At, e.ExpiresAt, e.Answer);
        Open.Add(message);
        OpenBytes += e.Body.Bytes;
        Remembered.Remove(e.MessageId); // its window is over, or we would have answered for it

        // The push carries final words, and PENDING when the answer was PENDING.
        if (e.Answer == MessageStatus.Pending) Notify(message, MessageStatus.Pending, e.At, null);
        Trim(e.At, policy, policy.IdempotencyMax);
    }

    private void End(MessageId id, MessageStatus status, DateTimeOffset at, ErrorInfo? error, DeliveryPolicy policy)
    {
        if (!Open.Remove(id, out var message))
        {
            throw new InvalidOperationException($"Message {id} cannot end as {status.OnTheWire()}: it is not open.");
        }

        OpenBytes -= message.Body.Bytes;
        Unacknowledged = Unacknowledged.Remove(message.Number);
        var ended = message with { Status = status, EndedAt = at, Error = error };
        _ended.Insert(~_ended.BinarySearch(ended, ByNumber), ended);
        EndedBytes += message.Body.Bytes;
        Notify(message, status, at, error);
        Trim(at, policy, policy.IdempotencyMax - 1);
        if (policy.IdempotencyMax == 0) return;
        Remembered.Add(new Remembered(id.Digest, message.Body.Hash, message.Answer, message.AcceptedAt, at));
    }

    private void Notify(KnownMessage message, MessageStatus status, DateTimeOffset at, ErrorInfo? error) =>
        Notifications.Add(new Notification(
            NextNotification++, message.MessageId, message.Body.Name, message.Body.Topic, status, at, error));

    private void Forget(MessageId id)
    {
        var index = _ended.FindLastIndex(m => m.MessageId == id);
        if (index < 0) return;
        EndedBytes -= _ended[index].Body.Bytes;
        _ended.RemoveAt(index);
    }

    private void Retire(OutboxEvent.Retired e)
    {
        foreach (var message in Open) Notify(message, MessageStatus.Failed, e.At, ErrorInfo.DeviceDeleted);
        Notifications.Head(e.Header);
        Open.Clear();
        _ended.Clear();
        Remembered.Clear();
        (OpenBytes, EndedBytes) = (0, 0);
        (Session, Unacknowledged, AskedForQoS1) = (null, NoPackets, false);
        (IsRetired, Life) = (true, e.Life);
    }

    // No more than this many ids, and none whose time is over.
    private void Trim(DateTimeOffset now, DeliveryPolicy policy, int idsMax)
    {
        var history = 0;
        while (history < _ended.Count
            && (_ended[history].Number < NextNumber - policy.HistoryMax
                || OpenBytes + EndedBytes > policy.PendingBytesMax))
        {
            EndedBytes -= _ended[history++].Body.Bytes;
        }

        if (history > 0) _ended.RemoveRange(0, history);
        while (Remembered.Count > 0
            && (Remembered.Count > idsMax || Remembered.Oldest.EndedAt + policy.IdempotencyWindow <= now))
        {
            Remembered.RemoveOldest();
        }
    }
}
