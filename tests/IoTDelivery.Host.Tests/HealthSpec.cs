using System.Net;
using Akka.Cluster;
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
