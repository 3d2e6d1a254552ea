using System.Diagnostics;
using IoTDelivery.Devices.Membership;
using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;
using LinqToDB.Data;

namespace IoTDelivery.Devices.Tests;

/// <summary>Who may form a cluster on a database, and who is remembered there.</summary>
public abstract class ClusterNodesSpec<TDatabase>(TDatabase server) : IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    private static readonly ThisNode First = new("10.0.0.1:4053", "1"), Second = new("10.0.0.2:4053", "2");

    private async Task<SqlDatabase> NewAsync()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var database = new SqlDatabase(await server.CreateAsync());
        await database.MigrateAsync(ClusterNodes.Migrations);
        return database;
    }

    private static ClusterNodes On(SqlDatabase database, string machine) => new(database, machine);

    private static async Task AgeAsync(SqlDatabase database, ThisNode node, TimeSpan by)
    {
        await using var db = database.Open();
        await db.ExecuteAsync($"update cluster_node set beat_at = beat_at - {(long)by.TotalMilliseconds} where incarnation = '{node.Incarnation}'");
    }

    [SkippableFact]
    public async Task While_the_heart_of_a_cluster_beats_nobody_else_forms_one_and_is_told_who_is_in_the_way()
    {
        var database = await NewAsync();
        var uid = Guid.CreateVersion7();
        Assert.Empty(await On(database, "a").FormAsync(First, uid, default));

        var inTheWay = Assert.Single(await On(database, "b").FormAsync(Second, Guid.CreateVersion7(), default));

        Assert.Equal((First.Address, uid, "a", Environment.ProcessId), (inTheWay.Address, inTheWay.ClusterUid, inTheWay.Machine, inTheWay.Process));
        await AgeAsync(database, First, ClusterNodes.LivenessTimeout - TimeSpan.FromSeconds(3));
        Assert.NotEmpty(await On(database, "b").FormAsync(Second, Guid.CreateVersion7(), default));
        await AgeAsync(database, First, TimeSpan.FromSeconds(4));
        Assert.Empty(await On(database, "b").FormAsync(Second, Guid.CreateVersion7(), default)); // five were missed
    }

    [SkippableFact]
    public async Task A_node_that_was_started_again_is_not_in_its_own_way()
    {
        var database = await NewAsync();
        await On(database, "a").FormAsync(First, Guid.CreateVersion7(), default);
        Assert.Empty(await On(database, "b").FormAsync(First with { Incarnation = "again" }, Guid.CreateVersion7(), default));
    }

    [SkippableFact]
    public async Task On_the_same_machine_a_process_that_has_ended_is_in_nobodys_way_and_one_that_runs_is_however_long_it_was_silent()
    {
        var database = await NewAsync();
        using var other = Process.Start(new ProcessStartInfo("sleep", "60"))!;
        try
        {
            await On(database, "a").FormAsync(First, Guid.CreateVersion7(), default);
            await using (var db = database.Open())
            {
                var startedAt = new DateTimeOffset(other.StartTime).ToUnixTimeMilliseconds();
                await db.ExecuteAsync($"update cluster_node set process = {other.Id}, started_at = {startedAt}");
            }

            await AgeAsync(database, First, TimeSpan.FromHours(1)); // suspended, perhaps
            Assert.Single(await On(database, "a").FormAsync(Second, Guid.CreateVersion7(), default));
        }
        finally
        {
            other.Kill();
            await other.WaitForExitAsync();
        }

        Assert.Empty(await On(database, "a").FormAsync(Second, Guid.CreateVersion7(), default));
        Assert.Equal(Second.Address, Assert.Single(await On(database, "b").ReadAsync(default)).Address); // the dead one is forgotten
    }

    [SkippableFact]
    public async Task Of_ten_that_try_at_once_one_forms_the_cluster()
    {
        var database = await NewAsync();
        var tries = Enumerable.Range(1, 10).Select(i => Task.Run(
            () => On(database, $"machine{i}").FormAsync(new ThisNode($"10.0.0.{i}:4053", $"{i}"), Guid.CreateVersion7(), default)));
        var results = await Task.WhenAll(tries);
        Assert.Single(results, r => r.Count == 0);
        Assert.Single(await On(database, "reader").ReadAsync(default));
    }

    [SkippableFact]
    public async Task A_downed_node_stays_downed_whatever_its_heartbeat_says_and_is_forgiven_when_it_is_started_again()
    {
        var database = await NewAsync();
        var (a, b, uid) = (On(database, "a"), On(database, "b"), Guid.CreateVersion7());
        await a.FormAsync(First, uid, default);
        await b.DownAsync(First.Incarnation, default);
        await a.HeartbeatAsync(First, uid, default); // it was suspended, and does not know
        Assert.True(Assert.Single(await b.ReadAsync(default)).IsDowned);

        await a.HeartbeatAsync(First with { Incarnation = "again" }, uid, default);
        Assert.False(Assert.Single(await b.ReadAsync(default)).IsDowned);
        await a.ForgetAsync("again", default);
        Assert.Empty(await b.ReadAsync(default));
    }
}

public sealed class SqliteClusterNodesSpec(SqliteDatabase database) : ClusterNodesSpec<SqliteDatabase>(database);

public sealed class PostgreSqlClusterNodesSpec(PostgreSqlDatabase database) : ClusterNodesSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerClusterNodesSpec(SqlServerDatabase database) : ClusterNodesSpec<SqlServerDatabase>(database);
