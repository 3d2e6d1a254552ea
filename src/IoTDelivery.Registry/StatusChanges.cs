using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;
using LinqToDB.Mapping;

namespace IoTDelivery.Registry;

/// <summary>The newest connection state of a device, as long as applications have not been told.</summary>
[Table("device_status_change")]
public sealed record StatusChange
{
    /// <summary><see cref="Status"/> of a device with a connection.</summary>
    public const string Online = "ONLINE";

    /// <summary><see cref="Status"/> of a device without one.</summary>
    public const string Offline = "OFFLINE";

    [Column("device_id"), PrimaryKey] public required string DeviceId { get; init; }
    [Column("status")] public required string Status { get; init; }

    /// <summary>Milliseconds since 1970, UTC, like the other time.</summary>
    [Column("changed_at")] public required long ChangedAt { get; init; }

    /// <summary>When the device came online last.</summary>
    [Column("last_online_at")] public required long LastOnlineAt { get; init; }
}

/// <summary>
/// Changes of connection states that are to be told: at most one row per device, which a later change overwrites. Written with the device's own row, and only while some
/// rule may want to hear of it.
/// </summary>
public sealed class StatusChanges(SqlDatabase database, RuleBook rules, TimeProvider? clock = null)
{
    /// <summary>The <c>resource</c> rules must name to receive it.</summary>
    public const string Resource = "device.status";

    /// <summary>The <c>event</c> rules must name to receive it.</summary>
    public const string Event = "update";

    private const int PageSize = 500;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    private readonly TimeProvider _clock = clock ?? TimeProvider.System;

    /// <summary>The table. Steps of its own: it stands on none of the registry's.</summary>
    public static readonly IReadOnlyList<Migration> Migrations =
    [
        new("device-status", 1,
            """
            create table device_status_change (
              device_id {id} not null primary key, status {id} not null, changed_at {bigint} not null, last_online_at {bigint} not null)
            """,
            "create index device_status_change_in_order on device_status_change (changed_at)"),
    ];

    /// <summary>The oldest changes, in order.</summary>
    public async Task<IReadOnlyList<StatusChange>> OldestAsync(int limit, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<StatusChange>().OrderBy(c => c.ChangedAt).Take(limit).ToListAsync(cancel);
    }

    /// <summary>These were told. A device that has changed again keeps its row.</summary>
    public async Task ForgetAsync(IReadOnlyCollection<StatusChange> told, CancellationToken cancel)
    {
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        foreach (var change in told)
        {
            await db.GetTable<StatusChange>().Where(c => c.DeviceId == change.DeviceId && c.ChangedAt == change.ChangedAt && c.Status == change.Status).DeleteAsync(cancel);
        }

        await transaction.CommitAsync(cancel);
    }

    /// <summary>Which incarnations of nodes hold connections, as far as their rows were written before this time.</summary>
    public async Task<IReadOnlyList<string>> HoldersAsync(DateTimeOffset before, CancellationToken cancel)
    {
        var at = before.ToUnixTimeMilliseconds();
        await using var db = database.Open();
        return await db.GetTable<Device>().Where(d => d.OnlineNode != null && d.StatusAt < at).Select(d => d.OnlineNode!).Distinct().ToListAsync(cancel);
    }

    /// <summary>A node is gone for good, and the connections it held with it.</summary>
    /// <returns>How many devices are offline now.</returns>
    public async Task<int> EndAsync(NodeIncarnation gone, CancellationToken cancel)
    {
        var ended = 0;
        while (true)
        {
            var at = _clock.GetUtcNow().ToUnixTimeMilliseconds();
            var isWanted = await AreWantedAsync(); // asked later than that: a rule made active in between hears of it
            await using var db = database.Open();
            await using var transaction = await db.BeginTransactionAsync(cancel);
            var devices = await db.GetTable<Device>().Where(d => d.OnlineNode == gone.Value).OrderBy(d => d.DeviceId).Take(PageSize)
                .Select(d => new { d.DeviceId, d.StatusAt }).ToListAsync(cancel);
            foreach (var device in devices)
            {
                // Not if it has come back elsewhere meanwhile.
                var rows = await db.GetTable<Device>().Where(d => d.DeviceId == device.DeviceId && d.OnlineNode == gone.Value)
                    .Set(d => d.OnlineNode, (string?)null).Set(d => d.StatusAt, at).UpdateAsync(cancel);
                if (rows > 0 && isWanted) await NoteAsync(db, device.DeviceId, isOnline: false, at, device.StatusAt ?? at);
            }

            await transaction.CommitAsync(cancel);
            ended += devices.Count;
            if (devices.Count < PageSize) return ended;
        }
    }

    /// <summary>True if some rule may want to hear of changes that happened before this call.</summary>
    internal async Task<bool> AreWantedAsync()
    {
        using var patience = new CancellationTokenSource(Patience); // with the database away the rules wait for it; whoever asks here tries again
        return (await rules.LoadedAfterAsync(_clock.GetTimestamp(), patience.Token)).Knows(Resource, Event);
    }

    /// <summary>Belongs into the transaction that changes the device's row.</summary>
    internal static async Task NoteAsync(DataConnection db, string deviceId, bool isOnline, long at, long lastOnlineAt)
    {
        var change = new StatusChange { DeviceId = deviceId, Status = isOnline ? StatusChange.Online : StatusChange.Offline, ChangedAt = at, LastOnlineAt = lastOnlineAt };
        if (await db.UpdateAsync(change) == 0) await db.InsertAsync(change);
    }
}
