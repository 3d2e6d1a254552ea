using Akka.Actor;
using Akka.Cluster;
using Akka.Cluster.Hosting;
using Akka.Hosting;
using IoTDelivery.Devices.Journal;
using IoTDelivery.Devices.Reminders;
using IoTDelivery.Domain;
using IoTDelivery.Storage;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Devices.Tests;

/// <summary>A node that only has devices: the real sharding, journal and reminders, from the real akka.hocon, on a
/// database of the test.</summary>
public sealed class DeviceNode : IAsyncDisposable
{
    public static readonly DeliveryPolicy Policy = new()
    {
        RepeatInterval = TimeSpan.FromMilliseconds(100),
        RoundInterval = TimeSpan.FromMilliseconds(500),
        TtlUnit = TimeSpan.FromMinutes(1),
    };

    private readonly IHost _host;

    private DeviceNode(IHost host) => _host = host;

    public ActorSystem System => _host.Services.GetRequiredService<ActorSystem>();

    public DeviceGateway Devices => _host.Services.GetRequiredService<DeviceGateway>();

    public NotificationSink Sink => _host.Services.GetRequiredService<NotificationSink>();

    public SqlDatabase Database => _host.Services.GetRequiredService<SqlDatabase>();

    public T Get<T>() where T : notnull => _host.Services.GetRequiredService<T>();

    public static async Task<DeviceNode> StartAsync(
        StorageOptions storage, DeliveryPolicy? policy = null, DeviceOptions? options = null, Action<IServiceCollection>? replace = null, Address? join = null,
        string? hocon = null)
    {
        var builder = Host.CreateApplicationBuilder();
        builder.Logging.ClearProviders();
        var database = new SqlDatabase(storage);
        builder.Services
            .AddSingleton(TimeProvider.System)
            .AddSingleton(database)
            .AddSingleton(policy ?? Policy)
            .AddSingleton(options ?? new DeviceOptions { SleepAfter = TimeSpan.FromMilliseconds(100) })
            .AddSingleton(new ReminderOptions { PollInterval = TimeSpan.FromMilliseconds(100), Lease = TimeSpan.FromSeconds(2) })
            .AddDevices()
            .AddAkka("devices", akka => akka
                .AddHocon(hocon ?? "", HoconAddMode.Prepend)
                .AddHoconFile(Path.Combine(AppContext.BaseDirectory, "akka.hocon"), HoconAddMode.Append)
                .WithDeviceJournal(database)
                .WithClustering(new ClusterOptions { Roles = [DevicesHosting.Role] })
                .WithDevices()
                .AddStartup((system, _) => Cluster.Get(system).Join(join ?? Cluster.Get(system).SelfAddress)));
        replace?.Invoke(builder.Services);
        var host = builder.Build();
        await database.MigrateAsync(host.Services.GetServices<Migration>());
        await host.StartAsync();
        return new DeviceNode(host);
    }

    /// <summary>Where others join it.</summary>
    public Address Address => Cluster.Get(System).SelfAddress;

    /// <summary>Stops one device, as a crash of its own would; done when it is gone.</summary>
    public async Task KillDeviceAsync(string device)
    {
        var region = Get<IReadOnlyActorRegistry>().Get<DeviceActor>();
        var actor = await System.ActorSelection(region.Path / "*" / device).ResolveOne(TimeSpan.FromSeconds(10));
        await actor.GracefulStop(TimeSpan.FromSeconds(10), Kill.Instance);
    }

    /// <summary>As kill -9 as it gets inside one process: nothing is finished, nothing is handed over.</summary>
    public async Task KillAsync()
    {
        await System.Terminate();
        if (_host is IAsyncDisposable disposable) await disposable.DisposeAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await _host.StopAsync();
        if (_host is IAsyncDisposable disposable) await disposable.DisposeAsync();
    }
}
