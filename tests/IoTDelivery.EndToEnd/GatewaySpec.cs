using System.Net;
using IoTDelivery.EndToEnd.Harness;
using MQTTnet.Formatter;

namespace IoTDelivery.EndToEnd;

/// <summary>Sub-devices: their messages go out on their gateway's connection and name whom they are for.</summary>
public sealed class GatewaySpec
{
    private static readonly MqttProtocolVersion[] Versions = [MqttProtocolVersion.V311, MqttProtocolVersion.V500];

    public static TheoryData<MqttProtocolVersion> EveryVersion => [.. Versions];

    [Theory]
    [MemberData(nameof(EveryVersion))]
    public async Task What_waits_for_sub_devices_goes_out_when_the_gateway_comes_and_what_follows_goes_out_at_once(MqttProtocolVersion version)
    {
        await using var receiver = await Receiver.StartAsync();
        await using var node = await NodeAsync(receiver);
        await CreateAsync(node, "hub", null);
        await CreateAsync(node, "plug", "hub");
        await CreateAsync(node, "bulb", "plug"); // two levels: the hub carries it, too

        Assert.Equal("PENDING", (await SendAsync(node, "plug", "p1")).MessageStatus);
        Assert.Equal("PENDING", (await SendAsync(node, "plug", "p2")).MessageStatus);
        Assert.Equal("PENDING", (await SendAsync(node, "bulb", "b1")).MessageStatus);
        Assert.Equal("INACTIVE", await StatusAsync(node, "plug"));

        await using var hub = await Device.OnlineAsync(node.MqttPort, "hub", version: version);
        var first = new List<Received> { await hub.NextAsync(), await hub.NextAsync(), await hub.NextAsync() };
        Assert.All(first, r => Assert.Equal((Device.DownTopic("hub"), 1), (r.Topic, r.QoS)));
        Assert.Equal(["p1", "p2"], first.Where(r => r.ObjectDeviceId == "plug").Select(r => r.Id));
        Assert.Equal(["b1"], first.Where(r => r.ObjectDeviceId == "bulb").Select(r => r.Id));
        foreach (var id in (string[])["p1", "p2", "b1"]) await ToldAsync(receiver, id, "DELIVERED");

        // The gateway is there: handed over at once, to one that was never carried before, too.
        await CreateAsync(node, "fan", "hub");
        Assert.EndsWith("/sys/events/down", (await hub.NextAsync()).Topic); // told before the application is answered
        foreach (var (device, id) in ((string, string)[])[("fan", "f1"), ("plug", "p3"), ("hub", "h1")])
        {
            Assert.Equal("DELIVERED", (await SendAsync(node, device, id)).MessageStatus);
            var received = await hub.NextAsync();
            Assert.Equal((device, id, 1), (received.ObjectDeviceId, received.Id, received.QoS));
            await ToldAsync(receiver, id, "DELIVERED");
        }

        Assert.Equal("INACTIVE", await StatusAsync(node, "bulb")); // its gateway has not said that it is there
        var header = receiver.Pushes.First(p => p.MessageId == "f1");
        Assert.Equal("fan", header.DeviceId);
    }

    /// <summary>
    /// The life of a gateway of the official SDKs: its list, a new child, that this is online, its message; a child it
    /// makes and one it deletes; and what happened while it was away.
    /// </summary>
    internal static async Task LiveAsync(Api api, int mqttPort, Receiver receiver)
    {
        await CreateAsync(api, "hub", null);
        await CreateAsync(api, "lamp_plug", "hub", nodeId: "plug");
        long version;
        await using (var hub = await OfficialGateway.ConnectAsync(mqttPort, "hub"))
        {
            await hub.UntilAsync("plug");
            await CreateAsync(api, "lamp_bulb", "hub", nodeId: "bulb");
            await hub.UntilAsync("bulb", "plug");

            var updated = await hub.UpdateStatusAsync(
                ("lamp_bulb", "ONLINE"), ("lamp_bulb", "AWAY"), ("stranger", "ONLINE"));
            Assert.Equal(
                "lamp_bulb",
                Assert.Single(updated.GetProperty("successful_devices").EnumerateArray())
                    .GetProperty("device_id").GetString());
            Assert.Equal(
                ["IOTDA.000006", "IOTDA.014000"],
                updated.GetProperty("failed_devices").EnumerateArray()
                    .Select(f => f.GetProperty("error_code").GetString()));
            await hub.UpdateStatusAsync(("lamp_bulb", "ONLINE"));
            await receiver.UntilAsync(
                all => all.Any(p => p.DeviceId == "lamp_bulb" && p.Status == "ONLINE"), "ONLINE of the bulb");
            Assert.Equal("ONLINE", await StatusAsync(api, "lamp_bulb"));
            Assert.Equal("INACTIVE", await StatusAsync(api, "lamp_plug"));

            Api.Expect(HttpStatusCode.Created, await api.SendMessageAsync("lamp_bulb", "shine"));
            Assert.Equal(("bulb", "shine"), await hub.NextAsync());

            // The gateway makes one itself, asks twice because the answer was lost, and is told what was wrong with
            // others.
            var led = new
            {
                node_id = "led",
                product_id = "lamp",
                name = "LED",
                extension_info = new { color = "red" },
            };
            var added = await hub.AddAsync(
                led, new { node_id = "no product" }, new { node_id = "x", product_id = "unknown" }, 5);
            var made = Assert.Single(added.GetProperty("successful_devices").EnumerateArray());
            Assert.Equal(
                ("lamp_led", "hub", "red"),
                (
                    made.GetProperty("device_id").GetString(),
                    made.GetProperty("parent_device_id").GetString(),
                    made.GetProperty("extension_info").GetProperty("color").GetString()));
            Assert.Equal(
                ["IOTDA.000006", "IOTDA.014204", "IOTDA.000006"],
                added.GetProperty("failed_devices").EnumerateArray()
                    .Select(f => f.GetProperty("error_code").GetString()));
            Assert.Equal(
                "lamp_led",
                Assert.Single((await hub.AddAsync(led)).GetProperty("successful_devices").EnumerateArray())
                    .GetProperty("device_id").GetString());
            await hub.UntilAsync("bulb", "led", "plug");
            var deleted = await hub.DeleteAsync("lamp_led", "lamp_led", "hub");
            Assert.Equal(
                "lamp_led",
                Assert.Single(deleted.GetProperty("successful_devices").EnumerateArray()).GetString());
            Assert.Equal(
                ["lamp_led", "hub"],
                deleted.GetProperty("failed_devices").EnumerateArray()
                    .Select(f => f.GetProperty("device_id").GetString()));
            await hub.UntilAsync("bulb", "plug");
            Assert.Equal(HttpStatusCode.NotFound, (await api.GetAsync("devices/lamp_led")).Status);
            version = hub.Version;
        }

        // The bulb is away with its gateway, and what REST shows is what applications are told.
        await receiver.UntilAsync(
            all => all.Any(p => p.DeviceId == "lamp_bulb" && p.Status == "OFFLINE"), "OFFLINE of the bulb");
        Assert.Equal("OFFLINE", await StatusAsync(api, "lamp_bulb"));
        Assert.Equal(
            ["ONLINE", "OFFLINE"],
            receiver.Pushes
                .Where(p => p.DeviceId == "lamp_bulb" && p.Status.EndsWith("LINE", StringComparison.Ordinal))
                .DistinctBy(p => p.RequestId).Select(p => p.Status));

        Api.Expect(HttpStatusCode.NoContent, await api.DeleteAsync("devices/lamp_plug"));
        await CreateAsync(api, "lamp_fan", "hub", nodeId: "fan");
        await using var again = await OfficialGateway.ConnectAsync(mqttPort, "hub", version);
        await again.UntilAsync("fan"); // what it knew it keeps: here nothing, and nothing of it is told again
        Assert.Equal(version + 2, again.Version);
    }

    [Fact]
    public async Task A_gateway_as_the_official_classes_are_written_knows_its_sub_devices_and_says_which_are_there()
    {
        await using var receiver = await Receiver.StartAsync();
        await using var node = await NodeAsync(
            receiver, "--Mqtt:ImplicitSubscription=true", "--Mqtt:ImplicitSubscriptionGrace=00:00:00.300");
        await node.Api.PushToAsync(receiver.Url, "device.status", "update");
        await LiveAsync(node.Api, node.MqttPort, receiver);
    }

    [Fact]
    public async Task A_sub_device_message_that_is_not_acknowledged_is_repeated_with_its_packet_id()
    {
        await using var receiver = await Receiver.StartAsync();
        await using var node = await NodeAsync(receiver);
        await CreateAsync(node, "hub", null);
        await CreateAsync(node, "plug", "hub");
        var isDeaf = true;
        await using var hub = await Device.OnlineAsync(node.MqttPort, "hub", acknowledge: _ => Task.FromResult(!isDeaf));

        await SendAsync(node, "plug", "p1");
        await SendAsync(node, "hub", "h1");
        var both = new[] { await hub.NextAsync(), await hub.NextAsync() };
        Assert.NotEqual(both[0].PacketId, both[1].PacketId);
        var plug = both.Single(r => r.Id == "p1");
        Received again;
        do again = await hub.NextAsync();
        while (again.Id != "p1");
        Assert.Equal((plug.PacketId, true), (again.PacketId, again.Dup));

        Volatile.Write(ref isDeaf, false);
        await ToldAsync(receiver, "p1", "DELIVERED");
        await ToldAsync(receiver, "h1", "DELIVERED");
    }

    [Fact]
    public async Task More_sub_devices_than_a_connection_carries_at_once_and_a_kill_in_between_lose_nothing()
    {
        const int count = 40;
        await using var receiver = await Receiver.StartAsync();
        await using var node = await NodeAsync(receiver, "--Mqtt:SubDevicesMax=20");
        await CreateAsync(node, "hub", null);
        for (var i = 0; i < count; i++)
        {
            await CreateAsync(node, $"sub_{i}", "hub");
            await SendAsync(node, $"sub_{i}", $"a{i}");
            await SendAsync(node, $"sub_{i}", $"b{i}");
        }

        await node.KillAsync();
        await node.StartAgainAsync();
        await using var hub = await Device.ConnectAsync(node.MqttPort, "hub", MqttProtocolVersion.V500, more: o => o.WithReceiveMaximum(5));
        await hub.SubscribeAsync();
        var first = new Dictionary<string, List<string>>();
        while (first.Values.Sum(f => f.Count) < 2 * count)
        {
            var received = await hub.NextAsync();
            if (!first.TryGetValue(received.ObjectDeviceId!, out var ids)) first.Add(received.ObjectDeviceId!, ids = []);
            if (!ids.Contains(received.Id)) ids.Add(received.Id);
        }

        for (var i = 0; i < count; i++) Assert.Equal([$"a{i}", $"b{i}"], first[$"sub_{i}"]);
        await receiver.UntilAsync(p => p.Where(x => x.Status == "DELIVERED").DistinctBy(x => x.MessageId).Count() == 2 * count, "DELIVERED of all");
    }

    [Fact]
    public async Task Sub_devices_stand_under_a_device_that_exists_two_levels_deep_and_go_before_it()
    {
        await using var node = await Node.StartAsync();
        await node.Api.CreateProductAsync();
        Assert.Contains("gateway_id", (await CreateAsync(node, "plug", "hub", HttpStatusCode.BadRequest)).ErrorMessage);
        await CreateAsync(node, "hub", null);
        await CreateAsync(node, "plug", "hub");
        await CreateAsync(node, "bulb", "plug");
        Assert.Contains("two levels", (await CreateAsync(node, "thread", "bulb", HttpStatusCode.BadRequest)).ErrorMessage);

        var listed = await node.Api.GetAsync("devices?gateway_id=hub");
        Assert.Equal("plug", Assert.Single(listed.Body.GetProperty("devices").EnumerateArray()).GetProperty("device_id").GetString());
        Assert.Equal(2, (await node.Api.GetAsync("devices?gateway_id=hub&is_cascade_query=true")).Body.GetProperty("devices").GetArrayLength());
        var shown = (await node.Api.GetAsync("devices/bulb")).Body;
        Assert.Equal(("plug", "ENDPOINT"), (shown.GetProperty("gateway_id").GetString(), shown.GetProperty("node_type").GetString()));

        Assert.Contains("sub-device", (await node.Api.PostAsync("devices/plug/freeze", new { })).ErrorMessage);
        Assert.Contains("sub-devices", Api.Expect(HttpStatusCode.BadRequest, await node.Api.DeleteAsync("devices/hub")).ErrorMessage);
        foreach (var id in (string[])["bulb", "plug", "hub"]) Api.Expect(HttpStatusCode.NoContent, await node.Api.DeleteAsync($"devices/{id}"));
    }

    private static async Task<Node> NodeAsync(Receiver receiver, params string[] settings)
    {
        var node = await Node.StartAsync(["--Delivery:RepeatInterval=00:00:00.300", "--Delivery:RoundInterval=00:00:02", .. settings]);
        await node.Api.CreateProductAsync();
        await node.Api.PushToAsync(receiver.Url);
        return node;
    }

    private static Task<Answer> CreateAsync(
        Node node, string id, string? gateway, HttpStatusCode expected = HttpStatusCode.Created) =>
        CreateAsync(node.Api, id, gateway, expected);

    private static async Task<Answer> CreateAsync(
        Api api, string id, string? gateway, HttpStatusCode expected = HttpStatusCode.Created, string? nodeId = null) =>
        Api.Expect(expected, await api.PostAsync(
            "devices",
            new
            {
                device_id = id,
                node_id = nodeId ?? id,
                product_id = "lamp",
                gateway_id = gateway,
                auth_info = new { secret = Device.Secret },
            }));

    private static async Task<Answer> SendAsync(Node node, string device, string id) => Api.Expect(HttpStatusCode.Created, await node.Api.SendMessageAsync(device, $"content of {id}", id));

    private static Task<string?> StatusAsync(Node node, string id) => StatusAsync(node.Api, id);

    private static async Task<string?> StatusAsync(Api api, string id) =>
        (await api.GetAsync($"devices/{id}")).Body.GetProperty("status").GetString();

    private static Task ToldAsync(Receiver receiver, string id, string status) => receiver.UntilAsync(p => p.Any(x => x.MessageId == id && x.Status == status), $"{status} of {id}");
}
