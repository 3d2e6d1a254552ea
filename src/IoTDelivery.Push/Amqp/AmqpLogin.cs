using System.Globalization;
using System.Text;
using Amqp.Sasl;
using Amqp.Types;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push;

/// <summary>
/// The user name of a consumer: <c>accessKey=…|timestamp=…|instanceId=…</c>. What stands behind the first two parts is not
/// looked at: clients end it in <c>|</c>, and add parts of their own.
/// </summary>
internal readonly record struct AmqpUser(string AccessKey, DateTimeOffset At)
{
    public static bool TryParse(string text, out AmqpUser user)
    {
        user = default;
        var parts = text.Split('|');
        if (parts.Length < 2 || !parts[0].StartsWith("accessKey=") || !parts[1].StartsWith("timestamp=")) return false;
        var (key, time) = (parts[0]["accessKey=".Length..], parts[1]["timestamp=".Length..]);
        if (key.Length == 0 || time.Length != 13 || !long.TryParse(time, NumberStyles.None, CultureInfo.InvariantCulture, out var milliseconds)) return false;
        user = new AmqpUser(key, DateTimeOffset.FromUnixTimeMilliseconds(milliseconds));
        return true;
    }
}

/// <summary>SASL PLAIN of one connection: the access key, a time close to ours, the access code.</summary>
internal sealed class AmqpLogin(
    AccessCodes codes,
    AmqpOptions options,
    Func<AccessCode, bool> admit,
    string? remoteEndPoint,
    ILogger logger,
    TimeProvider clock)
    : SaslProfile("PLAIN")
{
    /// <summary>As whom; null until then.</summary>
    public AccessCode? Access { get; private set; }

    protected override Amqp.ITransport UpgradeTransport(Amqp.ITransport transport) => transport;

    protected override DescribedList GetStartCommand(string hostname) => throw new NotSupportedException("This is the server's side.");

    // AMQP has no words for why a login failed: they stand in our log.
    protected override DescribedList OnCommand(DescribedList command)
    {
        var (user, access, problem) = Check(command);
        Access = problem is null ? access : null;
        if (problem is not null) logger.AmqpRefused(remoteEndPoint, user, problem);
        return new SaslOutcome { Code = problem is null ? SaslCode.Ok : SaslCode.Auth };
    }

    private (string User, AccessCode? Access, string? Problem) Check(DescribedList command)
    {
        if (command is not SaslInit { InitialResponse: { } response } || Encoding.UTF8.GetString(response).Split('\0') is not [_, var name, var code]) return ("", null, "no user name and password");
        if (!AmqpUser.TryParse(name, out var user)) return (name, null, "the user name must begin with accessKey=…|timestamp=(13 digits)");
        if ((clock.GetUtcNow() - user.At).Duration() > options.ClockSkew) return (name, null, $"the timestamp is more than {options.ClockSkew} from this node's clock");
        try
        {
            // The library hands over its own thread and waits.
            var access = codes.FindAsync(user.AccessKey, CancellationToken.None).GetAwaiter().GetResult();
            if (access is null || !access.Matches(code)) return (name, null, "unknown access key or wrong access code");
            return (name, access, admit(access) ? null : $"the access key has {options.ConnectionsPerKeyMax} connections already");
        }
        catch (Exception cause) when (cause is System.Data.Common.DbException or TimeoutException or InvalidOperationException)
        {
            return (name, null, $"the database does not answer: {cause.Message}");
        }
    }
}
