using System.Collections.Immutable;

namespace IoTDelivery.Domain;

/// <summary>One live connection as far as delivery cares.</summary>
/// <param name="ForbidsRepeats">True for MQTT 5, which forbids sending a packet again on the same connection [MQTT-4.4.0-1].</param>
/// <param name="ReceiveMaximum">Unacknowledged packets the client takes (MQTT 5, 3.1.2.11.3); 65,535 when it did not say.</param>
public sealed record WireConnection(bool ForbidsRepeats, int ReceiveMaximum);

/// <summary>One PUBLISH to put on the wire now.</summary>
/// <param name="Tag">Names this packet to <see cref="Inflight"/>: what the transport or the PUBACK gives back. It is the packet id at QoS 1.</param>
/// <param name="Dup">True if the packet may have been sent before under the same tag [MQTT-3.3.1-1].</param>
public readonly record struct Send(KnownMessage Message, ushort Tag, int QoS, bool Dup);

/// <summary>
/// What is on the wire of one device now, and when to send it again. It goes with the connection: none of it is stored.
/// Immutable; every function returns the next state.
/// </summary>
//
//   trigger (online, subscribed again)                    one round                              next round
//   ▼                                       send  +2 s  +4 s  +6 s                               +10 s
//   rounds = 5 ──────────────────────────►   ●──────○─────○─────○ ·········································●──────○── …
//   accepted while online: one round only    ●──────○─────○─────○   then quiet until the next trigger
//
public sealed record Inflight
{
    /// <summary>Largest tag. The packet ids above it are for the sub-devices that share the connection of their gateway.</summary>
    public const ushort TagMax = 0x7FFF;

    /// <summary>A device that is away.</summary>
    public static readonly Inflight None = new();

    private readonly record struct Packet(long Number, int QoS);

    private readonly record struct Flight(ushort Tag, int QoS, DateTimeOffset RoundStart, int SentInRound, int RoundsLeft, DateTimeOffset LastSentAt, DateTimeOffset? NextAt)
    {
        public bool IsReserved => Tag == 0;
    }

    private WireConnection? Connection { get; init; }

    private ImmutableArray<Subscription> Subscriptions { get; init; } = [];

    // By message number. A flight without a tag is a place kept for a message that is not stored yet.
    private ImmutableSortedDictionary<long, Flight> Flights { get; init; } = ImmutableSortedDictionary<long, Flight>.Empty;

    // Packets the device has not answered. An MQTT 5 message can have several, and they outlive the message.
    private ImmutableDictionary<ushort, Packet> Packets { get; init; } = ImmutableDictionary<ushort, Packet>.Empty;

    // Last packet id of each message of the connection before, for a session that goes on [MQTT-4.4.0-1].
    private ImmutableDictionary<long, ushort> Resumable { get; init; } = ImmutableDictionary<long, ushort>.Empty;

    private ushort LastTag { get; init; }

    // Messages up to this number were there when the device came online or subscribed again: they get all rounds.
    private long RoundsUpTo { get; init; }

    private int Window { get; init; }

    // Flights without a tag.
    private int Reserved { get; init; }

    /// <summary>True while the device has a connection.</summary>
    public bool IsConnected => Connection is not null;

    /// <summary>Messages on the wire, or with a place kept on it.</summary>
    public int Count => Flights.Count;

    /// <summary>True if one more message may be sent for the first time.</summary>
    public bool HasRoom => Connection is not null && Packets.Count + Reserved < Window;

    /// <summary>When something is to be sent again; null if nothing is.</summary>
    public DateTimeOffset? NextAt
    {
        get
        {
            DateTimeOffset? next = null;
            foreach (var (_, flight) in Flights)
            {
                if (flight.NextAt is { } at && (next is null || at < next)) next = at;
            }

            return next;
        }
    }

    /// <summary>True if the message is on the wire of the live connection.</summary>
    public bool IsOnTheWire(long number) => Flights.ContainsKey(number);

    /// <summary>True if the device is connected and one of its subscriptions matches.</summary>
    public bool IsSubscribed(string topic) => QoSOf(topic) >= 0;

    /// <summary>
    /// The device came online: everything open up to <paramref name="lastNumber"/> gets all rounds as far as it is subscribed.
    /// <paramref name="resumes"/>: the client was told Session Present 1, so its packet ids go on.
    /// <paramref name="lastTag"/>: the last tag a former owner of the device used on this very connection, or 0.
    /// </summary>
    public Inflight Connect(
        WireConnection connection, ImmutableArray<Subscription> subscriptions, bool resumes, long lastNumber, DeliveryPolicy policy, ushort lastTag = 0)
    {
        var resumable = resumes ? Resumed() : ImmutableDictionary<long, ushort>.Empty;
        return None with
        {
            Connection = connection,
            Subscriptions = subscriptions,
            Resumable = resumable,
            Packets = resumable.ToImmutableDictionary(p => p.Value, p => new Packet(p.Key, 1)),
            LastTag = lastTag == 0 ? LastTag : lastTag,
            RoundsUpTo = lastNumber,
            Window = Math.Min(policy.InflightMax, connection.ReceiveMaximum),
        };
    }

    /// <summary>The connection is gone; only what a going-on session needs stays.</summary>
    public Inflight Disconnect() => None with { Resumable = Resumed(), LastTag = LastTag };

    /// <summary>
    /// The device subscribed (or unsubscribed: <paramref name="matched"/> empty). What matches a filter of <paramref name="matched"/> and is not
    /// acknowledged starts its rounds again, but never within one repeat interval of its last send.
    /// </summary>
    public Inflight Subscribe(
        ImmutableArray<Subscription> subscriptions, ImmutableArray<Subscription> matched, Outbox outbox, DateTimeOffset now, DeliveryPolicy policy)
    {
        var next = this with { Subscriptions = subscriptions };
        if (matched.IsEmpty) return next;

        var flights = Flights.ToBuilder();
        foreach (var message in outbox.Open)
        {
            if (!Flights.TryGetValue(message.Number, out var flight) || flight is { QoS: 0 } or { IsReserved: true }) continue;
            if (!matched.Any(s => s.Matches(message.Body.Topic))) continue;
            var start = Later(now, flight.LastSentAt + policy.RepeatInterval);
            flights[message.Number] = flight with { RoundStart = start, SentInRound = 0, RoundsLeft = policy.Rounds - 1, NextAt = start };
        }

        return next with { Flights = flights.ToImmutable(), RoundsUpTo = outbox.NextNumber - 1 };
    }

    /// <summary>
    /// Follows what was decided: keeps a place for a message that was answered DELIVERED and is not stored yet, and lets go of what ended.
    /// <paramref name="before"/> is the outbox the events were decided against.
    /// </summary>
    public Inflight Follow(Outbox before, IReadOnlyList<OutboxEvent> events)
    {
        var (wire, number) = (this, before.NextNumber);
        foreach (var @event in events)
        {
            wire = @event switch
            {
                OutboxEvent.MessageAccepted { Answer: MessageStatus.Delivered } => wire.Reserve(number),
                OutboxEvent.MessageDelivered e => wire.End(before.FindOpen(e.MessageId)),
                OutboxEvent.MessageTimedOut e => wire.End(before.FindOpen(e.MessageId)),
                OutboxEvent.MessageFailed e => wire.End(before.FindOpen(e.MessageId)),
                OutboxEvent.MessageDeleted e => wire.End(before.FindOpen(e.MessageId)),
                OutboxEvent.Retired => None,
                _ => wire,
            };
            if (@event is OutboxEvent.MessageAccepted) number++;
        }

        return wire;
    }

    /// <summary>The device, or the transport at QoS 0, answered this packet. The message it belongs to, or null if it is not known.</summary>
    public (Inflight Next, long? Number) Answer(ushort tag, int qos)
    {
        if (!Packets.TryGetValue(tag, out var packet) || packet.QoS != qos) return (this, null);
        return ((this with { Packets = Packets.Remove(tag) }).End(packet.Number), packet.Number);
    }

    /// <summary>
    /// What to send now: first what is due again, then, in order of acceptance, what has never been sent and may.
    /// Only messages up to <paramref name="storedUpTo"/> are in the journal; nobody hears of the others.
    /// </summary>
    public (Inflight Next, IReadOnlyList<Send> Sends) Next(Outbox outbox, long storedUpTo, DateTimeOffset now, DeliveryPolicy policy)
    {
        if (Connection is null || (outbox.Open.IsEmpty && Flights.IsEmpty)) return (this, []);

        var wire = this;
        List<Send>? sends = null;
        foreach (var message in outbox.Open)
        {
            if (message.Number > storedUpTo) break;
            var send = wire.Flights.TryGetValue(message.Number, out var flight) && !flight.IsReserved
                ? wire.Again(message, flight, now, policy, out wire)
                : wire.First(message, flight, now, policy, out wire);
            if (send is { } s) (sends ??= []).Add(s);
        }

        return (wire, sends ?? (IReadOnlyList<Send>)[]);
    }

    private Inflight Reserve(long number) => this with { Flights = Flights.Add(number, default), Reserved = Reserved + 1 };

    private Inflight End(KnownMessage? message) => message is null ? this : End(message.Number);

    // Not sent again. Its unanswered packets stay taken until they are answered or the connection ends.
    private Inflight End(long number)
    {
        var wire = Resumable.ContainsKey(number) ? this with { Resumable = Resumable.Remove(number) } : this;
        return wire.Flights.TryGetValue(number, out var flight)
            ? wire with { Flights = wire.Flights.Remove(number), Reserved = wire.Reserved - (flight.IsReserved ? 1 : 0) }
            : wire;
    }

    private Send? First(KnownMessage message, Flight place, DateTimeOffset now, DeliveryPolicy policy, out Inflight next)
    {
        next = this;
        var isReserved = Flights.ContainsKey(message.Number);
        var qos = QoSOf(message.Body.Topic);
        if (qos < 0)
        {
            if (isReserved) next = End(message.Number); // unsubscribed while it was being stored: it waits like the others
            return null;
        }

        var resumes = Resumable.TryGetValue(message.Number, out var tag) && qos == 1;
        if (!resumes && !isReserved && !HasRoom) return null;
        if (!resumes) tag = FreeTag();

        var rounds = message.Number <= RoundsUpTo && message.Body.Ttl != 0 ? policy.Rounds : 1;
        var flight = Sent(place with { Tag = tag, QoS = qos, RoundStart = now, RoundsLeft = rounds - 1 }, now, policy);
        next = this with
        {
            Flights = Flights.SetItem(message.Number, flight),
            Packets = Packets.SetItem(tag, new Packet(message.Number, qos)),
            Resumable = Resumable.Remove(message.Number),
            LastTag = resumes ? LastTag : tag,
            Reserved = Reserved - (isReserved ? 1 : 0),
        };
        return new Send(message, tag, qos, Dup: resumes);
    }

    private Send? Again(KnownMessage message, Flight flight, DateTimeOffset now, DeliveryPolicy policy, out Inflight next)
    {
        next = this;
        if (flight.NextAt is not { } due || due > now) return null;
        if (flight.SentInRound > policy.Repeats) flight = flight with { RoundStart = due, SentInRound = 0, RoundsLeft = flight.RoundsLeft - 1 };

        if (!Connection!.ForbidsRepeats)
        {
            next = this with { Flights = Flights.SetItem(message.Number, Sent(flight, now, policy)) };
            return new Send(message, flight.Tag, flight.QoS, Dup: true);
        }

        // MQTT 5: a fresh packet if the client has a place for it; without one this repetition is skipped and the schedule counts on.
        if (Packets.Count >= Connection.ReceiveMaximum || Packets.Count >= TagMax - 1)
        {
            next = this with { Flights = Flights.SetItem(message.Number, Sent(flight, now, policy) with { LastSentAt = flight.LastSentAt }) };
            return null;
        }

        var tag = FreeTag();
        next = this with
        {
            Flights = Flights.SetItem(message.Number, Sent(flight with { Tag = tag }, now, policy)),
            Packets = Packets.Add(tag, new Packet(message.Number, flight.QoS)),
            LastTag = tag,
        };
        return new Send(message, tag, flight.QoS, Dup: false);
    }

    private static Flight Sent(Flight flight, DateTimeOffset now, DeliveryPolicy policy)
    {
        var sent = flight.SentInRound + 1;
        DateTimeOffset? next = flight.QoS == 0 ? null
            : sent <= policy.Repeats ? flight.RoundStart + sent * policy.RepeatInterval
            : flight.RoundsLeft > 0 ? flight.RoundStart + policy.RoundInterval
            : null;

        // A late timer shifts what follows instead of sending two copies on top of each other.
        var late = next is { } at && at < now + policy.RepeatInterval / 2 ? now + policy.RepeatInterval - at : TimeSpan.Zero;
        return flight with { SentInRound = sent, LastSentAt = now, RoundStart = flight.RoundStart + late, NextAt = next + late };
    }

    private ImmutableDictionary<long, ushort> Resumed() => Flights
        .Where(f => f.Value is { QoS: 1, IsReserved: false })
        .Select(f => KeyValuePair.Create(f.Key, f.Value.Tag))
        .Concat(Resumable)
        .ToImmutableDictionary();

    private int QoSOf(string topic)
    {
        var qos = -1;
        if (Connection is null) return qos;
        foreach (var subscription in Subscriptions)
        {
            if (subscription.QoS > qos && subscription.Matches(topic)) qos = subscription.QoS;
        }

        return qos;
    }

    private ushort FreeTag()
    {
        var tag = LastTag;
        do
        {
            tag = tag >= TagMax ? (ushort)1 : (ushort)(tag + 1);
        }
        while (Packets.ContainsKey(tag));
        return tag;
    }

    private static DateTimeOffset Later(DateTimeOffset a, DateTimeOffset b) => a > b ? a : b;
}
