using System.Diagnostics;
using System.Net;
using Akka.Cluster;
using IoTDelivery.Storage;
using LinqToDB.Data;
using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace IoTDelivery.Host.Tests;

/// <summary>What a load balancer is told, without a login.</summary>
public sealed class HealthSpec(RunningPlatform platform) : IClassFixture<RunningPlatform>
{
    [Theory]
    [InlineData("/health/live")]
    [InlineData("/health/ready")]
    public async Task A_running_node_is_live_and_ready_and_says_so_to_anybody(string path)
    {
        var (status, body, _) = await platform.SendAsync(HttpMethod.Get, path, token: null);

        Assert.Equal((HttpStatusCode.OK, "Healthy"), (status, body.GetProperty("status").GetString()));
        Assert.Equal(path == "/health/ready", body.TryGetProperty("cluster", out var cluster));
        if (path == "/health/ready") Assert.Equal("Up, 1 of 1 members are reachable.", cluster.GetString());
    }

    [Fact]
    public async Task A_database_that_answers_and_stores_nothing_makes_a_node_unready()
    {
        // As a full disk or a standby: reads go on.
        await using var db = ((SqlDatabase)platform.Services.GetService(typeof(SqlDatabase))!).Open();
        await db.ExecuteAsync("create trigger is_full before update on cluster_node begin select raise(abort, 'no room'); end");
        try
        {
            Assert.Contains("has stored nothing", await UntilAsync(HttpStatusCode.ServiceUnavailable));
        }
        finally
        {
            await db.ExecuteAsync("drop trigger is_full");
        }

        Assert.Equal("The database answers.", await UntilAsync(HttpStatusCode.OK));
    }

    // What is said of the database once the node is ready, or is not.
    private async Task<string?> UntilAsync(HttpStatusCode expected)
    {
        for (var clock = Stopwatch.StartNew(); ; await Task.Delay(200))
        {
            var (status, body, _) = await platform.SendAsync(HttpMethod.Get, "/health/ready", token: null);
            if (status == expected) return body.GetProperty("database").GetString();
            Assert.True(clock.Elapsed < 4 * DatabaseHealth.StoredWithin, $"{status} {body}");
        }
    }

    [Theory]
    [InlineData(MemberStatus.Up, 3, 0, false, null)]
    [InlineData(MemberStatus.Up, 3, 1, false, null)]
    [InlineData(MemberStatus.Up, 3, 2, true, "1 of 3")]
    [InlineData(MemberStatus.Up, 2, 1, false, null)] // of two equal halves one goes on: Sides
    [InlineData(MemberStatus.Joining, 3, 0, false, "Joining")]
    [InlineData(MemberStatus.Leaving, 3, 0, false, "Leaving")]
    [InlineData(MemberStatus.Removed, 0, 0, false, "Removed")]
    public void Ready_is_an_Up_member_that_is_not_cut_off(MemberStatus self, int members, int unreachable, bool isOnLosingSide, string? why)
    {
        var result = ClusterHealth.Of(self, members, unreachable, isOnLosingSide);

        Assert.Equal(why is null ? HealthStatus.Healthy : HealthStatus.Unhealthy, result.Status);
        if (why is not null) Assert.Contains(why, result.Description);
    }
}
