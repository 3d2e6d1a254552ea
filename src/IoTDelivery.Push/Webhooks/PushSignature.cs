using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;

namespace IoTDelivery.Push;

/// <summary>Shows a receiver that a POST comes from somebody who knows its token. Made anew for each attempt, so that a receiver may refuse old ones.</summary>
public static class PushSignature
{
    /// <summary>The hash of the three texts one behind the other, in the order of their characters, as lower-case hexadecimal digits.</summary>
    public static string Of(string token, string timestamp, string nonce)
    {
        string[] parts = [token, timestamp, nonce];
        Array.Sort(parts, StringComparer.Ordinal);
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(string.Concat(parts))));
    }

    internal static void Sign(HttpRequestHeaders headers, string token, DateTimeOffset now)
    {
        var (timestamp, nonce) = (now.ToUnixTimeMilliseconds().ToString(), RandomNumberGenerator.GetHexString(32, lowercase: true));
        headers.Add("timestamp", timestamp);
        headers.Add("nonce", nonce);
        headers.Add("signature", Of(token, timestamp, nonce));
    }
}
