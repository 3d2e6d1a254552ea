using System.Security.Cryptography;
using System.Text;

namespace IoTDelivery.Host.Api.Authentication;

/// <summary>The text a signature covers, made from the request as it came over the wire (contract, "AK/SK").</summary>
public static class CanonicalRequest
{
    /// <summary>What the SDKs declare instead of a hash for a body that is not JSON.</summary>
    public const string Unsigned = "UNSIGNED-PAYLOAD";

    /// <summary>The six lines; null if a header that is said to be signed is not there.</summary>
    public static string? Of(string method, string target, IHeaderDictionary headers, string signedHeaders, string payloadHash)
    {
        var (path, query) = Split(target);
        var text = new StringBuilder().Append(method).Append('\n').Append(Path(path)).Append('\n').Append(Query(query)).Append('\n');
        foreach (var name in signedHeaders.Split(';'))
        {
            if (!headers.TryGetValue(name, out var values)) return null;
            foreach (var value in values.Select(v => (v ?? "").Trim()).Order(StringComparer.Ordinal)) text.Append(name).Append(':').Append(value).Append('\n');
        }

        return text.Append('\n').Append(signedHeaders).Append('\n').Append(payloadHash).ToString();
    }

    /// <summary>The last line: the hash of the bytes that came, or what the header declares instead; null if the declaration is false or not allowed.</summary>
    public static string? PayloadHash(string? declared, bool isJson, ReadOnlySpan<byte> body)
    {
        var hash = Convert.ToHexStringLower(SHA256.HashData(body));
        return declared switch
        {
            null => hash,
            Unsigned when body.IsEmpty => hash, // so do the SDKs, whatever they declare
            Unsigned when !isJson => Unsigned,
            _ => declared.Equals(hash, StringComparison.OrdinalIgnoreCase) ? declared : null,
        };
    }

    // Each segment is decoded and encoded again, so that it does not matter how eagerly a client or its HTTP library encoded; '%2F' stays inside its segment.
    private static string Path(string path)
    {
        var canonical = string.Join('/', path.Split('/').Select(segment => Encode(Decode(segment, plusIsSpace: false))));
        return canonical.EndsWith('/') ? canonical : canonical + "/";
    }

    // Sorted by name, then by value, both decoded. '+' is a space, as it is to whoever reads the query later.
    private static string Query(string query) => string.Join('&', query
        .Split('&', StringSplitOptions.RemoveEmptyEntries)
        .Select(pair => pair.IndexOf('=') is >= 0 and var at ? (Name: pair[..at], Value: pair[(at + 1)..]) : (Name: pair, Value: ""))
        .Select(pair => (Name: Decode(pair.Name, plusIsSpace: true), Value: Decode(pair.Value, plusIsSpace: true)))
        .OrderBy(pair => pair.Name, StringComparer.Ordinal)
        .ThenBy(pair => pair.Value, StringComparer.Ordinal)
        .Select(pair => $"{Encode(pair.Name)}={Encode(pair.Value)}"));

    private static (string Path, string Query) Split(string target)
    {
        if (!target.StartsWith('/')) // "GET http://host/path": a proxy asked
        {
            var host = target.IndexOf("://", StringComparison.Ordinal);
            var slash = host < 0 ? -1 : target.IndexOf('/', host + 3);
            target = slash < 0 ? "/" : target[slash..];
        }

        return target.IndexOf('?') is >= 0 and var at ? (target[..at], target[(at + 1)..]) : (target, "");
    }

    // One char per byte, which sorts as UTF-8 does and keeps bytes that are no UTF-8.
    private static string Decode(string text, bool plusIsSpace)
    {
        if (!text.AsSpan().ContainsAny('%', '+')) return text;
        var bytes = new StringBuilder(text.Length);
        for (var i = 0; i < text.Length; i++)
        {
            if (text[i] == '%' && i + 2 < text.Length && char.IsAsciiHexDigit(text[i + 1]) && char.IsAsciiHexDigit(text[i + 2]))
            {
                bytes.Append((char)Convert.ToByte(text.Substring(i + 1, 2), 16));
                i += 2;
            }
            else
            {
                bytes.Append(plusIsSpace && text[i] == '+' ? ' ' : text[i]);
            }
        }

        return bytes.ToString();
    }

    private static string Encode(string bytes)
    {
        if (bytes.All(IsUnreserved)) return bytes;
        var text = new StringBuilder(bytes.Length + 16);
        foreach (var c in bytes)
        {
            if (IsUnreserved(c)) text.Append(c);
            else text.Append('%').Append(((int)c).ToString("X2"));
        }

        return text.ToString();
    }

    private static bool IsUnreserved(char c) => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' or '~';
}
