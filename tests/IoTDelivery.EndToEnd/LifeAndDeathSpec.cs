using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using IoTDelivery.EndToEnd.Harness;
using IoTDelivery.Tests.Databases;
using MQTTnet;
using MQTTnet.Formatter;
using MQTTnet.Protocol;
using Xunit.Abstractions;

namespace IoTDelivery.EndToEnd;

/// <summary>How a node stops, how it refuses to start, and how it lives through a database that is gone for a while.</summary>
public sealed class LifeAndDeathSpec(PostgreSqlDatabase database, ITestOutputHelper output) : IClassFixture<PostgreSqlDatabase>
{
    // ---- SIGTERM

    [Fact]
    public async Task After_SIGTERM_an_open_request_finishes_devices_are_let_go_and_the_exit_code_is_0_within_ten_seconds()
    {
        await using var node = await Node.StartAsync();
        await node.Api.CreateProductAsync();
        await node.Api.CreateDeviceAsync("lamp_1");
        await node.Api.CreateDeviceAsync("lamp_2");
        var letGo = new TaskCompletionSource<MqttClientDisconnectedEventArgs>();
        await using var device = await Device.ConnectAsync(node.MqttPort, "lamp_1", MqttProtocolVersion.V500);
        device.Client.DisconnectedAsync += args =>
        {
            letGo.TrySetResult(args);
            return Task.CompletedTask;
        };

        // A request of which half has come.
        const string body = """{"message_id":"half","message":"the other half comes later"}""";
        using var application = new TcpClient();
        await application.ConnectAsync(IPAddress.Loopback, node.RestPort);
        await using var stream = application.GetStream();
        await stream.WriteAsync(Encoding.ASCII.GetBytes(
            $"POST /v5/iot/{Node.Project}/devices/lamp_2/messages HTTP/1.1\r\nHost: lamp\r\nX-Auth-Token: {Node.Token}\r\nExpect: 100-continue\r\n"
            + $"Content-Type: application/json\r\nContent-Length: {body.Length}\r\n\r\n"));
        using var reader = new StreamReader(stream, leaveOpen: true);
        Assert.Contains(" 100 ", await reader.ReadLineAsync()); // the node is reading the body
        await reader.ReadLineAsync();
        await stream.WriteAsync(Encoding.ASCII.GetBytes(body[..20]));

        var terminated = node.TerminateAsync();
        var disconnected = await letGo.Task.WaitAsync(TimeSpan.FromSeconds(10)); // it is going down
        Assert.Equal(MqttClientDisconnectReason.ServerShuttingDown, disconnected.Reason);
        await stream.WriteAsync(Encoding.ASCII.GetBytes(body[20..]));
        Assert.Contains(" 201 ", await reader.ReadLineAsync().WaitAsync(TimeSpan.FromSeconds(10)));

        var (exitCode, took) = await terminated;
        output.WriteLine($"exit code {exitCode} after {took.TotalSeconds:0.0} s");
        Assert.Equal(0, exitCode);
        Assert.InRange(took, TimeSpan.Zero, TimeSpan.FromSeconds(10));

        await node.StartAgainAsync();
        Assert.Equal("half", (await node.Api.GetAsync("devices/lamp_2/messages/half")).Body.GetProperty("message_id").GetString());
    }

    [Fact]
    public async Task After_SIGHUP_a_node_without_TLS_serves_on_and_after_SIGTERM_with_nothing_to_do_it_is_gone_at_once()
    {
        await using var node = await Node.StartAsync();

        node.HangUp();

        // Exit code 129 below, if it is only slow to die.
        for (var i = 0; i < 20; i++) Api.Expect(HttpStatusCode.OK, await node.Api.GetAsync("products"));
        var (exitCode, took) = await node.TerminateAsync();

        output.WriteLine($"exit code {exitCode} after {took.TotalSeconds:0.0} s");
        Assert.Equal(0, exitCode);
        Assert.InRange(took, TimeSpan.Zero, TimeSpan.FromSeconds(10));
    }

    // ---- it does not start

    [Fact]
    public async Task A_database_that_cannot_be_reached_is_named_on_stderr_and_the_exit_code_is_1()
    {
        var port = Node.FreePort();

        var said = await RefusalAsync("--Storage:Provider=PostgreSql", $"--Storage:ConnectionString=Host=127.0.0.1;Port={port};Username=iot;Password=s3cret;Database=site;Timeout=5");

        Assert.Contains("database cannot be used", said);
        Assert.Contains($"PostgreSql at 127.0.0.1:{port}, database site", said);
        Assert.DoesNotContain("s3cret", said);
    }

    [Theory]
    [InlineData("Delivery:Repeats", "-1")]
    [InlineData("Delivery:Repeats", "many")]
    [InlineData("Delivery:RepeatInterval", "two seconds")]
    [InlineData("Delivery:RoundInterval", "00:00:05")]
    [InlineData("Delivery:PendingMax", "0")]
    [InlineData("Devices:SnapshotEvery", "1")]
    [InlineData("Reminders:Concurrency", "0")]
    [InlineData("Mqtt:Port", "99999")]
    [InlineData("Mqtt:Address", "lamp")]
    [InlineData("Push:Timeout", "00:00:00")]
    [InlineData("Push:Shape", "Round")]
    [InlineData("Api:Token", "short")]
    [InlineData("Storage:Provider", "Oracle")]
    [InlineData("Storage:Provider", "PostgreSql")]
    [InlineData("Tls:CipherSuites", "Old")]
    [InlineData("Urls", "nonsense")]
    [InlineData("Urls", "https://127.0.0.1:8443")]
    public async Task A_wrong_setting_is_named_on_stderr_and_the_exit_code_is_1(string setting, string value)
    {
        var said = await RefusalAsync($"--{setting}={value}");

        Assert.StartsWith("A setting is wrong.", said);
        Assert.Contains(value == "PostgreSql" ? "Storage:ConnectionString" : setting, said);
    }

    [Theory]
    [InlineData("REST")]
    [InlineData("MQTT")]
    public async Task A_port_that_is_taken_is_named_on_stderr_and_the_exit_code_is_1(string which)
    {
        using var other = new TcpListener(IPAddress.Loopback, 0);
        other.Start();
        var taken = ((IPEndPoint)other.LocalEndpoint).Port;

        var said = await RefusalAsync(which == "REST" ? $"--urls=http://127.0.0.1:{taken}" : $"--Mqtt:Port={taken}");

        Assert.StartsWith("A port is taken.", said);
        Assert.Contains($"127.0.0.1:{taken}", said);
    }

    // ---- the database goes and comes back

    [SkippableFact]
    public async Task While_the_database_is_gone_nothing_is_accepted_and_devices_stay_and_when_it_is_back_the_node_goes_on_by_itself()
    {
        Skip.If(database.SkipReason is not null, database.SkipReason);
        var storage = await database.CreateAsync();
        await using var receiver = await Receiver.StartAsync();
        await using var node = await Node.StartAsync("--Storage:Provider=PostgreSql", $"--Storage:ConnectionString={storage.ConnectionString}");
        await node.Api.CreateProductAsync();
        await node.Api.CreateDeviceAsync("lamp_1");
        await node.Api.CreateDeviceAsync("lamp_2");
        await node.Api.CreateDeviceAsync("lamp_3");
        await node.Api.PushToAsync(receiver.Url);
        await using var device = await Device.OnlineAsync(node.MqttPort, "lamp_1");
        Assert.Equal("DELIVERED", await SendAsync(node, "lamp_1", "before_1"));
        Assert.Equal("before_1", (await device.NextAsync()).Id);
        Assert.Equal("PENDING", await SendAsync(node, "lamp_2", "before_2"));
        await receiver.UntilAsync(p => p.Count == 2, "DELIVERED of before_1 and PENDING of before_2");
        var process = node.ProcessId;

        // A power cut of the database in the middle of work.
        var (answers, isGone) = (new ConcurrentQueue<(string Lamp, string Id, Answer Answer)>(), false);
        var isBusy = new TaskCompletionSource();
        var work = Task.WhenAll(Enumerable.Range(0, 4).Select(lane => Task.Run(async () =>
        {
            for (var i = 0; !Volatile.Read(ref isGone); i++)
            {
                var (lamp, id) = ($"lamp_{1 + (lane % 2)}", $"cut_{lane}_{i}");
                answers.Enqueue((lamp, id, await node.Api.SendMessageAsync(lamp, messageId: id)));
                if (answers.Count >= 20) isBusy.TrySetResult();
            }
        })));
        await Task.WhenAny(work, isBusy.Task);
        await database.StopAsync();
        Volatile.Write(ref isGone, true);
        await work;
        Assert.All(answers, a => Assert.True(
            a.Answer.Status is HttpStatusCode.Created or HttpStatusCode.ServiceUnavailable || a.Answer.ErrorCode == "IOTDA.021101", $"{a.Id}: {a.Answer.Status} {a.Answer.Body}"));

        // It is gone: known and unknown devices, and everything else that needs it.
        foreach (var lamp in (string[])["lamp_1", "lamp_2", "lamp_3"])
        {
            var answer = await node.Api.SendMessageAsync(lamp, messageId: $"gone_{lamp}");
            Assert.Equal(HttpStatusCode.ServiceUnavailable, answer.Status);
            Assert.Equal("IOTDA.000001", answer.ErrorCode);
            Assert.True(answer.Body.TryGetProperty("message_id", out var id) && id.GetString() == $"gone_{lamp}", $"{lamp}: {answer.Body}");
        }

        var made = await node.Api.SendMessageAsync("lamp_1"); // without an id: the platform made one and says which, so that the application can ask again
        Assert.Equal((HttpStatusCode.ServiceUnavailable, true), (made.Status, made.Body.TryGetProperty("message_id", out _)));
        var created = await node.Api.PostAsync("devices", new { device_id = "lamp_4", node_id = "lamp_4", product_id = "lamp" });
        Assert.Equal((HttpStatusCode.ServiceUnavailable, "IOTDA.000001"), (created.Status, created.ErrorCode));
        await device.Client.PingAsync();
        Assert.True(device.Client.IsConnected);

        await database.StartAsync();
        var clock = Stopwatch.StartNew();
        var attempts = 1;
        Answer back;
        while ((back = await node.Api.SendMessageAsync("lamp_1", messageId: "back")).Status != HttpStatusCode.Created)
        {
            Assert.Equal(HttpStatusCode.ServiceUnavailable, back.Status);
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60), $"The node does not recover: {back.Body}\n{node.Output}");
            attempts++;
        }

        var acceptedAfter = clock.Elapsed;
        while ((await device.NextAsync()).Id != "back")
        {
        }

        output.WriteLine($"accepted {acceptedAfter.TotalSeconds:0.0} s after the database was back (attempt {attempts}), delivered after {clock.Elapsed.TotalSeconds:0.0} s");
        await receiver.UntilAsync(p => p.Any(x => x.MessageId == "back" && x.Status == "DELIVERED"), "DELIVERED of back");
        Assert.True(device.Client.IsConnected);
        Assert.Equal(process, node.ProcessId);

        // What was answered 201 is there, whatever the moment of the cut was.
        await using var second = await Device.OnlineAsync(node.MqttPort, "lamp_2");
        foreach (var (lamp, id, _) in answers.Where(a => a.Answer.Status == HttpStatusCode.Created))
        {
            await receiver.UntilAsync(p => p.Any(x => x.MessageId == id && x.Status is "DELIVERED" or "FAILED"), $"the end of {id} of {lamp}, which was answered 201");
        }

        await receiver.UntilAsync(p => p.Any(x => x.MessageId == "before_2" && x.Status is "DELIVERED" or "FAILED"), "the end of before_2");
    }

    private static async Task<string?> SendAsync(Node node, string lamp, string id) =>
        Api.Expect(HttpStatusCode.Created, await node.Api.SendMessageAsync(lamp, messageId: id)).MessageStatus;

    // What a start that fails says on stderr: one sentence, no stack.
    private static async Task<string> RefusalAsync(params string[] settings)
    {
        var folder = Directory.CreateTempSubdirectory("iotdelivery-e2e-").FullName;
        try
        {
            await using var host = Command.Host(folder, ["--urls=http://127.0.0.1:0", "--Mqtt:Port=0", "--Logging:LogLevel:Default=Warning", .. settings]);
            Assert.Equal(1, await host.ExitAsync());
            Assert.DoesNotContain("is running", host.Output);
            var said = host.Errors.Trim();
            Assert.NotEqual("", said);
            Assert.DoesNotContain("   at ", said);
            Assert.DoesNotContain("   at ", host.Output);
            return said;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
