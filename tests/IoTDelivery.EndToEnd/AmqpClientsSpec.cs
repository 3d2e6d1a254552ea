using System.Diagnostics;
using System.Net;
using System.Text.Json;
using IoTDelivery.EndToEnd.Harness;
using MQTTnet;
using MQTTnet.Protocol;

namespace IoTDelivery.EndToEnd;

/// <summary>
/// A node with both AMQP ports, and a rule that forwards what devices publish to a queue for each client.
/// </summary>
public sealed class AmqpSite : IAsyncLifetime
{
    private readonly Dictionary<string, string> _actions = []; // by queue
    private readonly Certificates _certificates = new();
    private readonly int _port = Node.FreePort(), _tlsPort = Node.FreePort();
    private (string Key, string Code) _access;

    public static string[] Queues { get; } =
    [
        "rhea-amqp", "rhea-amqps", "rhea-node-killed",
        "qpid-proton-amqp", "qpid-proton-amqps", "qpid-proton-node-killed",
    ];

    public Node Node { get; private set; } = null!;

    public async Task InitializeAsync()
    {
        await File.WriteAllTextAsync(_certificates.File("ca.pem"), _certificates.Root.ExportCertificatePem());
        Node = Node.Create([.. _certificates.Pem, $"--Amqp:Port={_port}", $"--Amqp:TlsPort={_tlsPort}"]);
        await Node.StartAgainAsync();
        await Node.Api.CreateProductAsync();
        var access = await CreateAsync("auth/accesscode", new { type = "AMQP" });
        _access = (Text(access, "access_key"), Text(access, "access_code"));
        var subject = new { resource = "device.message", @event = "report" };
        var rule = Text(await CreateAsync("routing-rule/rules", new { subject }), "rule_id");
        foreach (var queue in Queues)
        {
            await CreateAsync("amqp-queues", new { queue_name = queue });
            var detail = new { amqp_forwarding = new { queue_name = queue } };
            var action = new { rule_id = rule, channel = "AMQP_FORWARDING", channel_detail = detail };
            _actions[queue] = Text(await CreateAsync("routing-rule/actions", action), "action_id");
        }

        Api.Expect(HttpStatusCode.OK, await Node.Api.PutAsync($"routing-rule/rules/{rule}", new { active = true }));
        await using var probe = await Device.ConnectAsync(Node.MqttPort, await Node.Api.CreateDeviceAsync("probe"));
        foreach (var queue in Queues)
        {
            await UntilAsync(async () =>
            {
                await PublishAsync(probe, "probe", "is it?"); // nothing else tells when the node obeys the rule
                return await WaitingAsync(queue) > 0;
            });
        }
    }

    /// <summary>A consumer of the queue.</summary>
    /// <param name="library">See <see cref="Clients.StartAsync"/>.</param>
    /// <param name="queue">One of <see cref="Queues"/>.</param>
    /// <param name="tls">On which port.</param>
    /// <param name="hold">The first delivery with this text is left unsettled.</param>
    public Task<Command> ConsumerAsync(string library, string queue, bool tls = false, string? hold = null) =>
        Clients.StartAsync(library, new
        {
            host = "localhost",
            port = tls ? _tlsPort : _port,
            ca = tls ? _certificates.File("ca.pem") : null,
            user = $"accessKey={_access.Key}|timestamp={DateTimeOffset.UtcNow.ToUnixTimeMilliseconds()}|instanceId=any",
            password = _access.Code,
            queue,
            hold,
        });

    /// <summary>At QoS 1: with the PUBACK it is in the queues.</summary>
    public static async Task PublishAsync(Device device, string id, string text)
    {
        var topic = $"$oc/devices/{id}/sys/messages/up";
        var published = await device.Client.PublishStringAsync(topic, text, MqttQualityOfServiceLevel.AtLeastOnce);
        Assert.True(published.IsSuccess);
    }

    /// <summary>Waits until all but so many of the queue's notifications are accepted, and stored as that.</summary>
    public Task AcceptedButAsync(int count, string queue) => UntilAsync(async () => await WaitingAsync(queue) == count);

    public async Task DisposeAsync()
    {
        await Node.DisposeAsync();
        _certificates.Dispose();
    }

    private async Task<int> WaitingAsync(string queue)
    {
        var backlog = await Node.Api.GetAsync($"routing-rule/actions/{_actions[queue]}/backlog");
        return Api.Expect(HttpStatusCode.OK, backlog).Body.GetProperty("count").GetInt32();
    }

    private async Task<JsonElement> CreateAsync(string path, object body) =>
        Api.Expect(HttpStatusCode.Created, await Node.Api.PostAsync(path, body)).Body;

    private static async Task UntilAsync(Func<Task<bool>> isSo)
    {
        var clock = Stopwatch.StartNew();
        while (!await isSo())
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(30), "It did not come to it within 30 s.");
            await Task.Delay(50); // a count of rows: nobody tells of it
        }
    }

    private static string Text(JsonElement of, string name) => of.GetProperty(name).GetString()!;
}

/// <summary>
/// Consumers made with other people's AMQP libraries, as their documents show it. Of one device a consumer has one
/// notification at a time: the next one tells that the last one was accepted.
/// </summary>
public sealed class AmqpClientsSpec(AmqpSite site) : IClassFixture<AmqpSite>
{
    [SkippableTheory]
    [InlineData("rhea", false)]
    [InlineData("rhea", true)]
    [InlineData("qpid-proton", false)]
    [InlineData("qpid-proton", true)]
    public async Task A_consumer_that_is_killed_and_started_again_gets_what_it_had_not_settled_and_nothing_it_had_accepted(
        string library, bool tls)
    {
        var queue = tls ? $"{library}-amqps" : $"{library}-amqp";
        var lamp = await site.Node.Api.CreateDeviceAsync(queue);
        await using var device = await Device.ConnectAsync(site.Node.MqttPort, lamp);
        var (first, second, third) = (Text(lamp, 1), Text(lamp, 2), Text(lamp, 3));
        await AmqpSite.PublishAsync(device, lamp, first);
        await AmqpSite.PublishAsync(device, lamp, second);

        await using (var consumer = await site.ConsumerAsync(library, queue, tls, hold: $"2 of {lamp}:"))
        {
            await consumer.PrintedAsync(output => Messages(output, lamp).Count == 2, "both messages");
            Assert.Equal([first, second], Messages(consumer.Output, lamp));
        } // kill -9

        await AmqpSite.PublishAsync(device, lamp, third);
        await using var again = await site.ConsumerAsync(library, queue, tls);
        await again.PrintedAsync(output => Messages(output, lamp).Contains(third), "the third message");
        await site.AcceptedButAsync(0, queue);
        Assert.Equal([second, third], Messages(again.Output, lamp));
        Assert.Equal("", again.Errors);
    }

    [SkippableFact]
    public async Task Consumers_of_a_node_that_is_killed_reconnect_by_themselves_and_get_what_they_had_not_settled()
    {
        var lamp = await site.Node.Api.CreateDeviceAsync("reconnected");
        var (first, second) = (Text(lamp, 1), Text(lamp, 2));
        await using var rhea = await site.ConsumerAsync("rhea", "rhea-node-killed", hold: $"2 of {lamp}:");
        await using var proton = await site.ConsumerAsync(
            "qpid-proton", "qpid-proton-node-killed", hold: $"2 of {lamp}:");
        await using (var device = await Device.ConnectAsync(site.Node.MqttPort, lamp))
        {
            await AmqpSite.PublishAsync(device, lamp, first);
            await AmqpSite.PublishAsync(device, lamp, second);
        }

        Command[] both = [rhea, proton];
        foreach (var consumer in both) await consumer.PrintedAsync(o => Messages(o, lamp).Count == 2, "both messages");
        await site.AcceptedButAsync(1, "rhea-node-killed");
        await site.AcceptedButAsync(1, "qpid-proton-node-killed");
        await site.Node.KillAsync();
        await site.Node.StartAgainAsync();

        foreach (var consumer in both)
        {
            await consumer.PrintedAsync(o => Messages(o, lamp).Count == 3, "the second again");
        }

        await site.AcceptedButAsync(0, "rhea-node-killed");
        await site.AcceptedButAsync(0, "qpid-proton-node-killed");
        Assert.All(both, consumer => Assert.Equal([first, second, second], Messages(consumer.Output, lamp)));
    }

    private static string Text(string lamp, int number) => $"{number} of {lamp}: grüße 你好 🌍";

    // What this device published, as the consumer read it: each body a string, and JSON.
    private static List<string> Messages(string output, string lamp) =>
    [
        .. from line in output.Split('\n')
           where line.StartsWith("message ")
           let body = JsonSerializer.Deserialize<string>(line["message ".Length..])
           let told = JsonSerializer.Deserialize<JsonElement>(body).GetProperty("notify_data")
           where told.GetProperty("device_id").GetString() == lamp
           select told.GetProperty("message").GetString()!,
    ];
}
