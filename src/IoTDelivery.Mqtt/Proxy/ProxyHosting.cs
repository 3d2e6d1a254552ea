using System.Net;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Mqtt;

public static class ProxyHosting
{
    /// <summary>Reads whom section <c>Proxy</c> trusts, once for all listeners.</summary>
    /// <exception cref="ArgumentException">It is wrong or missing; the message names the setting.</exception>
    public static void AddTrustedProxies(
        this IServiceCollection services, IConfiguration configuration, string neededBy)
    {
        if (services.Any(s => s.ServiceType == typeof(TrustedProxies))) return;
        var options = configuration.GetSection(ProxyOptions.Section).Get<ProxyOptions>() ?? new ProxyOptions();
        services.AddSingleton(TrustedProxies.Read(options, neededBy));
    }

    /// <summary>
    /// Every connection of this listener begins with a PROXY header (version 1 or 2) of a trusted proxy; what does not
    /// is closed. To be called before TLS, which begins behind it.
    /// </summary>
    /// <param name="timeout">How long the header may take.</param>
    /// <param name="onRefused">To count.</param>
    public static void UseProxyProtocol(this ListenOptions listener, TimeSpan timeout, Action? onRefused = null)
    {
        var services = listener.ApplicationServices;
        var door = new ProxyProtocol(
            services.GetRequiredService<TrustedProxies>(), timeout, services.GetRequiredService<TimeProvider>(),
            services.GetRequiredService<ILogger<ProxyProtocol>>(), onRefused);
        listener.Use(next => async connection =>
        {
            if (await door.ReadAsync(connection)) await next(connection);
        });
    }
}

/// <summary>Reads the PROXY header of a connection: from then on its remote address is the client's.</summary>
internal sealed class ProxyProtocol(
    TrustedProxies proxies,
    TimeSpan timeout,
    TimeProvider clock,
    ILogger<ProxyProtocol> logger,
    Action? onRefused = null)
{
    /// <summary>False: not let in. Nothing is said, for there is no word for it.</summary>
    public async Task<bool> ReadAsync(ConnectionContext connection)
    {
        using var late = new CancellationTokenSource(timeout, clock);
        var speaks = false;
        try
        {
            speaks = await FirstByte.ComesAsync(connection.Transport.Input, late.Token);
            if (!speaks) return false;
            var isTrusted = connection.RemoteEndPoint is IPEndPoint peer && proxies.Contains(peer.Address);
            var problem = isTrusted
                ? await ReadHeaderAsync(connection, late.Token)
                : "its address is not among Proxy:TrustedAddresses";
            if (problem is not null) Refused(connection, problem, logged: true);
            return problem is null;
        }
        catch (Exception cause) when (cause is OperationCanceledException or IOException or InvalidOperationException)
        {
            var isLate = late.IsCancellationRequested;
            Refused(
                connection,
                isLate ? $"its PROXY header did not come within {timeout}" : "it was lost within its PROXY header",
                logged: speaks);
            return false;
        }
    }

    // Returns what is wrong with it.
    private static async ValueTask<string?> ReadHeaderAsync(ConnectionContext connection, CancellationToken late)
    {
        var input = connection.Transport.Input;
        while (true)
        {
            var result = await input.ReadAsync(late);
            var bytes = result.Buffer;
            if (ProxyHeader.TryRead(ref bytes, out var header, out var problem))
            {
                // The client's own bytes, as far as they have come, are read by whoever comes next.
                input.AdvanceTo(bytes.Start);
                if (header.Source is { } source) connection.RemoteEndPoint = source;
                return null;
            }

            input.AdvanceTo(bytes.Start, bytes.End);
            if (problem is not null) return problem;
            if (result.IsCompleted) return "it ended within its PROXY header";
        }
    }

    private void Refused(ConnectionContext connection, string problem, bool logged)
    {
        onRefused?.Invoke();
        if (logged)
        {
            logger.NotFromProxy(
                connection.RemoteEndPoint?.ToString(), connection.LocalEndPoint?.ToString(), problem);
        }
    }
}
