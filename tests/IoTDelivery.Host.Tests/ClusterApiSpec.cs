using System.Net;
using Akka.Cluster;

namespace IoTDelivery.Host.Tests;

/// <summary>What an operator sees of a cluster of one, over REST and with the command, and who is no operator.</summary>
public sealed class ClusterApiSpec(ClusterApiSpec.Site site) : IClassFixture<ClusterApiSpec.Site>
{
    private const string AdminToken = "cluster-api-spec-token";

    private string Address => $"{Cluster.Get(site.System).SelfAddress.Host}:{Cluster.Get(site.System).SelfAddress.Port}";

    [Fact]
    public async Task The_only_member_is_leader_and_oldest_and_this_node_itself()
    {
        var (status, body, _) = await site.SendAsync(HttpMethod.Get, "/admin/cluster", token: AdminToken);

        Assert.Equal(HttpStatusCode.OK, status);
        var member = Assert.Single(body.GetProperty("members").EnumerateArray());
        Assert.Equal((Address, "Up"), (member.GetProperty("address").GetString(), member.GetProperty("status").GetString()));
        Assert.Equal(["api", "device", "mqtt"], member.GetProperty("roles").EnumerateArray().Select(r => r.GetString()));
        Assert.Equal(0, member.GetProperty("unreachable_by").GetArrayLength());
        Assert.All(new[] { "leader", "oldest", "self" }, flag => Assert.True(member.GetProperty(flag).GetBoolean()));
    }

    [Fact]
    public async Task The_shards_tell_how_many_devices_are_awake()
    {
        await site.SendAsync(HttpMethod.Post, "p1/devices/lamp_1/messages", """{"message":"hello"}""");

        var (status, body, _) = await site.SendAsync(HttpMethod.Get, "/admin/cluster/shards", token: AdminToken);

        Assert.Equal(HttpStatusCode.OK, status);
        var region = Assert.Single(body.GetProperty("regions").EnumerateArray());
        Assert.Equal(("device", Address), (region.GetProperty("type").GetString(), region.GetProperty("address").GetString()));
        Assert.Contains(region.GetProperty("shards").EnumerateArray(), s => s.GetProperty("entities").GetInt32() == 1);
        Assert.Equal(0, region.GetProperty("unanswered").GetArrayLength());
    }

    [Theory]
    [InlineData("GET", "/admin/cluster")]
    [InlineData("GET", "/admin/cluster/shards")]
    [InlineData("POST", "/admin/cluster/down")]
    [InlineData("POST", "/admin/cluster/leave")]
    public async Task Without_the_admin_token_nothing_is_told_and_nothing_is_done(string method, string path)
    {
        foreach (var token in new[] { null, "wrong", RunningPlatform.Token })
        {
            var (status, body, _) = await site.SendAsync(new HttpMethod(method), path, method == "POST" ? $$"""{"address":"{{Address}}"}""" : null, token);

            Assert.Equal((HttpStatusCode.Unauthorized, "IOTDA.000002"), (status, body.GetProperty("error_code").GetString()));
        }

        Assert.Equal(MemberStatus.Up, Cluster.Get(site.System).SelfMember.Status);
    }

    [Fact]
    public async Task The_admin_token_does_not_open_the_API_for_applications() =>
        Assert.Equal(HttpStatusCode.Unauthorized, (await site.SendAsync(HttpMethod.Get, "p1/products", token: AdminToken)).Status);

    [Theory]
    [InlineData("down", """{"address":"10.9.9.9:4053"}""", HttpStatusCode.NotFound, "No member of the cluster has the address '10.9.9.9:4053'. The members are 127.0.0.1:")]
    [InlineData("leave", """{"address":"10.9.9.9:4053"}""", HttpStatusCode.NotFound, "No member of the cluster has the address '10.9.9.9:4053'. The members are 127.0.0.1:")]
    [InlineData("down", "{}", HttpStatusCode.BadRequest, "address is missing")]
    [InlineData("leave", """{"address":5}""", HttpStatusCode.BadRequest, "address must be a string")]
    [InlineData("down", "down", HttpStatusCode.BadRequest, "malformed")]
    [InlineData("down", """{"address":"{self}"}""", HttpStatusCode.Forbidden, "is Up and reachable: it would go on working beside the others. Let it leave instead.")]
    public async Task What_cannot_be_done_is_said(string what, string body, HttpStatusCode status, string why)
    {
        var answer = await site.SendAsync(HttpMethod.Post, $"/admin/cluster/{what}", body.Replace("{self}", Address), AdminToken);

        Assert.Equal(status, answer.Status);
        Assert.Contains(why, answer.Body.GetProperty("error_msg").GetString());
    }

    [Fact]
    public async Task The_command_prints_what_REST_tells()
    {
        var (exitCode, output, errors) = await CommandAsync("show", "--token", AdminToken);

        Assert.Equal((0, ""), (exitCode, errors));
        var lines = output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(2, lines.Length);
        Assert.Matches("^ADDRESS +STATUS +ROLES +VERSION +UNREACHABLE BY$", lines[0]);
        Assert.Matches($"^{Address} +Up +api,device,mqtt +[0-9.]+ +leader, oldest, this node$", lines[1]);

        (exitCode, output, errors) = await CommandAsync("shards", "--token", AdminToken);

        Assert.Equal((0, ""), (exitCode, errors));
        Assert.Matches($"(?m)^ADDRESS +TYPE +SHARDS +ENTITIES +UNANSWERED$", output);
        Assert.Matches($@"(?m)^{Address} +device +\d+ +\d+$", output);
    }

    [Fact]
    public async Task The_command_says_why_not_on_stderr_and_its_exit_code_is_1()
    {
        foreach (var (arguments, why) in new (string[], string)[]
        {
            (["show", "--token", "wrong-token"], "Authentication failed"),
            (["down", "10.9.9.9:4053", "--token", AdminToken], "No member of the cluster has the address '10.9.9.9:4053'"),
            (["show", "--token-file", "/nowhere/admin-token"], "The admin token cannot be read"),
            (["show", "--token", AdminToken, "--url", "nonsense"], "--url: 'nonsense' is no address"),
            (["show", "--token", AdminToken, "--url", "http://127.0.0.1:1"], "http://127.0.0.1:1/ does not answer as a node does"),
        })
        {
            var (exitCode, _, errors) = await CommandAsync(arguments);

            Assert.Equal(1, exitCode);
            Assert.Contains(why, errors);
        }
    }

    private async Task<(int ExitCode, string Output, string Errors)> CommandAsync(params string[] arguments)
    {
        var (output, errors) = (new StringWriter(), new StringWriter());
        string[] url = arguments.Contains("--url") ? [] : ["--url", new Uri(site.Http.BaseAddress!, "/").ToString()];
        var exitCode = await Commands.RunAsync(["cluster", .. arguments, .. url], output, errors);
        return (exitCode, output.ToString(), errors.ToString());
    }

    public sealed class Site : RunningPlatform
    {
        protected override string[] Settings => [$"--Api:AdminToken={AdminToken}", "--Devices:SleepAfter=00:01:00"];
    }
}
