using System.Security.Cryptography;
using System.Text;

namespace IoTDelivery.Host.Api.Authentication;

/// <summary>A fixed token of the site; set once at start.</summary>
public abstract class SiteToken
{
    private byte[] _hash = [];

    public string Value
    {
        set => _hash = SHA256.HashData(Encoding.UTF8.GetBytes(value));
    }

    /// <summary>Compares hashes, in constant time, so that neither length nor content leaks.</summary>
    public bool Matches(string given) => _hash.Length > 0 && CryptographicOperations.FixedTimeEquals(_hash, SHA256.HashData(Encoding.UTF8.GetBytes(given)));
}

/// <summary>Opens the API for applications, and nothing else.</summary>
public sealed class ApiToken : SiteToken;

/// <summary>Opens <c>/admin</c>, and nothing else.</summary>
public sealed class AdminToken : SiteToken;
