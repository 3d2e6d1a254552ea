using IoTDelivery.Domain;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Linq;
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

    /// <summary>The device above a sub-device; null for a device that connects by itself.</summary>
    [Column("gateway_id")] public string? GatewayId { get; init; }

    /// <summary>The directly connected device at the top, whose connection carries a sub-device's messages; null for a device that connects by itself.</summary>
    [Column("root_id")] public string? RootId { get; init; }
    /// <summary>When the first sub-device was created that is carried by this device's connection; null if there never was one.</summary>
    [Column("gateway_since")] public long? GatewaySince { get; init; }
    [Column("device_name")] public string? DeviceName { get; init; }
    [Column("description")] public string? Description { get; init; }

    /// <summary>JSON, as given.</summary>
    [Column("extension_info")] public string? ExtensionInfo { get; init; }

    /// <summary>Encrypted in the table, in clear in memory; never logged.</summary>
    [Column("secret")] public required string Secret { get; init; }

    /// <summary>Valid beside <see cref="Secret"/>, so that a device can be given a new one without a gap; kept like it.</summary>
    [Column("secondary_secret")] public string? SecondarySecret { get; init; }

    /// <summary>Since when the device may not connect; null if it may.</summary>
    [Column("frozen_at")] public long? FrozenAt { get; init; }

    /// <summary>Milliseconds since 1970, UTC, like the other times.</summary>
    [Column("created_at")] public required long CreatedAt { get; init; }
    [Column("phase")] public DevicePhase Phase { get; init; }

    /// <summary>The node (its incarnation) that holds the connection; null when the device is away.</summary>
    [Column("online_node")] public string? OnlineNode { get; init; }
    [Column("connection_id")] public Guid? ConnectionId { get; init; }

    /// <summary>First connection ever; null for INACTIVE.</summary>
    [Column("active_at")] public long? ActiveAt { get; init; }
    [Column("status_at")] public long? StatusAt { get; init; }

    /// <summary>What the device last said of its software: <see cref="SdkInfo"/>.</summary>
    [Column("device_sdk_version")] public string? DeviceSdkVersion { get; init; }
    [Column("sw_version")] public string? SwVersion { get; init; }
    [Column("fw_version")] public string? FwVersion { get; init; }

    /// <summary>What notifications about this device say of it.</summary>
    public DeviceHeader Header => new(ProjectId, AppId, NodeId, ProductId, GatewayId ?? DeviceId);

    // A printed record must not show the secret.
    public override string ToString() => $"Device {DeviceId} of project {ProjectId}";
}

/// <summary>What a list of devices may be narrowed to; null means any.</summary>
/// <param name="IsCascade">With <see cref="GatewayId"/>: also the sub-devices of its sub-devices.</param>
/// <param name="CreatedFrom">Milliseconds since 1970, UTC, as <see cref="Device.CreatedAt"/>.</param>
/// <param name="CreatedTo">The same, included.</param>
public readonly record struct DeviceFilter(
    string? ProductId, string? GatewayId, string? NodeId, string? DeviceName, string? AppId, bool IsCascade = false, long? CreatedFrom = null, long? CreatedTo = null);

/// <summary>What an update may change of a device; null leaves as it is.</summary>
public readonly record struct DeviceChange(string? DeviceName, string? Description, string? ExtensionInfo);

/// <summary>The devices of this site. Reading one that has not changed costs no query: <see cref="DeviceCache"/>.</summary>
public sealed class Devices(SqlDatabase database, Secrets secrets, DeviceCache cache)
{
    /// <summary>False if the id is taken. No node has to forget it: what is not there is not remembered.</summary>
    public async Task<bool> AddAsync(Device device, CancellationToken cancel)
    {
        await using var db = database.Open();
        var row = secrets.Protect(device);
        var added = await UniqueInsert.TryAsync(
            () => db.InsertAsync(row, token: cancel),
            () => db.GetTable<Device>().AnyAsync(d => d.DeviceId == device.DeviceId, cancel));
        if (added && device.RootId is { } root)
        {
            await db.GetTable<Device>().Where(d => d.DeviceId == root && d.GatewaySince == null).Set(d => d.GatewaySince, device.CreatedAt).UpdateAsync(cancel);
            await cache.ForgetAsync(root);
        }

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
        return row is null ? null : secrets.Unprotect(row);
    }

    /// <summary>The device as it is afterwards, or null if this project has none of this id.</summary>
    public async Task<Device?> UpdateAsync(string projectId, DeviceId deviceId, DeviceChange change, CancellationToken cancel)
    {
        await ChangeAsync(projectId, deviceId, own => own
            .Set(d => d.DeviceName, d => change.DeviceName ?? d.DeviceName)
            .Set(d => d.Description, d => change.Description ?? d.Description)
            .Set(d => d.ExtensionInfo, d => change.ExtensionInfo ?? d.ExtensionInfo), cancel);
        return await ReadAsync(projectId, deviceId, cancel);
    }

    /// <summary>False if this project has none of this id. Connections that are open stay.</summary>
    public Task<bool> ResetSecretAsync(string projectId, DeviceId deviceId, string secret, bool isSecondary, CancellationToken cancel)
    {
        var stored = secrets.Protect(secret);
        return ChangeAsync(projectId, deviceId, own => isSecondary ? own.Set(d => d.SecondarySecret, stored) : own.Set(d => d.Secret, stored), cancel);
    }

    /// <summary>False if this project has none of this id. Null lets it connect again.</summary>
    public Task<bool> FreezeAsync(string projectId, DeviceId deviceId, DateTimeOffset? at, CancellationToken cancel)
    {
        var since = at?.ToUnixTimeMilliseconds();
        return ChangeAsync(projectId, deviceId, own => own.Set(d => d.FrozenAt, since), cancel);
    }

    /// <summary>True if a device stands under this one.</summary>
    public async Task<bool> HasSubDevicesAsync(DeviceId deviceId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<Device>().AnyAsync(d => d.GatewayId == deviceId.Value && d.DeviceId != deviceId.Value, cancel);
    }

    /// <summary>A page of devices, newest first, and how many there are in all. Secrets stay encrypted.</summary>
    public async Task<(IReadOnlyList<Device> Items, int Count)> ListAsync(string projectId, DeviceFilter filter, Page page, CancellationToken cancel)
    {
        await using var db = database.Open();
        var all = db.GetTable<Device>().Where(d => d.ProjectId == projectId && d.Phase == DevicePhase.Ready);
        if (filter.ProductId is { } product) all = all.Where(d => d.ProductId == product);
        if (filter.GatewayId is { } gateway) all = filter.IsCascade ? all.Where(d => d.GatewayId == gateway || d.RootId == gateway) : all.Where(d => d.GatewayId == gateway);
        if (filter.CreatedFrom is { } from) all = all.Where(d => d.CreatedAt >= from);
        if (filter.CreatedTo is { } to) all = all.Where(d => d.CreatedAt <= to);
        if (filter.NodeId is { } node) all = all.Where(d => d.NodeId == node);
        if (filter.DeviceName is { } name) all = all.Where(d => d.DeviceName == name);
        if (filter.AppId is { } app) all = all.Where(d => d.AppId == app);
        var items = await all.Where(d => d.RecordId.CompareTo(page.Marker) < 0)
            .OrderByDescending(d => d.RecordId).Skip(page.Offset).Take(page.Limit).ToListAsync(cancel);
        return (items, await all.CountAsync(cancel));
    }

    /// <summary>The rows of the devices whose connections carry these sub-devices, by id; a device that connects by itself needs none.</summary>
    public async Task<IReadOnlyDictionary<string, Device>> RootsAsync(IEnumerable<Device> devices, CancellationToken cancel)
    {
        var ids = devices.Select(d => d.RootId).OfType<string>().Distinct().ToArray();
        if (ids.Length == 0) return new Dictionary<string, Device>();
        await using var db = database.Open();
        return await db.GetTable<Device>().Where(d => ids.Contains(d.DeviceId)).ToDictionaryAsync(d => d.DeviceId, cancel);
    }

    /// <summary>First step of a deletion: the device is gone for everybody but whoever retires its outbox. Null if this project has none of this id.</summary>
    public async Task<Device?> MarkDeletingAsync(string projectId, DeviceId deviceId, CancellationToken cancel)
    {
        await using var db = database.Open();
        var device = await db.GetTable<Device>().FirstOrDefaultAsync(d => d.DeviceId == deviceId.Value && d.ProjectId == projectId, cancel);
        if (device is null) return null;
        await db.GetTable<Device>().Where(d => d.DeviceId == deviceId.Value).Set(d => d.Phase, DevicePhase.Deleting).UpdateAsync(cancel);
        await cache.ForgetAsync(deviceId.Value);
        return device;
    }

    /// <summary>Deletions that were begun and not finished.</summary>
    public async Task<IReadOnlyList<Device>> DeletingAsync(CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<Device>().Where(d => d.Phase == DevicePhase.Deleting).ToListAsync(cancel);
    }

    // Whoever changes a row makes every node forget what it has cached of it.
    private async Task<bool> ChangeAsync(string projectId, DeviceId deviceId, Func<IQueryable<Device>, IUpdatable<Device>> change, CancellationToken cancel)
    {
        await using var db = database.Open();
        var own = db.GetTable<Device>().Where(d => d.DeviceId == deviceId.Value && d.ProjectId == projectId && d.Phase == DevicePhase.Ready);
        var changed = await change(own).UpdateAsync(cancel);
        await cache.ForgetAsync(deviceId.Value);
        return changed > 0;
    }

    /// <summary>Last step of a deletion, once the outbox is retired.</summary>
    public async Task RemoveAsync(DeviceId deviceId, CancellationToken cancel)
    {
        await using var db = database.Open();
        await db.GetTable<DeviceGroupMember>().Where(m => m.DeviceId == deviceId.Value).DeleteAsync(cancel); // first: what stands marked is resumed, what is gone is not
        await db.GetTable<Device>().Where(d => d.DeviceId == deviceId.Value && d.Phase == DevicePhase.Deleting).DeleteAsync(cancel);
        await cache.ForgetAsync(deviceId.Value);
    }
}
