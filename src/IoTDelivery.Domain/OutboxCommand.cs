using System.Collections.Immutable;

namespace IoTDelivery.Domain;

/// <summary>What may be asked of an outbox.</summary>
public abstract record OutboxCommand
{
    /// <summary>An application sends a message.</summary>
    public sealed record Accept(MessageId MessageId, MessageBody Body) : OutboxCommand;

    /// <summary>QoS 1: the device's PUBACK arrived. QoS 0: the transport of a live, subscribed connection took the bytes.</summary>
    public sealed record Acknowledge(MessageId MessageId) : OutboxCommand;

    /// <summary>MQTT 5: the device's PUBACK carried a reason code of 0x80 or more.</summary>
    public sealed record Refuse(MessageId MessageId, byte ReasonCode) : OutboxCommand;

    /// <summary>An application takes a waiting message back.</summary>
    public sealed record Delete(MessageId MessageId) : OutboxCommand;

    /// <summary>An application takes back everything that still waits.</summary>
    public sealed record DeleteAll : OutboxCommand
    {
        public static readonly DeleteAll Instance = new();
    }

    /// <summary>Ends what has outlived its ttl.</summary>
    public sealed record Expire : OutboxCommand
    {
        public static readonly Expire Instance = new();
    }

    /// <summary>The connection is gone: messages with ttl 0 end here.</summary>
    public sealed record LoseConnection : OutboxCommand
    {
        public static readonly LoseConnection Instance = new();
    }

    /// <summary>A connection holds this session; null: it wants none to outlive it.</summary>
    /// <param name="GoesOn">The client was told that its session goes on: packet ids of earlier connections still count.</param>
    public sealed record KeepSession(KeptSession? Session, bool GoesOn = false) : OutboxCommand;

    /// <summary>No connection holds the session any more: its time runs from now.</summary>
    /// <param name="Expiry">The client's last word on how long it lasts; null if it had none.</param>
    /// <param name="Unacknowledged">The packet ids that are not acknowledged, by message number; null if nobody knows.</param>
    public sealed record LeaveSession(TimeSpan? Expiry, ImmutableSortedDictionary<long, ushort>? Unacknowledged = null) : OutboxCommand;

    /// <summary>The next owner takes over these packets: what is on the wire, by message number.</summary>
    public sealed record NoteUnacknowledged(ImmutableSortedDictionary<long, ushort> PacketIds) : OutboxCommand;

    /// <summary>Packet ids have run out: reserve some, although no other row is written.</summary>
    public sealed record ReservePacketIds : OutboxCommand
    {
        public static readonly ReservePacketIds Instance = new();
    }

    /// <summary>The device goes to sleep: what is reserved and was not used is free for whoever wakes it.</summary>
    public sealed record ReturnPacketIds : OutboxCommand
    {
        public static readonly ReturnPacketIds Instance = new();
    }

    /// <summary>A gateway's connection needs packet ids for its sub-devices.</summary>
    public sealed record ReserveSubDeviceIds : OutboxCommand
    {
        public static readonly ReserveSubDeviceIds Instance = new();
    }

    /// <summary>A gateway's connection is over: of the ids up to <see cref="ReservedUpTo"/> it used those below <see cref="UsedUpTo"/>.</summary>
    public sealed record ReturnSubDeviceIds(long UsedUpTo, long ReservedUpTo) : OutboxCommand;

    /// <summary>The device subscribed its down topic at QoS 1: from now on nothing goes out to it by implicit subscription.</summary>
    public sealed record NoteQoS1 : OutboxCommand
    {
        public static readonly NoteQoS1 Instance = new();
    }

    /// <summary>The device exists (again).</summary>
    /// <param name="Life">
    /// Number of the life that begins; a later life has a greater one. 0 in a Register of an older release.
    /// </param>
    public sealed record Register(long Life) : OutboxCommand;

    /// <summary>The device is being deleted; the header is what its last notifications will carry.</summary>
    /// <param name="Life">
    /// Number of the life that ends; a Retire of an earlier one changes nothing. 0 for a device of an older release.
    /// </param>
    public sealed record Retire(DeviceHeader Header, long Life) : OutboxCommand;

    /// <summary>The device was frozen, or has a new secret: logins of an earlier generation count no more.</summary>
    /// <param name="Generation">That of the registry's row: drawn from the same sequence as lives.</param>
    public sealed record EndLogins(long Generation) : OutboxCommand;

    /// <summary>Takes the next number in the journal, so that a former owner's next write collides.</summary>
    public sealed record Fence : OutboxCommand
    {
        public static readonly Fence Instance = new();
    }

    private OutboxCommand() { }
}
