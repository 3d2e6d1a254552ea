using Akka.Actor;
using Akka.Cluster.Hosting;
using Akka.DependencyInjection;
using Akka.Hosting;
using Akka.Pattern;
using IoTDelivery.Devices;
using IoTDelivery.Registry;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;

namespace IoTDelivery.Push;

public static class PushHosting
{
    /// <summary>Settings, tables and services of the push. Needs the registry's and <see cref="NotificationSink"/>, which is added if nobody did.</summary>
    public static IServiceCollection AddPush(this IServiceCollection services, IConfiguration configuration)
    {
        foreach (var migration in PushBacklog.Migrations) services.AddSingleton(migration);
        services.AddOptions<PushOptions>().Bind(configuration.GetSection(PushOptions.Section)).ValidateOnStart();
        services.AddSingleton<IValidateOptions<PushOptions>, Validation>();
        services.TryAddSingleton(TimeProvider.System);
        services.TryAddSingleton<NotificationSink>();
        return services
            .AddSingleton(s => s.GetRequiredService<IOptions<PushOptions>>().Value)
            .AddSingleton<DeviceHeaders>(s =>
            {
                var cache = s.GetRequiredService<DeviceCache>(); // not Devices: what a device under deletion has pending is pending too
                return async deviceId => (await cache.FindAsync(deviceId))?.Header;
            })
            .AddSingleton<PushMetrics>()
            .AddSingleton<PushBacklog>()
            .AddSingleton<Webhook>()
            .AddSingleton<AmqpConsumers>()
            .AddSingleton<VolatileNotifications>()
            .AddSingleton<UplinkNotifications>()
            .AddSingleton<BacklogSignal>()
            .AddSingleton<DispatcherServices>()
            .AddSingleton<SenderServices>();
    }

    /// <summary>Starts the dispatcher of this node and takes part in the singletons that send the backlog and report presence. For nodes that carry the role, and only for them.</summary>
    public static AkkaConfigurationBuilder WithPush(this AkkaConfigurationBuilder builder, string role = "device") => builder
        .WithActors((system, _, services) => system.ActorOf(DispatcherProps(services), "push"))
        .WithSingleton<BacklogSenders>("push-drainers", (_, _, services) => services.Props<BacklogSenders>(), new ClusterSingletonOptions { Role = role }, createProxyToo: false)
        .WithSingleton<PresenceReporter>("push-status", (_, _, services) => services.Props<PresenceReporter>(), new ClusterSingletonOptions { Role = role }, createProxyToo: false)
        .WithSingleton<LostNodeReaper>("push-lost-connections", (_, _, services) => services.Props<LostNodeReaper>(), new ClusterSingletonOptions { Role = role }, createProxyToo: false);

    // On failure a new dispatcher with a new address, never the old one with an empty memory: see NotificationDispatcher.
    private static Props DispatcherProps(IDependencyResolver services) => BackoffSupervisor.Props(Backoff.OnFailure(
        services.Props<NotificationDispatcher>(), "dispatcher", minBackoff: TimeSpan.FromMilliseconds(200), maxBackoff: TimeSpan.FromSeconds(10), randomFactor: 0.2, maxNrOfRetries: -1));

    private sealed class Validation : IValidateOptions<PushOptions>
    {
        public ValidateOptionsResult Validate(string? name, PushOptions options) =>
            options.Problem() is { } problem ? ValidateOptionsResult.Fail(problem) : ValidateOptionsResult.Success;
    }
}
