using System.Security.Authentication;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace IoTDelivery.Mqtt;

public static class TlsHosting
{
    /// <summary>
    /// Reads the certificate of section <c>Tls</c>, once for all listeners, and renews it while the node runs.
    /// </summary>
    /// <exception cref="ArgumentException">It cannot be used; the message names the setting.</exception>
    public static void AddServerCertificate(this IServiceCollection services, IConfiguration configuration, string neededBy)
    {
        if (services.Any(s => s.ServiceType == typeof(TlsCertificate))) return;
        var options = TlsOptions.Read(configuration);
        if (options.CertificateFile is not { Length: > 0 })
        {
            throw new ArgumentException($"Tls:CertificateFile is missing: {neededBy} needs a certificate.");
        }

        services.AddSingleton(new TlsCertificate(options, DateTimeOffset.UtcNow));
        services.AddHostedService<TlsRenewal>();
    }

    /// <summary>
    /// This listener speaks TLS 1.2 and 1.3, with the certificate that is current when a connection comes.
    /// </summary>
    public static void UseTls(
        this ListenOptions listener, TlsCertificate certificate, TimeSpan handshakeTimeout, bool isHttp = false) =>
        listener.UseHttps(https =>
        {
            // Kestrel insists on it; Apply says it all.
            https.ServerCertificateSelector = (_, _) => certificate.Current.Certificate;
            https.SslProtocols = SslProtocols.Tls12 | SslProtocols.Tls13;
            https.HandshakeTimeout = handshakeTimeout;
            https.OnAuthenticate = (_, handshake) =>
            {
                handshake.ServerCertificateSelectionCallback = null;
                certificate.Apply(handshake);

                // Kestrel offers HTTP's names: a device that asks for "mqtt" would find nothing in common and be cut
                // off.
                if (!isHttp) handshake.ApplicationProtocols = null;
            };
        });
}
