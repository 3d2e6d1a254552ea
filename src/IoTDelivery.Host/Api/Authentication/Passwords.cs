using Microsoft.AspNetCore.Identity;
using Microsoft.Extensions.Options;

namespace IoTDelivery.Host.Api.Authentication;

/// <summary>Password hashes in ASP.NET Identity's own format: salt and cost stand in the hash.</summary>
public static class Passwords
{
    /// <summary>Longest password taken, in characters.</summary>
    public const int LengthMax = 256;

    // What OWASP's password storage cheat sheet asks for with PBKDF2-HMAC-SHA512.
    private static readonly PasswordHasher<string> Hasher = new(Options.Create(new PasswordHasherOptions { IterationCount = 210_000 }));

    public static string Hash(string password) => Hasher.HashPassword("", password);

    public static bool Matches(string hash, string password) => Hasher.VerifyHashedPassword("", hash, password) != PasswordVerificationResult.Failed;

    /// <summary>True for what <see cref="Hash"/> makes.</summary>
    public static bool IsHash(string text)
    {
        Span<byte> bytes = stackalloc byte[256];
        return Convert.TryFromBase64String(text, bytes, out var length) && length >= 45 && bytes[0] == 1; // format, algorithm, cost, 16 bytes of salt, 16 of key at least
    }
}
