using System.Security.Cryptography;
using System.Text;
using IoTDelivery.Domain;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;
using LinqToDB.Mapping;

namespace IoTDelivery.Registry;

/// <summary>A group of devices, so that many can be named at once.</summary>
[Table("device_group")]
public sealed record DeviceGroup
{
    [Column("group_id"), PrimaryKey] public required string GroupId { get; init; }
    [Column("record_id")] public required string RecordId { get; init; }
    [Column("project_id")] public required string ProjectId { get; init; }
    [Column("app_id")] public string? AppId { get; init; }
    [Column("name")] public required string Name { get; init; }

    /// <summary>Stands for resource space and name, which is unique there: an index over the name itself would be too long for SQL Server.</summary>
    [Column("name_key")] public required string NameKey { get; init; }
    [Column("description")] public string? Description { get; init; }

    /// <summary>The group this one belongs to; null for one at the top.</summary>
    [Column("super_group_id")] public string? SuperGroupId { get; init; }

    /// <summary>Milliseconds since 1970, UTC.</summary>
    [Column("created_at")] public required long CreatedAt { get; init; }

    /// <summary>The <see cref="NameKey"/> of a name.</summary>
    public static string NameKeyOf(string projectId, string? appId, string name) =>
        Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes($"{projectId}\n{appId}\n{name}")));
}

/// <summary>A device in a group.</summary>
[Table("device_group_member")]
public sealed record DeviceGroupMember
{
    [Column("group_id"), PrimaryKey(0)] public required string GroupId { get; init; }
    [Column("device_id"), PrimaryKey(1)] public required string DeviceId { get; init; }
    [Column("record_id")] public required string RecordId { get; init; }
}

/// <summary>Why a group or its members stayed as they were.</summary>
public enum GroupRefusal
{
    /// <summary>This project has no such group.</summary>
    NoSuchGroup = 1,

    /// <summary>This project has no such device.</summary>
    NoSuchDevice = 2,

    /// <summary>Another group of the resource space has this name.</summary>
    NameTaken = 3,

    /// <summary>The group that should be above does not exist.</summary>
    NoSuchSuperGroup = 4,

    /// <summary>One level more than <see cref="DeviceGroups.DepthMax"/>.</summary>
    TooDeep = 5,

    /// <summary>The project has <see cref="DeviceGroups.GroupsMax"/> groups.</summary>
    TooManyGroups = 6,

    /// <summary>The group has <see cref="DeviceGroups.DevicesMax"/> devices.</summary>
    TooManyDevices = 7,

    /// <summary>The device is in <see cref="DeviceGroups.GroupsPerDeviceMax"/> groups.</summary>
    InTooManyGroups = 8,

    /// <summary>It has devices or groups below it: they go first.</summary>
    NotEmpty = 9,
}

/// <summary>The device groups of this site and who is in them. The limits are the manual's ("Device Group Management").</summary>
public sealed class DeviceGroups(SqlDatabase database)
{
    /// <summary>Groups of one project.</summary>
    public const int GroupsMax = 1_000;

    /// <summary>Levels of groups, the top one included.</summary>
    public const int DepthMax = 5;

    /// <summary>Devices in one group.</summary>
    public const int DevicesMax = 20_000;

    /// <summary>Groups one device may be in.</summary>
    public const int GroupsPerDeviceMax = 10;

    /// <summary>The tables, step by step.</summary>
    public static readonly IReadOnlyList<Migration> Migrations =
    [
        new("groups", 1,
            """
            create table device_group (
              group_id {id} not null primary key, record_id {id} not null, project_id {id} not null, app_id {id}, name {text} not null, name_key {id} not null,
              description {text}, super_group_id {id}, created_at {bigint} not null)
            """,
            "create unique index device_group_by_name on device_group (name_key)",
            "create index device_group_by_record on device_group (project_id, record_id)",
            "create index device_group_by_super on device_group (super_group_id)",
            "create table device_group_member (group_id {id} not null, device_id {id} not null, record_id {id} not null, primary key (group_id, device_id))",
            "create index device_group_member_by_record on device_group_member (group_id, record_id)",
            "create index device_group_member_by_device on device_group_member (device_id)"),
    ];

    /// <summary>Null if the group is there now.</summary>
    public async Task<GroupRefusal?> AddAsync(DeviceGroup group, CancellationToken cancel)
    {
        await using var db = database.Open();
        if (await db.GetTable<DeviceGroup>().CountAsync(g => g.ProjectId == group.ProjectId, cancel) >= GroupsMax) return GroupRefusal.TooManyGroups;
        var depth = 1;
        for (var above = group.SuperGroupId; above is not null; depth++)
        {
            var id = above;
            if (await db.GetTable<DeviceGroup>().FirstOrDefaultAsync(g => g.GroupId == id && g.ProjectId == group.ProjectId, cancel) is not { } super) return GroupRefusal.NoSuchSuperGroup;
            above = super.SuperGroupId;
        }

        if (depth > DepthMax) return GroupRefusal.TooDeep;
        return await UniqueInsert.TryAsync(
            () => db.InsertAsync(group, token: cancel),
            () => db.GetTable<DeviceGroup>().AnyAsync(g => g.NameKey == group.NameKey, cancel)) ? null : GroupRefusal.NameTaken;
    }

    /// <summary>The group, or null if this project has none of this id.</summary>
    public async Task<DeviceGroup?> FindAsync(string projectId, string groupId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await FindAsync(db, projectId, groupId, cancel);
    }

    /// <summary>A page of groups, newest first, and how many there are in all.</summary>
    public async Task<(IReadOnlyList<DeviceGroup> Items, int Count)> ListAsync(string projectId, string? appId, Page page, CancellationToken cancel)
    {
        await using var db = database.Open();
        var all = db.GetTable<DeviceGroup>().Where(g => g.ProjectId == projectId);
        if (appId is not null) all = all.Where(g => g.AppId == appId);
        var items = await all.Where(g => g.RecordId.CompareTo(page.Marker) < 0)
            .OrderByDescending(g => g.RecordId).Skip(page.Offset).Take(page.Limit).ToListAsync(cancel);
        return (items, await all.CountAsync(cancel));
    }

    /// <summary>Changes what is given; null leaves it as it is.</summary>
    public async Task<(DeviceGroup? Group, GroupRefusal? Refusal)> UpdateAsync(string projectId, string groupId, string? name, string? description, CancellationToken cancel)
    {
        await using var db = database.Open();
        if (await FindAsync(db, projectId, groupId, cancel) is not { } group) return (null, GroupRefusal.NoSuchGroup);
        var changed = group with { Name = name ?? group.Name, Description = description ?? group.Description };
        changed = changed with { NameKey = DeviceGroup.NameKeyOf(projectId, group.AppId, changed.Name) };
        var isUpdated = await UniqueInsert.TryAsync(
            () => db.UpdateAsync(changed, token: cancel),
            () => db.GetTable<DeviceGroup>().AnyAsync(g => g.NameKey == changed.NameKey && g.GroupId != groupId, cancel));
        return isUpdated ? (changed, null) : (null, GroupRefusal.NameTaken);
    }

    /// <summary>Null if the group is gone now.</summary>
    public async Task<GroupRefusal?> RemoveAsync(string projectId, string groupId, CancellationToken cancel)
    {
        await using var db = database.Open();
        if (await FindAsync(db, projectId, groupId, cancel) is null) return GroupRefusal.NoSuchGroup;
        var isRemoved = await db.GetTable<DeviceGroup>()
            .Where(g => g.GroupId == groupId
                && !db.GetTable<DeviceGroupMember>().Any(m => m.GroupId == groupId)
                && !db.GetTable<DeviceGroup>().Any(below => below.SuperGroupId == groupId))
            .DeleteAsync(cancel) > 0;
        return isRemoved ? null : GroupRefusal.NotEmpty;
    }

    /// <summary>Null if the device is in the group now; it may have been before.</summary>
    public async Task<GroupRefusal?> AddDeviceAsync(string projectId, string groupId, DeviceId deviceId, DateTimeOffset now, CancellationToken cancel)
    {
        await using var db = database.Open();
        if (await FindAsync(db, projectId, groupId, cancel) is null) return GroupRefusal.NoSuchGroup;
        var members = db.GetTable<DeviceGroupMember>();
        if (!await db.GetTable<Device>().AnyAsync(d => d.DeviceId == deviceId.Value && d.ProjectId == projectId && d.Phase == DevicePhase.Ready, cancel)) return GroupRefusal.NoSuchDevice;
        if (await members.AnyAsync(m => m.GroupId == groupId && m.DeviceId == deviceId.Value, cancel)) return null;
        if (await members.CountAsync(m => m.DeviceId == deviceId.Value, cancel) >= GroupsPerDeviceMax) return GroupRefusal.InTooManyGroups;
        if (await members.CountAsync(m => m.GroupId == groupId, cancel) >= DevicesMax) return GroupRefusal.TooManyDevices;
        await UniqueInsert.TryAsync(
            () => db.InsertAsync(new DeviceGroupMember { GroupId = groupId, DeviceId = deviceId.Value, RecordId = RecordIds.New(now) }, token: cancel),
            () => members.AnyAsync(m => m.GroupId == groupId && m.DeviceId == deviceId.Value, cancel));
        return null;
    }

    /// <summary>Null if the device is not in the group now.</summary>
    public async Task<GroupRefusal?> RemoveDeviceAsync(string projectId, string groupId, DeviceId deviceId, CancellationToken cancel)
    {
        await using var db = database.Open();
        if (await FindAsync(db, projectId, groupId, cancel) is null) return GroupRefusal.NoSuchGroup;
        var removed = await db.GetTable<DeviceGroupMember>().Where(m => m.GroupId == groupId && m.DeviceId == deviceId.Value).DeleteAsync(cancel);
        return removed > 0 ? null : GroupRefusal.NoSuchDevice;
    }

    /// <summary>A page of the devices in a group, those that came last first, and how many there are in all. The marker is that of the membership.</summary>
    public async Task<(IReadOnlyList<(Device Device, string Marker)> Items, int Count)> DevicesAsync(string groupId, Page page, CancellationToken cancel)
    {
        await using var db = database.Open();
        var all =
            from member in db.GetTable<DeviceGroupMember>()
            join device in db.GetTable<Device>() on member.DeviceId equals device.DeviceId
            where member.GroupId == groupId && device.Phase == DevicePhase.Ready
            select new { Device = device, member.RecordId };
        var items = await all.Where(m => m.RecordId.CompareTo(page.Marker) < 0)
            .OrderByDescending(m => m.RecordId).Skip(page.Offset).Take(page.Limit).ToListAsync(cancel);
        return ([.. items.Select(m => (m.Device, m.RecordId))], await all.CountAsync(cancel));
    }

    /// <summary>Ids of this project's devices that are in one of these groups or of one of these products, each once, in the order of their bytes, from behind <paramref name="after"/>.</summary>
    public async Task<IReadOnlyList<string>> MembersAsync(
        string projectId, IReadOnlyCollection<string> groupIds, IReadOnlyCollection<string> productIds, string after, int limit, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<Device>()
            .Where(d => d.ProjectId == projectId && d.Phase == DevicePhase.Ready && d.DeviceId.CompareTo(after) > 0)
            .Where(d => productIds.Contains(d.ProductId) || db.GetTable<DeviceGroupMember>().Any(m => m.DeviceId == d.DeviceId && groupIds.Contains(m.GroupId)))
            .OrderBy(d => d.DeviceId).Take(limit).Select(d => d.DeviceId).ToListAsync(cancel);
    }

    private static Task<DeviceGroup?> FindAsync(DataConnection db, string projectId, string groupId, CancellationToken cancel) =>
        db.GetTable<DeviceGroup>().FirstOrDefaultAsync(g => g.GroupId == groupId && g.ProjectId == projectId, cancel);
}
