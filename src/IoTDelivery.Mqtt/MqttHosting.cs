using System.Net;
using Akka.Actor;
using Akka.Hosting;
using IoTDelivery.Devices;
using IoTDelivery.Registry;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;

namespace IoTDelivery.Mqtt;

public static class MqttHosting
{
    /// <summary>
    /// Listens for devices on the ports of section <c>Mqtt</c>. Needs an <see cref="ActorSystem"/>, a <see cref="DeviceGateway"/> and the registry among the services;
    /// a <see cref="FindDevice"/> or <see cref="ReportConnection"/> registered before stands in for the registry's.
    /// Whoever calls this must name the endpoints of the REST API too: Kestrel ignores its URLs setting once an endpoint is added in code.
    /// </summary>
    /// <exception cref="OptionsValidationException">A setting is out of bounds; the message names it.</exception>
    public static IServiceCollection AddMqtt(this IServiceCollection services, IConfiguration configuration)
    {
        var options = configuration.GetSection(MqttOptions.Section).Get<MqttOptions>() ?? new MqttOptions();
        if (options.Problem() is { } problem) throw new OptionsValidationException(MqttOptions.Section, typeof(MqttOptions), [problem]);

        services.TryAddSingleton(TimeProvider.System);
        services.TryAddSingleton<FindDevice>(s => s.GetRequiredService<Registry.Devices>().FindAsync);
        services.TryAddSingleton<ReportConnection>(s => s.GetRequiredService<ConnectionLog>().Report);
        return services
            .AddSingleton(options)
            .AddSingleton<MqttConnections>()
            .AddSingleton<Broadcasts>()
            .AddSingleton<MqttConnectionHandler>()
            .AddSingleton<MqttEndpoint>()
            .AddSingleton<IConfigureOptions<KestrelServerOptions>>(s => s.GetRequiredService<MqttEndpoint>());
    }

    /// <summary>Starts what connections share at once: a node nobody has connected to yet answers for its subscribers too.</summary>
    public static AkkaConfigurationBuilder WithMqtt(this AkkaConfigurationBuilder akka) => akka.WithActors((_, _, services) => _ = services.GetService<MqttConnections>());
}

/// <summary>The MQTT listener among Kestrel's endpoints.</summary>
public sealed class MqttEndpoint(MqttOptions options, IServiceProvider services) : IConfigureOptions<KestrelServerOptions>
{
    private ListenOptions? _listener;

    /// <summary>Where devices connect to; null until the server listens. With port 0 this is how to learn the port.</summary>
    public IPEndPoint? BoundTo => _listener?.IPEndPoint is { Port: > 0 } bound ? bound : null;

    public void Configure(KestrelServerOptions kestrel) =>
        kestrel.Listen(IPAddress.Parse(options.Address), options.Port, listener =>
        {
            // Devices do not send HTTP. Asked for with the first connection: the actor system is not there yet while Kestrel is being configured.
            listener.Run(connection => services.GetRequiredService<MqttConnectionHandler>().OnConnectedAsync(connection));
            _listener = listener;
        });
}
