using System.Threading.Channels;
using IoTDelivery.Domain;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Registry;

/// <summary>Identifies this start of this node among all starts of all nodes: who holds a connection.</summary>
public sealed record NodeIncarnation(string Value);

/// <summary>
/// Writes who is online, in batches, behind the connections: ONLINE is a hint for people and lists, delivery never asks it.
/// When the database is away the newest state of each device waits here.
/// </summary>
public sealed class ConnectionLog : IAsyncDisposable
{
    private readonly record struct Change(bool IsOnline, Guid ConnectionId, DateTimeOffset At, DateTimeOffset? OnlineAt);

    private const int BatchMax = 500;
    private readonly Dictionary<string, Change> _changes = []; // newest per device: bounded by the devices of this node
    private readonly Channel<bool> _signal = Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });
    private readonly SqlDatabase _database;
    private readonly NodeIncarnation _node;
    private readonly StatusChanges _statuses;
    private readonly ILogger<ConnectionLog> _logger;
    private readonly Task _writer;

    public ConnectionLog(SqlDatabase database, NodeIncarnation node, StatusChanges statuses, ILogger<ConnectionLog> logger)
    {
        (_database, _node, _statuses, _logger) = (database, node, statuses, logger);
        _writer = Task.Run(WriteAsync);
    }

    /// <summary>A connection was accepted, or ended. Never waits.</summary>
    public void Report(DeviceId deviceId, Guid connectionId, bool isOnline, DateTimeOffset at)
    {
        lock (_changes)
        {
            // The end of an older connection says nothing about a younger one.
            var hasBegun = _changes.TryGetValue(deviceId.Value, out var newest) && newest.IsOnline;
            if (!isOnline && hasBegun && newest.ConnectionId != connectionId) return;
            _changes[deviceId.Value] = new Change(isOnline, connectionId, at, OnlineAt: isOnline ? at : hasBegun ? newest.At : null);
        }

        _signal.Writer.TryWrite(true);
    }

    public async ValueTask DisposeAsync()
    {
        _signal.Writer.TryComplete();
        await _writer;
    }

    private async Task WriteAsync()
    {
        while (await _signal.Reader.WaitToReadAsync())
        {
            _signal.Reader.TryRead(out _);
            while (Take() is { Length: > 0 } batch)
            {
                try
                {
                    await WriteAsync(batch);
                }
                catch (Exception cause)
                {
                    Return(batch);
                    if (_signal.Reader.Completion.IsCompleted) return;
                    _logger.LogWarning(cause, "Connection states are not written: the database does not answer. They wait.");
                    await Task.Delay(TimeSpan.FromSeconds(1));
                }
            }
        }
    }

    private KeyValuePair<string, Change>[] Take()
    {
        lock (_changes)
        {
            // In one order on every node: a device that changes its node is in the batches of both, and the database would have to break a deadlock.
            var batch = _changes.Take(BatchMax).OrderBy(c => c.Key, StringComparer.Ordinal).ToArray();
            foreach (var (id, _) in batch) _changes.Remove(id);
            return batch;
        }
    }

    private void Return(KeyValuePair<string, Change>[] batch)
    {
        lock (_changes)
        {
            foreach (var (id, change) in batch)
            {
                if (_changes.TryAdd(id, change)) continue;
                var newer = _changes[id];
                if (newer.ConnectionId == change.ConnectionId) _changes[id] = newer with { OnlineAt = newer.OnlineAt ?? change.OnlineAt };
            }
        }
    }

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
