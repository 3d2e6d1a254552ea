using IoTDelivery.Domain;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Mapping;

namespace IoTDelivery.Registry;

/// <summary>Where a device's row stands.</summary>
public enum DevicePhase
{
    /// <summary>In use.</summary>
    Ready = 0,

    /// <summary>Being deleted: its outbox is retired first, then the row goes. Start-up resumes what stands here.</summary>
    Deleting = 1,
}

/// <summary>A device as the registry knows it.</summary>
[Table("device")]
public sealed record Device
{
    [Column("device_id"), PrimaryKey] public required string DeviceId { get; init; }
    [Column("record_id")] public required string RecordId { get; init; }
    [Column("project_id")] public required string ProjectId { get; init; }
    [Column("product_id")] public required string ProductId { get; init; }
    [Column("node_id")] public required string NodeId { get; init; }
    [Column("app_id")] public string? AppId { get; init; }
    [Column("gateway_id")] public string? GatewayId { get; init; }
    [Column("device_name")] public string? DeviceName { get; init; }
    [Column("description")] public string? Description { get; init; }

    /// <summary>JSON, as given.</summary>
    [Column("extension_info")] public string? ExtensionInfo { get; init; }

    /// <summary>Encrypted in the table, in clear in memory; never logged.</summary>
    [Column("secret")] public required string Secret { get; init; }

    /// <summary>Milliseconds since 1970, UTC, like the other times.</summary>
    [Column("created_at")] public required long CreatedAt { get; init; }
    [Column("phase")] public DevicePhase Phase { get; init; }

    /// <summary>The node (its incarnation) that holds the connection; null when the device is away.</summary>
    [Column("online_node")] public string? OnlineNode { get; init; }
    [Column("connection_id")] public Guid? ConnectionId { get; init; }

    /// <summary>First connection ever; null for INACTIVE.</summary>
    [Column("active_at")] public long? ActiveAt { get; init; }
    [Column("status_at")] public long? StatusAt { get; init; }

    /// <summary>What notifications about this device say of it.</summary>
    public DeviceHeader Header => new(ProjectId, AppId, NodeId, ProductId, GatewayId ?? DeviceId);

    // A printed record must not show the secret.
    public override string ToString() => $"Device {DeviceId} of project {ProjectId}";
}

/// <summary>What a list of devices may be narrowed to; null means any.</summary>
public readonly record struct DeviceFilter(string? ProductId, string? GatewayId, string? NodeId, string? DeviceName, string? AppId);

/// <summary>The devices of this site. Reading one that has not changed costs no query: <see cref="DeviceCache"/>.</summary>
public sealed class Devices(SqlDatabase database, Secrets secrets, DeviceCache cache)
{
    /// <summary>False if the id is taken.</summary>
    public async Task<bool> AddAsync(Device device, CancellationToken cancel)
    {
        await using var db = database.Open();
        var row = device with { Secret = secrets.Protect(device.Secret) };
        var added = await UniqueInsert.TryAsync(
            () => db.InsertAsync(row, token: cancel),
            () => db.GetTable<Device>().AnyAsync(d => d.DeviceId == device.DeviceId, cancel));
        cache.Forget(device.DeviceId);
        return added;
    }

    /// <summary>The device, or null. One that is being deleted is already missing.</summary>
    public async ValueTask<Device?> FindAsync(DeviceId deviceId) =>
        await cache.FindAsync(deviceId) is { Phase: DevicePhase.Ready } device ? device : null;

    /// <summary>The device if it belongs to this project, else null.</summary>
    public async ValueTask<Device?> FindAsync(string projectId, DeviceId deviceId) =>
        await FindAsync(deviceId) is { } device && device.ProjectId == projectId ? device : null;

    /// <summary>The row as it is now, without the cache: for Show, which tells the connection too.</summary>
    public async Task<Device?> ReadAsync(string projectId, DeviceId deviceId, CancellationToken cancel)
    {
        await using var db = database.Open();
        var row = await db.GetTable<Device>().FirstOrDefaultAsync(
            d => d.DeviceId == deviceId.Value && d.ProjectId == projectId && d.Phase == DevicePhase.Ready, cancel);
        return row is null ? null : row with { Secret = secrets.Unprotect(row.Secret) };
    }

    /// <summary>A page of devices, newest first, and how many there are in all. Secrets stay encrypted.</summary>
    public async Task<(IReadOnlyList<Device> Items, int Count)> ListAsync(string projectId, DeviceFilter filter, Page page, CancellationToken cancel)
    {
        await using var db = database.Open();
        var all = db.GetTable<Device>().Where(d => d.ProjectId == projectId && d.Phase == DevicePhase.Ready);
        if (filter.ProductId is { } product) all = all.Where(d => d.ProductId == product);
        if (filter.GatewayId is { } gateway) all = all.Where(d => d.GatewayId == gateway);
        if (filter.NodeId is { } node) all = all.Where(d => d.NodeId == node);
        if (filter.DeviceName is { } name) all = all.Where(d => d.DeviceName == name);
        if (filter.AppId is { } app) all = all.Where(d => d.AppId == app);
        var items = await all.Where(d => d.RecordId.CompareTo(page.Marker) < 0)
            .OrderByDescending(d => d.RecordId).Skip(page.Offset).Take(page.Limit).ToListAsync(cancel);
        return (items, await all.CountAsync(cancel));
    }

    /// <summary>First step of a deletion: the device is gone for everybody but whoever retires its outbox. Null if this project has none of this id.</summary>
    public async Task<Device?> MarkDeletingAsync(string projectId, DeviceId deviceId, CancellationToken cancel)
    {
        await using var db = database.Open();
        var device = await db.GetTable<Device>().FirstOrDefaultAsync(d => d.DeviceId == deviceId.Value && d.ProjectId == projectId, cancel);
        if (device is null) return null;
        await db.GetTable<Device>().Where(d => d.DeviceId == deviceId.Value).Set(d => d.Phase, DevicePhase.Deleting).UpdateAsync(cancel);
        cache.Forget(deviceId.Value);
        return device;
    }

    /// <summary>Deletions that were begun and not finished.</summary>
    public async Task<IReadOnlyList<Device>> DeletingAsync(CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<Device>().Where(d => d.Phase == DevicePhase.Deleting).ToListAsync(cancel);
    }

    /// <summary>Last step of a deletion, once the outbox is retired.</summary>
    public async Task RemoveAsync(DeviceId deviceId, CancellationToken cancel)
    {
        await using var db = database.Open();
        await db.GetTable<DeviceGroupMember>().Where(m => m.DeviceId == deviceId.Value).DeleteAsync(cancel); // first: what stands marked is resumed, what is gone is not
        await db.GetTable<Device>().Where(d => d.DeviceId == deviceId.Value && d.Phase == DevicePhase.Deleting).DeleteAsync(cancel);
        cache.Forget(deviceId.Value);
    }
}
