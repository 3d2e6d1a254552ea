using System.IO.Pipelines;
using System.Runtime.CompilerServices;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using MQTTnet.Exceptions;
using MQTTnet.Packets;
using MQTTnet.Protocol;

namespace IoTDelivery.Mqtt;

/// <summary>Hears what became of a packet: taken by the transport (QoS 0), unsendable, or skipped because it was too late.</summary>
internal delegate void PacketDone(ushort tag, int qos, byte reasonCode, bool isSkipped);

/// <summary>How a write ended.</summary>
internal enum WriteState
{
    /// <summary>The transport has everything.</summary>
    Done,

    /// <summary>The transport takes no more now: <c>onFlushed</c> runs when it does.</summary>
    Pending,
}

/// <summary>
/// The writing half of one connection: replies, packets for the device and broadcasts go into one flush, up to a size. It
/// keeps the client's Receive Maximum, and tells what became of each packet.
/// </summary>
//
//   replies    ──┐
//   packets    ──┼─► encoded ──► flushed ──► QoS 0: taken
//   broadcasts ──┘      │
//                       ├── its ttl is over, or another packet of the message waits already: skipped
//                       └── larger than the client takes, or no MQTT: refused
//
internal sealed class MqttWriter(PipeWriter output, AcceptedConnect connect, MqttServices services, Action onFlushed, PacketDone done)
{
    private const int FlushBytes = 64 * 1024; // encoded in one go; more waits for the transport
    private const int BroadcastsMax = 16; // waiting for the transport; a slow reader misses the next one
    private const byte PacketTooLarge = (byte)MqttDisconnectReasonCode.PacketTooLarge;
    private const byte PayloadFormatInvalid = (byte)MqttDisconnectReasonCode.PayloadFormatInvalid;

    private readonly record struct Outgoing(DeviceId DeviceId, ToConnection.Transmit Packet, long ReceivedAt);

    private readonly Queue<Outgoing> _outgoing = new();
    private readonly Queue<MqttPublishPacket> _broadcasts = new();
    private readonly HashSet<ushort> _unacknowledged = []; // packet ids, for an MQTT 5 client that said how many it takes
    private readonly List<ushort> _inFlush = []; // QoS 0 tags among the bytes the transport has not taken yet
    private ValueTaskAwaiter<FlushResult> _flush;
    private int _unflushed;
    private long _flushingSince;

    /// <summary>Answers to what the client sent, in order.</summary>
    public Queue<MqttPacket> Replies { get; } = new();

    /// <summary>True once CONNACK is among the replies: nothing else goes out before it [MQTT-3.2.0-1].</summary>
    public bool IsOpen { get; set; }

    /// <summary>True while the transport has bytes it has not taken.</summary>
    public bool IsFlushing { get; private set; }

    /// <summary>True once the connection takes nothing any more.</summary>
    public bool IsCut { get; private set; }

    /// <summary>How long the present flush has taken.</summary>
    public TimeSpan Flushing => services.Clock.GetElapsedTime(_flushingSince);

    /// <summary>A packet for the device. False: more wait than may.</summary>
    public bool Enqueue(DeviceId deviceId, ToConnection.Transmit packet)
    {
        if (IsWaiting(packet.MessageId, deviceId)) // a slow client does not get faster by repetitions
        {
            if (!packet.Dup) done(packet.Tag, packet.QoS, 0, isSkipped: true);
            return true;
        }

        if (_outgoing.Count >= services.Options.OutgoingMax) return false;
        _outgoing.Enqueue(new Outgoing(deviceId, packet, services.Clock.GetTimestamp()));
        return true;
    }

    /// <summary>A broadcast; missed if the client reads too slowly.</summary>
    public void Enqueue(MqttPublishPacket broadcast)
    {
        if (_broadcasts.Count >= BroadcastsMax) MqttMeters.BroadcastsMissed.Add(1);
        else _broadcasts.Enqueue(broadcast);
    }

    /// <summary>The client acknowledged this packet: its place is free.</summary>
    public void Acknowledged(ushort packetId) => _unacknowledged.Remove(packetId);

    /// <summary>
    /// This device was lost. Whoever has it next knows nothing of its packets that still wait, and sends them itself.
    /// </summary>
    public void Forget(DeviceId deviceId)
    {
        for (var left = _outgoing.Count; left > 0; left--)
        {
            var next = _outgoing.Dequeue();
            if (next.DeviceId != deviceId) _outgoing.Enqueue(next);
        }

        if (deviceId == connect.DeviceId) _inFlush.RemoveAll(tag => tag <= PacketIds.Max);
    }

    /// <summary>The connection ends: only replies go out any more.</summary>
    public void Close()
    {
        _outgoing.Clear();
        _broadcasts.Clear();
    }

    /// <summary>Nothing goes out any more; a pending flush ends.</summary>
    public void Cut()
    {
        IsCut = true;
        output.CancelPendingFlush();
    }

    /// <summary>Encodes and flushes what waits. Pending: nothing is read until the transport has taken the bytes.</summary>
    public WriteState Write()
    {
        while (!IsFlushing)
        {
            if (IsCut) return WriteState.Done;
            Encode();
            if (_unflushed == 0) return WriteState.Done;

            _unflushed = 0;
            _flush = output.FlushAsync().GetAwaiter();
            if (_flush.IsCompleted)
            {
                OnFlushed();
                continue;
            }

            (IsFlushing, _flushingSince) = (true, services.Clock.GetTimestamp());
            _flush.UnsafeOnCompleted(onFlushed);
        }

        return WriteState.Pending;
    }

    /// <summary>The transport has taken the bytes, or the connection is cut.</summary>
    public void OnFlushed()
    {
        IsFlushing = false;
        try
        {
            IsCut |= _flush.GetResult() is { IsCompleted: true } or { IsCanceled: true };
        }
        catch (Exception) // reset or aborted: not taken
        {
            IsCut = true;
        }

        if (!IsCut)
        {
            foreach (var tag in _inFlush) done(tag, 0, 0, isSkipped: false);
        }

        _inFlush.Clear();
    }

    // All that is queued goes into one flush, up to a size.
    private void Encode()
    {
        while (_unflushed < FlushBytes && Replies.TryDequeue(out var reply)) _unflushed += Encode(reply);
        if (!IsOpen) return;
        while (_unflushed < FlushBytes && _outgoing.TryPeek(out var next))
        {
            if (IsTooLate(next))
            {
                _outgoing.Dequeue();
                done(next.Packet.Tag, next.Packet.QoS, 0, isSkipped: true);
            }
            else if (MayTransmit(next.Packet))
            {
                _outgoing.Dequeue();
                Encode(next);
            }
            else
            {
                break;
            }
        }

        while (_unflushed < FlushBytes && _broadcasts.TryDequeue(out var broadcast)) EncodeBroadcast(broadcast);
    }

    // [MQTT-3.1.2-25] What is larger than the client takes is not sent; [MQTT-3.14.2-3] a reason that would make it so is left out.
    private int Encode(MqttPacket reply)
    {
        var bytes = MqttFraming.Write(output, reply, connect.Version, connect.PacketBytesMax);
        if (bytes > 0 || reply is not MqttDisconnectPacket { ReasonString: not null } disconnect) return bytes;
        disconnect.ReasonString = null;
        return MqttFraming.Write(output, disconnect, connect.Version, connect.PacketBytesMax);
    }

    private void EncodeBroadcast(MqttPublishPacket broadcast)
    {
        var bytes = MqttFraming.Write(output, broadcast, connect.Version, connect.PacketBytesMax);
        _unflushed += bytes;
        (bytes > 0 ? MqttMeters.Broadcasts : MqttMeters.BroadcastsMissed).Add(1);
    }

    // A message that ends as TIMEOUT while it waits here does not go out any more.
    private bool IsTooLate(Outgoing next) => Remaining(next) <= TimeSpan.Zero;

    private TimeSpan? Remaining(Outgoing next) => next.Packet.Remaining - services.Clock.GetElapsedTime(next.ReceivedAt);

    // [MQTT-3.3.4-9] The device actors of a gateway and its sub-devices each keep to the window, but not together.
    private bool MayTransmit(ToConnection.Transmit packet) => packet.QoS == 0 || _unacknowledged.Count < connect.ReceiveMaximum;

    private void Encode(Outgoing next)
    {
        var packet = next.Packet;
        try
        {
            var publish = DownPayload.Publish(next.DeviceId, packet, connect.IsMqtt5, Remaining(next));
            var bytes = MqttFraming.Write(output, publish, connect.Version, connect.PacketBytesMax);
            if (bytes == 0)
            {
                Unsendable(packet, PacketTooLarge, "it is larger than the client takes"); // [MQTT-3.1.2-24]
                return;
            }

            _unflushed += bytes;
            if (packet.QoS == 0) _inFlush.Add(packet.Tag);
            else if (connect.IsMqtt5) _unacknowledged.Add(packet.Tag);
            MqttMeters.Transmits.Add(1);
        }
        catch (Exception cause) when (cause is FormatException or MqttProtocolViolationException)
        {
            Unsendable(packet, PayloadFormatInvalid, cause.Message);
        }
    }

    // Trying again would not help: the message ends as if the device had refused it.
    private void Unsendable(ToConnection.Transmit packet, byte code, string why)
    {
        MqttMeters.Unsendable.Add(1);
        services.Logger.Unsendable(packet.MessageId, connect.DeviceId, why);
        done(packet.Tag, packet.QoS, code, isSkipped: false);
    }

    private bool IsWaiting(MessageId messageId, DeviceId deviceId)
    {
        foreach (var waiting in _outgoing)
        {
            if (waiting.Packet.MessageId == messageId && waiting.DeviceId == deviceId) return true;
        }

        return false;
    }
}
