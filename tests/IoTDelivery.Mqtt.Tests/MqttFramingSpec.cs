using System.Buffers;
using MQTTnet.Exceptions;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using Xunit;

namespace IoTDelivery.Mqtt.Tests;

/// <summary>Chapter 2, "MQTT Control Packet format".</summary>
public sealed class MqttFramingSpec
{
    private const int Limit = 1024;

    public static TheoryData<MqttProtocolVersion> Versions => [MqttProtocolVersion.V310, MqttProtocolVersion.V311, MqttProtocolVersion.V500];

    [Theory]
    [MemberData(nameof(Versions))]
    public void Every_packet_may_arrive_cut_at_every_byte(MqttProtocolVersion version)
    {
        foreach (var packet in FromDevice())
        {
            var bytes = Bytes(version, packet);
            for (var cut = 0; cut < bytes.Length; cut++)
            {
                var start = new ReadOnlySequence<byte>(bytes, 0, cut);
                Assert.Equal(Frame.Incomplete, MqttFraming.TryRead(ref start, version, Limit, out _));
                Assert.Equal(cut, start.Length); // nothing is taken before all is there

                var whole = TwoSegments(bytes, cut);
                Assert.Equal(Frame.Packet, MqttFraming.TryRead(ref whole, version, Limit, out var read));
                Assert.Equal(packet.ToString(), read!.ToString());
                Assert.True(whole.IsEmpty);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public void A_CONNECT_may_arrive_cut_at_every_byte_and_says_its_version(MqttProtocolVersion version)
    {
        var bytes = Bytes(version, Given.ConnectPacket());
        for (var cut = 0; cut < bytes.Length; cut++)
        {
            var start = new ReadOnlySequence<byte>(bytes, 0, cut);
            Assert.Equal(Frame.Incomplete, MqttFraming.TryReadConnect(ref start, Limit, out _, out _));

            var whole = TwoSegments(bytes, cut);
            Assert.Equal(Frame.Packet, MqttFraming.TryReadConnect(ref whole, Limit, out var spoken, out var connect));
            Assert.Equal((version, Given.ConnectPacket().ClientId), (spoken, connect!.ClientId));
        }
    }

    // [MQTT-1.5.4-1] Latin-1, half a surrogate pair, U+0000 in two bytes, a character that is cut off.
    [Theory]
    [InlineData(new byte[] { 0xFF }, Frame.Malformed)]
    [InlineData(new byte[] { 0xED, 0xA0, 0x80 }, Frame.Malformed)]
    [InlineData(new byte[] { 0xC0, 0x80 }, Frame.Malformed)]
    [InlineData(new byte[] { 0xE4, 0xBD }, Frame.Malformed)]
    [InlineData(new byte[] { 0xE4, 0xBD, 0xA0 }, Frame.Packet)]
    [InlineData(new byte[] { 0xEF, 0xBF, 0xBD }, Frame.Packet)] // U+FFFD as the client itself wrote it
    public void Text_that_is_no_UTF_8_is_malformed_and_never_altered(byte[] text, Frame expected)
    {
        const string whole = "a/#mark#/b";
        MqttPacket[] packets =
        [
            Given.Publish(whole, 1),
            new MqttSubscribePacket { PacketIdentifier = 1, TopicFilters = [new MqttTopicFilter { Topic = "b" }, new MqttTopicFilter { Topic = whole }] },
            new MqttUnsubscribePacket { PacketIdentifier = 1, TopicFilters = ["b", whole] },
        ];
        foreach (var version in new[] { MqttProtocolVersion.V310, MqttProtocolVersion.V311, MqttProtocolVersion.V500 })
        {
            foreach (var packet in packets)
            {
                var bytes = new ReadOnlySequence<byte>(With(Bytes(version, packet), whole, text));
                Assert.Equal(expected, MqttFraming.TryRead(ref bytes, version, Limit, out _));
            }

            var connect = Given.ConnectPacket();
            connect.Username = whole;
            var first = new ReadOnlySequence<byte>(With(Bytes(version, connect), whole, text));
            Assert.Equal(expected, MqttFraming.TryReadConnect(ref first, Limit, out _, out _));
        }
    }

    // The packet with other bytes in place of the mark. Its remaining length and the text's own fit into one byte each.
    private static byte[] With(byte[] packet, string whole, byte[] text)
    {
        const string mark = "#mark#";
        var start = packet.AsSpan().IndexOf(System.Text.Encoding.ASCII.GetBytes(whole));
        var at = start + whole.IndexOf(mark, StringComparison.Ordinal);
        byte[] with = [.. packet[..at], .. text, .. packet[(at + mark.Length)..]];
        with[start - 1] = (byte)(whole.Length - mark.Length + text.Length);
        with[1] = (byte)(packet[1] - mark.Length + text.Length);
        return with;
    }

    [Fact]
    public void Packets_that_arrive_together_are_taken_one_by_one()
    {
        var bytes = new ReadOnlySequence<byte>([.. Bytes(MqttProtocolVersion.V311, MqttPingReqPacket.Instance), .. Bytes(MqttProtocolVersion.V311, new MqttDisconnectPacket())]);

        Assert.Equal(Frame.Packet, MqttFraming.TryRead(ref bytes, MqttProtocolVersion.V311, Limit, out var first));
        Assert.Equal(Frame.Packet, MqttFraming.TryRead(ref bytes, MqttProtocolVersion.V311, Limit, out var second));
        Assert.Equal(Frame.Incomplete, MqttFraming.TryRead(ref bytes, MqttProtocolVersion.V311, Limit, out _));

        Assert.IsType<MqttPingReqPacket>(first);
        Assert.IsType<MqttDisconnectPacket>(second);
    }

    [Fact]
    public void A_packet_over_the_limit_is_refused_by_its_header_alone()
    {
        // PUBLISH, remaining length 268,435,455: five bytes are enough to know.
        var bytes = new ReadOnlySequence<byte>([0x30, 0xFF, 0xFF, 0xFF, 0x7F]);

        Assert.Equal(Frame.TooLarge, MqttFraming.TryRead(ref bytes, MqttProtocolVersion.V311, Limit, out _));
    }

    [Fact]
    public void The_limit_counts_the_header()
    {
        var fits = Bytes(MqttProtocolVersion.V311, Given.Publish("t", 0));
        var bytes = new ReadOnlySequence<byte>(fits);

        Assert.Equal(Frame.TooLarge, MqttFraming.TryRead(ref bytes, MqttProtocolVersion.V311, fits.Length - 1, out _));
        Assert.Equal(Frame.Packet, MqttFraming.TryRead(ref bytes, MqttProtocolVersion.V311, fits.Length, out _));
    }

    [Theory]
    [InlineData(new byte[] { 0x00, 0x00 })] // type 0
    [InlineData(new byte[] { 0x30, 0x80, 0x80, 0x80, 0x80 })] // 2.2.3: a fifth length byte
    [InlineData(new byte[] { 0x36 })] // [MQTT-3.3.1-4] QoS 3
    [InlineData(new byte[] { 0x38 })] // [MQTT-3.3.1-2] DUP at QoS 0
    [InlineData(new byte[] { 0x80 })] // [MQTT-3.8.1-1] SUBSCRIBE without its reserved bit
    [InlineData(new byte[] { 0xA0 })] // [MQTT-3.10.1-1] UNSUBSCRIBE likewise
    [InlineData(new byte[] { 0x60 })] // [MQTT-3.6.1-1] PUBREL likewise
    [InlineData(new byte[] { 0xC1 })] // [MQTT-2.2.2-2] PINGREQ with one
    [InlineData(new byte[] { 0x40, 0x01, 0x00 })] // PUBACK with half a packet id
    [InlineData(new byte[] { 0x30, 0x02, 0x00, 0x09 })] // topic longer than the packet
    [InlineData(new byte[] { 0x82, 0x00 })] // SUBSCRIBE with nothing in it
    public void Garbage_is_malformed_and_throws_nothing(byte[] garbage)
    {
        var bytes = new ReadOnlySequence<byte>(garbage);

        Assert.Equal(Frame.Malformed, MqttFraming.TryRead(ref bytes, MqttProtocolVersion.V311, Limit, out _));
    }

    [Fact]
    public void Random_bytes_never_throw_and_good_packets_are_read_after_them()
    {
        var random = new Random(4711);
        var good = Bytes(MqttProtocolVersion.V500, Given.Publish(Given.Up, 1));
        for (var i = 0; i < 20_000; i++)
        {
            var garbage = new byte[random.Next(2, 40)];
            random.NextBytes(garbage);
            garbage[1] = (byte)(garbage.Length - 2); // a length that is right, so that the codec has to look inside
            var bytes = new ReadOnlySequence<byte>(garbage);
            MqttFraming.TryRead(ref bytes, MqttProtocolVersion.V500, Limit, out _);
            bytes = new ReadOnlySequence<byte>(garbage);
            MqttFraming.TryReadConnect(ref bytes, Limit, out _, out _);
        }

        var rest = new ReadOnlySequence<byte>(good);
        Assert.Equal(Frame.Packet, MqttFraming.TryRead(ref rest, MqttProtocolVersion.V500, Limit, out _));
    }

    // [MQTT-3.1.0-1]
    [Fact]
    public void A_first_packet_that_is_no_CONNECT_is_refused_by_its_first_byte()
    {
        var bytes = new ReadOnlySequence<byte>("G"u8.ToArray()); // of "GET / HTTP/1.1"

        Assert.Equal(Frame.Malformed, MqttFraming.TryReadConnect(ref bytes, Limit, out _, out _));
    }

    // [MQTT-3.1.2-2]
    [Theory]
    [InlineData(3)]
    [InlineData(6)]
    public void A_level_nobody_speaks_is_told_apart_from_garbage(byte level)
    {
        var connect = Bytes(MqttProtocolVersion.V311, Given.ConnectPacket());
        connect[8] = level;
        var bytes = new ReadOnlySequence<byte>(connect);

        Assert.Equal(Frame.UnknownLevel, MqttFraming.TryReadConnect(ref bytes, Limit, out _, out _));
    }

    // [MQTT-3.1.2-24] of MQTT 5
    [Fact]
    public void A_packet_larger_than_the_client_takes_is_left_out()
    {
        var output = new ArrayBufferWriter<byte>();

        Assert.Equal(0, MqttFraming.Write(output, Given.Publish("t", 0), MqttProtocolVersion.V500, bytesMax: 7));
        Assert.Equal(0, output.WrittenCount);
        Assert.Equal(8, MqttFraming.Write(output, Given.Publish("t", 0), MqttProtocolVersion.V500, bytesMax: 8));
    }

    [Fact]
    public void A_packet_that_cannot_be_said_leaves_no_trace_in_the_next()
    {
        var tooLong = Given.Publish("t", 0);
        tooLong.ResponseTopic = "first, this gets into a buffer";
        tooLong.UserProperties = [new MqttUserProperty("k", new byte[70_000].AsMemory())];
        var output = new ArrayBufferWriter<byte>();
        var expected = Bytes(MqttProtocolVersion.V500, Given.Publish("t", 0));

        Assert.Throws<MqttProtocolViolationException>(() => MqttFraming.Write(output, tooLong, MqttProtocolVersion.V500));

        Assert.Equal(0, output.WrittenCount);
        Assert.Equal(expected, Bytes(MqttProtocolVersion.V500, Given.Publish("t", 0)));
    }

    // The codec's packet cannot tell 0 from absent, and they mean opposite things.
    [Theory]
    [InlineData("E000", null)]
    [InlineData("E00100", null)]
    [InlineData("E0020000", null)]
    [InlineData("E00700051100000000", 0u)]
    [InlineData("E0070005110000003C", 60u)]
    [InlineData("E00B00091F0001111100000007", 7u)] // behind a reason string whose text is the property's own id
    [InlineData("E00600041F000111", null)]
    [InlineData("E00E000C260001110001111100000009", 9u)]
    public void A_DISCONNECT_of_MQTT_5_says_whether_it_names_a_session_expiry(string hex, uint? expiry)
    {
        var bytes = new System.Buffers.ReadOnlySequence<byte>(Convert.FromHexString(hex));

        MqttFraming.TryRead(ref bytes, MQTTnet.Formatter.MqttProtocolVersion.V500, 1000, out var packet);

        Assert.Equal(expiry, (packet as DisconnectWithExpiry)?.SessionExpiryInterval);
    }

    private static IEnumerable<MqttPacket> FromDevice() =>
    [
        Given.Publish(Given.Up, 0),
        Given.Publish(Given.Up, 1),
        Given.Publish(Given.Up, 2),
        new MqttPublishPacket { Topic = Given.Up, PayloadSegment = new byte[300] }, // two length bytes
        new MqttPubAckPacket { PacketIdentifier = 258 },
        new MqttPubRelPacket { PacketIdentifier = 258 },
        Given.Subscribe((Given.Down, 1), ("a/+/b", 0)),
        Given.Unsubscribe(Given.Down, "a/+/b"),
        MqttPingReqPacket.Instance,
        new MqttDisconnectPacket(),
    ];

    private static byte[] Bytes(MqttProtocolVersion version, MqttPacket packet)
    {
        var output = new ArrayBufferWriter<byte>();
        MqttFraming.Write(output, packet, version);
        return output.WrittenSpan.ToArray();
    }

    private static ReadOnlySequence<byte> TwoSegments(byte[] bytes, int cut)
    {
        var first = new Segment(bytes.AsMemory(0, cut), 0, null);
        var last = new Segment(bytes.AsMemory(cut), cut, first);
        return new ReadOnlySequence<byte>(first, 0, last, last.Memory.Length);
    }

    private sealed class Segment : ReadOnlySequenceSegment<byte>
    {
        public Segment(ReadOnlyMemory<byte> memory, long index, Segment? before)
        {
            (Memory, RunningIndex) = (memory, index);
            if (before is not null) before.Next = this;
        }
    }
}
