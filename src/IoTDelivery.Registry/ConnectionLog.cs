using IoTDelivery.Domain;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Registry;

/// <summary>Identifies this start of this node among all starts of all nodes: who holds a connection.</summary>
public sealed record NodeIncarnation(string Value);

/// <summary>
/// Writes who is online: ONLINE is a hint for people and lists, delivery never asks it. A sub-device is online from the
/// moment its gateway says so until it says otherwise, or its own connection ends.
/// </summary>
public sealed class ConnectionLog : IAsyncDisposable
{
    // Gateway: who says so of its sub-device; null for a device that has the connection itself.
    private readonly record struct Change(
        bool IsOnline, Guid ConnectionId, DateTimeOffset At, DateTimeOffset? OnlineAt, string? Gateway = null);

    private readonly SqlDatabase _database;
    private readonly NodeIncarnation _node;
    private readonly StatusChanges _statuses;
    private readonly DeviceReports<Change> _changes;

    public ConnectionLog(SqlDatabase database, NodeIncarnation node, StatusChanges statuses, ILogger<ConnectionLog> logger)
    {
        (_database, _node, _statuses) = (database, node, statuses);
        _changes = new DeviceReports<Change>("connection states", Merge, WriteAsync, logger);
        _changes.Start();
    }

    /// <summary>A connection was accepted, or ended. Never waits.</summary>
    public void Report(DeviceId deviceId, Guid connectionId, bool isOnline, DateTimeOffset at) =>
        _changes.Report(deviceId.Value, (newest, isKnown) =>
        {
            // The end of an older connection says nothing about a younger one.
            var hasBegun = isKnown && newest.IsOnline;
            if (!isOnline && hasBegun && newest.ConnectionId != connectionId) return (false, newest);
            return (true, new Change(isOnline, connectionId, at, OnlineAt: isOnline ? at : hasBegun ? newest.At : null));
        });

    /// <summary>A gateway says on this connection whether a sub-device is online. Never waits.</summary>
    public void ReportSubDevice(
        DeviceId gateway, Guid connectionId, DeviceId subDevice, bool isOnline, DateTimeOffset at) =>
        _changes.Report(subDevice.Value, (_, _) =>
            (true, new Change(isOnline, connectionId, at, OnlineAt: isOnline ? at : null, gateway.Value)));

    public ValueTask DisposeAsync() => _changes.DisposeAsync();

    // What could not be written, and what has come since.
    private static Change Merge(Change older, Change newer) =>
        newer.ConnectionId == older.ConnectionId ? newer with { OnlineAt = newer.OnlineAt ?? older.OnlineAt } : newer;

    // Sub-devices first: what their gateway said of them, it said before its connection ended.
    private async Task WriteAsync(KeyValuePair<string, Change>[] batch)
    {
        var isWanted = await _statuses.AreWantedAsync();
        await using var db = _database.Open();
        await using var transaction = await db.BeginTransactionAsync();
        var gateways = await GatewaysAsync(db, [.. batch.Where(c => c.Value.Gateway is null).Select(c => c.Key)]);
        foreach (var (id, change) in batch.OrderBy(c => c.Value.Gateway is null))
        {
            if (change.Gateway is not null) await WriteSubDeviceAsync(db, id, change, isWanted);
            else if (change.IsOnline) await WriteOnlineAsync(db, id, change, isWanted);
            else await WriteOfflineAsync(db, id, change, isWanted);
            if (!gateways.Contains(id)) continue;
            if (change.IsOnline) await KeepSubDevicesAsync(db, id, change);
            else await EndSubDevicesAsync(db, id, change, isWanted);
        }

        await transaction.CommitAsync();
    }

    // Few devices are gateways: the others cost no statement more.
    private static async Task<HashSet<string>> GatewaysAsync(DataConnection db, string[] ids) => ids.Length == 0
        ? []
        : [.. await db.GetTable<Device>().Where(d => ids.Contains(d.DeviceId) && d.GatewaySince != null)
            .Select(d => d.DeviceId).ToListAsync()];

    private async Task WriteOnlineAsync(DataConnection db, string id, Change change, bool isWanted)
    {
        var at = change.At.ToUnixTimeMilliseconds();
        var rows = await db.GetTable<Device>().Where(d => d.DeviceId == id)
            .Set(d => d.OnlineNode, _node.Value).Set(d => d.ConnectionId, change.ConnectionId).Set(d => d.StatusAt, at)
            .Set(d => d.ActiveAt, d => d.ActiveAt ?? at).UpdateAsync();
        if (rows > 0 && isWanted) await StatusChanges.NoteAsync(db, id, isOnline: true, at, at);
    }

    private static async Task WriteOfflineAsync(DataConnection db, string id, Change change, bool isWanted)
    {
        var at = change.At.ToUnixTimeMilliseconds();
        var before = isWanted
            ? await db.GetTable<Device>().Where(d => d.DeviceId == id)
                .Select(d => new { d.OnlineNode, d.StatusAt }).FirstOrDefaultAsync()
            : null;
        var rows = await db.GetTable<Device>()
            .Where(d => d.DeviceId == id && (d.ConnectionId == change.ConnectionId || d.ConnectionId == null))
            .Set(d => d.OnlineNode, (string?)null).Set(d => d.StatusAt, at).Set(d => d.ActiveAt, d => d.ActiveAt ?? at)
            .UpdateAsync();
        if (rows == 0 || before is null) return;
        var lastOnlineAt = change.OnlineAt?.ToUnixTimeMilliseconds()
            ?? (before.OnlineNode is null ? null : before.StatusAt)
            ?? at;
        await StatusChanges.NoteAsync(db, id, isOnline: false, at, lastOnlineAt);
    }

    // Their gateway has come back before anybody heard that it had gone: what it said of them stands.
    private Task<int> KeepSubDevicesAsync(DataConnection db, string id, Change change) => db.GetTable<Device>()
        .Where(d => d.RootId == id && d.OnlineNode != null)
        .Set(d => d.OnlineNode, _node.Value).Set(d => d.ConnectionId, change.ConnectionId).UpdateAsync();

    // Those that were online by this connection.
    private static async Task EndSubDevicesAsync(DataConnection db, string id, Change change, bool isWanted)
    {
        var at = change.At.ToUnixTimeMilliseconds();
        var below = db.GetTable<Device>()
            .Where(d => d.RootId == id && d.ConnectionId == change.ConnectionId && d.OnlineNode != null);
        var subDevices = isWanted ? await below.Select(d => new { d.DeviceId, d.StatusAt }).ToListAsync() : [];
        await below.Set(d => d.OnlineNode, (string?)null).Set(d => d.StatusAt, at).UpdateAsync();
        foreach (var subDevice in subDevices)
        {
            await StatusChanges.NoteAsync(db, subDevice.DeviceId, isOnline: false, at, subDevice.StatusAt ?? at);
        }
    }

    // Told when it changes, however often it is said.
    private async Task WriteSubDeviceAsync(DataConnection db, string id, Change change, bool isWanted)
    {
        var at = change.At.ToUnixTimeMilliseconds();
        var row = db.GetTable<Device>().Where(d => d.DeviceId == id && d.RootId == change.Gateway);
        var before = await row.Select(d => new { d.OnlineNode, d.StatusAt }).FirstOrDefaultAsync();
        if (before is null || (before.OnlineNode is not null) == change.IsOnline) return;
        await row
            .Set(d => d.OnlineNode, change.IsOnline ? _node.Value : null).Set(d => d.ConnectionId, change.ConnectionId)
            .Set(d => d.StatusAt, at).Set(d => d.ActiveAt, d => d.ActiveAt ?? at).UpdateAsync();
        var lastOnlineAt = change.IsOnline ? at : before.StatusAt ?? at;
        if (isWanted) await StatusChanges.NoteAsync(db, id, change.IsOnline, at, lastOnlineAt);
    }
}
