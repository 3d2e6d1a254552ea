using System.Buffers.Binary;
using System.IO.Compression;
using IoTDelivery.Domain;

namespace IoTDelivery.Push;

/// <summary>A payload that a device compressed (<c>encoding=gzip</c>).</summary>
internal static class GzipPayload
{
    /// <summary>
    /// What it may become: as much as a device may publish at once, 1 MB (manual, "Product specifications").
    /// </summary>
    public const int InflatedMax = 1024 * 1024;

    /// <summary>
    /// The payload before it was compressed, or why that cannot be had: it is no gzip, or more than
    /// <see cref="InflatedMax"/>.
    /// </summary>
    public static (byte[]? Inflated, ErrorInfo? Error) Inflate(byte[] payload)
    {
        using var gzip = new GZipStream(new MemoryStream(payload, writable: false), CompressionMode.Decompress);
        using var inflated = new MemoryStream(Math.Min(payload.Length * 4, InflatedMax));
        try
        {
            Span<byte> part = stackalloc byte[4096];
            for (var read = gzip.Read(part); read > 0; read = gzip.Read(part))
            {
                if (inflated.Length + read > InflatedMax) return (null, ErrorInfo.GzipTooLarge);
                inflated.Write(part[..read]);
            }
        }
        catch (InvalidDataException)
        {
            return (null, ErrorInfo.NoGzip);
        }

        return IsWhole(payload, inflated.Length) ? (inflated.ToArray(), null) : (null, ErrorInfo.NoGzip);
    }

    // GZipStream reads a stream that was cut off without a word, and nothing at all too. RFC 1952, 2.3.1: the last four
    // bytes are the length of what was compressed.
    private static bool IsWhole(byte[] payload, long length) =>
        payload.Length > 18 && BinaryPrimitives.ReadUInt32LittleEndian(payload.AsSpan(^4..)) == length;
}
