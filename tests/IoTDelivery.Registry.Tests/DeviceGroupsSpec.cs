using IoTDelivery.Tests.Databases;
using Microsoft.Extensions.DependencyInjection;
using static IoTDelivery.Registry.Tests.Site;

namespace IoTDelivery.Registry.Tests;

/// <summary>Device groups and who is in them. On every database.</summary>
public abstract class DeviceGroupsSpec<TDatabase>(TDatabase server) : IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    private static readonly DateTimeOffset Now = DateTimeOffset.UnixEpoch.AddYears(56);
    private int _records;

    [SkippableFact]
    public async Task A_group_is_found_as_it_was_added_and_changed_by_its_own_project_only()
    {
        await using var node = Node(await DatabaseAsync(server));
        var groups = node.GetRequiredService<DeviceGroups>();
        var group = Group("g", "花园 garden") with { Description = "draußen", AppId = "app" };

        Assert.Null(await groups.AddAsync(group, default));
        Assert.Equal(group, await groups.FindAsync(Project, "g", default));
        Assert.Null(await groups.FindAsync("project-2", "g", default));
        Assert.Equal(GroupRefusal.NoSuchGroup, (await groups.UpdateAsync("project-2", "g", "x", null, default)).Refusal);

        var (changed, _) = await groups.UpdateAsync(Project, "g", "cellar", null, default);
        Assert.Equal(("cellar", "draußen"), (changed!.Name, changed.Description));
        Assert.Equal(changed, await groups.FindAsync(Project, "g", default));
    }

    [SkippableFact]
    public async Task A_name_is_given_once_per_resource_space()
    {
        await using var node = Node(await DatabaseAsync(server));
        var groups = node.GetRequiredService<DeviceGroups>();
        Assert.Null(await groups.AddAsync(Group("g1", "garden"), default));

        Assert.Equal(GroupRefusal.NameTaken, await groups.AddAsync(Group("g2", "garden"), default));
        Assert.Null(await groups.AddAsync(Group("g3", "garden", app: "app"), default));
        Assert.Null(await groups.AddAsync(Group("g4", "garden", project: "project-2"), default));
        Assert.Null(await groups.AddAsync(Group("g5", "Garden"), default));
        Assert.Equal(GroupRefusal.NameTaken, (await groups.UpdateAsync(Project, "g5", "garden", null, default)).Refusal);
        Assert.Null((await groups.UpdateAsync(Project, "g1", "garden", "the same name", default)).Refusal);
    }

    [SkippableFact]
    public async Task Groups_nest_five_levels_and_go_from_the_bottom_when_they_are_empty()
    {
        await using var node = Node(await DatabaseAsync(server));
        var groups = node.GetRequiredService<DeviceGroups>();
        for (var level = 1; level <= 5; level++) Assert.Null(await groups.AddAsync(Group($"g{level}", $"level {level}", above: level == 1 ? null : $"g{level - 1}"), default));

        Assert.Equal(GroupRefusal.TooDeep, await groups.AddAsync(Group("g6", "level 6", above: "g5"), default));
        Assert.Equal(GroupRefusal.NoSuchSuperGroup, await groups.AddAsync(Group("g7", "nowhere", above: "unknown"), default));
        Assert.Equal(GroupRefusal.NoSuchSuperGroup, await groups.AddAsync(Group("g8", "theirs", above: "g1", project: "project-2"), default));
        Assert.Equal(GroupRefusal.NotEmpty, await groups.RemoveAsync(Project, "g4", default));

        await node.GetRequiredService<Devices>().AddAsync(Device("lamp"), default);
        Assert.Null(await groups.AddDeviceAsync(Project, "g5", Id("lamp"), Now, default));
        Assert.Equal(GroupRefusal.NotEmpty, await groups.RemoveAsync(Project, "g5", default));
        Assert.Null(await groups.RemoveDeviceAsync(Project, "g5", Id("lamp"), default));
        Assert.Null(await groups.RemoveAsync(Project, "g5", default));
        Assert.Null(await groups.RemoveAsync(Project, "g4", default));
        Assert.Equal(GroupRefusal.NoSuchGroup, await groups.RemoveAsync(Project, "g4", default));
    }

    [SkippableFact]
    public async Task Devices_of_a_group_are_listed_in_pages_and_each_is_in_it_once()
    {
        await using var node = Node(await DatabaseAsync(server));
        var groups = node.GetRequiredService<DeviceGroups>();
        await groups.AddAsync(Group("g", "garden"), default);
        for (var i = 0; i < 5; i++)
        {
            await node.GetRequiredService<Devices>().AddAsync(Device($"d{i}"), default);
            Assert.Null(await groups.AddDeviceAsync(Project, "g", Id($"d{i}"), Now.AddMilliseconds(i), default));
            Assert.Null(await groups.AddDeviceAsync(Project, "g", Id($"d{i}"), Now.AddMilliseconds(i), default)); // again: nothing changes
        }

        var (first, count) = await groups.DevicesAsync("g", Page.First with { Limit = 2 }, default);
        Assert.Equal((5, "d4 d3"), (count, Ids(first)));
        Assert.Equal("d2 d1", Ids((await groups.DevicesAsync("g", new Page(2, first[^1].Marker, 0), default)).Items));
        Assert.Equal(GroupRefusal.NoSuchDevice, await groups.AddDeviceAsync(Project, "g", Id("unknown"), Now, default));
        Assert.Equal(GroupRefusal.NoSuchGroup, await groups.AddDeviceAsync("project-2", "g", Id("d1"), Now, default));
        Assert.Equal(GroupRefusal.NoSuchDevice, await groups.RemoveDeviceAsync(Project, "g", Id("unknown"), default));

        static string Ids(IEnumerable<(Device Device, string Marker)> items) => string.Join(' ', items.Select(d => d.Device.DeviceId));
    }

    [SkippableFact]
    public async Task A_device_is_in_ten_groups_at_most()
    {
        await using var node = Node(await DatabaseAsync(server));
        var groups = node.GetRequiredService<DeviceGroups>();
        await node.GetRequiredService<Devices>().AddAsync(Device("lamp"), default);
        for (var i = 0; i <= 10; i++)
        {
            await groups.AddAsync(Group($"g{i}", $"group {i}"), default);
            Assert.Equal(i < 10 ? null : GroupRefusal.InTooManyGroups, await groups.AddDeviceAsync(Project, $"g{i}", Id("lamp"), Now, default));
        }
    }

    [SkippableFact]
    public async Task A_deleted_device_is_in_no_group_also_when_its_id_comes_back()
    {
        await using var node = Node(await DatabaseAsync(server));
        var (groups, devices) = (node.GetRequiredService<DeviceGroups>(), node.GetRequiredService<Devices>());
        await groups.AddAsync(Group("g", "garden"), default);
        await devices.AddAsync(Device("lamp"), default);
        await groups.AddDeviceAsync(Project, "g", Id("lamp"), Now, default);

        var deleted = (await devices.MarkDeletingAsync(Project, Id("lamp"), default))!;
        Assert.Equal(0, (await groups.DevicesAsync("g", Page.First, default)).Count);
        Assert.Equal(GroupRefusal.NoSuchDevice, await groups.AddDeviceAsync(Project, "g", Id("lamp"), Now, default));
        await devices.RemoveAsync(deleted, default);
        await devices.AddAsync(Device("lamp"), default);

        Assert.Equal(0, (await groups.DevicesAsync("g", Page.First, default)).Count);
        Assert.Null(await groups.RemoveAsync(Project, "g", default));
    }

    [SkippableFact]
    public async Task Members_of_groups_and_products_come_once_each_in_order_from_behind_the_last()
    {
        await using var node = Node(await DatabaseAsync(server));
        var (groups, devices) = (node.GetRequiredService<DeviceGroups>(), node.GetRequiredService<Devices>());
        foreach (var id in new[] { "b", "B", "a", "d", "c" }) await devices.AddAsync(Device(id) with { ProductId = id == "d" ? "fan" : "lamp" }, default);
        await devices.AddAsync(Device("theirs", "project-2"), default);
        await groups.AddAsync(Group("g1", "1"), default);
        await groups.AddAsync(Group("g2", "2"), default);
        foreach (var (group, id) in new[] { ("g1", "a"), ("g1", "d"), ("g2", "a") }) await groups.AddDeviceAsync(Project, group, Id(id), Now, default);

        Assert.Equal(["a", "d"], await groups.MembersAsync(Project, ["g1", "g2"], [], "", 10, default));
        Assert.Equal(["B", "a", "b", "c", "d"], await groups.MembersAsync(Project, ["g1"], ["lamp"], "", 10, default));
        Assert.Equal(["b", "c"], await groups.MembersAsync(Project, ["g1"], ["lamp"], "a", 2, default));
        Assert.Empty(await groups.MembersAsync("project-2", ["g1"], [], "", 10, default));
    }

    private DeviceGroup Group(string id, string name, string? app = null, string project = Project, string? above = null) => new()
    {
        GroupId = id,
        RecordId = RecordIds.New(Now.AddMilliseconds(++_records)),
        ProjectId = project,
        AppId = app,
        Name = name,
        NameKey = DeviceGroup.NameKeyOf(project, app, name),
        SuperGroupId = above,
        CreatedAt = 1,
    };
}

public sealed class SqliteDeviceGroupsSpec(SqliteDatabase database) : DeviceGroupsSpec<SqliteDatabase>(database);

public sealed class PostgreSqlDeviceGroupsSpec(PostgreSqlDatabase database) : DeviceGroupsSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerDeviceGroupsSpec(SqlServerDatabase database) : DeviceGroupsSpec<SqlServerDatabase>(database);
