using System.Net;
using IoTDelivery.Mqtt;
using IoTDelivery.Push;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace IoTDelivery.Host;

/// <summary>The AMQP ports among Kestrel's endpoints; none as long as both are 0.</summary>
public static class AmqpListener
{
    private static readonly TimeSpan TlsHandshakeTimeout = TimeSpan.FromSeconds(10); // Kestrel's own

    public static void AddAmqp(this IServiceCollection services, IConfiguration settings, AmqpOptions options)
    {
        if (options.Port == 0 && options.TlsPort == 0) return;
        if (options.TlsPort > 0) services.AddServerCertificate(settings, $"Amqp:TlsPort = {options.TlsPort}");
        if (options.ProxyProtocol) services.AddTrustedProxies(settings, "Amqp:ProxyProtocol = true");
        services.AddSingleton(options).AddSingleton<AmqpServer>().AddHostedService(s => s.GetRequiredService<AmqpServer>());
        services.Configure<KestrelServerOptions>(kestrel =>
        {
            var address = IPAddress.Parse(options.Address);
            if (options.Port > 0) kestrel.Listen(address, options.Port, ServePlain);
            if (options.TlsPort == 0) return;
            kestrel.Listen(address, options.TlsPort, listener =>
            {
                BehindProxy(listener);
                listener.UseTls(kestrel.ApplicationServices.GetRequiredService<TlsCertificate>(), TlsHandshakeTimeout);
                Serve(listener);
            });

            void ServePlain(ListenOptions listener)
            {
                BehindProxy(listener);
                Serve(listener);
            }

            void BehindProxy(ListenOptions listener)
            {
                if (options.ProxyProtocol) listener.UseProxyProtocol(options.LinkTimeout);
            }

            void Serve(ListenOptions listener) => listener.Run(connection => kestrel.ApplicationServices.GetRequiredService<AmqpServer>().OnConnectedAsync(connection));
        });
    }
}
