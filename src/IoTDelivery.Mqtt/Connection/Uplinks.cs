using System.Buffers;
using IoTDelivery.Domain;
using MQTTnet.Packets;

namespace IoTDelivery.Mqtt;

/// <summary>
/// Takes what a device published; completes when the device may be told so. Does not fail; what it keeps of the payload it copies before it returns.
/// </summary>
public delegate ValueTask TakeUplink(DeviceId deviceId, string topic, ReadOnlySequence<byte> payload);

/// <summary>Payload of all connections of a node that is not taken yet.</summary>
internal sealed class UplinkBytes(long max)
{
    private long _waiting;

    public bool HasRoom => Volatile.Read(ref _waiting) < max;

    public void Add(long bytes) => Interlocked.Add(ref _waiting, bytes);
}

//   PUBLISH ──► room? ──► taken at once, nothing waits ─────────────────► PUBACK, PUBREC
//                │ no              │ else                                     ▲
//                ▼                 ▼                                          │ all before it are taken
//             parked: nothing   in order: (acknowledgement, taken?) ──────────┘
//             is read behind it
//
// [MQTT-4.6.0-2], [MQTT-4.6.0-3]: acknowledgements go in the order of the PUBLISHes. All other packets are answered meanwhile, up to the first PUBLISH that
// finds no room. A connection always has room for one, so none waits for another.

/// <summary>What one connection's device published and nobody has taken yet.</summary>
internal sealed class Uplinks(DeviceId deviceId, TakeUplink take, int countMax, int bytesMax, UplinkBytes node, Action taken)
{
    private readonly Queue<Waiting> _waiting = new();
    private long _bytes;
    private MqttPacket? _parked;

    /// <summary>True while a PUBLISH waits for room: nothing may be read.</summary>
    public bool IsFull => _parked is not null;

    private bool HasRoom => _waiting.Count == 0 || (_waiting.Count < countMax && _bytes < bytesMax && node.HasRoom);

    /// <summary>True if the packet is a PUBLISH that finds no room; it comes back from <see cref="Unpark"/>.</summary>
    public bool Parks(MqttPacket packet)
    {
        if (packet is not MqttPublishPacket || HasRoom) return false;
        _parked = packet;
        return true;
    }

    /// <summary>The parked PUBLISH once there is room for it.</summary>
    public MqttPacket? Unpark()
    {
        if (_parked is null || !HasRoom) return null;
        var packet = _parked;
        _parked = null;
        return packet;
    }

    /// <returns>What may be answered now; null if the answer has to wait, or there is none.</returns>
    public MqttPacket? Take(MqttPublishPacket? uplink, MqttPacket? reply)
    {
        if (uplink is null && (_waiting.Count == 0 || reply is not (MqttPubAckPacket or MqttPubRecPacket))) return reply;

        var taking = uplink is null ? ValueTask.CompletedTask : take(deviceId, uplink.Topic, uplink.Payload);
        if (taking.IsCompletedSuccessfully && _waiting.Count == 0) return reply;

        var waiting = new Waiting(reply, taking.IsCompletedSuccessfully ? 0 : uplink!.Payload.Length) { IsTaken = taking.IsCompletedSuccessfully };
        _waiting.Enqueue(waiting);
        if (!waiting.IsTaken) _ = WaitAsync(taking, waiting);
        return null;
    }

    /// <summary>The acknowledgements that are due, in order.</summary>
    public void Acknowledge(Queue<MqttPacket> replies)
    {
        while (_waiting.TryPeek(out var waiting) && waiting.IsTaken)
        {
            _waiting.Dequeue();
            _bytes -= waiting.Bytes;
            if (waiting.Reply is { } reply) replies.Enqueue(reply);
        }
    }

    // Goes on when the connection has ended: what was begun is finished.
    private async Task WaitAsync(ValueTask taking, Waiting waiting)
    {
        _bytes += waiting.Bytes;
        node.Add(waiting.Bytes);
        try
        {
            await taking.ConfigureAwait(false);
            waiting.IsTaken = true;
        }
        finally
        {
            node.Add(-waiting.Bytes);
        }

        taken();
    }

    private sealed class Waiting(MqttPacket? reply, long bytes)
    {
        private volatile bool _isTaken;

        public MqttPacket? Reply { get; } = reply;
        public long Bytes { get; } = bytes;

        public bool IsTaken
        {
            get => _isTaken;
            set => _isTaken = value;
        }
    }
}
