using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;

namespace IoTDelivery.Mqtt;

/// <summary>What is to be done with a packet that came from a device actor.</summary>
internal enum TransmitVerdict
{
    /// <summary>Put it on the wire.</summary>
    Deliver,

    /// <summary>It is kept until its sender says that it is attached.</summary>
    Held,

    /// <summary>It is of an earlier epoch, or of an owner that has lost the device.</summary>
    Stale,

    /// <summary>One before it was lost between two nodes: start a new epoch.</summary>
    Gap,
}

/// <summary>What is to be done with an <see cref="ToConnection.Attached"/>.</summary>
internal enum AttachVerdict
{
    /// <summary>The revision is confirmed.</summary>
    Confirmed,

    /// <summary>It was said before, or for an earlier epoch.</summary>
    Stale,

    /// <summary>Two actors claim the device, or a packet was lost: start a new epoch.</summary>
    Restart,
}

/// <summary>
/// One connection's end of the talk with its device actor, for a connection of its own as for a sub-device: who has the
/// device, and what is said and not confirmed yet. It says what to do and does nothing.
/// </summary>
//
//   epoch      counts how often the device was lost; what belongs to an earlier one is stale
//   revision   counts the changes of the subscriptions; each is repeated until it is confirmed
//   sequence   counts the packets of an epoch, and the acknowledgements; a gap means that one was lost
//
//   Attach(n) ──► … Attach(n) ──► Attached(n) ──► packets · acknowledgements
//       ▲                             │
//       └── n+1, epoch+1 ── gone, gap, another owner
//
internal sealed class DeviceAttachment(DeviceId deviceId, Guid connectionId, int heldMax)
{
    /// <summary>Acknowledgements the device has not confirmed, at most: beyond it the connection reads nothing.</summary>
    public const int UnconfirmedMax = 1_024;

    private readonly record struct Acknowledgement(ushort Tag, int QoS, byte ReasonCode, bool IsSkipped);

    private readonly List<(IActorRef From, ToConnection.Transmit Packet)> _held = [];
    private readonly Queue<Acknowledgement> _unconfirmed = new();
    private int _taken;      // sequence number of the last acknowledgement that the device confirmed, in this epoch
    private int _sequence;   // of the last packet, in this epoch
    private int _epochBegan; // with this revision; an Attached for an older one is stale

    /// <summary>The device actor; null while nobody has said that it is attached.</summary>
    public IActorRef? Device { get; private set; }

    public int Epoch { get; private set; }

    public int Revision { get; private set; } = 1; // the first Attach says that the connection is there

    /// <summary>The newest revision the device knows; 0: it knows of no connection.</summary>
    public int Confirmed { get; private set; }

    /// <summary>Attempts to attach since the last success or change.</summary>
    public int Attempts { get; set; }

    /// <summary>What the device wants to see in the next Attach, as proof that it is fresh; 0: nothing.</summary>
    public int Challenge { get; set; }

    public bool IsConfirmed => Confirmed == Revision;

    public bool HasUnconfirmed => _unconfirmed.Count > 0;

    public bool IsFull => _unconfirmed.Count >= UnconfirmedMax;

    /// <summary>A packet came from this actor.</summary>
    public TransmitVerdict Receive(IActorRef from, ToConnection.Transmit packet)
    {
        if (packet.Epoch != Epoch) return TransmitVerdict.Stale;
        if (Device is null)
        {
            if (_held.Count < heldMax) _held.Add((from, packet)); // its Attached comes later, or again; order is kept
            return TransmitVerdict.Held;
        }

        if (!from.Equals(Device)) return TransmitVerdict.Stale;
        if (!IsNext(packet)) return TransmitVerdict.Gap;
        Taken(packet.Epoch, packet.AcknowledgedUpTo);
        return TransmitVerdict.Deliver;
    }

    /// <summary>An actor says that it is attached. <paramref name="released"/>: what it sent before it said so.</summary>
    public AttachVerdict Confirm(IActorRef from, int revision, out IReadOnlyList<ToConnection.Transmit> released)
    {
        released = [];
        if (revision <= Confirmed || revision > Revision || revision < _epochBegan) return AttachVerdict.Stale;
        if (Device is null)
        {
            Device = from;
            var mine = _held.Where(h => h.From.Equals(from)).Select(h => h.Packet).ToList();
            _held.Clear();
            if (!mine.TrueForAll(IsNext)) return AttachVerdict.Restart;
            released = mine;
        }
        else if (!from.Equals(Device))
        {
            return AttachVerdict.Restart;
        }

        Confirmed = revision;
        if (IsConfirmed) Attempts = 0;
        return AttachVerdict.Confirmed;
    }

    /// <summary>The subscriptions have changed.</summary>
    public int Revise()
    {
        Attempts = 0;
        return ++Revision;
    }

    /// <summary>The device is gone, or what it sends cannot be relied on: a new epoch begins.</summary>
    public void Lose()
    {
        Device = null;
        Epoch++;
        _epochBegan = ++Revision;
        (_sequence, _taken, Attempts, Challenge) = (0, 0, 0, 0);
        _held.Clear();

        // At QoS 1 the next owner may have taken the packet over; at QoS 0 none does.
        for (var left = _unconfirmed.Count; left > 0; left--)
        {
            var next = _unconfirmed.Dequeue();
            if (next.QoS > 0) _unconfirmed.Enqueue(next);
        }
    }

    /// <summary>What to tell the device of a packet; null while nobody has it: it is told with the others later.</summary>
    public ToDevice.PacketAcknowledged? Acknowledge(ushort tag, int qos, byte reasonCode, bool isSkipped = false)
    {
        _unconfirmed.Enqueue(new Acknowledgement(tag, qos, reasonCode, isSkipped));
        return Device is null ? null : Tell(new Acknowledgement(tag, qos, reasonCode, isSkipped), _taken + _unconfirmed.Count, false);
    }

    /// <summary>The device has taken the acknowledgements up to this sequence number.</summary>
    public void Taken(int epoch, int upTo)
    {
        if (epoch != Epoch) return;
        for (; _taken < upTo && _unconfirmed.TryDequeue(out _); _taken++) { }
    }

    /// <summary>The acknowledgements that the device has not confirmed, to be told again. It answers the last one.</summary>
    public IEnumerable<ToDevice.PacketAcknowledged> Unconfirmed()
    {
        var sequence = _taken;
        foreach (var acknowledgement in _unconfirmed)
        {
            sequence++;
            yield return Tell(acknowledgement, sequence, isRepeated: sequence == _taken + _unconfirmed.Count);
        }
    }

    private ToDevice.PacketAcknowledged Tell(Acknowledgement a, int sequence, bool isRepeated) =>
        new(deviceId, connectionId, a.Tag, a.QoS, a.ReasonCode, Epoch, sequence, isRepeated, a.IsSkipped);

    private bool IsNext(ToConnection.Transmit packet) => packet.Sequence == 0 || packet.Sequence == ++_sequence;
}
