using System.Buffers;
using System.Text;
using MQTTnet.AspNetCore;
using MQTTnet.Formatter;
using MQTTnet.Packets;

namespace IoTDelivery.Mqtt;

/// <summary>What the bytes at the front of the buffer are.</summary>
public enum Frame
{
    /// <summary>The beginning of a packet; more bytes have to come.</summary>
    Incomplete,

    /// <summary>A packet.</summary>
    Packet,

    /// <summary>A packet that says it is larger than allowed. Nothing of it is buffered.</summary>
    TooLarge,

    /// <summary>No packet of MQTT.</summary>
    Malformed,

    /// <summary>A CONNECT of a protocol level nobody here speaks [MQTT-3.1.2-2].</summary>
    UnknownLevel,
}

/// <summary>A DISCONNECT of MQTT 5 that names a session expiry in seconds (3.14.2.2.2). The codec's own packet cannot tell 0 from absent, and they mean opposite things.</summary>
public sealed class DisconnectWithExpiry(uint sessionExpiryInterval, byte reasonCode = 0) : MqttPacket
{
    public uint SessionExpiryInterval { get; } = sessionExpiryInterval;

    public byte ReasonCode { get; } = reasonCode;
}

/// <summary>
/// Bytes ↔ packets with MQTTnet's codec. Ours is what the codec leaves out: the size limit before anything is buffered, the reserved bits of the first byte,
/// and malformed input as a value instead of an exception.
/// </summary>
public static class MqttFraming
{
    private const int FixedHeaderMax = 5;

    // An adapter keeps a buffer while it encodes and a position while it decodes, but nothing between two packets:
    // one per thread and version serves all connections.
    [ThreadStatic]
    private static MqttPacketFormatterAdapter? _v310, _v311, _v500;

    /// <summary>Takes the first packet off <paramref name="bytes"/> if it is there.</summary>
    public static Frame TryRead(ref ReadOnlySequence<byte> bytes, MqttProtocolVersion version, int bytesMax, out MqttPacket? packet)
    {
        packet = null;
        SkipEmpty(ref bytes);
        if (Measure(bytes, bytesMax, out var headerBytes, out var bodyBytes) is var frame and not Frame.Packet) return frame;

        var body = bytes.Slice(headerBytes, bodyBytes);
        frame = Decode(ref bytes, version, out packet);
        if (version != MqttProtocolVersion.V500) return frame;
        if (packet is MqttSubscribePacket && HasReservedOptions(body)) return Frame.Malformed;
        if (packet is MqttDisconnectPacket left && NamesExpiry(body))
        {
            packet = new DisconnectWithExpiry(left.SessionExpiryInterval, (byte)left.ReasonCode);
        }

        return frame;
    }

    /// <summary>
    /// Takes a CONNECT off <paramref name="bytes"/> if it is there, and says which version its sender speaks.
    /// Any other packet is <see cref="Frame.Malformed"/> here [MQTT-3.1.0-1].
    /// </summary>
    public static Frame TryReadConnect(ref ReadOnlySequence<byte> bytes, int bytesMax, out MqttProtocolVersion version, out MqttConnectPacket? connect)
    {
        (version, connect) = (MqttProtocolVersion.Unknown, null);
        SkipEmpty(ref bytes);
        if (!bytes.IsEmpty && bytes.FirstSpan[0] != 0x10) return Frame.Malformed; // said before the rest of it has come
        if (Measure(bytes, bytesMax, out var headerBytes, out var bodyBytes) is var frame and not Frame.Packet) return frame;

        version = VersionOf(bytes.Slice(headerBytes, bodyBytes), out var isMqtt);
        if (version == MqttProtocolVersion.Unknown) return isMqtt ? Frame.UnknownLevel : Frame.Malformed;
        frame = Decode(ref bytes, version, out var packet);
        connect = packet as MqttConnectPacket;
        return frame;
    }

    /// <summary>Puts a packet into <paramref name="output"/>. Returns its size, or 0 if it is larger than <paramref name="bytesMax"/> and was left out.</summary>
    /// <exception cref="MQTTnet.Exceptions.MqttProtocolViolationException">The packet cannot be said in this version.</exception>
    public static int Write(IBufferWriter<byte> output, MqttPacket packet, MqttProtocolVersion version, uint bytesMax = uint.MaxValue)
    {
        var adapter = AdapterFor(version);
        try
        {
            var encoded = adapter.Encode(packet);
            if ((uint)encoded.Length > bytesMax) return 0;

            output.Write(encoded.Packet.AsSpan());
            foreach (var segment in encoded.Payload) output.Write(segment.Span);
            adapter.Cleanup();
            return encoded.Length;
        }
        catch
        {
            Forget(version); // half a packet may be left in its buffers
            throw;
        }
    }

    // A pipe may begin with a segment that is read to its end; the codec looks for the first byte there all the same.
    private static void SkipEmpty(ref ReadOnlySequence<byte> bytes)
    {
        while (bytes.FirstSpan.IsEmpty && !bytes.IsEmpty)
        {
            var next = bytes.Start;
            bytes.TryGet(ref next, out _);
            bytes = bytes.Slice(next);
        }
    }

    // The remaining length comes first, so that a packet we do not want is refused after five bytes.
    private static Frame Measure(in ReadOnlySequence<byte> bytes, int bytesMax, out int headerBytes, out int bodyBytes)
    {
        (headerBytes, bodyBytes) = (0, 0);
        if (bytes.IsEmpty) return Frame.Incomplete;

        Span<byte> header = stackalloc byte[FixedHeaderMax];
        var known = (int)Math.Min(bytes.Length, FixedHeaderMax);
        bytes.Slice(0, known).CopyTo(header);
        if (!IsFirstByte(header[0])) return Frame.Malformed;

        var more = true;
        for (var i = 1; more; i++)
        {
            if (i == FixedHeaderMax) return Frame.Malformed; // 2.2.3: at most four bytes
            if (i == known) return Frame.Incomplete;
            bodyBytes |= (header[i] & 0x7F) << (7 * (i - 1));
            more = (header[i] & 0x80) != 0;
            headerBytes = i + 1;
        }

        return headerBytes + bodyBytes > bytesMax ? Frame.TooLarge
            : headerBytes + (long)bodyBytes > bytes.Length ? Frame.Incomplete
            : Frame.Packet;
    }

    // [MQTT-2.2.2-2] Reserved bits have one value each; the codec does not look. [MQTT-3.3.1-4] There is no QoS 3. [MQTT-3.3.1-2] No DUP at QoS 0.
    private static bool IsFirstByte(byte first) => (first >> 4, first & 0x0F) switch
    {
        (0, _) => false,
        (3, var flags) => (flags & 0b0110) != 0b0110 && (flags & 0b1110) != 0b1000,
        (6 or 8 or 10, var flags) => flags == 0b0010,
        (_, var flags) => flags == 0,
    };

    private static Frame Decode(ref ReadOnlySequence<byte> bytes, MqttProtocolVersion version, out MqttPacket? packet)
    {
        packet = null;
        try
        {
            if (!AdapterFor(version).TryDecode(bytes, out packet, out var consumed, out _, out _)) return Frame.Incomplete;
            var isMalformed = packet is null || IsAltered(packet, bytes.Slice(0, consumed));
            bytes = bytes.Slice(consumed);
            return isMalformed ? Frame.Malformed : Frame.Packet;
        }
        catch (Exception) // whatever the codec makes of garbage, it is the sender's fault and must not be ours
        {
            Forget(version);
            return Frame.Malformed;
        }
    }

    // [MQTT-1.5.4-1] Text that is no UTF-8 closes the connection. The codec reads it all the same, with U+FFFD in it.
    private static bool IsAltered(MqttPacket packet, in ReadOnlySequence<byte> bytes)
    {
        switch (packet)
        {
            case MqttPublishPacket publish:
                return IsAltered(publish.Topic, bytes);
            case MqttSubscribePacket subscribe:
                foreach (var filter in subscribe.TopicFilters) if (IsAltered(filter.Topic, bytes)) return true;
                return false;
            case MqttUnsubscribePacket unsubscribe:
                foreach (var filter in unsubscribe.TopicFilters) if (IsAltered(filter, bytes)) return true;
                return false;
            case MqttConnectPacket connect:
                return IsAltered(connect.ClientId, bytes) || IsAltered(connect.Username, bytes) || IsAltered(connect.WillTopic, bytes);
            default:
                return false;
        }
    }

    private static bool IsAltered(string? text, in ReadOnlySequence<byte> bytes) =>
        text is not null && text.Contains('\uFFFD') && bytes.ToArray().AsSpan().IndexOf(Encoding.UTF8.GetBytes(text)) < 0;

    // The codec has read it: reason code, length of the properties, and properties that are well formed.
    private static bool NamesExpiry(in ReadOnlySequence<byte> body)
    {
        const byte sessionExpiryInterval = 0x11, reasonString = 0x1F, serverReference = 0x1C, userProperty = 0x26;
        var reader = new SequenceReader<byte>(body);
        reader.Advance(Math.Min(1, reader.Remaining));
        while (reader.TryRead(out var lengthByte) && (lengthByte & 0x80) != 0) { }
        while (reader.TryRead(out var property))
        {
            if (property == sessionExpiryInterval) return true;
            if (property is not (reasonString or serverReference or userProperty) || !TrySkipText(ref reader)) return false;
            if (property == userProperty && !TrySkipText(ref reader)) return false;
        }

        return false;
    }

    // [MQTT-3.8.3-5] The reserved bits of the options are 0; the codec drops them. The packet is well formed, it has
    // read it.
    private static bool HasReservedOptions(in ReadOnlySequence<byte> body)
    {
        const byte reserved = 0b1100_0000;
        var reader = new SequenceReader<byte>(body);
        reader.Advance(2); // packet id
        var (properties, shift, isMore) = (0, 0, true);
        while (isMore && reader.TryRead(out var part))
        {
            properties |= (part & 0x7F) << shift;
            (shift, isMore) = (shift + 7, (part & 0x80) != 0);
        }

        reader.Advance(Math.Min(properties, reader.Remaining));
        while (TrySkipText(ref reader) && reader.TryRead(out var options))
        {
            if ((options & reserved) != 0) return true;
        }

        return false;
    }

    private static bool TrySkipText(ref SequenceReader<byte> reader)
    {
        if (!reader.TryReadBigEndian(out short length) || reader.Remaining < (ushort)length) return false;
        reader.Advance((ushort)length);
        return true;
    }

    // The level decides which codec reads the packet. Looked at here because the codec's own detection needs a fresh adapter for every connection.
    private static MqttProtocolVersion VersionOf(in ReadOnlySequence<byte> body, out bool isMqtt)
    {
        Span<byte> start = stackalloc byte[9];
        var known = (int)Math.Min(body.Length, start.Length);
        body.Slice(0, known).CopyTo(start);
        start = start[..known];

        var isNew = start.StartsWith("\0\u0004MQTT"u8);
        isMqtt = isNew || start.StartsWith("\0\u0006MQIsdp"u8);
        var level = isMqtt && known > (isNew ? 6 : 8) ? start[isNew ? 6 : 8] & 0x7F : 0; // without the flag of mosquitto's bridges
        return (isNew, level) switch
        {
            (true, 5) => MqttProtocolVersion.V500,
            (true, 4) => MqttProtocolVersion.V311,
            (false, 3) => MqttProtocolVersion.V310,
            _ => MqttProtocolVersion.Unknown,
        };
    }

    private static MqttPacketFormatterAdapter AdapterFor(MqttProtocolVersion version) => version switch
    {
        MqttProtocolVersion.V500 => _v500 ??= NewAdapter(version),
        MqttProtocolVersion.V311 => _v311 ??= NewAdapter(version),
        MqttProtocolVersion.V310 => _v310 ??= NewAdapter(version),
        _ => throw new ArgumentOutOfRangeException(nameof(version), version, "Unknown MQTT version."),
    };

    private static void Forget(MqttProtocolVersion version) =>
        _ = version switch
        {
            MqttProtocolVersion.V500 => _v500 = null,
            MqttProtocolVersion.V311 => _v311 = null,
            _ => _v310 = null,
        };

    private static MqttPacketFormatterAdapter NewAdapter(MqttProtocolVersion version) =>
        new(version, new MqttBufferWriter(bufferSize: 1024, maxBufferSize: 16 * 1024));
}
