using IoTDelivery.Domain;
using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;
using LinqToDB.Data;
using Microsoft.Extensions.DependencyInjection;
using static IoTDelivery.Registry.Tests.Site;

namespace IoTDelivery.Registry.Tests;

/// <summary>Which sub-devices a gateway has, and what changed behind a version. On every database.</summary>
public abstract class SubDeviceListSpec<TDatabase>(TDatabase server)
    : IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    private static readonly DeviceId Hub = DeviceId.Parse("hub");

    [SkippableFact]
    public async Task Each_change_has_a_greater_version_and_of_a_device_only_the_last_is_kept()
    {
        await using var node = await SiteAsync("hub", "plug<hub", "bulb<hub", "led<plug<hub", "other", "theirs<other");
        Assert.Equal("1+plug/hub 2+bulb/hub 3+led/plug", await BehindAsync(node, 0));
        Assert.Equal("3+led/plug", await BehindAsync(node, 2));
        Assert.Equal("", await BehindAsync(node, 3));

        await RemoveAsync(node, "bulb");
        Assert.Equal("3+led/plug 4-bulb/hub", await BehindAsync(node, 2));
        Assert.Equal("1+plug/hub 3+led/plug", await BehindAsync(node, 0, deletionsBehind: 4));

        await AddAsync(node, "bulb<hub");
        Assert.Equal("1+plug/hub 3+led/plug 5+bulb/hub", await BehindAsync(node, 0));
        Assert.Equal(5, await node.GetRequiredService<SubDeviceList>().VersionAsync(Hub, default));
    }

    [SkippableFact]
    public async Task A_page_is_as_long_as_asked_for_and_begins_behind_the_last()
    {
        await using var node = await SiteAsync(["hub", .. Enumerable.Range(1, 7).Select(n => $"d{n}<hub")]);
        var list = node.GetRequiredService<SubDeviceList>();
        var first = await list.BehindAsync(Hub, 0, deletionsBehind: 0, 3, default);
        Assert.Equal([1L, 2, 3], first.Select(c => c.Version));
        var second = await list.BehindAsync(Hub, first[^1].Version, deletionsBehind: 0, 3, default);
        Assert.Equal([4L, 5, 6], second.Select(c => c.Version));
    }

    [SkippableFact]
    public async Task A_gateway_that_knows_a_later_version_than_there_is_gets_all_of_it_behind_that()
    {
        await using var node = await SiteAsync("hub", "plug<hub", "bulb<hub");
        var list = node.GetRequiredService<SubDeviceList>();
        await list.ShiftAsync(Hub, 70, default);
        Assert.Equal("71+plug/hub 72+bulb/hub", await BehindAsync(node, 70));
        await list.ShiftAsync(Hub, 70, default); // asked twice
        Assert.Equal("71+plug/hub 72+bulb/hub", await BehindAsync(node, 70));
        await AddAsync(node, "led<hub");
        Assert.Equal("73+led/hub", await BehindAsync(node, 72));
    }

    [SkippableFact]
    public async Task The_list_goes_with_its_gateway_and_a_creation_that_was_given_up_was_never_in_it()
    {
        await using var node = await SiteAsync("hub", "plug<hub");
        var devices = node.GetRequiredService<Devices>();
        var begun = await devices.BeginAsync(Under("half", "hub"), default);
        await devices.AbandonAsync(begun, default);
        await devices.RemoveAsync(begun with { Phase = DevicePhase.Deleting }, default);
        Assert.Equal("1+plug/hub", await BehindAsync(node, 0));

        await RemoveAsync(node, "plug");
        await RemoveAsync(node, "hub");
        await AddAsync(node, "hub");
        Assert.Equal("", await BehindAsync(node, 0));
        await AddAsync(node, "plug<hub");
        Assert.Equal("1+plug/hub", await BehindAsync(node, 0));
    }

    [SkippableFact]
    public async Task Changes_at_the_same_moment_have_versions_of_their_own()
    {
        await using var node = await SiteAsync("hub");
        await Task.WhenAll(Enumerable.Range(1, 20).Select(n => AddAsync(node, $"d{n}<hub")));
        var changes = await node.GetRequiredService<SubDeviceList>()
            .BehindAsync(Hub, 0, deletionsBehind: 0, 100, default);
        Assert.Equal(Enumerable.Range(1, 20).Select(n => (long)n), changes.Select(c => c.Version));
    }

    [SkippableFact]
    public async Task Those_that_were_there_before_the_list_was_are_in_it()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var database = new SqlDatabase(await server.CreateAsync());
        await database.MigrateAsync(RegistryMigrations.All.Where(m => m.Box != "sub-devices"));
        await using (var db = database.Open())
        {
            foreach (var (id, gateway) in ((string, string?)[])[("hub", null), ("b", "hub"), ("a", "hub"), ("c", "a")])
            {
                await db.ExecuteAsync(
                    $"""
                    insert into device (device_id, record_id, project_id, product_id, node_id, gateway_id, root_id, gateway_since, secret, created_at, phase)
                    values ('{id}', 'r{id}', 'p', 'lamp', 'n-{id}', {(gateway is null ? "null" : $"'{gateway}'")}, {(gateway is null ? "null" : "'hub'")},
                      {(id == "hub" ? "1" : "null")}, 's', 1, 0)
                    """);
            }
        }

        await database.MigrateAsync(RegistryMigrations.All);
        await using var node = Node(database);
        var list = node.GetRequiredService<SubDeviceList>();
        Assert.Equal(3, await list.VersionAsync(Hub, default));
        var changes = await list.BehindAsync(Hub, 0, deletionsBehind: 0, 10, default);
        Assert.Equal(["a", "b", "c"], changes.Select(c => c.DeviceId));
    }

    private async Task<ServiceProvider> SiteAsync(params string[] devices)
    {
        var node = Node(await DatabaseAsync(server));
        foreach (var device in devices) await AddAsync(node, device);
        return node;
    }

    // "led<plug<hub": led stands under plug, and that under hub, which has the connection.
    private static async Task AddAsync(ServiceProvider node, string path)
    {
        var ids = path.Split('<');
        var device = ids.Length == 1 ? Device(ids[0]) : Under(ids[0], ids[1]) with { RootId = ids[^1] };
        Assert.True(await node.GetRequiredService<Devices>().AddAsync(device, default));
    }

    private static Device Under(string id, string gateway) => Device(id) with { GatewayId = gateway, RootId = gateway };

    private static async Task RemoveAsync(ServiceProvider node, string id)
    {
        var devices = node.GetRequiredService<Devices>();
        var device = await devices.MarkDeletingAsync(Project, Id(id), default);
        await devices.RemoveAsync(device!, default);
    }

    private static async Task<string> BehindAsync(ServiceProvider node, long version, long deletionsBehind = 0)
    {
        var changes = await node.GetRequiredService<SubDeviceList>()
            .BehindAsync(Hub, version, deletionsBehind, 100, default);
        return string.Join(
            ' ', changes.Select(c => $"{c.Version}{(c.Device is null ? "-" : "+")}{c.NodeId}/{c.ParentId}"));
    }
}

public sealed class SqliteSubDeviceListSpec(SqliteDatabase database) : SubDeviceListSpec<SqliteDatabase>(database);

public sealed class PostgreSqlSubDeviceListSpec(PostgreSqlDatabase database)
    : SubDeviceListSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerSubDeviceListSpec(SqlServerDatabase database)
    : SubDeviceListSpec<SqlServerDatabase>(database);
