using IoTDelivery.Tests.Databases;
using LinqToDB.Data;
using Microsoft.Extensions.DependencyInjection;
using static IoTDelivery.Registry.Tests.Site;

namespace IoTDelivery.Registry.Tests;

/// <summary>Products, devices, secrets and who is online. On every database.</summary>
public abstract class RegistrySpec<TDatabase>(TDatabase server) : IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    [SkippableFact]
    public async Task A_product_is_found_as_it_was_added_by_its_own_project_only()
    {
        await using var node = Node(await DatabaseAsync(server));
        var products = node.GetRequiredService<Products>();
        var lamp = Product("lamp") with { Description = "Grüße, 灯", ManufacturerName = "m", Industry = "i", AppId = "app" };

        Assert.True(await products.AddAsync(lamp, default));
        Assert.False(await products.AddAsync(lamp, default));
        Assert.Equal(lamp, await products.FindAsync(Project, "lamp", default));
        Assert.Null(await products.FindAsync("project-2", "lamp", default));
    }

    [SkippableFact]
    public async Task Lists_are_newest_first_in_pages_and_narrowed()
    {
        await using var node = Node(await DatabaseAsync(server));
        var devices = node.GetRequiredService<Devices>();
        for (var i = 0; i < 5; i++)
        {
            var device = Device($"d{i}") with { RecordId = RecordIds.New(DateTimeOffset.UnixEpoch.AddMilliseconds(i)), DeviceName = i == 3 ? "three" : null };
            Assert.True(await devices.AddAsync(device, default));
        }

        await devices.AddAsync(Device("theirs", "project-2"), default);

        var (first, count) = await devices.ListAsync(Project, default, Page.First with { Limit = 2 }, default);
        Assert.Equal((5, "d4 d3"), (count, Ids(first)));
        Assert.Equal("d2 d1", Ids((await devices.ListAsync(Project, default, new Page(2, first[^1].RecordId, 0), default)).Items));
        Assert.Equal("d1 d0", Ids((await devices.ListAsync(Project, default, new Page(2, Page.NewestMarker, 3), default)).Items));
        Assert.Equal("d3", Ids((await devices.ListAsync(Project, new DeviceFilter { DeviceName = "three" }, Page.First, default)).Items));
        Assert.Empty((await devices.ListAsync(Project, new DeviceFilter { ProductId = "fan" }, Page.First, default)).Items);

        static string Ids(IEnumerable<Device> items) => string.Join(' ', items.Select(d => d.DeviceId));
    }

    [SkippableFact]
    public async Task What_a_device_says_of_its_software_is_kept_and_what_it_does_not_say_stays()
    {
        var database = await DatabaseAsync(server);
        await using (var node = Node(database))
        {
            await node.GetRequiredService<Devices>().AddAsync(Device("d"), default);
            var log = node.GetRequiredService<SdkInfoLog>();
            log.Report(Id("d"), new SdkInfo("sdk", "sw", "fw"));
            log.Report(Id("nobody"), new SdkInfo("sdk", "sw", "fw"));
            log.Report(Id("d"), new SdkInfo(null, "sw-2", null));
        } // what is to be written is written before the node is gone

        await using var other = Node(database, "node-2");
        var device = await other.GetRequiredService<Devices>().ReadAsync(Project, Id("d"), default);
        Assert.Equal(("sdk", "sw-2", "fw"), (device!.DeviceSdkVersion, device.SwVersion, device.FwVersion));
    }

    [SkippableFact]
    public async Task Ids_that_differ_in_case_only_are_different_devices()
    {
        await using var node = Node(await DatabaseAsync(server));
        var devices = node.GetRequiredService<Devices>();

        Assert.True(await devices.AddAsync(Device("lamp_A"), default));
        Assert.Null(await devices.FindAsync(Id("lamp_a")));
        Assert.True(await devices.AddAsync(Device("lamp_a"), default));
    }

    [SkippableFact]
    public async Task A_secret_is_unreadable_in_the_table_and_every_node_of_the_site_reads_it()
    {
        var database = await DatabaseAsync(server);
        await using var first = Node(database);
        await first.GetRequiredService<Devices>().AddAsync(Device("lamp"), default);

        await using (var db = database.Open()) Assert.DoesNotContain("secret of lamp", await db.ExecuteAsync<string>("select secret from device"));
        await using var second = Node(database, "node-2");
        Assert.Equal("secret of lamp", (await second.GetRequiredService<Devices>().FindAsync(Id("lamp")))!.Secret);
    }

    [SkippableFact]
    public async Task Of_two_that_create_the_same_device_at_once_one_is_told_that_it_is_taken()
    {
        var database = await DatabaseAsync(server);
        await using var first = Node(database);
        await using var second = Node(database, "node-2");
        for (var i = 0; i < 10; i++)
        {
            var results = await Task.WhenAll(
                Task.Run(() => first.GetRequiredService<Devices>().AddAsync(Device($"d{i}"), default)), Task.Run(() => second.GetRequiredService<Devices>().AddAsync(Device($"d{i}"), default)));
            Assert.Single(results, added => added);
        }
    }

    [SkippableFact]
    public async Task A_device_under_deletion_is_missing_for_everybody_but_whoever_finishes_it()
    {
        var database = await DatabaseAsync(server);
        await using var node = Node(database);
        var devices = node.GetRequiredService<Devices>();
        await devices.AddAsync(Device("lamp"), default);
        Assert.NotNull(await devices.FindAsync(Project, Id("lamp")));

        Assert.Null(await devices.MarkDeletingAsync("project-2", Id("lamp"), default));
        var deleted = (await devices.MarkDeletingAsync(Project, Id("lamp"), default))!;
        Assert.Null(await devices.FindAsync(Id("lamp")));
        Assert.Null(await devices.ReadAsync(Project, Id("lamp"), default));
        Assert.Equal(0, (await devices.ListAsync(Project, default, Page.First, default)).Count);
        Assert.False(await devices.AddAsync(Device("lamp"), default)); // not yet
        Assert.NotNull(await node.GetRequiredService<DeviceCache>().FindAsync(Id("lamp"))); // what it has pending is still pushed

        Assert.Equal("lamp", Assert.Single(await devices.UnfinishedAsync("", 10, default)).DeviceId);
        await devices.RemoveAsync(deleted, default);
        Assert.Empty(await devices.UnfinishedAsync("", 10, default));
        Assert.True(await devices.AddAsync(Device("lamp"), default));
    }

    [SkippableFact]
    public async Task A_device_that_is_created_again_has_a_greater_life_and_nothing_of_the_former_one_touches_it()
    {
        var database = await DatabaseAsync(server);
        await using var node = Node(database);
        await using var other = Node(database, "node-2");
        var (devices, groups) = (node.GetRequiredService<Devices>(), node.GetRequiredService<DeviceGroups>());
        await devices.AddAsync(Device("lamp"), default);
        var former = (await devices.MarkDeletingAsync(Project, Id("lamp"), default))!;
        var twice = (await other.GetRequiredService<Devices>().MarkDeletingAsync(Project, Id("lamp"), default))!;
        Assert.Equal(former.Life, twice.Life);
        await devices.RemoveAsync(former, default);

        await devices.AddAsync(Device("lamp"), default);
        var garden = new DeviceGroup
        {
            GroupId = "g",
            RecordId = RecordIds.New(DateTimeOffset.UtcNow),
            ProjectId = Project,
            Name = "garden",
            NameKey = DeviceGroup.NameKeyOf(Project, null, "garden"),
            CreatedAt = 1,
        };
        await groups.AddAsync(garden, default);
        await groups.AddDeviceAsync(Project, "g", Id("lamp"), DateTimeOffset.UnixEpoch, default);
        await other.GetRequiredService<Devices>().RemoveAsync(twice, default); // the second DELETE ends late

        var again = (await devices.FindAsync(Id("lamp")))!;
        Assert.True(again.Life > former.Life, $"{again.Life} after {former.Life}");
        Assert.Equal(1, (await groups.DevicesAsync("g", Page.First, default)).Count);
        Assert.True((await devices.MarkDeletingAsync(Project, Id("lamp"), default))!.Life > former.Life);
        await other.GetRequiredService<Devices>().RemoveAsync(twice, default); // also while it is being deleted again
        Assert.Single(await devices.UnfinishedAsync("", 10, default));
    }

    [SkippableFact]
    public async Task A_device_under_creation_is_missing_and_is_taken_over_when_it_is_created_again()
    {
        await using var node = Node(await DatabaseAsync(server));
        var devices = node.GetRequiredService<Devices>();
        var left = await devices.BeginAsync(Device("lamp") with { DeviceName = "left" }, default);
        Assert.Equal(DevicePhase.Creating, left.Phase);
        Assert.Null(await devices.FindAsync(Id("lamp")));
        Assert.Null(await devices.ReadAsync(Project, Id("lamp"), default));
        Assert.Null(await devices.MarkDeletingAsync(Project, Id("lamp"), default));
        Assert.Equal(0, (await devices.ListAsync(Project, default, Page.First, default)).Count);

        var taken = await devices.BeginAsync(Device("lamp") with { DeviceName = "taken" }, default);
        Assert.True(taken.Life > left.Life);
        Assert.False(await devices.CompleteAsync(left, default));
        Assert.False(await devices.AbandonAsync(left, default));
        Assert.True(await devices.CompleteAsync(taken, default));
        Assert.Equal("taken", (await devices.FindAsync(Id("lamp")))!.DeviceName); // at once
        Assert.False(await devices.AbandonAsync(taken, default));
        Assert.Equal(DevicePhase.Ready, (await devices.BeginAsync(Device("lamp"), default)).Phase);
    }

    [SkippableFact]
    public async Task A_creation_that_was_left_is_found_and_goes_the_way_of_a_deletion()
    {
        await using var node = Node(await DatabaseAsync(server));
        var devices = node.GetRequiredService<Devices>();
        foreach (var id in (string[])["a", "b", "c"]) await devices.BeginAsync(Device(id), default);
        await devices.AddAsync(Device("ready"), default);

        var page = await devices.UnfinishedAsync("", 2, default);
        Assert.Equal(["a", "b"], page.Select(d => d.DeviceId));
        Assert.Equal("c", Assert.Single(await devices.UnfinishedAsync("b", 2, default)).DeviceId);
        Assert.True(await devices.AbandonAsync(page[0], default));
        Assert.Equal(DevicePhase.Deleting, (await devices.BeginAsync(Device("a"), default)).Phase);
        await devices.RemoveAsync(page[0], default);
        Assert.True(await devices.AddAsync(Device("a"), default));
    }

    [SkippableFact]
    public async Task Numbers_of_lives_grow_whichever_node_draws_them_also_after_rows_have_gone()
    {
        var database = await DatabaseAsync(server);
        await using var first = Node(database);
        await using var second = Node(database, "node-2");
        var last = 0L;
        for (var i = 0; i < 6; i++)
        {
            var devices = (i % 2 == 0 ? first : second).GetRequiredService<Devices>();
            var life = (await devices.BeginAsync(Device("lamp"), default)).Life;
            Assert.True(life > last, $"{life} after {last}");
            last = life;
        }
    }

    [SkippableFact]
    public async Task Secrets_the_freezer_and_the_fields_of_a_device_change_one_by_one_and_its_own_node_sees_it_at_once()
    {
        await using var node = Node(await DatabaseAsync(server));
        var devices = node.GetRequiredService<Devices>();
        await devices.AddAsync(Device("lamp") with { DeviceName = "hall" }, default);
        Assert.Null((await devices.FindAsync(Id("lamp")))!.SecondarySecret);

        Assert.True(await devices.ResetSecretAsync(Project, Id("lamp"), "second-secret", isSecondary: true, default));
        Assert.NotNull(await devices.FreezeAsync(Project, Id("lamp"), DateTimeOffset.FromUnixTimeMilliseconds(5), default));
        Assert.Equal("door", (await devices.UpdateAsync(Project, Id("lamp"), new DeviceChange { Description = "door" }, default))!.Description);
        var changed = (await devices.FindAsync(Id("lamp")))!;
        Assert.Equal(("secret of lamp", "second-secret", 5, "hall"), (changed.Secret, changed.SecondarySecret, changed.FrozenAt, changed.DeviceName));
        Assert.False(await devices.UnfreezeAsync("project-2", Id("lamp"), default));
        Assert.True(await devices.UnfreezeAsync(Project, Id("lamp"), default));
        Assert.Null((await devices.FindAsync(Id("lamp")))!.FrozenAt);
    }

    [SkippableFact]
    public async Task A_freeze_and_a_reset_that_disconnects_begin_a_generation_and_nothing_else_does()
    {
        await using var node = Node(await DatabaseAsync(server));
        var devices = node.GetRequiredService<Devices>();
        await devices.AddAsync(Device("lamp"), default);
        var created = (await devices.FindAsync(Id("lamp")))!;
        Assert.Equal(created.Life, created.Generation);
        Assert.Null(await devices.FreezeAsync("project-2", Id("lamp"), DateTimeOffset.UnixEpoch, default));
        Assert.Null(await devices.ResetSecretAndEndLoginsAsync(Project, Id("nobody"), "secret-2", false, default));

        var frozen = await devices.FreezeAsync(Project, Id("lamp"), DateTimeOffset.UnixEpoch, default);
        Assert.Equal(new LoginsEnd("lamp", (await devices.FindAsync(Id("lamp")))!.Generation), frozen);
        Assert.True(frozen!.Value.Generation > created.Life);

        await devices.UnfreezeAsync(Project, Id("lamp"), default);
        await devices.ResetSecretAsync(Project, Id("lamp"), "secret-2", isSecondary: false, default);
        Assert.Equal(frozen.Value.Generation, (await devices.FindAsync(Id("lamp")))!.Generation);

        var reset = await devices.ResetSecretAndEndLoginsAsync(Project, Id("lamp"), "secret-3", true, default);
        var row = (await devices.FindAsync(Id("lamp")))!;
        Assert.Equal(("secret-2", "secret-3"), (row.Secret, row.SecondarySecret));
        Assert.Equal(new LoginsEnd("lamp", row.Generation), reset);
        Assert.True(row.Generation > frozen.Value.Generation);
    }

    [SkippableFact]
    public async Task What_ends_logins_is_kept_until_the_device_was_told_and_a_creation_is_not_among_it()
    {
        await using var node = Node(await DatabaseAsync(server));
        var devices = node.GetRequiredService<Devices>();
        await devices.AddAsync(Device("lamp"), default);
        Assert.Empty(await devices.UntoldAsync(0, 10, default));

        var first = (await devices.FreezeAsync(Project, Id("lamp"), DateTimeOffset.UnixEpoch, default))!.Value;
        var second = (await devices.FreezeAsync(Project, Id("lamp"), DateTimeOffset.UnixEpoch, default))!.Value;
        Assert.Equal([first, second], await devices.UntoldAsync(0, 10, default));
        Assert.Equal([second], await devices.UntoldAsync(first.Generation, 10, default));

        await devices.ToldAsync(first, default);
        Assert.Equal([second], await devices.UntoldAsync(0, 10, default));
    }

    [SkippableFact]
    public async Task Of_changes_that_come_together_the_row_holds_the_greatest_generation()
    {
        var database = await DatabaseAsync(server);
        await using var first = Node(database);
        await using var second = Node(database, "node-2");
        var (one, other) = (first.GetRequiredService<Devices>(), second.GetRequiredService<Devices>());
        await one.AddAsync(Device("lamp"), default);

        var ends = await Task.WhenAll(Enumerable.Range(0, 12).Select(i => Task.Run(() =>
            (i % 2 == 0 ? one : other).FreezeAsync(Project, Id("lamp"), DateTimeOffset.UnixEpoch, default))));

        var row = (await one.FindAsync(Id("lamp")))!;
        Assert.Equal(ends.Max(e => e!.Value.Generation), row.Generation);
        Assert.Equal(ends.Length, ends.Distinct().Count());
    }

    [SkippableFact]
    public async Task A_device_of_the_release_before_is_of_the_generation_of_its_life()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var database = new Storage.SqlDatabase(await server.CreateAsync());
        await database.MigrateAsync([.. RegistryMigrations.All.Where(m => m is not { Box: "registry", Version: > 5 })]);
        await using (var db = database.Open())
        {
            await db.ExecuteAsync(
                "insert into device (device_id, record_id, project_id, product_id, node_id, secret, created_at, phase, life) "
                + $"values ('lamp', '1', '{Project}', 'lamp', 'lamp', 'x', 1, 0, 7)");
        }

        await database.MigrateAsync(RegistryMigrations.All);

        await using var node = Node(database);
        var listed = await node.GetRequiredService<Devices>().ListAsync(Project, default, Page.First, default);
        Assert.Equal((7, 0), (listed.Items[0].Generation, listed.Items[0].LoginsEndedBy));
    }

    [SkippableFact]
    public async Task A_gateway_is_known_to_be_one_and_a_product_with_devices_stays()
    {
        await using var node = Node(await DatabaseAsync(server));
        var (devices, products) = (node.GetRequiredService<Devices>(), node.GetRequiredService<Products>());
        await products.AddAsync(Product("lamp"), default);
        await devices.AddAsync(Device("hub"), default);
        Assert.Null((await devices.FindAsync(Id("hub")))!.GatewaySince);
        await devices.AddAsync(Device("plug") with { GatewayId = "hub", RootId = "hub" }, default);
        await devices.AddAsync(Device("bulb") with { GatewayId = "plug", RootId = "hub" }, default);

        Assert.NotNull((await devices.FindAsync(Id("hub")))!.GatewaySince);
        Assert.True(await devices.HasSubDevicesAsync(Id("plug"), default));
        Assert.False(await devices.HasSubDevicesAsync(Id("bulb"), default));
        Assert.Equal(1, (await devices.ListAsync(Project, new DeviceFilter { GatewayId = "hub" }, Page.First, default)).Count);
        Assert.Equal(2, (await devices.ListAsync(Project, new DeviceFilter { GatewayId = "hub", IsCascade = true }, Page.First, default)).Count);
        Assert.False(await products.RemoveAsync(Project, "lamp", default));
        Assert.Null(await products.RemoveAsync("project-2", "lamp", default));
        Assert.Equal("light", (await products.UpdateAsync(Project, "lamp", p => p with { Industry = "light" }, default))!.Industry);
    }

    [SkippableFact]
    public async Task The_end_of_an_older_connection_says_nothing_about_a_younger_one()
    {
        var database = await DatabaseAsync(server);
        var (older, younger, at) = (Guid.NewGuid(), Guid.NewGuid(), DateTimeOffset.FromUnixTimeMilliseconds(1_000));
        await using (var first = Node(database))
        await using (var second = Node(database, "node-2"))
        {
            await first.GetRequiredService<Devices>().AddAsync(Device("lamp"), default);
            var (firstLog, secondLog) = (first.GetRequiredService<ConnectionLog>(), second.GetRequiredService<ConnectionLog>());
            firstLog.Report(Id("lamp"), older, isOnline: true, at);
            await firstLog.DisposeAsync(); // everything reported is written
            secondLog.Report(Id("lamp"), younger, isOnline: true, at.AddSeconds(1));
            await secondLog.DisposeAsync();
        }

        await using (var first = Node(database)) first.GetRequiredService<ConnectionLog>().Report(Id("lamp"), older, isOnline: false, at.AddSeconds(2));
        var online = await ReadAsync(database);
        Assert.Equal(("node-2", younger, 1_000, 2_000), (online.OnlineNode, online.ConnectionId, online.ActiveAt, online.StatusAt));

        await using (var second = Node(database, "node-2")) second.GetRequiredService<ConnectionLog>().Report(Id("lamp"), younger, isOnline: false, at.AddSeconds(3));
        var away = await ReadAsync(database);
        Assert.Equal((null, 1_000, 4_000), (away.OnlineNode, away.ActiveAt, away.StatusAt));
    }

    [SkippableFact]
    public async Task What_nobody_configured_is_made_once_for_all_nodes()
    {
        var database = await DatabaseAsync(server);
        var made = 0;
        var values = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(() =>
            new SiteSettings(database).GetOrAddAsync("token", () => $"made {Interlocked.Increment(ref made)}", default))));

        Assert.Single(values.Distinct());
    }

    private static async Task<Device> ReadAsync(Storage.SqlDatabase database)
    {
        await using var node = Node(database);
        return (await node.GetRequiredService<Devices>().ReadAsync(Project, Id("lamp"), default))!;
    }
}

public sealed class SqliteRegistrySpec(SqliteDatabase database) : RegistrySpec<SqliteDatabase>(database);

public sealed class PostgreSqlRegistrySpec(PostgreSqlDatabase database) : RegistrySpec<PostgreSqlDatabase>(database);

public sealed class SqlServerRegistrySpec(SqlServerDatabase database) : RegistrySpec<SqlServerDatabase>(database);
