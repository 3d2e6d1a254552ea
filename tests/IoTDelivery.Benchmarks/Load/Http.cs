using System.Buffers.Text;

namespace IoTDelivery.Benchmarks.Load;

/// <summary>As much of HTTP/1.1 as the generator needs: where a message ends and what its body is.</summary>
public static class Http
{
    /// <summary>Length of the whole message; 0 if it is not all there. Bodies are of a known length or chunked; of chunks only JSON is expected.</summary>
    public static int Length(ReadOnlySpan<byte> bytes, out ReadOnlySpan<byte> body)
    {
        body = default;
        var end = bytes.IndexOf("\r\n\r\n"u8);
        if (end < 0) return 0;
        var head = bytes[..(end + 2)];
        var start = end + 4;
        var at = head.IndexOf("Content-Length: "u8);
        if (at >= 0)
        {
            Utf8Parser.TryParse(head[(at + 16)..], out int length, out _);
            if (bytes.Length < start + length) return 0;
            body = bytes.Slice(start, length);
            return start + length;
        }

        if (head.IndexOf("Transfer-Encoding: chunked"u8) < 0) return start;
        var last = bytes[start..].IndexOf("0\r\n\r\n"u8);
        while (last > 0 && bytes[start + last - 1] != '\n') // a size such as "10\r\n" ends alike
        {
            var next = bytes[(start + last + 1)..].IndexOf("0\r\n\r\n"u8);
            last = next < 0 ? -1 : last + 1 + next;
        }

        if (last < 0) return 0;
        body = bytes.Slice(start, last);
        return start + last + 5;
    }

    /// <summary>What stands between <paramref name="before"/> and the next quotation mark.</summary>
    public static ReadOnlySpan<byte> Value(ReadOnlySpan<byte> json, ReadOnlySpan<byte> before)
    {
        var at = json.IndexOf(before);
        if (at < 0) return default;
        var rest = json[(at + before.Length)..];
        var end = rest.IndexOf((byte)'"');
        return end < 0 ? default : rest[..end];
    }
}
