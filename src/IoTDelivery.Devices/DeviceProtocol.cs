using System.Collections.Immutable;
using Akka.Actor;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices;

/// <summary>Everything that is said to a device goes through the shard region in one of these.</summary>
public abstract record ToDevice(DeviceId DeviceId)
{
    /// <summary>An application (or the registry) asks; the answer is an <see cref="OutboxReply"/>, after the journal has it.</summary>
    public sealed record Command(DeviceId DeviceId, OutboxCommand Ask) : ToDevice(DeviceId);

    /// <summary>
    /// Which messages are known, newest first, below number <see cref="Before"/>. The answer is <see cref="OutboxReply.Messages"/>, as many as fit one
    /// remote frame (<see cref="OutboxReply.Messages.More"/> says whether to ask on), or a refusal.
    /// </summary>
    public sealed record List(DeviceId DeviceId, long Before = long.MaxValue) : ToDevice(DeviceId);

    /// <summary>One message; the answer is <see cref="OutboxReply.Messages"/> with one item or none, or a refusal.</summary>
    public sealed record Show(DeviceId DeviceId, MessageId MessageId) : ToDevice(DeviceId);

    /// <summary>
    /// A connection belongs to the device from now on. Sent by the connection itself (<see cref="Connection"/> is who gets
    /// <see cref="ToConnection"/>) and repeated until <see cref="ToConnection.Attached"/> with this <see cref="Revision"/>
    /// comes back. A younger CONNECT evicts an older one, never the other way round.
    /// </summary>
    /// <param name="ConnectionId">Unique among all connections ever.</param>
    /// <param name="ConnectedAt">
    /// When the CONNECT was accepted, by the clock of its node. Only a node of an older release looks at it.
    /// </param>
    /// <param name="SessionExpiry">
    /// How long the session outlives the connection. Above zero subscriptions are remembered; <see cref="TimeSpan.MaxValue"/>
    /// is for ever, as with clean session 0.
    /// </param>
    /// <param name="StartsClean">
    /// Clean start: what was remembered before is dropped (only with the first revision of a connection).
    /// </param>
    /// <param name="Revision">Counts the changes of <see cref="Subscriptions"/> on this connection, from 1.</param>
    /// <param name="Subscriptions">
    /// All subscriptions of this connection as of this revision. Null in a first Attach that resumes a remembered session.
    /// </param>
    /// <param name="Subscribed">
    /// What the client subscribed with this revision (triggers delivery); empty on an unsubscribe and on a re-attach.
    /// </param>
    /// <param name="Implicit">
    /// Down topics count as subscribed at QoS 0 where nothing else matches, unless the device ever asked for QoS 1.
    /// </param>
    /// <param name="Epoch">
    /// Counts how often the connection lost its device. Who attached it in an earlier epoch starts over: what it has sent
    /// since may have been ignored.
    /// </param>
    /// <param name="Age">
    /// How long ago the CONNECT was accepted, measured anew with each attempt by a clock that never jumps: it decides who
    /// evicts whom. The clocks of two nodes are never compared.
    /// </param>
    /// <param name="Challenge">
    /// The last <see cref="ToConnection.Challenged"/>, or 0: proof that this was sent just now, and did not lie in a buffer
    /// while a younger connection came.
    /// </param>
    /// <param name="Generation">
    /// Of the registry's row when the login was proven. One that the device has gone beyond is refused. Null where it
    /// is not known: a sub-device that its gateway's login carries, or a node of an older release.
    /// </param>
    public sealed record Attach(
        DeviceId DeviceId,
        Guid ConnectionId,
        DateTimeOffset ConnectedAt,
        WireConnection Wire,
        TimeSpan SessionExpiry,
        bool StartsClean,
        int Revision,
        ImmutableArray<Subscription>? Subscriptions,
        ImmutableArray<Subscription> Subscribed,
        bool Implicit,
        IActorRef Connection,
        int Epoch = 0,
        TimeSpan Age = default,
        int Challenge = 0,
        long? Generation = null) : ToDevice(DeviceId)
    {
        public bool KeepsSession => SessionExpiry > TimeSpan.Zero;

        /// <summary>The client has heard of this connection, and may hold packets that a former owner sent on it.</summary>
        public bool IsReattach => Epoch > 0 && !StartsClean && Subscriptions is not null;
    }

    /// <summary>
    /// The device was frozen or has a new secret: whoever is connected by a login of an earlier <see cref="Generation"/>
    /// is let go, and whoever comes with one is refused. The answer is <see cref="OutboxReply.Done"/> once that is stored.
    /// </summary>
    /// <param name="Generation">
    /// The new one of the registry's row. Null from a node of an older release: whoever is connected now is let go.
    /// </param>
    /// <param name="At">The time by the clock of the node that asks, for nodes of an older release only.</param>
    public sealed record Disconnect(DeviceId DeviceId, long? Generation, DateTimeOffset At) : ToDevice(DeviceId);

    /// <summary>
    /// Asks a gateway to let its connection carry a sub-device, because something is about to be sent to that. The answer is <see cref="OutboxReply.Done"/>, as soon as the
    /// sub-device is attached or it is clear that it cannot be.
    /// </summary>
    public sealed record AttachSubDevice(DeviceId DeviceId, DeviceId SubDevice) : ToDevice(DeviceId);

    /// <summary>
    /// A sub-device was created under this gateway, or deleted: its connection is to tell it. The answer is
    /// <see cref="OutboxReply.Done"/>, as soon as that is on the wire or it is clear that there is no connection.
    /// </summary>
    /// <param name="Version">That of the gateway's list since then.</param>
    public sealed record SubDevicesChanged(DeviceId DeviceId, long Version) : ToDevice(DeviceId);

    /// <summary>The connection is gone. <see cref="SessionExpiry"/> is what the client's DISCONNECT made of it; null if it said nothing.</summary>
    public sealed record Detach(DeviceId DeviceId, Guid ConnectionId, TimeSpan? SessionExpiry = null) : ToDevice(DeviceId);

    /// <summary>
    /// The transport took the bytes of a QoS 0 packet, or the device acknowledged a QoS 1 packet (MQTT 5: with this reason
    /// code, else 0). Repeated until <see cref="ToConnection.AcknowledgementsTaken"/> or the end of the epoch.
    /// </summary>
    /// <param name="Epoch">That of the <see cref="Attach"/> the device is attached with.</param>
    /// <param name="Sequence">Within the epoch, from 1: one that is missing was lost between two nodes and is repeated.</param>
    /// <param name="IsRepeated">The device has not said that it took the first one: it says so now.</param>
    /// <param name="IsSkipped">The packet was not sent and never will be: <see cref="Inflight.Skip"/>.</param>
    public sealed record PacketAcknowledged(
        DeviceId DeviceId,
        Guid ConnectionId,
        ushort Tag,
        int QoS,
        byte ReasonCode,
        int Epoch = 0,
        int Sequence = 0,
        bool IsRepeated = false,
        bool IsSkipped = false) : ToDevice(DeviceId);

    /// <summary>
    /// The connection of this gateway needs packet ids for its sub-devices. The answer is
    /// <see cref="ToConnection.SubDeviceIdsReserved"/>; the same request is answered alike.
    /// </summary>
    public sealed record ReserveSubDeviceIds(DeviceId DeviceId, Guid ConnectionId, int Request) : ToDevice(DeviceId);

    /// <summary>The connection of this gateway is over. Of the ids that were reserved for it, it used those below this position.</summary>
    public sealed record ReturnSubDeviceIds(DeviceId DeviceId, long UsedUpTo, long ReservedUpTo) : ToDevice(DeviceId);

    /// <summary>Its reminder fired. Answered with <see cref="ReminderHandled"/> when what was due is stored, or at once
    /// when it is awake anyway.</summary>
    /// <param name="DueIn">How long until it fires again. A duration, because it comes from the database, whose clock
    /// is nobody else's.</param>
    public sealed record Reminder(DeviceId DeviceId, Guid Token, TimeSpan DueIn) : ToDevice(DeviceId);

    /// <summary>Every notification up to this number is settled.</summary>
    public sealed record NotificationsAcknowledged(DeviceId DeviceId, long UpTo) : ToDevice(DeviceId);
}

/// <summary>The answer to <see cref="ToDevice.Reminder"/>.</summary>
public sealed record ReminderHandled(DeviceId DeviceId);

/// <summary>What a device says to its connection.</summary>
public abstract record ToConnection
{
    /// <summary>The device knows this revision. The sender is the device itself: watch it, and attach again when it moves.</summary>
    /// <param name="SessionPresent">True if a remembered session goes on [MQTT-3.2.2-2].</param>
    /// <param name="Subscriptions">The subscriptions in force, those of a resumed session included.</param>
    public sealed record Attached(int Revision, bool SessionPresent, ImmutableArray<Subscription> Subscriptions) : ToConnection;

    /// <summary>
    /// Put this on the wire. Taken only from whoever said <see cref="Attached"/> last; what comes before that is held until
    /// it is said. At QoS 0 say <see cref="ToDevice.PacketAcknowledged"/> when the transport took the bytes.
    /// </summary>
    /// <param name="Remaining">What is left of the message's ttl now; null from a node of an older release.</param>
    /// <param name="Epoch">
    /// That of the <see cref="ToDevice.Attach"/> it is meant for: what was sent to an earlier one is stale.
    /// </param>
    /// <param name="Sequence">
    /// Sequence number within the epoch, from 1. A gap means a packet was lost between nodes: start a new epoch, or later
    /// packets would overtake it. 0 is not counted.
    /// </param>
    /// <param name="AcknowledgedUpTo">The sequence number of the newest <see cref="ToDevice.PacketAcknowledged"/> taken.</param>
    public sealed record Transmit(
        MessageId MessageId,
        MessageBody Body,
        ushort Tag,
        int QoS,
        bool Dup,
        TimeSpan? Remaining = null,
        int Epoch = 0,
        int Sequence = 0,
        int AcknowledgedUpTo = 0) : ToConnection;

    /// <summary>
    /// Another connection holds the device: attach once more, with this. What comes back is fresh, and its age can be relied on.
    /// </summary>
    public sealed record Challenged(int Challenge) : ToConnection;

    /// <summary>The device has taken every acknowledgement up to this sequence number of the epoch.</summary>
    public sealed record AcknowledgementsTaken(int Epoch, int UpTo) : ToConnection;

    /// <summary>
    /// These positions are for packet ids of the gateway's sub-devices on this connection: from <paramref name="From"/> on,
    /// below <paramref name="UpTo"/> (<see cref="PacketIds.OfSubDevice"/>).
    /// </summary>
    public sealed record SubDeviceIdsReserved(int Request, long From, long UpTo) : ToConnection;

    /// <summary>Attach this sub-device, too, and then answer the sender with <see cref="OutboxReply.Done"/>.</summary>
    public sealed record AttachSubDevice(DeviceId SubDevice) : ToConnection;

    /// <summary>
    /// Tell the gateway how its list of sub-devices changed, and answer the sender with <see cref="OutboxReply.Done"/>.
    /// </summary>
    public sealed record SubDevicesChanged(long Version) : ToConnection;

    /// <summary>A younger connection took over (MQTT 5: DISCONNECT 0x8E), or the device was deleted, frozen or given a new secret (0x98).</summary>
    public sealed record Evicted(bool TakenOver) : ToConnection
    {
        public static readonly Evicted ByYounger = new(TakenOver: true);
        public static readonly Evicted ByOperator = new(TakenOver: false);
    }

    private ToConnection() { }
}

/// <summary>
/// What a device has pending, offered to whoever settles it (<see cref="NotificationSink"/>) in order and as it occurs; <see cref="ToDevice.NotificationsAcknowledged"/> comes back to the sender.
/// A device never has more than <see cref="UnsettledMax"/> notifications offered and not acknowledged. After a crash the same ones are offered again, with the same numbers.
/// </summary>
public sealed record NotificationsOffered(DeviceId DeviceId, IReadOnlyList<Notification> Notifications)
{
    /// <summary>Offered and unacknowledged notifications per device, at most.</summary>
    public const int UnsettledMax = 64;
}
