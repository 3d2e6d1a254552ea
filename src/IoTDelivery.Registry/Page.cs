using System.Security.Cryptography;

namespace IoTDelivery.Registry;

/// <summary>Which part of a list: records below <see cref="Marker"/>, newest first (API manual: limit 1–50, offset 0–500).</summary>
public readonly record struct Page(int Limit, string Marker, int Offset)
{
    /// <summary>The first page's marker.</summary>
    public const string NewestMarker = "ffffffffffffffffffffffff";

    /// <summary>The first page in the manual's default size.</summary>
    public static readonly Page First = new(10, NewestMarker, 0);
}

/// <summary>24 hex digits that grow with time: 12 for the millisecond, 12 random. What a marker points at.</summary>
public static class RecordIds
{
    public static string New(DateTimeOffset now) => now.ToUnixTimeMilliseconds().ToString("x12") + RandomNumberGenerator.GetHexString(12, lowercase: true);
}
