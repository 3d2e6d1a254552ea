using System.Security.Authentication;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;

namespace IoTDelivery.Mqtt;

public static class TlsHosting
{
    /// <summary>Reads the certificate of section <c>Tls</c>, once for all listeners.</summary>
    /// <exception cref="ArgumentException">It cannot be used; the message names the setting.</exception>
    public static void AddServerCertificate(this IServiceCollection services, IConfiguration configuration, string neededBy)
    {
        if (services.Any(s => s.ServiceType == typeof(ServerCertificate))) return;
        var options = configuration.GetSection(TlsOptions.Section).Get<TlsOptions>() ?? new TlsOptions();
        services.TryAddSingleton(ServerCertificate.Read(options, neededBy, DateTimeOffset.UtcNow));
    }

    /// <summary>This listener speaks TLS 1.2 and 1.3.</summary>
    public static void UseTls(this ListenOptions listener, ServerCertificate certificate, TimeSpan handshakeTimeout, bool isHttp = false) =>
        listener.UseHttps(https =>
        {
            https.ServerCertificate = certificate.Certificate;
            https.ServerCertificateChain = certificate.Chain;
            https.SslProtocols = SslProtocols.Tls12 | SslProtocols.Tls13;
            https.HandshakeTimeout = handshakeTimeout;

            // Kestrel offers HTTP's names: a device that asks for "mqtt" would find nothing in common and be cut off.
            if (!isHttp) https.OnAuthenticate = (_, ssl) => ssl.ApplicationProtocols = null;
        });
}
