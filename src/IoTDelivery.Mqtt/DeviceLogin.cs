using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using IoTDelivery.Domain;

namespace IoTDelivery.Mqtt;

/// <summary>
/// What a CONNECT says of its sender (manual, "Device Connection Authentication"): client id <c>{device_id}_0_{sign_type}_{timestamp}</c>,
/// user name <c>device_id</c>, password HMAC-SHA256 of the secret with the timestamp as key, in lower-case hex.
/// </summary>
/// <param name="DeviceId">Who it claims to be.</param>
/// <param name="ChecksTime">Sign type 1: the timestamp must agree with our clock. With sign type 0 it may be any hour.</param>
/// <param name="Timestamp">Ten digits, YYYYMMDDHH in UTC.</param>
public sealed record DeviceLogin(DeviceId DeviceId, bool ChecksTime, string Timestamp)
{
    private const int ClientIdMax = 256; // manual, "Device Connection Authentication"
    private const int TimestampLength = 10;

    /// <summary>False if the client id is not of the manual's form: CONNACK 2, in MQTT 5 0x85.</summary>
    public static bool TryParse(string? clientId, [NotNullWhen(true)] out DeviceLogin? login)
    {
        login = null;
        if (clientId is null or { Length: > ClientIdMax }) return false;

        // From the right: device ids contain '_' themselves.
        var text = clientId.AsSpan();
        if (!CutLast(ref text, out var timestamp) || !CutLast(ref text, out var signType) || !CutLast(ref text, out var idType)) return false;
        if (timestamp.Length != TimestampLength || timestamp.ContainsAnyExceptInRange('0', '9')) return false;
        if (idType is not "0" || signType is not ("0" or "1")) return false;
        if (!DeviceId.TryParse(text.ToString(), out var deviceId)) return false;

        login = new DeviceLogin(deviceId, signType is "1", timestamp.ToString());
        return true;
    }

    /// <summary>
    /// True if user name, password and (sign type 1) the hour are those of the device with this <paramref name="secret"/> or its <paramref name="secondary"/> one
    /// (API manual, "Resetting a Device Secret": the primary is tried first).
    /// </summary>
    public bool IsProvenBy(string? username, ReadOnlySpan<byte> password, string secret, string? secondary, DateTimeOffset now, TimeSpan clockSkew) =>
        username == DeviceId.Value
        && (!ChecksTime || IsNow(now, clockSkew))
        && (Fits(password, secret) || (secondary is not null && Fits(password, secondary)));

    /// <summary>The password that proves knowledge of <paramref name="secret"/>.</summary>
    public static string Password(string secret, string timestamp) =>
        Convert.ToHexStringLower(HMACSHA256.HashData(key: Encoding.UTF8.GetBytes(timestamp), source: Encoding.UTF8.GetBytes(secret)));

    private bool Fits(ReadOnlySpan<byte> password, string secret) => CryptographicOperations.FixedTimeEquals(password, Encoding.ASCII.GetBytes(Password(secret, Timestamp)));

    // The stamp names an hour, not a moment: any moment of that hour is right, and the skew is added on both sides.
    private bool IsNow(DateTimeOffset now, TimeSpan clockSkew) =>
        DateTimeOffset.TryParseExact(Timestamp, "yyyyMMddHH", CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var hour)
        && now >= hour - clockSkew
        && now < hour + TimeSpan.FromHours(1) + clockSkew;

    private static bool CutLast(ref ReadOnlySpan<char> text, out ReadOnlySpan<char> part)
    {
        var cut = text.LastIndexOf('_');
        part = cut < 0 ? default : text[(cut + 1)..];
        if (cut >= 0) text = text[..cut];
        return cut >= 0;
    }
}
