using System.Net;
using Akka.Actor;
using Akka.Hosting;
using IoTDelivery.Devices;
using IoTDelivery.Registry;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;

namespace IoTDelivery.Mqtt;

public static class MqttHosting
{
    /// <summary>The role of nodes that devices connect to.</summary>
    public const string Role = "mqtt";

    /// <summary>
    /// Listens for devices on the ports of section <c>Mqtt</c>. Needs an <see cref="ActorSystem"/>, a <see cref="DeviceGateway"/> and the registry among the services;
    /// a <see cref="FindDevice"/>, <see cref="ReportConnection"/> or <see cref="ReportSdkInfo"/> registered before stands in for the registry's, and without a
    /// <see cref="FindWaitingSubDevices"/> a gateway that comes online is not asked what waits for its sub-devices.
    /// Whoever calls this must name the endpoints of the REST API too: Kestrel ignores its URLs setting once an endpoint is added in code.
    /// </summary>
    /// <param name="listens">False on a node that serves no devices: broadcasts still start there, and its endpoint says that it is bound to nothing.</param>
    /// <exception cref="OptionsValidationException">A setting is out of bounds; the message names it.</exception>
    public static IServiceCollection AddMqtt(this IServiceCollection services, IConfiguration configuration, bool listens = true)
    {
        var options = configuration.GetSection(MqttOptions.Section).Get<MqttOptions>() ?? new MqttOptions();
        if (options.Problem() is { } problem) throw new OptionsValidationException(MqttOptions.Section, typeof(MqttOptions), [problem]);

        // Not only when the first listener asks: a wrong certificate stops the start with a sentence.
        if (options.TlsPort > 0) services.AddServerCertificate(configuration, $"Mqtt:TlsPort = {options.TlsPort}");

        if (options.ProxyProtocol) services.AddTrustedProxies(configuration, "Mqtt:ProxyProtocol = true");

        services.TryAddSingleton(TimeProvider.System);
        services.TryAddSingleton<FindDevice>(s => s.GetRequiredService<Registry.Devices>().FindAsync);
        services.TryAddSingleton<FindWaitingSubDevices>((_, _) => Task.FromResult<IReadOnlyList<Domain.DeviceId>>([]));
        services.TryAddSingleton<ReportConnection>(s => s.GetRequiredService<ConnectionLog>().Report);
        services.TryAddSingleton<ReportSdkInfo>(s => s.GetRequiredService<SdkInfoLog>().Report);
        services
            .AddSingleton(options)
            .AddSingleton<MqttConnections>()
            .AddSingleton<Broadcasts>()
            .AddSingleton<MqttConnectionHandler>()
            .AddSingleton<MqttEndpoint>();
        return listens ? services.AddSingleton<IConfigureOptions<KestrelServerOptions>>(s => s.GetRequiredService<MqttEndpoint>()) : services;
    }

    /// <summary>Starts what connections share at once: a node nobody has connected to yet answers for its subscribers too.</summary>
    public static AkkaConfigurationBuilder WithMqtt(this AkkaConfigurationBuilder akka) => akka.WithActors((_, _, services) => _ = services.GetService<MqttConnections>());
}

/// <summary>The MQTT listeners among Kestrel's endpoints.</summary>
public sealed class MqttEndpoint(MqttOptions options, IServiceProvider services) : IConfigureOptions<KestrelServerOptions>
{
    private ListenOptions? _listener;

    /// <summary>Where devices connect to without TLS; null until the server listens. With port 0 this is how to learn the port.</summary>
    public IPEndPoint? BoundTo => _listener?.IPEndPoint is { Port: > 0 } bound ? bound : null;

    /// <summary>Where devices connect to with TLS; null if nowhere.</summary>
    public IPEndPoint? TlsBoundTo => options.TlsPort > 0 ? new IPEndPoint(IPAddress.Parse(options.Address), options.TlsPort) : null;

    /// <summary>True if one of Kestrel's addresses is for devices and not for applications.</summary>
    public bool Owns(string address) => BindingAddress.Parse(address).Port is var port && (port == BoundTo?.Port || port == TlsBoundTo?.Port);

    public void Configure(KestrelServerOptions kestrel)
    {
        var address = IPAddress.Parse(options.Address);
        kestrel.Listen(address, options.Port, listener =>
        {
            BehindProxy(listener);
            Serve(listener);
            _listener = listener;
        });
        if (options.TlsPort == 0) return;
        kestrel.Listen(address, options.TlsPort, listener =>
        {
            BehindProxy(listener);
            listener.UseTls(services.GetRequiredService<TlsCertificate>(), options.ConnectTimeout);
            Serve(listener);
        });
    }

    private void BehindProxy(ListenOptions listener)
    {
        if (options.ProxyProtocol)
        {
            listener.UseProxyProtocol(options.ConnectTimeout, MqttConnectionHandler.CountNotFromProxy);
        }
    }

    // Devices do not send HTTP. Asked for with the first connection: the actor system is not there yet while Kestrel is being configured.
    private void Serve(ListenOptions listener) =>
        listener.Run(connection => services.GetRequiredService<MqttConnectionHandler>().OnConnectedAsync(connection));
}
