using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace IoTDelivery.Host.Api.Authentication;

/// <summary>What of a request a signature covers. <paramref name="Target"/> is the path and query as sent on the wire.</summary>
public sealed record SignedRequest(string Method, string Target, IHeaderDictionary Headers, ReadOnlyMemory<byte> Body);

/// <summary>
/// What the header <c>Authorization</c> says of a signed request. <paramref name="Scope"/> is <c>{day}/{region}/{service}</c> of a derived signature, null of a plain one.
/// </summary>
public sealed record RequestSignature(string Algorithm, string AccessKey, string? Scope, string SignedHeaders, string Signature)
{
    public const string Plain = "SDK-HMAC-SHA256", Derived = "V11-HMAC-SHA256", DateHeader = "X-Sdk-Date", ContentHashHeader = "X-Sdk-Content-Sha256";

    private const string DateFormat = "yyyyMMdd'T'HHmmss'Z'";

    public static bool TryParse(string? authorization, [NotNullWhen(true)] out RequestSignature? signature)
    {
        signature = null;
        if (authorization?.Split(' ', 2) is not [(Plain or Derived) and var algorithm, var rest]) return false;
        var isDerived = algorithm == Derived;
        if (rest.Split(',', StringSplitOptions.TrimEntries) is not [var first, var second, var third]
            || Value(first, isDerived ? "Credential=" : "Access=") is not { } who
            || Value(second, "SignedHeaders=") is not { } headers
            || Value(third, "Signature=") is not { } text) return false;
        var (key, scope) = isDerived && who.IndexOf('/') is > 0 and var at ? (who[..at], who[(at + 1)..]) : (who, null);
        if (isDerived && scope?.Split('/') is not [{ Length: > 0 }, { Length: > 0 }, { Length: > 0 }]) return false;
        signature = new RequestSignature(algorithm, key, scope, headers, text);
        return true;

        static string? Value(string part, string name) => part.Length > name.Length && part.StartsWith(name, StringComparison.Ordinal) ? part[name.Length..] : null;
    }

    /// <summary>What is wrong with a signature that can be said before the key is looked up and the body read; null if nothing is.</summary>
    public string? Problem(IHeaderDictionary headers, DateTimeOffset now, TimeSpan clockSkew)
    {
        if (headers[DateHeader] is not [{ } date]) return $"the header {DateHeader} is missing";
        if (!DateTimeOffset.TryParseExact(date, DateFormat, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var signedAt))
        {
            return $"{DateHeader} must be written like 20200608T023900Z";
        }

        if ((now - signedAt).Duration() > clockSkew) return $"{DateHeader} is more than {clockSkew} away from the clock of this node";
        var signed = SignedHeaders.Split(';');
        if (!signed.Contains("host") || !signed.Contains("x-sdk-date")) return "SignedHeaders must contain host and x-sdk-date";
        if (Scope is not null && !Scope.StartsWith(date[..8] + "/", StringComparison.Ordinal)) return $"the day in Credential is not the day of {DateHeader}";
        return null;
    }

    /// <summary>True if whoever holds this secret signed this request. The comparison takes the same time wherever the first difference is.</summary>
    public bool IsRight(SignedRequest request, string secretKey)
    {
        var (headers, declared) = (request.Headers, (string?)request.Headers[ContentHashHeader]);
        if (CanonicalRequest.PayloadHash(declared, RequestBody.IsJson(headers.ContentType), request.Body.Span) is not { } payloadHash) return false;
        if (CanonicalRequest.Of(request.Method, request.Target, headers, SignedHeaders, payloadHash) is not { } text) return false;
        return CryptographicOperations.FixedTimeEquals(Bytes(Signature), Bytes(Sign(text, headers[DateHeader]!, secretKey)));
    }

    private string Sign(string canonicalRequest, string date, string secretKey)
    {
        var hash = Convert.ToHexStringLower(SHA256.HashData(Bytes(canonicalRequest)));
        var text = Scope is null ? $"{Algorithm}\n{date}\n{hash}" : $"{Algorithm}\n{date}\n{Scope}\n{hash}";
        return Convert.ToHexStringLower(HMACSHA256.HashData(Scope is null ? Bytes(secretKey) : DerivedKey(secretKey, Scope), Bytes(text)));
    }

    // The derived key is the hexadecimal text of what HKDF makes, not its bytes.
    private byte[] DerivedKey(string secretKey, string scope) =>
        Bytes(Convert.ToHexStringLower(HKDF.DeriveKey(HashAlgorithmName.SHA256, Bytes(secretKey), 32, salt: Bytes(AccessKey), info: Bytes(scope))));

    private static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);
}
