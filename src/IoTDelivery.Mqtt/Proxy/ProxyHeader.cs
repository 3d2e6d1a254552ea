using System.Buffers;
using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace IoTDelivery.Mqtt;

/// <summary>
/// What a proxy says first of a connection it passes on: the PROXY protocol of HAProxy, versions 1 (a line of text) and
/// 2 (binary). Numbers of sections are those of its <c>proxy-protocol.txt</c>.
/// </summary>
/// <param name="Source">
/// Where the client is. Null if the proxy does not say: UNKNOWN, LOCAL (it speaks for itself, as in a health check),
/// UNSPEC, a socket that is not TCP. Then the address of the connection itself counts.
/// </param>
//
//   version 1   PROXY TCP4 192.0.2.1 192.0.2.9 51234 1883␍␊              107 bytes at most (2.1)
//   version 2   signature (12) · version and command · family · length (2) ─► source, destination, ports · TLVs (2.2)
//
public readonly record struct ProxyHeader(IPEndPoint? Source)
{
    /// <summary>Longest line of version 1, its end included (2.1).</summary>
    public const int TextBytesMax = 107;

    /// <summary>
    /// Longest header of version 2, its TLVs included: what HAProxy itself buffers (<c>tune.bufsize</c>).
    /// </summary>
    public const int BinaryBytesMax = 16 * 1024;

    private const int FixedBytes = 16, Local = 0, Proxied = 1, Tcp4 = 0x11, Tcp6 = 0x21;

    private static ReadOnlySpan<byte> Signature =>
        [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A];

    /// <summary>
    /// Takes the header off <paramref name="bytes"/> if all of it is there. False: bytes are missing, or there is a
    /// <paramref name="problem"/>, which no more bytes would mend.
    /// </summary>
    public static bool TryRead(ref ReadOnlySequence<byte> bytes, out ProxyHeader header, out string? problem)
    {
        (header, problem) = (default, null);
        if (bytes.IsEmpty) return false;
        Span<byte> start = stackalloc byte[FixedBytes];
        start = Copy(bytes, start);
        if (Begins(start, Signature)) return TryReadBinary(ref bytes, start, out header, out problem);
        if (Begins(start, "PROXY "u8)) return TryReadText(ref bytes, out header, out problem);
        problem = $"it begins with {Convert.ToHexString(start)} (hexadecimal), which is no PROXY header";
        return false;
    }

    private static bool TryReadText(ref ReadOnlySequence<byte> bytes, out ProxyHeader header, out string? problem)
    {
        (header, problem) = (default, null);
        Span<byte> line = stackalloc byte[TextBytesMax];
        line = Copy(bytes, line);
        var end = line.IndexOf("\r\n"u8);
        if (end < 0)
        {
            if (line.Length == TextBytesMax) problem = $"its PROXY line is longer than {TextBytesMax} bytes";
            return false;
        }

        var text = Encoding.ASCII.GetString(line[..end]);
        if (TryParse(text.Split(' '), out header))
        {
            bytes = bytes.Slice(end + 2);
            return true;
        }

        problem = $"its PROXY line is wrong: '{string.Concat(text.Select(c => char.IsControl(c) ? '?' : c))}'";
        return false;
    }

    private static bool TryParse(string[] words, out ProxyHeader header)
    {
        header = default;
        if (words is [_, "UNKNOWN", ..]) return true; // 2.1: what stands behind it is not looked at
        if (words is not [_, "TCP4" or "TCP6", var from, var to, var fromPort, var toPort]) return false;
        var family = words[1] == "TCP4" ? AddressFamily.InterNetwork : AddressFamily.InterNetworkV6;
        if (Address(from, family) is not { } source || Address(to, family) is null) return false;
        if (Port(fromPort) is not { } port || Port(toPort) is null) return false;
        header = new ProxyHeader(new IPEndPoint(source, port));
        return true;
    }

    private static bool TryReadBinary(
        ref ReadOnlySequence<byte> bytes, ReadOnlySpan<byte> start, out ProxyHeader header, out string? problem)
    {
        header = default;
        problem = Problem(start);
        if (problem is not null || start.Length < FixedBytes) return false;
        var (isProxied, family) = ((start[12] & 0x0F) == Proxied, start[13]);
        var length = BinaryPrimitives.ReadUInt16BigEndian(start[14..]);
        var addressBytes = (isProxied, family) switch
        {
            (true, Tcp4) => 4,
            (true, Tcp6) => 16,
            _ => 0,
        };
        var isTooSmall = addressBytes > 0 && length < 2 * (addressBytes + 2);
        if (FixedBytes + length > BinaryBytesMax) problem = $"its PROXY header is larger than {BinaryBytesMax} bytes";
        else if (isTooSmall) problem = $"its PROXY header has no room for its addresses in {length} bytes";
        if (problem is not null || bytes.Length < FixedBytes + length) return false;

        if (addressBytes > 0)
        {
            Span<byte> addresses = stackalloc byte[2 * (16 + 2)];
            addresses = Copy(bytes.Slice(FixedBytes, length), addresses);
            var port = BinaryPrimitives.ReadUInt16BigEndian(addresses[(2 * addressBytes)..]);
            header = new ProxyHeader(new IPEndPoint(new IPAddress(addresses[..addressBytes]), port));
        }

        bytes = bytes.Slice(FixedBytes + length); // 2.2: TLVs are skipped
        return true;
    }

    // 2.2: a receiver drops what it does not expect here. Of LOCAL it ignores the family.
    private static string? Problem(ReadOnlySpan<byte> start)
    {
        if (start.Length <= 12) return null;
        var (version, command) = (start[12] >> 4, start[12] & 0x0F);
        if (version != 2) return $"its PROXY header is of version {version} and not 2";
        if (command is not (Local or Proxied)) return $"its PROXY header has the unknown command {command}";
        if (start.Length == 13 || command == Local) return null;
        var isKnown = start[13] >> 4 <= 3 && (start[13] & 0x0F) <= 2;
        return isKnown ? null : $"its PROXY header has the unknown address family 0x{start[13]:X2}";
    }

    // As far as it has come.
    private static bool Begins(ReadOnlySpan<byte> start, ReadOnlySpan<byte> whole)
    {
        var known = Math.Min(start.Length, whole.Length);
        return start[..known].SequenceEqual(whole[..known]);
    }

    private static Span<byte> Copy(ReadOnlySequence<byte> bytes, Span<byte> to)
    {
        to = to[..(int)Math.Min(bytes.Length, to.Length)];
        bytes.Slice(0, to.Length).CopyTo(to);
        return to;
    }

    // The framework also takes 127.1, 0x7F000001 and fe80::1%2 for addresses; 2.1 does not.
    private static IPAddress? Address(string text, AddressFamily family)
    {
        if (!text.All(c => char.IsAsciiHexDigit(c) || c is '.' or ':')) return null;
        if (!IPAddress.TryParse(text, out var address) || address.AddressFamily != family) return null;
        return family == AddressFamily.InterNetworkV6 || address.ToString() == text ? address : null;
    }

    private static int? Port(string text) =>
        ushort.TryParse(text, System.Globalization.NumberStyles.None, provider: null, out var port)
            && port.ToString() == text
                ? port
                : null;
}
