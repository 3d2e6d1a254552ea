using System.Globalization;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>
/// Signs requests as the vendor's application SDK does, written from the contract and not from the platform: plainly, or with a key derived for the day, the region and the service.
/// </summary>
public sealed class RequestSigner(string accessKey, string secretKey, bool isDerived = false)
{
    /// <summary>The lower-case hexadecimal SHA-256.</summary>
    public static string Hash(byte[] bytes) => Convert.ToHexString(SHA256.HashData(bytes)).ToLowerInvariant();

    /// <summary>The value of the header, from parts that are canonical already: the path ends in '/', the query is sorted and encoded.</summary>
    public string Authorization(string method, string path, string query, (string Name, string Value)[] headers, string date, string payloadHash, string? scope = null)
    {
        var signedHeaders = string.Join(';', headers.Select(h => h.Name));
        var lines = string.Concat(headers.Select(h => $"{h.Name}:{h.Value.Trim()}\n"));
        var request = Hash(Encoding.UTF8.GetBytes($"{method}\n{path}\n{query}\n{lines}\n{signedHeaders}\n{payloadHash}"));
        if (!isDerived)
        {
            var plain = Hmac(Encoding.UTF8.GetBytes(secretKey), $"SDK-HMAC-SHA256\n{date}\n{request}");
            return $"SDK-HMAC-SHA256 Access={accessKey}, SignedHeaders={signedHeaders}, Signature={Text(plain)}";
        }

        scope ??= $"{date[..8]}/cn-north-4/iotdm";
        var extracted = Hmac(Encoding.UTF8.GetBytes(accessKey), secretKey);
        var signingKey = Text(Hmac(extracted, scope + "\u0001"));
        var derived = Hmac(Encoding.UTF8.GetBytes(signingKey), $"V11-HMAC-SHA256\n{date}\n{scope}\n{request}");
        return $"V11-HMAC-SHA256 Credential={accessKey}/{scope}, SignedHeaders={signedHeaders}, Signature={Text(derived)}";
    }

    /// <summary>Adds date, host and signature to a request that has its other headers; all of them are signed, as the SDK does. The query comes as names and values, not encoded.</summary>
    public async Task SignAsync(HttpRequestMessage request, Uri address, (string Name, string Value)[] query, DateTimeOffset now)
    {
        var date = now.UtcDateTime.ToString("yyyyMMdd'T'HHmmss'Z'", CultureInfo.InvariantCulture);
        request.Headers.Host = address.Authority;
        request.Headers.Add("X-Sdk-Date", date);
        var body = request.Content is null ? [] : await request.Content.ReadAsByteArrayAsync();
        var headers = All(request.Headers).Concat(request.Content is null ? [] : All(request.Content.Headers).Where(h => h.Name != "content-length")).OrderBy(h => h.Name, StringComparer.Ordinal);
        var path = address.AbsolutePath.EndsWith('/') ? address.AbsolutePath : address.AbsolutePath + "/";
        var sorted = query.OrderBy(q => q.Name, StringComparer.Ordinal).ThenBy(q => q.Value, StringComparer.Ordinal).Select(q => $"{Encoded(q.Name)}={Encoded(q.Value)}");
        request.Headers.TryAddWithoutValidation("Authorization", Authorization(request.Method.Method, path, string.Join('&', sorted), [.. headers], date, Hash(body)));
    }

    private static IEnumerable<(string Name, string Value)> All(HttpHeaders headers) => headers.NonValidated.Select(h => (h.Key.ToLowerInvariant(), h.Value.ToString()));

    // Uri.EscapeDataString leaves exactly A-Z a-z 0-9 - _ . ~ as they are.
    private static string Encoded(string text) => Uri.EscapeDataString(text);

    private static byte[] Hmac(byte[] key, string text) => HMACSHA256.HashData(key, Encoding.UTF8.GetBytes(text));

    private static string Text(byte[] bytes) => Convert.ToHexString(bytes).ToLowerInvariant();
}
