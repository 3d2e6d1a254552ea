using IoTDelivery.Domain;
using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Registry.Tests;

/// <summary>A new database with the registry's tables, and what nodes of that site see of it.</summary>
internal static class Site
{
    public const string Project = "project-1";

    public static async Task<SqlDatabase> DatabaseAsync(TestDatabase server)
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var database = new SqlDatabase(await server.CreateAsync());
        await database.MigrateAsync(RegistryMigrations.All);
        return database;
    }

    /// <summary>One node: its own caches, the same tables.</summary>
    public static ServiceProvider Node(SqlDatabase database, string incarnation = "node-1", ILoggerProvider? log = null) => new ServiceCollection()
        .AddSingleton(database)
        .AddSingleton(TimeProvider.System)
        .AddSingleton(new NodeIncarnation(incarnation))
        .AddLogging(l =>
        {
            l.ClearProviders();
            if (log is not null) l.AddProvider(log);
        })
        .AddRegistry()
        .BuildServiceProvider();

    public static Device Device(string deviceId, string project = Project) => new()
    {
        DeviceId = deviceId,
        RecordId = RecordIds.New(DateTimeOffset.UtcNow),
        ProjectId = project,
        ProductId = "lamp",
        NodeId = deviceId,
        Secret = $"secret of {deviceId}",
        CreatedAt = 1,
    };

    /// <summary>Both steps of a creation; false if the id is taken.</summary>
    public static async Task<bool> AddAsync(this Devices devices, Device device, CancellationToken cancel) =>
        await devices.BeginAsync(device, cancel) is { Phase: DevicePhase.Creating } begun
        && await devices.CompleteAsync(begun, cancel);

    public static Product Product(string productId, string project = Project) => new()
    {
        ProductId = productId,
        RecordId = RecordIds.New(DateTimeOffset.UtcNow),
        ProjectId = project,
        Name = $"name of {productId}",
        DeviceType = "lamp",
        ProtocolType = "MQTT",
        DataFormat = "json",
        ServiceCapabilities = "[]",
        CreatedAt = 1,
    };

    public static DeviceId Id(string text) => DeviceId.Parse(text);
}
