using System.Diagnostics;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;
using LinqToDB.Mapping;

namespace IoTDelivery.Devices.Membership;

/// <summary>One start of one node.</summary>
/// <param name="Address">Where the other nodes reach it, <c>host:port</c>.</param>
/// <param name="Incarnation">Akka's uid of this start: a node that was started again is another one.</param>
public sealed record ThisNode(string Address, string Incarnation);

/// <summary>What the database says of a node.</summary>
/// <param name="ClusterUid">The cluster it is a member of. Version 7: the older cluster has the smaller one.</param>
/// <param name="IsDowned">The others downed it, and nobody knows whether its process has ended: it may still write.</param>
/// <param name="IsAlive">Its last heartbeat is young; or, if it runs on this machine, its process is there.</param>
public sealed record NodeOnFile(string Address, Guid ClusterUid, string Incarnation, string Machine, int Process, bool IsDowned, bool IsAlive);

/// <summary>
/// The table of nodes: every member writes its heartbeat into it. So a node that cannot reach the others still learns that
/// they are there, and does not form a second cluster on the same database; and one that was downed is remembered until its
/// process is known to be gone. Times are the database's, the nodes' clocks do not matter.
/// </summary>
/// <param name="machine">Where process numbers mean something. Default this machine; two containers on the host's network have one name and two numbers 1.</param>
public sealed class ClusterNodes(SqlDatabase database, string? machine = null)
{
    /// <summary>The tables, step by step.</summary>
    public static readonly IReadOnlyList<Migration> Migrations =
    [
        new("cluster", 1,
            """
            create table cluster_node (
                address {id} not null primary key, cluster_uid {id} not null, incarnation {id} not null, machine {id} not null,
                process {int} not null, started_at {bigint} not null, beat_at {bigint} not null, is_downed {int} not null)
            """,
            "create table cluster_formed (id {int} not null primary key, cluster_uid {id} not null)",
            "insert into cluster_formed (id, cluster_uid) values (1, '')"),
    ];

    /// <summary>A node of another machine counts as alive for so long after its last heartbeat: five of them, 10 s.</summary>
    public static readonly TimeSpan LivenessTimeout = TimeSpan.FromSeconds(10);

    /// <summary>How long a downed node is remembered that never came back under its address.</summary>
    public static readonly TimeSpan Remembered = TimeSpan.FromDays(7);

    private static readonly Process Self = Process.GetCurrentProcess();
    private static readonly long StartedAt = Milliseconds(Self.StartTime);

    private readonly string _machine =
        machine ?? $"{Environment.MachineName} {(OperatingSystem.IsLinux() ? File.ResolveLinkTarget("/proc/self/ns/pid", returnFinalTarget: false)?.Name : "")}".TrimEnd();

    private long _storedAt; // 0: nothing yet

    /// <summary>How long ago this node stored its last heartbeat; null if it has stored none yet.</summary>
    public TimeSpan? SinceStored => Volatile.Read(ref _storedAt) is not 0 and var at ? Stopwatch.GetElapsedTime(at) : null;

    /// <summary>Claims the right to form a cluster on this database. One of several that try at once gets it.</summary>
    /// <returns>The nodes that are in the way; none if <paramref name="clusterUid"/> is the site's cluster now.</returns>
    public async Task<IReadOnlyList<NodeOnFile>> FormAsync(ThisNode self, Guid clusterUid, CancellationToken cancel)
    {
        await using var db = database.Open();
        while (true)
        {
            await using var transaction = await db.BeginTransactionAsync(cancel);
            var formed = await db.ExecuteAsync<string>("select cluster_uid from cluster_formed where id = 1", cancel);
            var inTheWay = (await ReadAsync(db, cancel)).Where(n => n.IsAlive && n.Address != self.Address).ToList();
            if (inTheWay.Count > 0) return inTheWay;

            var changed = await db.ExecuteAsync(
                "update cluster_formed set cluster_uid = @new where id = 1 and cluster_uid = @old", cancel,
                Text("new", clusterUid.ToString()), Text("old", formed));
            if (changed == 0) continue; // somebody else was faster, and stands on file

            await HeartbeatAsync(db, self, clusterUid, cancel);
            await transaction.CommitAsync(cancel);
            return [];
        }
    }

    /// <summary>The heartbeat: this node is a member, now.</summary>
    public async Task HeartbeatAsync(ThisNode self, Guid clusterUid, CancellationToken cancel)
    {
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        await HeartbeatAsync(db, self, clusterUid, cancel);
        await transaction.CommitAsync(cancel);
        Volatile.Write(ref _storedAt, Stopwatch.GetTimestamp());
    }

    /// <summary>All nodes on file.</summary>
    public async Task<IReadOnlyList<NodeOnFile>> ReadAsync(CancellationToken cancel)
    {
        await using var db = database.Open();
        return await ReadAsync(db, cancel);
    }

    /// <summary>The others have downed this node: what it writes from now on must not count.</summary>
    public async Task DownAsync(string incarnation, CancellationToken cancel)
    {
        await using var db = database.Open();
        await db.ExecuteAsync("update cluster_node set is_downed = 1 where incarnation = @incarnation", cancel, Text("incarnation", incarnation));
    }

    /// <summary>The process of this start has ended, or is about to with nothing left to write.</summary>
    public async Task ForgetAsync(string incarnation, CancellationToken cancel)
    {
        await using var db = database.Open();
        await db.ExecuteAsync("delete from cluster_node where incarnation = @incarnation", cancel, Text("incarnation", incarnation));
    }

    private async Task HeartbeatAsync(DataConnection db, ThisNode self, Guid clusterUid, CancellationToken cancel)
    {
        DataParameter[] row =
        [
            Text("address", self.Address), Text("cluster", clusterUid.ToString()), Text("incarnation", self.Incarnation), Text("machine", _machine),
            new("process", Self.Id, DataType.Int32), new("started", StartedAt, DataType.Int64),
        ];

        // A downed node stays downed: its own heartbeat does not clear it, only another start under its address does.
        var updated = await db.ExecuteAsync(
            $"""
             update cluster_node set cluster_uid = @cluster, machine = @machine, process = @process, started_at = @started, beat_at = {database.Dialect.Now},
                 is_downed = case when incarnation = @incarnation then is_downed else 0 end, incarnation = @incarnation
             where address = @address
             """, cancel, row);
        if (updated > 0) return;
        await db.ExecuteAsync(
            $"""
             insert into cluster_node (address, cluster_uid, incarnation, machine, process, started_at, beat_at, is_downed)
             values (@address, @cluster, @incarnation, @machine, @process, @started, {database.Dialect.Now}, 0)
             """, cancel, row);
    }

    private async Task<List<NodeOnFile>> ReadAsync(DataConnection db, CancellationToken cancel)
    {
        var rows = await db.GetTable<Row>().ToListAsync(cancel);
        if (rows.Count == 0) return [];
        var now = await db.ExecuteAsync<long>($"select {database.Dialect.Now}", cancel);
        var gone = rows.Where(IsGone).ToList();
        foreach (var row in gone) await db.ExecuteAsync("delete from cluster_node where incarnation = @incarnation", cancel, Text("incarnation", row.Incarnation));
        return [.. rows.Except(gone).Select(r => new NodeOnFile(r.Address, Guid.Parse(r.ClusterUid), r.Incarnation, r.Machine, r.Process, r.IsDowned != 0, IsAlive(r)))];

        bool IsGone(Row row) => (IsHere(row) && !IsRunning(row)) || now - row.BeatAt > Remembered.TotalMilliseconds;
        bool IsAlive(Row row) =>
            IsHere(row) ? row.Process != Self.Id : now - row.BeatAt < LivenessTimeout.TotalMilliseconds;
    }

    private bool IsHere(Row row) => row.Machine == _machine;

    // On one machine nothing needs to be guessed. Numbers of processes are used again; their start tells two apart.
    private static bool IsRunning(Row row)
    {
        try
        {
            using var process = Process.GetProcessById(row.Process);
            return Math.Abs(Milliseconds(process.StartTime) - row.StartedAt) < 2_000;
        }
        catch (Exception gone) when (gone is ArgumentException or InvalidOperationException)
        {
            return false;
        }
    }

    private static long Milliseconds(DateTime local) => new DateTimeOffset(local).ToUnixTimeMilliseconds();

    private static DataParameter Text(string name, string value) => new(name, value, DataType.VarChar);

    [Table("cluster_node")]
    private sealed record Row
    {
        [Column("address"), PrimaryKey] public string Address { get; init; } = "";
        [Column("cluster_uid")] public string ClusterUid { get; init; } = "";
        [Column("incarnation")] public string Incarnation { get; init; } = "";
        [Column("machine")] public string Machine { get; init; } = "";
        [Column("process")] public int Process { get; init; }
        [Column("started_at")] public long StartedAt { get; init; }
        [Column("beat_at")] public long BeatAt { get; init; }
        [Column("is_downed")] public int IsDowned { get; init; }
    }
}
