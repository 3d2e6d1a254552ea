using System.Buffers;
using System.Buffers.Binary;
using System.Net;
using System.Text;
using Xunit;

namespace IoTDelivery.Mqtt.Tests;

/// <summary>The PROXY protocol, sections 2.1 (text) and 2.2 (binary) of HAProxy's <c>proxy-protocol.txt</c>.</summary>
public sealed class ProxyHeaderSpec
{
    private static readonly byte[] Signature = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A];
    private static readonly byte[] Addresses4 = [203, 0, 113, 7, 192, 0, 2, 9, 0x12, 0x67, 0x07, 0x5B];
    private static readonly byte[] Addresses6 =
    [
        .. IPAddress.Parse("2001:db8::7").GetAddressBytes(), .. IPAddress.Parse("2001:db8::9").GetAddressBytes(),
        0x12, 0x67, 0x07, 0x5B,
    ];
    private static readonly byte[] Tlvs = [0x03, 0, 4, 1, 2, 3, 4, 0x04, 0, 3, 0, 0, 0]; // a checksum and padding
    private const string Client4 = "203.0.113.7:4711", Client6 = "[2001:db8::7]:4711", Own = "(its own)";

    public static TheoryData<string, byte[], string> Good => new()
    {
        { "TCP4", Text("TCP4 203.0.113.7 192.0.2.9 4711 1883"), Client4 },
        { "TCP6", Text("TCP6 2001:db8::7 2001:db8::9 4711 1883"), Client6 },
        {
            "TCP6, in full and upper case",
            Text("TCP6 2001:0DB8:0000:0000:0000:0000:0000:0007 2001:DB8::9 4711 1883"),
            Client6
        },
        { "TCP6, IPv4 in IPv6", Text("TCP6 ::ffff:203.0.113.7 ::1 4711 1883"), "[::ffff:203.0.113.7]:4711" },
        { "TCP4, lowest and highest", Text("TCP4 0.0.0.0 255.255.255.255 0 65535"), "0.0.0.0:0" },
        { "the longest line", Text("UNKNOWN " + new string('f', 107 - 2 - 14)), Own },
        { "UNKNOWN", Text("UNKNOWN"), Own },
        { "UNKNOWN with addresses", Text("UNKNOWN ffff:f::f ffff:f::f 65535 65535"), Own },
        { "INET", Binary(0x21, 0x11, Addresses4), Client4 },
        { "INET with TLVs", Binary(0x21, 0x11, [.. Addresses4, .. Tlvs]), Client4 },
        { "INET6", Binary(0x21, 0x21, Addresses6), Client6 },
        { "INET6 with TLVs", Binary(0x21, 0x21, [.. Addresses6, .. Tlvs]), Client6 },
        { "UNSPEC", Binary(0x21, 0x00, []), Own },
        { "UNSPEC with TLVs", Binary(0x21, 0x00, Tlvs), Own },
        { "LOCAL", Binary(0x20, 0x00, []), Own },
        { "LOCAL with addresses, which do not count", Binary(0x20, 0x11, Addresses4), Own },
        { "LOCAL of a family that does not exist", Binary(0x20, 0xFF, []), Own },
        { "a UNIX socket", Binary(0x21, 0x31, new byte[216]), Own },
        { "UDP", Binary(0x21, 0x12, Addresses4), Own },
        {
            "as large as it may be",
            Binary(0x21, 0x11, [.. Addresses4, .. new byte[ProxyHeader.BinaryBytesMax - 16 - 12]]),
            Client4
        },
    };

    [Theory]
    [MemberData(nameof(Good))]
    public void A_header_says_where_the_client_is_and_leaves_what_is_behind_it(
        string what, byte[] header, string source)
    {
        var bytes = new ReadOnlySequence<byte>([.. header, 0x10, 0x2A]);

        Assert.True(ProxyHeader.TryRead(ref bytes, out var read, out var problem), $"{what}: {problem}");
        Assert.Equal((source, (string?)null), (read.Source?.ToString() ?? Own, problem));
        Assert.Equal([0x10, 0x2A], bytes.ToArray());
    }

    [Theory]
    [MemberData(nameof(Good))]
    public void Cut_at_any_byte_it_is_waited_for_and_in_two_segments_it_is_the_same(
        string what, byte[] header, string source)
    {
        for (var cut = 0; cut < header.Length; cut++)
        {
            var start = new ReadOnlySequence<byte>(header, 0, cut);
            Assert.False(ProxyHeader.TryRead(ref start, out _, out var problem));
            Assert.True(problem is null && start.Length == cut, $"{what}, {cut} bytes: {problem}");

            var whole = Segment.Two(header, cut);
            Assert.True(ProxyHeader.TryRead(ref whole, out var read, out _));
            Assert.Equal((source, 0), (read.Source?.ToString() ?? Own, whole.Length));
        }
    }

    public static TheoryData<string, byte[], string> Wrong => new()
    {
        { "a CONNECT", [0x10, 0x2A, 0, 4], "it begins with 102A0004 (hexadecimal), which is no PROXY header" },
        { "a TLS hello", [0x16, 3, 1], "it begins with 160301 " },
        { "HTTP that begins alike", "POST / HTTP/1.1\r\n"u8.ToArray(), "which is no PROXY header" },
        { "another word", "PROXY\tTCP4"u8.ToArray(), "which is no PROXY header" },
        { "lower case", "proxy TCP4"u8.ToArray(), "which is no PROXY header" },
        { "a signature with one byte wrong", [.. Signature[..11], 0x0B], "which is no PROXY header" },
        { "no protocol", Text(""), "its PROXY line is wrong: 'PROXY '" },
        {
            "UDP4",
            Text("UDP4 203.0.113.7 192.0.2.9 4711 1883"),
            "its PROXY line is wrong: 'PROXY UDP4 203.0.113.7 192.0.2.9 4711 1883'"
        },
        { "no ports", Text("TCP4 203.0.113.7 192.0.2.9"), "its PROXY line is wrong" },
        { "one port", Text("TCP4 203.0.113.7 192.0.2.9 4711"), "its PROXY line is wrong" },
        { "two spaces", Text("TCP4  203.0.113.7 192.0.2.9 4711 1883"), "its PROXY line is wrong" },
        { "a word too many", Text("TCP4 203.0.113.7 192.0.2.9 4711 1883 x"), "its PROXY line is wrong" },
        { "a port too large", Text("TCP4 203.0.113.7 192.0.2.9 65536 1883"), "its PROXY line is wrong" },
        { "a port with a sign", Text("TCP4 203.0.113.7 192.0.2.9 +1 1883"), "its PROXY line is wrong" },
        { "a port with a leading zero", Text("TCP4 203.0.113.7 192.0.2.9 01 1883"), "its PROXY line is wrong" },
        { "IPv6 as TCP4", Text("TCP4 2001:db8::7 2001:db8::9 4711 1883"), "its PROXY line is wrong" },
        { "IPv4 as TCP6", Text("TCP6 203.0.113.7 192.0.2.9 4711 1883"), "its PROXY line is wrong" },
        { "an address in short", Text("TCP4 127.1 192.0.2.9 4711 1883"), "its PROXY line is wrong" },
        { "an address as a number", Text("TCP4 0x7F000001 192.0.2.9 4711 1883"), "its PROXY line is wrong" },
        { "an address with a leading zero", Text("TCP4 203.0.113.07 192.0.2.9 4711 1883"), "its PROXY line is wrong" },
        { "an address with a scope", Text("TCP6 fe80::1%2 ::1 4711 1883"), "its PROXY line is wrong" },
        { "an address in brackets", Text("TCP6 [::1] ::1 4711 1883"), "its PROXY line is wrong" },
        {
            "control characters, which stay out of the log",
            Text("TCP4 \u001b[2J\n"),
            "its PROXY line is wrong: 'PROXY TCP4 ?[2J?'"
        },
        {
            "a line that does not end",
            Encoding.ASCII.GetBytes("PROXY UNKNOWN " + new string('f', 93)),
            "its PROXY line is longer than 107 bytes"
        },
        {
            "a line one byte too long",
            Text("UNKNOWN " + new string('f', 107 - 2 - 14 + 1)),
            "its PROXY line is longer than 107 bytes"
        },
        { "version 1 in binary", Binary(0x11, 0x11, Addresses4), "its PROXY header is of version 1 and not 2" },
        { "version 3", Binary(0x31, 0x11, Addresses4), "its PROXY header is of version 3 and not 2" },
        {
            "a command that does not exist",
            Binary(0x22, 0x11, Addresses4),
            "its PROXY header has the unknown command 2"
        },
        {
            "a family that does not exist",
            Binary(0x21, 0x41, Addresses4),
            "its PROXY header has the unknown address family 0x41"
        },
        {
            "a transport that does not exist",
            Binary(0x21, 0x13, Addresses4),
            "its PROXY header has the unknown address family 0x13"
        },
        {
            "INET without addresses",
            Binary(0x21, 0x11, []),
            "its PROXY header has no room for its addresses in 0 bytes"
        },
        {
            "INET one byte too short",
            Binary(0x21, 0x11, Addresses4[..11]),
            "its PROXY header has no room for its addresses in 11 bytes"
        },
        {
            "INET6 one byte too short",
            Binary(0x21, 0x21, Addresses6[..35]),
            "its PROXY header has no room for its addresses in 35 bytes"
        },
        {
            "too large, by its first 16 bytes",
            [.. Signature, 0x21, 0x11, 0xFF, 0xFF],
            "its PROXY header is larger than 16384 bytes"
        },
        {
            "too large by one",
            Binary(0x21, 0x11, new byte[ProxyHeader.BinaryBytesMax - 16 + 1]),
            "its PROXY header is larger than 16384 bytes"
        },
    };

    [Theory]
    [MemberData(nameof(Wrong))]
    public void What_is_no_header_is_refused_in_words(string what, byte[] bytes, string says)
    {
        var sequence = new ReadOnlySequence<byte>(bytes);

        Assert.False(ProxyHeader.TryRead(ref sequence, out _, out var problem), what);
        Assert.StartsWith(says.StartsWith("which", StringComparison.Ordinal) ? "it begins with " : says, problem);
        Assert.Contains(says, problem);
    }

    // A good header with bytes changed, cut or added: it is read, waited for or refused, and nothing beyond it is
    // taken.
    [Fact]
    public void Whatever_comes_nothing_is_thrown_and_no_more_is_taken_than_a_header()
    {
        var seed = Environment.TickCount;
        var random = new Random(seed);
        var good = Good.Select(row => (byte[])row[1]).Where(h => h.Length < 300).ToArray();
        for (var i = 0; i < 100_000; i++)
        {
            byte[] bytes = [.. good[random.Next(good.Length)], 0x10];
            for (var change = random.Next(4); change > 0; change--)
            {
                bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            }

            var sequence = new ReadOnlySequence<byte>(bytes, 0, random.Next(bytes.Length + 1));
            var length = sequence.Length;
            try
            {
                var isRead = ProxyHeader.TryRead(ref sequence, out var header, out var problem);

                Assert.True(isRead
                    ? problem is null && sequence.Length < length
                    : sequence.Length == length && header.Source is null);
            }
            catch (Exception cause)
            {
                Assert.Fail($"Seed {seed}, {Convert.ToHexString(bytes)}: {cause}");
            }
        }
    }

    [Theory]
    [InlineData("10.0.0.5", "10.0.0.5", true)]
    [InlineData("10.0.0.5", "10.0.0.6", false)]
    [InlineData("10.0.0.0/8", "10.200.3.4", true)]
    [InlineData("10.0.0.0/8", "::ffff:10.200.3.4", true)] // how a listener on [::] sees IPv4
    [InlineData("10.0.0.0/8", "11.0.0.1", false)]
    [InlineData("0.0.0.0/0", "203.0.113.7", true)]
    [InlineData("0.0.0.0/0", "2001:db8::1", false)]
    [InlineData("fd00::/8", "fd12::1", true)]
    [InlineData("::1", "::1", true)]
    public void Proxies_are_trusted_by_address_or_network(string trusted, string address, bool isTrusted)
    {
        var options = new ProxyOptions { TrustedAddresses = ["192.0.2.1", trusted] };

        Assert.Equal(isTrusted, TrustedProxies.Read(options, "a test").Contains(IPAddress.Parse(address)));
    }

    [Theory]
    [InlineData("haproxy")]
    [InlineData("10.0.0.0/33")]
    [InlineData("10.0.0.0/")]
    [InlineData("")]
    public void What_is_no_address_and_no_network_is_named(string wrong) => Assert.Contains(
        $"Proxy:TrustedAddresses: '{wrong}' is neither",
        Assert.Throws<ArgumentException>(() => TrustedProxies.Read(
            new ProxyOptions { TrustedAddresses = ["::1", wrong] }, "a test")).Message);

    private static byte[] Text(string rest) => Encoding.ASCII.GetBytes($"PROXY {rest}\r\n");

    private static byte[] Binary(byte versionAndCommand, byte family, byte[] rest)
    {
        byte[] header = [.. Signature, versionAndCommand, family, 0, 0, .. rest];
        BinaryPrimitives.WriteUInt16BigEndian(header.AsSpan(14), (ushort)rest.Length);
        return header;
    }

    private sealed class Segment : ReadOnlySequenceSegment<byte>
    {
        public static ReadOnlySequence<byte> Two(byte[] bytes, int cut)
        {
            var first = new Segment { Memory = bytes.AsMemory(0, cut) };
            var second = new Segment { Memory = bytes.AsMemory(cut), RunningIndex = cut };
            first.Next = second;
            return new ReadOnlySequence<byte>(first, 0, second, second.Memory.Length);
        }
    }
}
