using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Threading.RateLimiting;

namespace IoTDelivery.Host.Api.Authentication;

/// <summary>How a login with a password ended.</summary>
public abstract record LoginOutcome
{
    public sealed record Welcome(User User) : LoginOutcome;

    /// <summary>The user is unknown, or the password or domain is wrong: which of them is not told.</summary>
    public sealed record Wrong : LoginOutcome;

    /// <summary>This source failed too often, or too many logins wait.</summary>
    public sealed record TooMany(TimeSpan RetryAfter) : LoginOutcome;

    private LoginOutcome() { }
}

/// <summary>
/// Checks names and passwords. A check costs a tenth of a second of a core on purpose, so only few run at once; and a source that failed too often must wait, even with the right password.
/// </summary>
public sealed class PasswordLogin(ApiOptions options, ILogger<PasswordLogin> log) : IDisposable
{
    // An unknown user costs as much time as a known one.
    private readonly string _nobody = Passwords.Hash(RandomNumberGenerator.GetHexString(32));

    private readonly ConcurrencyLimiter _turns = new(new ConcurrencyLimiterOptions { PermitLimit = Math.Max(1, Environment.ProcessorCount / 2), QueueLimit = 100 });

    private readonly PartitionedRateLimiter<IPAddress> _failures = PartitionedRateLimiter.Create<IPAddress, IPAddress>(address => RateLimitPartition.GetFixedWindowLimiter(
        address, _ => new FixedWindowRateLimiterOptions { PermitLimit = options.LoginFailuresMax, Window = options.LoginFailureWindow, QueueLimit = 0 }));

    public async Task<LoginOutcome> TryAsync(IPAddress? from, string name, string password, string? domain, CancellationToken cancel)
    {
        var source = Source(from ?? IPAddress.None);
        if (Blocked(source) is { } early) return early;
        using var turn = await _turns.AcquireAsync(1, cancel);
        if (!turn.IsAcquired) return new LoginOutcome.TooMany(TimeSpan.FromSeconds(1));
        if (Blocked(source) is { } late) return late; // others of this source failed while it waited

        var user = options.Users.FirstOrDefault(u => u.Name == name);
        var isPassword = Passwords.Matches(user?.PasswordHash ?? _nobody, password);
        if (user is not null && isPassword && (user.Domain is null || user.Domain == domain)) return new LoginOutcome.Welcome(user);
        _failures.AttemptAcquire(source).Dispose();
        log.LoginFailed(source);
        return new LoginOutcome.Wrong();
    }

    public void Dispose()
    {
        _turns.Dispose();
        _failures.Dispose();
    }

    private LoginOutcome.TooMany? Blocked(IPAddress source)
    {
        using var left = _failures.AttemptAcquire(source, permitCount: 0);
        return left.IsAcquired ? null : new LoginOutcome.TooMany(left.TryGetMetadata(MetadataName.RetryAfter, out var wait) ? wait : options.LoginFailureWindow);
    }

    // Whoever has one IPv6 address has a /64 of them.
    private static IPAddress Source(IPAddress address)
    {
        if (address.IsIPv4MappedToIPv6) return address.MapToIPv4();
        if (address.AddressFamily != AddressFamily.InterNetworkV6) return address;
        var bytes = address.GetAddressBytes();
        bytes.AsSpan(8).Clear();
        return new IPAddress(bytes);
    }
}
