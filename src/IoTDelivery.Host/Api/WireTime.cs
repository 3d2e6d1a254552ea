using System.Globalization;

namespace IoTDelivery.Host.Api;

/// <summary>The ways the manual writes a time, all UTC.</summary>
public static class WireTime
{
    /// <summary><c>20151212T121212Z</c></summary>
    public static string Compact(DateTimeOffset at) => at.UtcDateTime.ToString("yyyyMMdd'T'HHmmss'Z'", CultureInfo.InvariantCulture);

    /// <summary><c>2015-12-12T12:12:12.000Z</c></summary>
    public static string Millis(DateTimeOffset at) => at.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);

    /// <summary>Reads the compact form.</summary>
    public static bool TryParseCompact(string text, out DateTimeOffset at) => DateTimeOffset.TryParseExact(
        text, "yyyyMMdd'T'HHmmss'Z'", CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out at);

    /// <summary><c>2015-12-12T12:12:12.000000Z</c>, the identity service's way.</summary>
    public static string Micros(DateTimeOffset at) => at.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", CultureInfo.InvariantCulture);

    /// <summary>Stored milliseconds, compact.</summary>
    public static string Compact(long unixMilliseconds) => Compact(DateTimeOffset.FromUnixTimeMilliseconds(unixMilliseconds));
}
