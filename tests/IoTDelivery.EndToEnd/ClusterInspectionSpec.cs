using System.Diagnostics;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using IoTDelivery.EndToEnd.Harness;
using IoTDelivery.Tests.Databases;

namespace IoTDelivery.EndToEnd;

/// <summary>What an operator sees of three nodes and does to them, over REST and with the command; and what a load balancer is told meanwhile.</summary>
public sealed class ClusterInspectionSpec(PostgreSqlDatabase database) : IClassFixture<PostgreSqlDatabase>
{
    private const string AdminToken = "end-to-end-admin-token";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static readonly HttpClient Http = new() { DefaultRequestHeaders = { { "X-Auth-Token", AdminToken } } };

    [SkippableFact]
    public async Task Members_and_shards_are_told_the_same_by_every_node_and_a_member_is_taken_out_dead_or_alive()
    {
        Skip.If(database.SkipReason is not null, database.SkipReason);
        var storage = await database.CreateAsync();
        var ports = Enumerable.Range(0, 3).Select(_ => Node.FreePort()).ToArray();
        string[] addresses = [.. ports.Select(p => $"127.0.0.1:{p}")];
        await using var first = NewNode(0);
        await using var second = NewNode(1);
        await using var third = NewNode(2);
        foreach (var node in new[] { first, second, third }) await node.StartAgainAsync();
        foreach (var node in new[] { first, second, third }) await ReadyAsync(node, HttpStatusCode.OK, "Up, 3 of 3 members are reachable.");

        // Everybody agrees, and each says which of them it is.
        foreach (var (node, address) in new[] { first, second, third }.Zip(addresses))
        {
            var members = await MembersAsync(node);
            Assert.Equal(addresses.Order(), members.Select(m => m.Text("address")).Order());
            Assert.All(members, m => Assert.Equal(("Up", 0), (m.Text("status"), m.GetProperty("unreachable_by").GetArrayLength())));
            Assert.Equal(address, Assert.Single(members, m => m.GetProperty("self").GetBoolean()).Text("address"));
            Assert.Equal(addresses[0], Assert.Single(members, m => m.GetProperty("oldest").GetBoolean()).Text("address"));
            Assert.Single(members, m => m.GetProperty("leader").GetBoolean());
            var (exitCode, output, errors) = await CommandAsync(node, "show");
            Assert.Equal((0, ""), (exitCode, errors));
            foreach (var member in members) Assert.Matches($"(?m)^{member.Text("address")} +Up +api,device,mqtt +{member.Text("app_version")}( .*)?{(member.Text("address") == address ? "this node" : "")}$", output);
        }

        // Devices are awake somewhere, and every node counts the same.
        await first.Api.CreateProductAsync();
        for (var i = 0; i < 8; i++)
        {
            await first.Api.CreateDeviceAsync($"lamp_{i}");
            Api.Expect(HttpStatusCode.Created, await first.Api.SendMessageAsync($"lamp_{i}"));
        }

        foreach (var node in new[] { first, second, third })
        {
            var regions = (await Http.GetFromJsonAsync<JsonElement>(Admin(node, "/shards"))).GetProperty("regions").EnumerateArray().ToList();
            Assert.Equal(addresses.Order(), regions.Select(r => r.Text("address")).Order());
            Assert.Equal(8, regions.Sum(Entities));
            var (_, output, _) = await CommandAsync(node, "shards");
            foreach (var region in regions) Assert.Matches($"(?m)^{region.Text("address")} +device +{region.GetProperty("shards").GetArrayLength()} +{Entities(region)}$", output);
        }

        // Dead: the others lose it; it is not asked to leave, it is taken out. (By itself the cluster would do so too, but not before a minute here.)
        await third.KillAsync();
        await UntilAsync(first, members => members.Any(m => m.Text("address") == addresses[2] && Texts(m, "unreachable_by").SequenceEqual(addresses[..2].Order())), "that both others lost the third");
        var refused = await CommandAsync(first, "leave", addresses[2]);
        Assert.Equal((1, $"{addresses[2]} is unreachable and would not hear of it. If it will not come back, down it."), (refused.ExitCode, refused.Errors));
        Assert.Equal(0, (await CommandAsync(second, "down", addresses[2])).ExitCode);
        await UntilAsync(first, members => members.Count == 2, "that the third is out");

        // Alive: it hands over, goes, and its process ends.
        refused = await CommandAsync(first, "down", addresses[1]);
        Assert.Equal(1, refused.ExitCode);
        Assert.Contains("is Up and reachable", refused.Errors);
        Assert.Equal(0, (await CommandAsync(first, "leave", addresses[1])).ExitCode);
        await UntilAsync(first, members => members.Count == 1, "that the second has left");
        await second.ExitAsync();
        await ReadyAsync(first, HttpStatusCode.OK, "Up, 1 of 1 members are reachable.");

        // The database goes and comes back.
        await database.StopAsync();
        Assert.Contains("has not answered for", (await ReadyAsync(first, HttpStatusCode.ServiceUnavailable)).Text("database"));
        await database.StartAsync();
        await ReadyAsync(first, HttpStatusCode.OK);

        Node NewNode(int i) => Node.Create(
            "--Storage:Provider=PostgreSql", $"--Storage:ConnectionString={storage.ConnectionString}", $"--Api:AdminToken={AdminToken}", "--Devices:SleepAfter=00:05:00",
            "--akka:cluster:split-brain-resolver:stable-after=60s", $"--Cluster:Port={ports[i]}", $"--Cluster:SeedNodes:0={addresses[0]}", $"--Cluster:SeedNodes:1={addresses[1]}", $"--Cluster:SeedNodes:2={addresses[2]}");
    }

    private static string Admin(Node node, string path = "") => $"http://127.0.0.1:{node.RestPort}/admin/cluster{path}";

    private static int Entities(JsonElement region) => region.GetProperty("shards").EnumerateArray().Sum(s => s.GetProperty("entities").GetInt32());

    private static IEnumerable<string?> Texts(JsonElement item, string name) => item.GetProperty(name).EnumerateArray().Select(t => t.GetString());

    private static async Task<List<JsonElement>> MembersAsync(Node node) => [.. (await Http.GetFromJsonAsync<JsonElement>(Admin(node))).GetProperty("members").EnumerateArray()];

    private static async Task UntilAsync(Node node, Func<List<JsonElement>, bool> enough, string what)
    {
        var clock = Stopwatch.StartNew();
        while (!enough(await MembersAsync(node)))
        {
            Assert.True(clock.Elapsed < Patience, $"The node never told {what}: {await Http.GetStringAsync(Admin(node))}");
            await Task.Delay(50); // another process's view: there is nothing to await but its answer
        }
    }

    private static async Task<JsonElement> ReadyAsync(Node node, HttpStatusCode status, string? cluster = null)
    {
        var clock = Stopwatch.StartNew();
        while (true)
        {
            using var response = await Http.GetAsync($"http://127.0.0.1:{node.RestPort}/health/ready");
            var body = await response.Content.ReadFromJsonAsync<JsonElement>();
            if (response.StatusCode == status && (cluster is null || body.Text("cluster") == cluster)) return body;
            Assert.True(clock.Elapsed < Patience, $"The node never answered {(int)status} {cluster}: {body}");
            await Task.Delay(50);
        }
    }

    private static async Task<(int ExitCode, string Output, string Errors)> CommandAsync(Node node, params string[] arguments)
    {
        await using var command = Command.Host(node.Folder, ["cluster", .. arguments, "--url", $"http://127.0.0.1:{node.RestPort}", "--token", AdminToken]);
        return (await command.ExitAsync(), command.Output, command.Errors);
    }
}

file static class Json
{
    public static string Text(this JsonElement item, string name) => item.GetProperty(name).GetString()!;
}
