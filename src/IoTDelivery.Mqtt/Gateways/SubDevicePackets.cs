using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;

namespace IoTDelivery.Mqtt;

/// <summary>A sub-device that a gateway's connection carries.</summary>
internal sealed class CarriedSubDevice(DeviceId deviceId, IActorRef actor)
{
    public DeviceId DeviceId { get; } = deviceId;

    public IActorRef Actor { get; } = actor;

    /// <summary>When it last sent something or was acknowledged, as a timestamp of the node's clock.</summary>
    public long UsedAt { get; set; }

    /// <summary>Its packets that are not acknowledged: packet id by its own tag.</summary>
    public Dictionary<ushort, ushort> PacketIds { get; } = [];
}

/// <summary>
/// The packet ids of the sub-devices on one connection: the upper half, in order. The gateway's outbox holds the mark up to
/// which they may be in use (<see cref="PacketIds"/>), so the next connection begins behind it, and a late PUBACK names
/// nobody else's packet.
/// </summary>
internal sealed class SubDevicePackets
{
    private readonly record struct Packet(CarriedSubDevice Owner, ushort Tag);

    private readonly Dictionary<ushort, Packet> _packets = [];
    private readonly Queue<(CarriedSubDevice Owner, ToConnection.Transmit Packet)> _unsent = new(); // until ids are reserved
    private long _next, _reservedUpTo;

    /// <summary>True if something cannot be sent, or soon could not, for want of ids.</summary>
    public bool NeedsIds => _unsent.Count > 0 || (_next > 0 && _reservedUpTo - _next < PacketIds.ReservedAhead / 2);

    /// <summary>A sub-device transmits. It has one message on the wire, so little ever waits here.</summary>
    public void Enqueue(CarriedSubDevice owner, ToConnection.Transmit packet)
    {
        if (!_unsent.Any(u => u.Owner == owner && u.Packet.Tag == packet.Tag)) _unsent.Enqueue((owner, packet));
    }

    /// <summary>The next packet to send, under its packet id; null if there is none, or no id for it.</summary>
    public (CarriedSubDevice Owner, ToConnection.Transmit Packet)? Next()
    {
        if (!_unsent.TryPeek(out var next)) return null;
        var (owner, packet) = next;
        var isDup = packet.Dup;
        if (!owner.PacketIds.TryGetValue(packet.Tag, out var id))
        {
            if (!TryTakeId(out id)) return null;
            isDup = false; // to the client it is a new packet [MQTT-3.3.1-1]
            owner.PacketIds.Add(packet.Tag, id);
            _packets.Add(id, new Packet(owner, packet.Tag));
        }

        _unsent.Dequeue();
        return (owner, packet with { Tag = id, Dup = isDup });
    }

    /// <summary>Whose packet was acknowledged, and its own tag; null if it is nobody's.</summary>
    public (CarriedSubDevice Owner, ushort Tag)? Take(ushort packetId)
    {
        if (!_packets.Remove(packetId, out var packet)) return null;
        packet.Owner.PacketIds.Remove(packet.Tag);
        return (packet.Owner, packet.Tag);
    }

    /// <summary>The sub-device has moved or gone: its packets mean nothing any more.</summary>
    public void Disown(CarriedSubDevice owner)
    {
        foreach (var packetId in owner.PacketIds.Values) _packets.Remove(packetId);
        owner.PacketIds.Clear();
        for (var left = _unsent.Count; left > 0; left--)
        {
            var next = _unsent.Dequeue();
            if (next.Owner != owner) _unsent.Enqueue(next);
        }
    }

    /// <summary>The gateway's outbox has reserved these positions.</summary>
    public void Reserve(long from, long upTo)
    {
        if (from != _reservedUpTo) _next = from;
        _reservedUpTo = upTo;
    }

    /// <summary>Up to where ids were used, and reserved, when the connection ends; null if none were reserved.</summary>
    public (long UsedUpTo, long ReservedUpTo)? ToReturn() => _reservedUpTo == 0 ? null : (_next, _reservedUpTo);

    private bool TryTakeId(out ushort id)
    {
        id = 0;
        if (_next >= _reservedUpTo) return false;
        id = PacketIds.OfSubDevice(_next++);
        if (_packets.Remove(id, out var former)) former.Owner.PacketIds.Remove(former.Tag); // the range has gone round
        return true;
    }
}
