using IoTDelivery.Domain;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;
using LinqToDB.Mapping;

namespace IoTDelivery.Registry;

/// <summary>One change of a gateway's list of sub-devices.</summary>
/// <param name="Version">That of the list since then: each change has a greater one.</param>
/// <param name="ParentId">The device it stands under: the gateway, or a sub-device of it.</param>
/// <param name="Device">The sub-device as it is now; null if it was deleted. Its secret stays encrypted.</param>
public sealed record SubDeviceChange(long Version, string DeviceId, string NodeId, string ParentId, Device? Device);

/// <summary>
/// Which sub-devices a gateway has, as a list of changes with versions: a gateway says which version it knows and is
/// told what came behind it. Of a sub-device only the last change is kept. That one was deleted is forgotten after
/// <see cref="DeletionsKept"/>, and with the gateway.
/// </summary>
public sealed class SubDeviceList(SqlDatabase database)
{
    /// <summary>
    /// A gateway that was away for longer does not hear of what was deleted meanwhile. Ours, the manual gives none.
    /// </summary>
    public static readonly TimeSpan DeletionsKept = TimeSpan.FromDays(90);

    /// <summary>The table. Those that are there already are numbered in the order they were created.</summary>
    public static readonly IReadOnlyList<Migration> Migrations =
    [
        new("sub-devices", 1,
            "alter table device add sub_device_version {bigint} default 0 not null",
            """
            create table sub_device_change (
              device_id {id} not null, gateway_id {id} not null, version {bigint} not null, node_id {id} not null, parent_id {id} not null,
              deleted_at {bigint}, primary key (gateway_id, device_id))
            """,
            "create index sub_device_change_in_order on sub_device_change (gateway_id, version)",
            """
            insert into sub_device_change (device_id, gateway_id, version, node_id, parent_id)
              select device_id, root_id, row_number() over (partition by root_id order by record_id), node_id, gateway_id
              from device where root_id is not null and gateway_id is not null and phase = 0
            """,
            """
            update device set sub_device_version =
              (select count(*) from sub_device_change c where c.gateway_id = device.device_id)
              where gateway_since is not null
            """),
    ];

    /// <summary>The version of the list now; 0 if there is no such gateway, or it never had a sub-device.</summary>
    public async Task<long> VersionAsync(DeviceId gateway, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await VersionAsync(db, gateway.Value, cancel);
    }

    /// <summary>What changed behind this version, oldest first; of deletions those behind the other.</summary>
    public async Task<IReadOnlyList<SubDeviceChange>> BehindAsync(
        DeviceId gateway, long version, long deletionsBehind, int limit, CancellationToken cancel)
    {
        await using var db = database.Open();
        var changes = db.GetTable<Row>().Where(c => c.GatewayId == gateway.Value && c.Version > version);
        if (deletionsBehind > version) changes = changes.Where(c => c.DeletedAt == null || c.Version > deletionsBehind);
        var rows = await changes.OrderBy(c => c.Version).Take(limit).ToListAsync(cancel);
        var ids = rows.Where(r => r.DeletedAt is null).Select(r => r.DeviceId).ToArray();
        var devices = ids.Length == 0
            ? []
            : await db.GetTable<Device>().Where(d => ids.Contains(d.DeviceId))
                .ToDictionaryAsync(d => d.DeviceId, cancel);
        return
        [
            .. rows.Select(r => new SubDeviceChange(
                r.Version, r.DeviceId, r.NodeId, r.ParentId, devices.GetValueOrDefault(r.DeviceId))),
        ];
    }

    /// <summary>
    /// A gateway knows a later version than there is: its list was another one's, or another database's. All changes
    /// get versions behind that, so that it does not take them for old.
    /// </summary>
    public async Task ShiftAsync(DeviceId gateway, long version, CancellationToken cancel)
    {
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        var shifted = await db.GetTable<Device>()
            .Where(d => d.DeviceId == gateway.Value && d.SubDeviceVersion < version)
            .Set(d => d.SubDeviceVersion, d => d.SubDeviceVersion + version).UpdateAsync(cancel);
        if (shifted == 0) return; // somebody else did
        await db.GetTable<Row>().Where(c => c.GatewayId == gateway.Value)
            .Set(c => c.Version, c => c.Version + version).UpdateAsync(cancel);
        await transaction.CommitAsync(cancel);
    }

    /// <summary>Belongs into the transaction that completes the sub-device.</summary>
    internal static Task AddedAsync(DataConnection db, Device subDevice, CancellationToken cancel) =>
        NoteAsync(db, subDevice, deletedAt: null, cancel);

    /// <summary>Belongs into the transaction that removes the device, whatever it is.</summary>
    internal static async Task RemovedAsync(DataConnection db, Device device, long now, CancellationToken cancel)
    {
        if (device.RootId is null)
        {
            await db.GetTable<Row>().Where(c => c.GatewayId == device.DeviceId).DeleteAsync(cancel);
            return;
        }

        // One that was never completed was never told.
        var isListed = await db.GetTable<Row>()
            .AnyAsync(c => c.GatewayId == device.RootId && c.DeviceId == device.DeviceId, cancel);
        if (!isListed) return;
        await NoteAsync(db, device, now, cancel);
        var forgotten = now - (long)DeletionsKept.TotalMilliseconds;
        await db.GetTable<Row>().Where(c => c.GatewayId == device.RootId && c.DeletedAt < forgotten)
            .DeleteAsync(cancel);
    }

    // The gateway's row is counted first: whoever changes the list next waits, and has a greater version.
    private static async Task NoteAsync(DataConnection db, Device subDevice, long? deletedAt, CancellationToken cancel)
    {
        var gateway = subDevice.RootId!;
        var counted = await db.GetTable<Device>().Where(d => d.DeviceId == gateway)
            .Set(d => d.SubDeviceVersion, d => d.SubDeviceVersion + 1).UpdateAsync(cancel);
        if (counted == 0) return; // the gateway is gone, and its list with it
        var row = new Row
        {
            DeviceId = subDevice.DeviceId,
            GatewayId = gateway,
            Version = await VersionAsync(db, gateway, cancel),
            NodeId = subDevice.NodeId,
            ParentId = subDevice.GatewayId!,
            DeletedAt = deletedAt,
        };
        if (await db.UpdateAsync(row, token: cancel) == 0) await db.InsertAsync(row, token: cancel);
    }

    private static Task<long> VersionAsync(DataConnection db, string gateway, CancellationToken cancel) =>
        db.GetTable<Device>().Where(d => d.DeviceId == gateway)
            .Select(d => d.SubDeviceVersion).FirstOrDefaultAsync(cancel);

    [Table("sub_device_change")]
    private sealed record Row
    {
        [Column("gateway_id"), PrimaryKey(1)] public required string GatewayId { get; init; }
        [Column("device_id"), PrimaryKey(2)] public required string DeviceId { get; init; }
        [Column("version")] public required long Version { get; init; }
        [Column("node_id")] public required string NodeId { get; init; }
        [Column("parent_id")] public required string ParentId { get; init; }

        /// <summary>Milliseconds since 1970, UTC; null while the sub-device exists.</summary>
        [Column("deleted_at")] public long? DeletedAt { get; init; }
    }
}
