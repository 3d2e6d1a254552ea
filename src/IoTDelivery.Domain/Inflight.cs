using System.Collections.Immutable;
using System.Runtime.InteropServices;

namespace IoTDelivery.Domain;

/// <summary>One live connection as far as delivery cares.</summary>
/// <param name="ForbidsRepeats">
/// True for MQTT 5, which forbids sending a packet again on the same connection [MQTT-4.4.0-1].
/// </param>
/// <param name="ReceiveMaximum">
/// Unacknowledged packets the client takes (MQTT 5, 3.1.2.11.3); 65,535 when it did not say.
/// </param>
/// <param name="MessagesMax">Messages on the wire at once whatever the policy says; 1 for a sub-device.</param>
public sealed record WireConnection(bool ForbidsRepeats, int ReceiveMaximum, int MessagesMax = int.MaxValue)
{
    /// <summary>True if the client named a Receive Maximum: then each unacknowledged packet counts against it.</summary>
    public bool CountsPackets => ReceiveMaximum < ushort.MaxValue;
}

/// <summary>One PUBLISH to put on the wire now.</summary>
/// <param name="Tag">
/// The delivery tag: names this packet to <see cref="Inflight"/>. The transport or the PUBACK gives it back. It is the
/// packet id at QoS 1.
/// </param>
/// <param name="Dup">True if the packet may have been sent before under the same tag [MQTT-3.3.1-1].</param>
public readonly record struct Send(KnownMessage Message, ushort Tag, int QoS, bool Dup);

/// <summary>
/// What is on the wire of one device now, and when to send it again. It goes with the connection: nothing of it is stored.
/// The outbox stores only what a later owner must know of its packet ids (<see cref="PacketIds"/>).
/// </summary>
//
//   trigger (online, subscribed again)                    one round                              next round
//   ▼                                       send  +2 s  +4 s  +6 s                               +10 s
//   rounds = 5 ──────────────────────────►   ●──────○─────○─────○ ····································●──────○── …
//   accepted while online: one round only    ●──────○─────○─────○   then quiet until the next trigger
//
//   The window counts messages. A Receive Maximum that the client named counts packets, those of ended messages too.
//
public sealed class Inflight
{
    /// <summary>
    /// Sends of one message on one connection, at most: five whole schedules. A client that subscribes again and again
    /// restarts its rounds, but not for ever.
    /// </summary>
    public const int SendsMax = 100;

    private readonly record struct Packet(long Number, int QoS)
    {
        public bool HasEnded => Number == 0;
    }

    private struct Flight
    {
        public ushort Tag;
        public int QoS;
        public int Sends;
        public int SentInRound;
        public int RoundsLeft;
        public DateTimeOffset RoundStart;
        public DateTimeOffset LastSentAt;
        public DateTimeOffset? NextAt;

        public readonly bool IsReserved => Tag == 0;
    }

    // By message number. A flight without a tag is a place kept for a message that is not stored yet.
    private readonly Dictionary<long, Flight> _flights = [];

    // Packets the device has not acknowledged. An MQTT 5 message can have several. Those of an ended message stay only
    // where they count: against a Receive Maximum.
    private readonly Dictionary<ushort, Packet> _packets = [];

    // Last packet id of each message of the connection before, for a session that goes on [MQTT-4.4.0-1].
    private readonly Dictionary<long, ushort> _resumable = [];

    private WireConnection? _connection;
    private ImmutableArray<Subscription> _subscriptions = [];
    private int _window;
    private int _reserved; // flights without a tag

    private long? _nextId; // position of the next packet id; null: no connection in this life yet

    // Messages up to this number were there when the device came online or subscribed again: they get all rounds.
    private long _roundsUpTo;

    // Every open message below this number is on the wire or not subscribed.
    private long _firstWaiting;

    // The earliest NextAt, or earlier.
    private DateTimeOffset? _nextAt;

    /// <summary>A device that is away.</summary>
    public static Inflight None => new();

    /// <summary>True while the device has a connection.</summary>
    public bool IsConnected => _connection is not null;

    /// <summary>Messages on the wire, or with a place kept on it.</summary>
    public int Count => _flights.Count;

    /// <summary>True if one more message may be sent for the first time.</summary>
    public bool HasRoom =>
        _connection is { } connection && _flights.Count < _window
        && (!connection.CountsPackets || _packets.Count + _reserved < connection.ReceiveMaximum);

    /// <summary>True if the last <see cref="Next"/> had something to send and no packet id that is stored as reserved.</summary>
    public bool NeedsPacketIds { get; private set; }

    /// <summary>When something is to be sent again; null if nothing is.</summary>
    public DateTimeOffset? NextAt
    {
        get
        {
            if (_nextAt is null || NeedsPacketIds) return null; // due as soon as ids are reserved
            DateTimeOffset? next = null;
            foreach (var flight in _flights.Values)
            {
                if (flight.NextAt is { } at && (next is null || at < next)) next = at;
            }

            return _nextAt = next;
        }
    }

    /// <summary>True if the message is on the wire of the live connection.</summary>
    public bool IsOnTheWire(long number) => _flights.ContainsKey(number);

    /// <summary>True if the device is connected and one of its subscriptions matches.</summary>
    public bool IsSubscribed(string topic) => QoSOf(topic) >= 0;

    /// <summary>
    /// True if a new message can go out before any that waits: the window is open and no message waits that could go out.
    /// </summary>
    public bool HasRoomForNew(Outbox outbox)
    {
        if (!HasRoom) return false;
        if (outbox.Open.Count == _flights.Count) return true;
        foreach (var message in outbox.Open.From(_firstWaiting))
        {
            if (!_flights.ContainsKey(message.Number) && IsSubscribed(message.Body.Topic)) return false;
        }

        return true;
    }

    /// <summary>
    /// How far packet ids must be reserved in the journal, because few of those that are reserved are left; null if there
    /// are enough. It goes along with a row that is written anyway.
    /// </summary>
    public long? ReservationFor(Outbox outbox) =>
        IsConnected && _nextId is { } next && outbox.PacketIdsUpTo - next < PacketIds.ReservedAhead / 2
            ? next + PacketIds.ReservedAhead
            : null;

    /// <summary>
    /// True if these events end a message that is not on the wire. Until they are stored nothing may be sent for the first
    /// time: if they never are, that message would come behind what was sent meanwhile.
    /// </summary>
    public bool EndsUnsent(Outbox before, IReadOnlyList<OutboxEvent> events)
    {
        foreach (var @event in events)
        {
            var ended = @event switch
            {
                OutboxEvent.MessageTimedOut e => before.FindOpen(e.MessageId),
                OutboxEvent.MessageFailed e => before.FindOpen(e.MessageId), // null if it was accepted by these events, too
                OutboxEvent.MessageDeleted e => before.FindOpen(e.MessageId),
                _ => null,
            };
            if (ended is not null && !IsOnTheWire(ended.Number)) return true;
        }

        return false;
    }

    /// <summary>Ids below this position may be in use; null if this owner has given none out.</summary>
    public long? UsedIdsUpTo => _nextId;

    /// <summary>The last packet id of each message that is on the wire at QoS 1, by message number.</summary>
    public ImmutableSortedDictionary<long, ushort> Unacknowledged()
    {
        var map = ImmutableSortedDictionary.CreateBuilder<long, ushort>();
        foreach (var (number, id) in _resumable) map[number] = id;
        foreach (var (number, flight) in _flights)
        {
            if (flight is { QoS: 1, IsReserved: false }) map[number] = flight.Tag;
        }

        return map.ToImmutable();
    }

    /// <summary>The device came online: everything open gets all rounds as far as it is subscribed.</summary>
    /// <param name="outbox">What is known of the device, ids reserved by former owners included.</param>
    /// <param name="unacknowledged">
    /// Packet ids that still mean these messages to the client: a PUBACK for one of them counts. Empty for a clean start.
    /// </param>
    /// <param name="isSameConnection">
    /// The connection goes on, only its owner lost it for a moment: MQTT 5 then allows no packet again [MQTT-4.4.0-1].
    /// </param>
    public void Connect(
        WireConnection connection,
        ImmutableArray<Subscription> subscriptions,
        Outbox outbox,
        ImmutableSortedDictionary<long, ushort> unacknowledged,
        bool isSameConnection,
        DeliveryPolicy policy)
    {
        Disconnect();
        _nextId ??= PacketIds.StartOf(outbox, isSameConnection);
        (_connection, _subscriptions) = (connection, subscriptions);
        _window = Math.Min(policy.InflightMax, connection.MessagesMax);
        _roundsUpTo = outbox.NextNumber - 1;
        foreach (var (number, id) in unacknowledged)
        {
            if (outbox.FindOpen(number) is null) continue;
            _packets[id] = new Packet(number, 1);
            if (!isSameConnection || !connection.ForbidsRepeats) _resumable[number] = id;
        }
    }

    /// <summary>The connection is gone. Where the ids of its packets go on is remembered.</summary>
    public void Disconnect()
    {
        _flights.Clear();
        _packets.Clear();
        _resumable.Clear();
        (_connection, _subscriptions, _reserved, _firstWaiting, _nextAt) = (null, [], 0, 0, null);
        NeedsPacketIds = false;
    }

    /// <summary>
    /// The device subscribed (or unsubscribed: <paramref name="matched"/> empty). What matches a filter of
    /// <paramref name="matched"/> and is not acknowledged starts its rounds again, but never within one repeat interval of
    /// its last send, and no more than <see cref="SendsMax"/> times in all.
    /// </summary>
    public void Subscribe(
        ImmutableArray<Subscription> subscriptions,
        ImmutableArray<Subscription> matched,
        Outbox outbox,
        DateTimeOffset now,
        DeliveryPolicy policy)
    {
        _subscriptions = subscriptions;
        _firstWaiting = 0;
        if (matched.IsEmpty) return;

        foreach (var number in _flights.Keys)
        {
            ref var flight = ref CollectionsMarshal.GetValueRefOrNullRef(_flights, number);
            if (flight is { QoS: 0 } or { IsReserved: true } or { Sends: >= SendsMax }) continue;
            if (outbox.FindOpen(number) is not { } message || !matched.Any(s => s.Matches(message.Body.Topic))) continue;
            var start = Later(now, flight.LastSentAt + policy.RepeatInterval);
            (flight.RoundStart, flight.SentInRound, flight.RoundsLeft) = (start, 0, policy.Rounds - 1);
            SendAgainAt(ref flight, start);
        }

        _roundsUpTo = outbox.NextNumber - 1;
    }

    /// <summary>
    /// Follows what was decided: keeps a place for a message that was answered DELIVERED and is not stored yet, and lets go
    /// of what ended. <paramref name="before"/> is the outbox the events were decided against.
    /// </summary>
    public void Follow(Outbox before, IReadOnlyList<OutboxEvent> events)
    {
        var number = before.NextNumber;
        foreach (var @event in events)
        {
            switch (@event)
            {
                case OutboxEvent.MessageAccepted { Answer: MessageStatus.Delivered }: Reserve(number); break;
                case OutboxEvent.MessageDelivered e: End(before.FindOpen(e.MessageId)); break;
                case OutboxEvent.MessageTimedOut e: End(before.FindOpen(e.MessageId)); break;
                case OutboxEvent.MessageFailed e: End(before.FindOpen(e.MessageId)); break;
                case OutboxEvent.MessageDeleted e: End(before.FindOpen(e.MessageId)); break;
                case OutboxEvent.Retired: Disconnect(); break;
            }

            if (@event is OutboxEvent.MessageAccepted) number++;
        }
    }

    /// <summary>
    /// The device, or the transport at QoS 0, acknowledged this packet. The message it belongs to; null if this owner has
    /// not given the tag out on this connection, nor taken it over, or if the message has ended.
    /// </summary>
    public long? Acknowledge(ushort tag, int qos)
    {
        if (!_packets.TryGetValue(tag, out var packet) || packet.QoS != qos) return null;
        _packets.Remove(tag);
        if (packet.HasEnded) return null;
        End(packet.Number);
        return packet.Number;
    }

    /// <summary>
    /// This packet was not encoded and never will be: its message had ended, or another packet of it still waits for the
    /// transport. The schedule goes on.
    /// </summary>
    public void Skip(ushort tag) => _packets.Remove(tag);

    /// <summary>
    /// What to send now: first what is due again, then, in order of acceptance, what has never been sent and may.
    /// </summary>
    /// <param name="storedUpTo">Only messages up to this number are in the journal; nobody hears of the others.</param>
    /// <param name="idsUpTo">Only packet ids below this position are reserved in the journal.</param>
    /// <param name="now">Of a clock that never jumps.</param>
    /// <param name="onlyAgain">Nothing is sent for the first time now: <see cref="EndsUnsent"/>.</param>
    public IReadOnlyList<Send> Next(
        Outbox outbox, long storedUpTo, long idsUpTo, DateTimeOffset now, DeliveryPolicy policy, bool onlyAgain = false)
    {
        NeedsPacketIds = false;
        if (_connection is null) return [];

        List<Send>? sends = null;
        if (_nextAt <= now) SendAgain(outbox, idsUpTo, now, policy, ref sends);
        if (!onlyAgain) SendFirst(outbox, storedUpTo, idsUpTo, now, policy, ref sends);
        return sends ?? (IReadOnlyList<Send>)[];
    }

    private void SendAgain(Outbox outbox, long idsUpTo, DateTimeOffset now, DeliveryPolicy policy, ref List<Send>? sends)
    {
        List<long> due = [];
        foreach (var (number, flight) in _flights)
        {
            if (flight.NextAt <= now) due.Add(number);
        }

        due.Sort();
        foreach (var number in due)
        {
            if (outbox.FindOpen(number) is { } message && Again(message, idsUpTo, now, policy) is { } send) (sends ??= []).Add(send);
        }
    }

    private void SendFirst(
        Outbox outbox, long storedUpTo, long idsUpTo, DateTimeOffset now, DeliveryPolicy policy, ref List<Send>? sends)
    {
        var isBlocked = false;
        foreach (var message in outbox.Open.From(_firstWaiting))
        {
            if (message.Number > storedUpTo) break;
            var hasFlight = _flights.TryGetValue(message.Number, out var flight);
            if (!hasFlight || flight.IsReserved)
            {
                var qos = QoSOf(message.Body.Topic);
                if (qos < 0)
                {
                    if (hasFlight) End(message.Number); // unsubscribed while it was being stored: it waits like the others
                }
                else if (First(message, qos, isReserved: hasFlight, idsUpTo, now, policy) is { } send)
                {
                    (sends ??= []).Add(send);
                }
                else
                {
                    // Nothing overtakes it, but what has a place already.
                    isBlocked = true;
                    if (_reserved == 0 || NeedsPacketIds) return;
                }
            }

            if (!isBlocked) _firstWaiting = message.Number + 1;
        }
    }

    private Send? First(KnownMessage message, int qos, bool isReserved, long idsUpTo, DateTimeOffset now, DeliveryPolicy policy)
    {
        var resumes = _resumable.TryGetValue(message.Number, out var tag) && qos == 1;
        if (!resumes && !isReserved && !HasRoom) return null;
        if (!resumes && !TryTakeId(idsUpTo, out tag)) return null;

        if (isReserved) _reserved--;
        _resumable.Remove(message.Number);
        _packets[tag] = new Packet(message.Number, qos);
        ref var flight = ref CollectionsMarshal.GetValueRefOrAddDefault(_flights, message.Number, out _);
        var rounds = message.Number <= _roundsUpTo && message.Body.Ttl != 0 ? policy.Rounds : 1;
        (flight.Tag, flight.QoS, flight.RoundStart, flight.RoundsLeft) = (tag, qos, now, rounds - 1);
        Sent(ref flight, now, policy);
        return new Send(message, tag, qos, Dup: resumes);
    }

    private Send? Again(KnownMessage message, long idsUpTo, DateTimeOffset now, DeliveryPolicy policy)
    {
        ref var flight = ref CollectionsMarshal.GetValueRefOrNullRef(_flights, message.Number);
        var (tag, isDup) = (flight.Tag, true);
        if (_connection!.ForbidsRepeats)
        {
            // A fresh packet, if the client has a place for it beside the one that is kept for what was never sent. Without
            // one this repetition is skipped and the schedule counts on.
            if (_connection.CountsPackets && _packets.Count >= _connection.ReceiveMaximum - 1)
            {
                NextRound(ref flight);
                Sent(ref flight, now, policy, isSkipped: true);
                return null;
            }

            if (!TryTakeId(idsUpTo, out tag)) return null; // due again as soon as ids are reserved
            isDup = false;
            _packets[tag] = new Packet(message.Number, flight.QoS);
        }

        NextRound(ref flight);
        flight.Tag = tag;
        Sent(ref flight, now, policy);
        return new Send(message, tag, flight.QoS, isDup);

        void NextRound(ref Flight flight)
        {
            if (flight.SentInRound <= policy.Repeats) return;
            (flight.RoundStart, flight.SentInRound) = (flight.NextAt!.Value, 0);
            flight.RoundsLeft--;
        }
    }

    private void Sent(ref Flight flight, DateTimeOffset now, DeliveryPolicy policy, bool isSkipped = false)
    {
        flight.Sends++;
        flight.SentInRound++;
        if (!isSkipped) flight.LastSentAt = now;
        DateTimeOffset? next = flight.QoS == 0 || flight.Sends >= SendsMax ? null
            : flight.SentInRound <= policy.Repeats ? flight.RoundStart + flight.SentInRound * policy.RepeatInterval
            : flight.RoundsLeft > 0 ? flight.RoundStart + policy.RoundInterval
            : null;

        // A late timer shifts what follows instead of sending two copies on top of each other.
        var late = next is { } at && at < now + policy.RepeatInterval / 2 ? now + policy.RepeatInterval - at : TimeSpan.Zero;
        flight.RoundStart += late;
        SendAgainAt(ref flight, next + late);
    }

    private void SendAgainAt(ref Flight flight, DateTimeOffset? at)
    {
        flight.NextAt = at;
        if (_nextAt is null || at < _nextAt) _nextAt = at ?? _nextAt;
    }

    private void Reserve(long number)
    {
        _flights.Add(number, default);
        _reserved++;
    }

    private void End(KnownMessage? message)
    {
        if (message is not null) End(message.Number);
    }

    // Not sent again. Its packets are forgotten, unless they count: then they do until the client acknowledges them.
    private void End(long number)
    {
        if (_resumable.Remove(number, out var resumable)) Forget(resumable);
        if (!_flights.Remove(number, out var flight)) return;
        if (flight.IsReserved)
        {
            _reserved--;
            return;
        }

        Forget(flight.Tag);
        if (_packets.Count <= _flights.Count) return; // one packet a message is the rule
        foreach (var (tag, packet) in _packets)
        {
            if (packet.Number == number) Forget(tag);
        }
    }

    private void Forget(ushort tag)
    {
        if (!_packets.TryGetValue(tag, out var packet)) return;
        if (_connection is { CountsPackets: true } && packet.QoS > 0) _packets[tag] = packet with { Number = 0 };
        else _packets.Remove(tag);
    }

    private bool TryTakeId(long idsUpTo, out ushort tag)
    {
        tag = 0;
        if (_packets.Count >= PacketIds.Max) return false;
        while (_nextId < idsUpTo)
        {
            tag = PacketIds.At(_nextId.Value);
            _nextId++;
            if (!_packets.TryGetValue(tag, out var former) || former.HasEnded) return true; // the range has gone round
        }

        NeedsPacketIds = true;
        return false;
    }

    private int QoSOf(string topic)
    {
        var qos = -1;
        if (_connection is null) return qos;
        foreach (var subscription in _subscriptions)
        {
            if (subscription.QoS > qos && subscription.Matches(topic)) qos = subscription.QoS;
        }

        return qos;
    }

    private static DateTimeOffset Later(DateTimeOffset a, DateTimeOffset b) => a > b ? a : b;
}
