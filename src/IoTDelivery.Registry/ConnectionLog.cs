using IoTDelivery.Domain;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Registry;

/// <summary>Identifies this start of this node among all starts of all nodes: who holds a connection.</summary>
public sealed record NodeIncarnation(string Value);

/// <summary>
/// Writes who is online: ONLINE is a hint for people and lists, delivery never asks it.
/// </summary>
public sealed class ConnectionLog : IAsyncDisposable
{
    private readonly record struct Change(bool IsOnline, Guid ConnectionId, DateTimeOffset At, DateTimeOffset? OnlineAt);

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

    public ValueTask DisposeAsync() => _changes.DisposeAsync();

    // What could not be written, and what has come since.
    private static Change Merge(Change older, Change newer) =>
        newer.ConnectionId == older.ConnectionId ? newer with { OnlineAt = newer.OnlineAt ?? older.OnlineAt } : newer;

    private async Task WriteAsync(KeyValuePair<string, Change>[] batch)
    {
        var isWanted = await _statuses.AreWantedAsync();
        await using var db = _database.Open();
        await using var transaction = await db.BeginTransactionAsync();
        foreach (var (id, change) in batch)
        {
            var before = isWanted ? await db.GetTable<Device>().Where(d => d.DeviceId == id).Select(d => new { d.OnlineNode, d.StatusAt }).FirstOrDefaultAsync() : null;
            int rows;
            var at = change.At.ToUnixTimeMilliseconds();
            if (change.IsOnline)
            {
                rows = await db.GetTable<Device>().Where(d => d.DeviceId == id)
                    .Set(d => d.OnlineNode, _node.Value).Set(d => d.ConnectionId, change.ConnectionId).Set(d => d.StatusAt, at)
                    .Set(d => d.ActiveAt, d => d.ActiveAt ?? at).UpdateAsync();
            }
            else
            {
                rows = await db.GetTable<Device>().Where(d => d.DeviceId == id && (d.ConnectionId == change.ConnectionId || d.ConnectionId == null))
                    .Set(d => d.OnlineNode, (string?)null).Set(d => d.StatusAt, at).Set(d => d.ActiveAt, d => d.ActiveAt ?? at).UpdateAsync();
            }

            if (rows == 0 || before is null) continue;
            var lastOnlineAt = change.OnlineAt?.ToUnixTimeMilliseconds() ?? (before.OnlineNode is null ? null : before.StatusAt) ?? at;
            await StatusChanges.NoteAsync(db, id, change.IsOnline, at, lastOnlineAt);
        }

        await transaction.CommitAsync();
    }
}
