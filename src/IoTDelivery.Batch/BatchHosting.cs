using Akka.Cluster.Hosting;
using Akka.Hosting;
using IoTDelivery.Devices;
using Microsoft.Extensions.DependencyInjection;

namespace IoTDelivery.Batch;

public static class BatchHosting
{
    /// <summary>Tables and services of batch tasks. Needs the registry's and the devices' services, and a <see cref="ReadDocument"/>.</summary>
    public static IServiceCollection AddBatch(this IServiceCollection services, BatchOptions options)
    {
        foreach (var migration in BatchTasks.Migrations) services.AddSingleton(migration);
        return services
            .AddSingleton(options)
            .AddSingleton<BatchTasks>()
            .AddSingleton<BatchSender>();
    }

    /// <summary>Takes part in the singleton that works on the tasks of the site. For nodes that carry the role of devices, and only for them.</summary>
    public static AkkaConfigurationBuilder WithBatch(this AkkaConfigurationBuilder akka) => akka.WithSingleton<BatchRunner>(
        "batch", (_, _, services) => services.Props<BatchRunner>(), new ClusterSingletonOptions { Role = DevicesHosting.Role }, createProxyToo: false);
}
