using System.Collections.Frozen;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.DataProtection;

namespace IoTDelivery.Host.Api.Authentication;

/// <summary>
/// Tokens that <c>POST /v3/auth/tokens</c> hands out. Nothing is stored: a token says who and until when, sealed with the key ring of the site, so every node knows it, also after a restart.
/// </summary>
public sealed class UserTokens(IDataProtectionProvider protection, ApiOptions options)
{
    private readonly ITimeLimitedDataProtector _protector = protection.CreateProtector("application-token").ToTimeLimitedDataProtector();
    private readonly FrozenSet<string> _sayings = options.Users.Select(Says).ToFrozenSet();

    public string Issue(User user, DateTimeOffset expiresAt) => _protector.Protect(Says(user), expiresAt);

    /// <summary>False for a token that is not ours, has expired, or whose user is gone or has another password now.</summary>
    public bool IsValid(string token)
    {
        try
        {
            return _sayings.Contains(_protector.Unprotect(token));
        }
        catch (CryptographicException)
        {
            return false;
        }
    }

    private static string Says(User user) => $"{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(user.PasswordHash)))} {user.Name}";
}
