using System.Data.Common;
using IoTDelivery.Domain;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;
using LinqToDB.Linq;
using LinqToDB.Mapping;

namespace IoTDelivery.Registry;

/// <summary>Where a device's row stands.</summary>
public enum DevicePhase
{
    /// <summary>In use.</summary>
    Ready = 0,

    /// <summary>Being deleted: its outbox is retired first, then the row goes.</summary>
    Deleting = 1,

    /// <summary>Being created: the id is taken, the outbox does not know of it yet. Only its creator sees it.</summary>
    Creating = 2,
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

    /// <summary>Of a gateway: counts the changes of its list of sub-devices, <see cref="SubDeviceList"/>.</summary>
    [Column("sub_device_version")] public long SubDeviceVersion { get; init; }

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

    /// <summary>
    /// Number of this life of the device: greater than that of every earlier device of this id. 0 for a device that was
    /// created before lives were numbered.
    /// </summary>
    [Column("life")] public long Life { get; init; }

    /// <summary>
    /// Drawn, from the sequence of lives, by the last freeze or reset of a secret that ended the logins before it. 0 if
    /// there was none.
    /// </summary>
    [Column("logins_ended_by")] public long LoginsEndedBy { get; init; }

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

    /// <summary>
    /// A login that is proven against this row is of this generation; one of an earlier generation counts no more.
    /// </summary>
    public long Generation => Math.Max(Life, LoginsEndedBy);

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

/// <summary>
/// A change of a device's row that ends the logins before it. The device has to be told; until it is, this is kept.
/// </summary>
/// <param name="Generation">Logins of earlier generations are over. No two changes have the same.</param>
public readonly record struct LoginsEnd(string DeviceId, long Generation);

/// <summary>The devices of this site. Reading one that has not changed costs no query: <see cref="DeviceCache"/>.</summary>
public sealed class Devices(SqlDatabase database, Secrets secrets, DeviceCache cache, TimeProvider? clock = null)
{
    // The second attempt sees an id that was taken at the same moment; more are for an id that comes and goes.
    private const int BeginAttemptsMax = 5;

    private readonly TimeProvider _clock = clock ?? TimeProvider.System;

    /// <summary>
    /// First step of a creation: takes the id and draws the number of the new life. A creation that nobody has
    /// completed is taken over, so that asking again after a failure is answered like the first time; the
    /// <see cref="CompleteAsync"/> of its creator is in vain then.
    /// </summary>
    /// <returns>
    /// The row that holds the id: <see cref="DevicePhase.Creating"/> if it is the new one,
    /// <see cref="DevicePhase.Ready"/> if the id is taken, <see cref="DevicePhase.Deleting"/> if a former life has to
    /// be ended first.
    /// </returns>
    public async Task<Device> BeginAsync(Device device, CancellationToken cancel)
    {
        var secured = secrets.Protect(device); // the site's first one writes a key: not within the transaction
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                if (await TryBeginAsync(secured, cancel) is not { } row) continue;
                return row.Phase == DevicePhase.Creating ? device with { Phase = row.Phase, Life = row.Life } : row;
            }
            catch (DbException) when (attempt < BeginAttemptsMax)
            {
                // Somebody else was faster, perhaps. The databases word that error differently, so the row is asked.
                await using var db = database.Open();
                if (!await db.GetTable<Device>().AnyAsync(d => d.DeviceId == device.DeviceId, cancel)) throw;
            }
        }
    }

    /// <summary>
    /// Last step of a creation, once the outbox has begun this life. False if somebody else has taken it over. No node
    /// has to forget the device: what is being created is not remembered.
    /// </summary>
    public async Task<bool> CompleteAsync(Device begun, CancellationToken cancel)
    {
        await using var db = database.Open();
        if (begun.RootId is not { } root)
        {
            return await MoveAsync(db, begun, DevicePhase.Creating, DevicePhase.Ready, cancel);
        }

        await using var transaction = await db.BeginTransactionAsync(cancel);
        if (!await MoveAsync(db, begun, DevicePhase.Creating, DevicePhase.Ready, cancel)) return false;
        await db.GetTable<Device>().Where(d => d.DeviceId == root && d.GatewaySince == null)
            .Set(d => d.GatewaySince, begun.CreatedAt).UpdateAsync(cancel);
        await SubDeviceList.AddedAsync(db, begun, cancel);
        await transaction.CommitAsync(cancel);
        await cache.ForgetAsync(root);
        return true;
    }

    /// <summary>
    /// A creation that its creator has left goes the way of a deletion. False if it was completed or taken over.
    /// </summary>
    public async Task<bool> AbandonAsync(Device begun, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await MoveAsync(db, begun, DevicePhase.Creating, DevicePhase.Deleting, cancel);
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

    /// <summary>The same, and the logins before it are over. Null if this project has none of this id.</summary>
    public Task<LoginsEnd?> ResetSecretAndEndLoginsAsync(
        string projectId, DeviceId deviceId, string secret, bool isSecondary, CancellationToken cancel)
    {
        var stored = secrets.Protect(secret);
        return EndLoginsAsync(projectId, deviceId, own => isSecondary
            ? own.Set(d => d.SecondarySecret, stored)
            : own.Set(d => d.Secret, stored), cancel);
    }

    /// <summary>
    /// It may not connect any more, and the logins before this are over. Null if this project has none of this id.
    /// </summary>
    public Task<LoginsEnd?> FreezeAsync(
        string projectId, DeviceId deviceId, DateTimeOffset at, CancellationToken cancel)
    {
        var since = at.ToUnixTimeMilliseconds();
        return EndLoginsAsync(projectId, deviceId, own => own.Set(d => d.FrozenAt, since), cancel);
    }

    /// <summary>It may connect again. False if this project has none of this id.</summary>
    public Task<bool> UnfreezeAsync(string projectId, DeviceId deviceId, CancellationToken cancel) =>
        ChangeAsync(projectId, deviceId, own => own.Set(d => d.FrozenAt, (long?)null), cancel);

    /// <summary>Devices that were not told yet which logins are over, in order of the generations.</summary>
    public async Task<IReadOnlyList<LoginsEnd>> UntoldAsync(
        long afterGeneration, int limit, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<DeviceLife>().Where(l => l.Life > afterGeneration).OrderBy(l => l.Life).Take(limit)
            .Select(l => new LoginsEnd(l.DeviceId, l.Life)).ToListAsync(cancel);
    }

    /// <summary>The device has stored it, or is gone.</summary>
    public async Task ToldAsync(LoginsEnd end, CancellationToken cancel)
    {
        await using var db = database.Open();
        await db.GetTable<DeviceLife>().Where(l => l.Life == end.Generation).DeleteAsync(cancel);
    }

    /// <summary>True if a device stands under this one. One that is being deleted does not.</summary>
    public async Task<bool> HasSubDevicesAsync(DeviceId deviceId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<Device>().AnyAsync(
            d => d.GatewayId == deviceId.Value && d.DeviceId != deviceId.Value && d.Phase != DevicePhase.Deleting,
            cancel);
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

    /// <summary>
    /// First step of a deletion: this life is over for everybody but the one that retires its outbox. Null if this
    /// project has none of this id. A life that begins meanwhile is not touched.
    /// </summary>
    public async Task<Device?> MarkDeletingAsync(string projectId, DeviceId deviceId, CancellationToken cancel)
    {
        await using var db = database.Open();
        var device = await db.GetTable<Device>().FirstOrDefaultAsync(
            d => d.DeviceId == deviceId.Value && d.ProjectId == projectId && d.Phase != DevicePhase.Creating, cancel);
        if (device is null) return null;
        await MoveAsync(db, device, DevicePhase.Ready, DevicePhase.Deleting, cancel);
        await cache.ForgetAsync(deviceId.Value);
        return device;
    }

    /// <summary>
    /// Creations and deletions that were begun and not finished, in order of their ids. Those that run at this moment
    /// are among them.
    /// </summary>
    public async Task<IReadOnlyList<Device>> UnfinishedAsync(string afterId, int limit, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<Device>()
            .Where(d => d.Phase == DevicePhase.Deleting || d.Phase == DevicePhase.Creating)
            .Where(d => d.DeviceId.CompareTo(afterId) > 0)
            .OrderBy(d => d.DeviceId).Take(limit).ToListAsync(cancel);
    }

    // Whoever changes a row makes every node forget what it has cached of it.
    private async Task<bool> ChangeAsync(string projectId, DeviceId deviceId, Func<IQueryable<Device>, IUpdatable<Device>> change, CancellationToken cancel)
    {
        await using var db = database.Open();
        var changed = await change(Ready(db, projectId, deviceId)).UpdateAsync(cancel);
        await cache.ForgetAsync(deviceId.Value);
        return changed > 0;
    }

    // The row is changed first. That locks it: whoever changes it next draws a greater number, and no login reads the
    // one without the other. The number stays where it was drawn until the device has been told.
    private async Task<LoginsEnd?> EndLoginsAsync(
        string projectId,
        DeviceId deviceId,
        Func<IQueryable<Device>, IUpdatable<Device>> change,
        CancellationToken cancel)
    {
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        if (await change(Ready(db, projectId, deviceId)).UpdateAsync(cancel) == 0) return null;
        var generation = await DrawAsync(db, deviceId.Value, cancel);
        await Ready(db, projectId, deviceId).Set(d => d.LoginsEndedBy, generation).UpdateAsync(cancel);
        await transaction.CommitAsync(cancel);
        await cache.ForgetAsync(deviceId.Value);
        return new LoginsEnd(deviceId.Value, generation);
    }

    private static IQueryable<Device> Ready(DataConnection db, string projectId, DeviceId deviceId) =>
        db.GetTable<Device>().Where(
            d => d.DeviceId == deviceId.Value && d.ProjectId == projectId && d.Phase == DevicePhase.Ready);

    /// <summary>
    /// Last step of a deletion, once the outbox is retired. Does nothing if somebody else has taken it: the device may
    /// exist again.
    /// </summary>
    public async Task RemoveAsync(Device device, CancellationToken cancel)
    {
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        if (await Same(db, device).Where(d => d.Phase == DevicePhase.Deleting).DeleteAsync(cancel) == 0) return;
        await db.GetTable<DeviceGroupMember>().Where(m => m.DeviceId == device.DeviceId).DeleteAsync(cancel);
        await SubDeviceList.RemovedAsync(db, device, _clock.GetUtcNow().ToUnixTimeMilliseconds(), cancel);
        await transaction.CommitAsync(cancel);
        await cache.ForgetAsync(device.DeviceId);
    }

    // Null: what was in the way has changed meanwhile. Secrets are encrypted, here and in the row that holds the id.
    private async Task<Device?> TryBeginAsync(Device device, CancellationToken cancel)
    {
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        if (await db.GetTable<Device>().FirstOrDefaultAsync(d => d.DeviceId == device.DeviceId, cancel) is { } former)
        {
            if (former.Phase != DevicePhase.Creating) return former;
            var left = Same(db, former).Where(d => d.Phase == DevicePhase.Creating);
            if (await left.DeleteAsync(cancel) == 0) return null;
        }

        var life = await DrawAsync(db, device.DeviceId, cancel);
        await db.GetTable<DeviceLife>().Where(l => l.Life == life).DeleteAsync(cancel);
        var begun = device with { Phase = DevicePhase.Creating, Life = life };
        await db.InsertAsync(begun, token: cancel);
        await transaction.CommitAsync(cancel);
        return begun;
    }

    // Each number is greater than all before it, whichever node draws it: no clock is asked.
    private static Task<long> DrawAsync(DataConnection db, string deviceId, CancellationToken cancel) =>
        db.InsertWithInt64IdentityAsync(new DeviceLife { DeviceId = deviceId }, token: cancel);

    private static async Task<bool> MoveAsync(
        DataConnection db, Device device, DevicePhase from, DevicePhase to, CancellationToken cancel) =>
        await Same(db, device).Where(d => d.Phase == from).Set(d => d.Phase, to).UpdateAsync(cancel) > 0;

    private static IQueryable<Device> Same(DataConnection db, Device device) =>
        db.GetTable<Device>().Where(d => d.DeviceId == device.DeviceId && d.Life == device.Life);

    // Where the numbers of lives and generations come from. The row of a life goes at once. That of a generation goes
    // when its device has been told.
    [Table("device_life")]
    private sealed record DeviceLife
    {
        [Column("life"), PrimaryKey, Identity] public long Life { get; init; }
        [Column("device_id")] public required string DeviceId { get; init; }
    }
}
