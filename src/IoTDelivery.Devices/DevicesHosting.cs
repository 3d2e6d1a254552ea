using Akka.Actor;
using Akka.Cluster.Hosting;
using Akka.Cluster.Sharding;
using Akka.Hosting;
using IoTDelivery.Devices.Journal;
using IoTDelivery.Devices.Membership;
using IoTDelivery.Devices.Serialization;
using IoTDelivery.Devices.Reminders;
using IoTDelivery.Domain;
using IoTDelivery.Storage;
using Microsoft.Extensions.DependencyInjection;

namespace IoTDelivery.Devices;

public static class DevicesHosting
{
    /// <summary>The role of nodes that carry devices.</summary>
    public const string Role = "device";

    /// <summary>What devices need besides the actor system. Options and the database must be there already.</summary>
    public static IServiceCollection AddDevices(this IServiceCollection services)
    {
        foreach (var migration in JournalTables.Migrations.Concat(ReminderTable.Migrations).Concat(JournalUpkeep.Migrations).Concat(ClusterNodes.Migrations))
        {
            services.AddSingleton(migration);
        }
        return services
            .AddSingleton<NotificationSink>()
            .AddSingleton<Fencing>()
            .AddSingleton(s => new ClusterNodes(s.GetRequiredService<SqlDatabase>()))
            .AddSingleton<DeviceMetrics>()
            .AddSingleton(s => new JournalLoad(s.GetRequiredService<SqlDatabase>()))
            .AddSingleton<JournalQueue>()
            .AddSingleton<ReminderTable>()
            .AddSingleton<JournalUpkeep>()
            .AddSingleton<ISnapshotLog>(s => s.GetRequiredService<JournalUpkeep>())
            .AddHostedService(s => s.GetRequiredService<JournalUpkeep>())
            .AddSingleton(s => new DeviceServices(
                s.GetRequiredService<DeliveryPolicy>(), s.GetRequiredService<DeviceOptions>(), s.GetRequiredService<TimeProvider>(), s.GetRequiredService<ReminderTable>(),
                s.GetRequiredService<NotificationSink>(), s.GetRequiredService<Fencing>(), s.GetRequiredService<DeviceMetrics>(), s.GetRequiredService<ISnapshotLog>())
            { Load = s.GetRequiredService<JournalLoad>() })
            .AddSingleton(s =>
            {
                var registry = s.GetRequiredService<IReadOnlyActorRegistry>();
                var (fence, load) = (s.GetRequiredService<Fencing>(), s.GetRequiredService<JournalLoad>());
                return new DeviceGateway(() => registry.Get<DeviceActor>(), isOnLosingSide: () => fence.IsOnLosingSide, isFull: () => load.IsFull);
            });
    }

    /// <summary>Joins the cluster when the host starts, and ends the process with the membership. To be called behind <c>AddAkka</c>: what is hosted later starts in a member only.</summary>
    /// <param name="seedNodes">Whom to ask, <c>host:port</c> each; none if this node is the cluster.</param>
    public static IServiceCollection AddMembership(this IServiceCollection services, IReadOnlyList<string> seedNodes) => services
        .AddSingleton(s => ActivatorUtilities.CreateInstance<NodeMembership>(s, seedNodes))
        .AddHostedService(s => s.GetRequiredService<NodeMembership>());

    /// <summary>Starts the device shard region on every node that carries the <see cref="Role"/>, and the wake-up clock and the fence on all.</summary>
    public static AkkaConfigurationBuilder WithDevices(this AkkaConfigurationBuilder akka) => akka
        .WithCustomSerializer(
            "iotdelivery",
            [typeof(DeviceEvents), typeof(OutboxSnapshot), typeof(ToDevice), typeof(ReminderHandled), typeof(ToConnection), typeof(OutboxReply), typeof(ToSubscribers), typeof(Subscribers)],
            system => new DeliverySerializer(system))
        .WithShardRegion<DeviceActor>(
            "device",
            (_, _, resolver) =>
            {
                var services = resolver.GetService<DeviceServices>();
                return deviceId => Props.Create(typeof(DeviceActor), deviceId, services); // no expression tree per device
            },
            new DeviceMessageExtractor(),
            new ShardOptions
            {
                Role = Role,
                RememberEntities = false, // reminders instead: docs/decisions
                StateStoreMode = StateStoreMode.DData,
                PassivateIdleEntityAfter = TimeSpan.Zero,
                HandOffStopMessage = DeviceActor.Stop.Instance,
            })
        .WithActors((system, registry, resolver) =>
        {
            system.ActorOf(Props.Create(typeof(FencingMonitor), resolver.GetService<Fencing>()), "fence");
            var clock = Props.Create(
                typeof(ReminderService), resolver.GetService<ReminderTable>(), resolver.GetService<DeviceGateway>(), resolver.GetService<TimeProvider>(),
                resolver.GetService<ReminderOptions>(), resolver.GetService<Fencing>());
            registry.Register<ReminderService>(system.ActorOf(clock, "reminders"));
        });
}
