using System.Collections.Immutable;

namespace IoTDelivery.Domain;

/// <summary>What has happened to an outbox. Stored for ever: see <c>delivery.proto</c> before you change a member.</summary>
public abstract record OutboxEvent
{
    /// <summary>A message is ours now; <see cref="Answer"/> is what the 201 said.</summary>
    public sealed record MessageAccepted(MessageId MessageId, MessageBody Body, MessageStatus Answer, DateTimeOffset At, DateTimeOffset ExpiresAt) : OutboxEvent;

    /// <summary>The device has it.</summary>
    public sealed record MessageDelivered(MessageId MessageId, DateTimeOffset At) : OutboxEvent;

    /// <summary>Its ttl ended first.</summary>
    public sealed record MessageTimedOut(MessageId MessageId, DateTimeOffset At) : OutboxEvent;

    /// <summary>It cannot reach the device any more.</summary>
    public sealed record MessageFailed(MessageId MessageId, ErrorInfo Error, DateTimeOffset At) : OutboxEvent;

    /// <summary>The application took it back: it ends FAILED and reads as unknown afterwards.</summary>
    public sealed record MessageDeleted(MessageId MessageId, DateTimeOffset At) : OutboxEvent;

    /// <summary>A connection holds a lasting session: its subscriptions, all of them, and how long it outlives the connection (null: for ever). Null when the session ended.</summary>
    public sealed record SessionKept(ImmutableArray<Subscription>? Subscriptions, TimeSpan? Expiry = null) : OutboxEvent;

    /// <summary>The connection is gone; unless another one comes, the session ends then. Not written for a session that lasts for ever.</summary>
    public sealed record SessionLeft(DateTimeOffset EndsAt) : OutboxEvent;

    /// <summary>Packet ids below this position may be in use. It goes down when a device sleeps that did not use all of them.</summary>
    public sealed record PacketIdsReserved(long UpTo) : OutboxEvent;

    /// <summary>The same for the sub-devices of a gateway.</summary>
    public sealed record SubDeviceIdsReserved(long UpTo) : OutboxEvent;

    /// <summary>These messages were on the wire when the connection or its owner went: their last packet ids by message number.</summary>
    public sealed record PacketsUnacknowledged(ImmutableSortedDictionary<long, ushort> PacketIds) : OutboxEvent
    {
        public bool Equals(PacketsUnacknowledged? other) => other is not null && PacketIds.SequenceEqual(other.PacketIds);

        public override int GetHashCode() => PacketIds.Count;
    }

    /// <summary>The device subscribed its down topic at QoS 1 for the first time.</summary>
    public sealed record QoS1Noted : OutboxEvent;

    /// <summary>A retired device exists again, with nothing left of its former life.</summary>
    /// <param name="Life">Number of the life that begins; 0 in an event of an older release.</param>
    public sealed record Registered(DateTimeOffset At, long Life = 0) : OutboxEvent;

    /// <summary>The device was deleted: everything open ends FAILED, and what is pending carries its own header from here on.</summary>
    /// <param name="Life">Number of the life that ends; 0 in an event of an older release.</param>
    public sealed record Retired(DeviceHeader Header, DateTimeOffset At, long Life = 0) : OutboxEvent;

    /// <summary>Logins that were proven against an earlier generation of the registry's row count no more.</summary>
    public sealed record LoginsEnded(long Generation) : OutboxEvent;

    /// <summary>Nothing happened; the number is taken.</summary>
    public sealed record Fenced : OutboxEvent;

    /// <summary>Every notification up to this number is settled. Written along with the next event, or before the device sleeps.</summary>
    public sealed record NotificationsAcknowledged(long UpTo) : OutboxEvent;

    private OutboxEvent() { }
}
