using System.Diagnostics;
using System.Net;
using IoTDelivery.EndToEnd.Harness;
using IoTDelivery.Host.Api.Authentication;
using IoTDelivery.Tests.Databases;
using MQTTnet;
using MQTTnet.Exceptions;
using MQTTnet.Formatter;

namespace IoTDelivery.EndToEnd;

/// <summary>Three real nodes: applications may ask any, devices may connect to any.</summary>
public sealed class ClusterSpec(PostgreSqlDatabase server) : IClassFixture<PostgreSqlDatabase>
{
    private const string Password = "one for all nodes";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    [SkippableFact]
    public async Task What_one_node_was_told_the_others_know_and_a_node_that_leaves_hands_its_devices_over()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        await using var nodes = await ThreeNodes.StartAsync(server, ["--Api:Users:0:Name=app", $"--Api:Users:0:PasswordHash={Passwords.Hash(Password)}"]);
        await nodes[0].Api.CreateProductAsync();

        // A device created on A logs in on B; the message comes over C.
        await nodes[0].Api.CreateDeviceAsync("lamp");
        await using (var lamp = await Device.OnlineAsync(nodes[1].MqttPort, "lamp"))
        {
            Api.Expect(HttpStatusCode.Created, await nodes[2].Api.SendMessageAsync("lamp", "over three nodes"));
            Assert.Equal("over three nodes", (await lamp.NextAsync()).Content);
        }

        // A token issued by A is accepted by B and C.
        var token = await TokenAsync(nodes[0]);
        foreach (var node in nodes.All) Api.Expect(HttpStatusCode.OK, await node.Api.SendAsync(HttpMethod.Get, "devices", null, withToken: token));
        Assert.Equal(HttpStatusCode.Unauthorized, (await nodes[1].Api.SendAsync(HttpMethod.Get, "devices", null, withToken: token[..^1] + (token[^1] == 'A' ? 'B' : 'A'))).Status);

        // Frozen on A, refused by B at once, although B has its row in the cache; and back.
        Api.Expect(HttpStatusCode.NoContent, await nodes[0].Api.PostAsync("devices/lamp/freeze", new { }));
        Assert.Equal(MqttClientConnectResultCode.NotAuthorized, await ConnectAsync(nodes[1], "lamp"));
        Api.Expect(HttpStatusCode.NoContent, await nodes[2].Api.PostAsync("devices/lamp/unfreeze", new { }));
        Assert.Equal(MqttClientConnectResultCode.Success, await ConnectAsync(nodes[1], "lamp"));
        Api.Expect(HttpStatusCode.OK, await nodes[0].Api.PostAsync("devices/lamp/action?action_id=resetSecret", new { secret = "another-secret" }));
        Assert.Equal(MqttClientConnectResultCode.BadUserNameOrPassword, await ConnectAsync(nodes[1], "lamp"));

        // 256 KB to each of twelve devices: whatever node they are on, it fits between them.
        var large = new string('ä', 128 * 1024);
        for (var i = 0; i < 12; i++)
        {
            var id = await nodes[0].Api.CreateDeviceAsync($"large_{i}");
            await using var device = await Device.OnlineAsync(nodes[i % 3].MqttPort, id);
            Api.Expect(HttpStatusCode.Created, await nodes[(i + 1) % 3].Api.SendMessageAsync(id, large));
            Assert.Equal(large, (await device.NextAsync()).Content);
            var listed = Api.Expect(HttpStatusCode.OK, await nodes[(i + 2) % 3].Api.GetAsync($"devices/{id}/messages"));
            Assert.Equal(large, listed.Body.GetProperty("messages")[0].GetProperty("message").GetString());
        }

        // A node that is told to stop: MQTT 5 devices hear where to go, it ends with 0, and what it served is served.
        var leaving = new TaskCompletionSource<MqttClientDisconnectReason>(TaskCreationOptions.RunContinuationsAsynchronously);
        await nodes[0].Api.CreateDeviceAsync("mover");
        await using var mover = await Device.OnlineAsync(nodes[2].MqttPort, "mover", version: MqttProtocolVersion.V500);
        mover.Client.DisconnectedAsync += args =>
        {
            leaving.TrySetResult(args.Reason);
            return Task.CompletedTask;
        };
        var (exitCode, took) = await nodes[2].TerminateAsync();
        Assert.True(exitCode == 0, $"{exitCode}: {nodes[2].Output}");
        Assert.True(took < TimeSpan.FromSeconds(30), $"It took {took}.");
        Assert.Equal(MqttClientDisconnectReason.UseAnotherServer, await leaving.Task.WaitAsync(Patience));
        await using var moved = await Device.OnlineAsync(nodes[0].MqttPort, "mover");
        Api.Expect(HttpStatusCode.Created, await nodes[1].Api.SendMessageAsync("mover", "still there"));
        Assert.Equal("still there", (await moved.NextAsync()).Content);

        foreach (var node in nodes.All) Assert.DoesNotContain("has no serializer", node.Output);
    }

    [SkippableFact]
    public async Task Each_role_may_have_a_node_of_its_own()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        string[] roles = ["device", "mqtt", "api"];
        string[] settings = ["--Mqtt:ImplicitSubscriptionOf:lamp=true", "--Mqtt:ImplicitSubscriptionGrace=00:00:01"];
        await using var nodes = await ThreeNodes.StartAsync(server, settings, i => [$"--Cluster:Roles:0={roles[i]}"]);
        await using var receiver = await Receiver.StartAsync();
        var api = nodes[2].Api;
        await api.CreateProductAsync();
        await api.PushToAsync(receiver.Url);
        await api.CreateDeviceAsync("lamp");
        Api.Expect(HttpStatusCode.Created, await api.SendMessageAsync("lamp", "waits", "m1"));
        await using (var lamp = await Device.OnlineAsync(nodes[1].MqttPort, "lamp"))
        {
            Assert.Equal("waits", (await lamp.NextAsync()).Content);
            await receiver.UntilAsync(all => all.Count(p => p.MessageId == "m1" && p.Status is "PENDING" or "DELIVERED") == 2, "PENDING and DELIVERED");
        }

        // A gateway on one node hears what an application does on another, by way of a third.
        await api.PushToAsync(receiver.Url, "device.status", "update");
        await GatewaySpec.LiveAsync(api, nodes[1].MqttPort, receiver);

        // What a node does not do it does not offer.
        Assert.Equal(HttpStatusCode.NotFound, (await nodes[0].Api.GetAsync("devices")).Status);
        await Assert.ThrowsAnyAsync<MqttCommunicationException>(() => Device.ConnectAsync(nodes[2].MqttPort, "lamp"));
    }

    [SkippableFact]
    public async Task No_second_cluster_is_formed_on_one_database_and_whoever_tries_says_why_not()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var (port, dead) = (Node.FreePort(), Node.FreePort());
        string[] storage = ["--Storage:Provider=PostgreSql", $"--Storage:ConnectionString={(await server.CreateAsync()).ConnectionString}"];
        await using var first = await Node.StartAsync([.. storage, $"--Cluster:SeedNodes:0=127.0.0.1:{port}", $"--Cluster:Port={port}"]);

        // Without seed nodes it could only be a cluster of its own.
        await using var alone = Node.Create(storage);
        alone.Launch([Node.HostDll]);
        Assert.Equal(1, await alone.ExitAsync());
        Assert.Contains("Another cluster is alive on this database", alone.Output);
        Assert.Contains($"127.0.0.1:{port}, process {first.ProcessId}", alone.Output);

        // The first of its seed nodes, which reaches none of the others: it waits, and forms the cluster when the one that is in the way has gone.
        var own = Node.FreePort();
        await using var cut = Node.Create([.. storage, $"--Cluster:SeedNodes:0=127.0.0.1:{own}", $"--Cluster:SeedNodes:1=127.0.0.1:{dead}", $"--Cluster:Port={own}"]);
        cut.Launch([Node.HostDll]);
        var clock = Stopwatch.StartNew();
        while (!cut.Output.Contains("This node does not form a second one"))
        {
            Assert.True(clock.Elapsed < Patience, cut.Output);
            await Task.Delay(50); // what it prints is all that shows it
        }

        Assert.Contains($"127.0.0.1:{port}, process {first.ProcessId}", cut.Output);
        await Assert.ThrowsAsync<HttpRequestException>(() => cut.Api.GetAsync("products")); // it serves nobody
        Assert.Equal(0, (await first.TerminateAsync()).ExitCode);
        await cut.ReadyAsync();
    }

    private static async Task<MqttClientConnectResultCode> ConnectAsync(Node node, string id)
    {
        var result = MqttClientConnectResultCode.UnspecifiedError;
        await using var device = await Device.ConnectAsync(node.MqttPort, id, MqttProtocolVersion.V500, connected: r => result = r.ResultCode);
        return result;
    }

    private static async Task<string> TokenAsync(Node node)
    {
        using var nobody = new Application(new Uri($"http://127.0.0.1:{node.RestPort}"), null);
        var (status, answer, response) = await nobody.SendAsync(HttpMethod.Post, "/v3/auth/tokens", query: [("nocatalog", "true")], body: new
        {
            auth = new
            {
                identity = new { methods = new[] { "password" }, password = new { user = new { name = "app", password = Password, domain = new { name = "account" } } } },
                scope = new { project = new { name = Node.Project } },
            },
        });
        Assert.True(status == HttpStatusCode.Created, answer.ToString());
        return response.Headers.GetValues("X-Subject-Token").Single();
    }
}
