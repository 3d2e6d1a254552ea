using System.Net;
using System.Net.WebSockets;
using IoTDelivery.EndToEnd.Harness;
using MQTTnet;
using MQTTnet.Formatter;

namespace IoTDelivery.EndToEnd;

/// <summary>One request at a time, so that a connection that counted as a request would be noticed.</summary>
public sealed class OneRequestAtATime() : Site("--Api:ConcurrencyMax=1", "--Api:QueueMax=0")
{
    public Uri WebSocket => new($"ws://127.0.0.1:{Node.RestPort}/mqtt");
}

/// <summary>MQTT over WebSocket at /mqtt (MQTT 3.1.1 and 5, chapter 6).</summary>
public sealed class WebSocketSpec(OneRequestAtATime site) : IClassFixture<OneRequestAtATime>
{
    [Theory]
    [InlineData(MqttProtocolVersion.V311)]
    [InlineData(MqttProtocolVersion.V500)]
    public async Task A_device_gets_its_message_and_the_next_one_is_DELIVERED_by_its_PUBACK(MqttProtocolVersion version)
    {
        var lamp = await site.NewDeviceAsync();
        await using var device = await ConnectAsync(lamp, version);
        await device.SubscribeAsync();
        var large = new string('x', 200_000); // many frames, more than one pipe takes at once

        foreach (var (id, content) in new[] { ($"small_{lamp}", "hello"), ($"large_{lamp}", large) })
        {
            Assert.Equal("DELIVERED", Api.Expect(HttpStatusCode.Created, await site.Api.SendMessageAsync(lamp, content, id)).MessageStatus);
            Assert.Equal((id, content, 1), (await device.NextAsync()) is var got ? (got.Id, got.Content, got.QoS) : default);
            await site.ToldAsync(id, "DELIVERED");
        }

        Assert.True((await device.Client.PublishStringAsync($"$oc/devices/{lamp}/sys/messages/up", large)).IsSuccess);
    }

    // What clients of MQTT 3.1 offer.
    [Theory]
    [InlineData(MqttProtocolVersion.V310)]
    [InlineData(MqttProtocolVersion.V311)]
    public async Task A_device_that_offers_mqttv3_1_gets_its_message(MqttProtocolVersion version)
    {
        var (lamp, id) = (await site.NewDeviceAsync(), $"old_{version}");
        await using var device = await Device.ConnectAsync(
            site.Node.RestPort,
            lamp,
            version,
            webSocket: site.WebSocket.AbsoluteUri,
            more: o => o.WithWebSocketServer(
                w => w.WithUri(site.WebSocket.AbsoluteUri).WithSubProtocols(["mqttv3.1"])));
        await device.SubscribeAsync();

        Assert.Equal(
            "DELIVERED",
            Api.Expect(HttpStatusCode.Created, await site.Api.SendMessageAsync(lamp, "as of old", id)).MessageStatus);

        Assert.Equal("as of old", (await device.NextAsync()).Content);
        await site.ToldAsync(id, "DELIVERED");
    }

    // [MQTT-6.0.0-4]
    [Theory]
    [InlineData("mqtt", "mqtt")]
    [InlineData("mqttv3.1", "mqttv3.1")]
    [InlineData("mqttv3.1 mqtt", "mqtt")]
    [InlineData("mqtt mqttv3.1", "mqtt")]
    [InlineData("graphql-ws mqttv3.1", "mqttv3.1")]
    [InlineData("graphql-ws mqtt soap", "mqtt")]
    public async Task Of_the_subprotocols_a_client_offers_mqtt_is_taken_before_mqttv3_1(string offered, string taken)
    {
        using var socket = new ClientWebSocket();
        foreach (var subprotocol in offered.Split(' ')) socket.Options.AddSubProtocol(subprotocol);

        await socket.ConnectAsync(site.WebSocket, default);

        Assert.Equal(taken, socket.SubProtocol);
    }

    [Fact]
    public async Task A_younger_connection_takes_over_whichever_way_it_comes()
    {
        var lamp = await site.NewDeviceAsync();
        await using var first = await ConnectAsync(lamp, MqttProtocolVersion.V500);
        var told = new TaskCompletionSource<MqttClientDisconnectReason>();
        first.Client.DisconnectedAsync += e =>
        {
            told.TrySetResult(e.Reason);
            return Task.CompletedTask;
        };

        await using var second = await Device.OnlineAsync(site.Node.MqttPort, lamp);

        Assert.Equal(MqttClientDisconnectReason.SessionTakenOver, await told.Task.WaitAsync(TimeSpan.FromSeconds(10)));
        Assert.True(second.Client.IsConnected);
    }

    // [MQTT-6.0.0-2]
    [Fact]
    public async Task A_packet_may_span_frames_and_a_frame_may_hold_several()
    {
        var lamp = await site.NewDeviceAsync();
        using var socket = await OpenAsync("mqtt");
        foreach (var b in RawMqtt.Connect(lamp)) await socket.SendAsync(new[] { b }, WebSocketMessageType.Binary, endOfMessage: true, default);
        Assert.Equal([0x20, 2, 0, 0], await ReceiveAsync(socket, 4));

        byte[] several = [.. RawMqtt.Packet(0xC0, []), .. RawMqtt.Subscribe("a", 1), .. RawMqtt.Packet(0xC0, [])];
        await socket.SendAsync(several, WebSocketMessageType.Binary, endOfMessage: false, default);

        Assert.Equal([0xD0, 0, 0x90, 3, 0, 1, 1, 0xD0, 0], await ReceiveAsync(socket, 9));
        await socket.SendAsync(RawMqtt.Packet(0xE0, []), WebSocketMessageType.Binary, endOfMessage: true, default);
        Assert.Equal(WebSocketCloseStatus.NormalClosure, await ClosedAsync(socket));
    }

    [Fact]
    public async Task For_a_client_that_never_reads_messages_are_refused_when_its_share_is_full_and_nobody_else_waits()
    {
        var (deaf, lamp) = (await site.NewDeviceAsync(), await site.NewDeviceAsync());
        using var socket = await OpenAsync("mqtt");
        await socket.SendAsync(RawMqtt.Connect(deaf), WebSocketMessageType.Binary, endOfMessage: true, default);
        await socket.SendAsync(RawMqtt.Subscribe(Device.DownTopic(deaf), 0), WebSocketMessageType.Binary, endOfMessage: true, default);
        await ReceiveAsync(socket, 9); // CONNACK and SUBACK: the last thing it reads

        var refusal = default(Answer);
        for (var i = 0; i < 400 && refusal is null; i++)
        {
            var answer = await site.Api.SendMessageAsync(deaf, new string('x', 64 * 1024));
            if (answer.Status != HttpStatusCode.Created) refusal = answer;
        }

        Assert.Equal((HttpStatusCode.Forbidden, "IOTDA.021101"), (refusal!.Status, refusal.ErrorCode));
        await using var device = await ConnectAsync(lamp, MqttProtocolVersion.V311);
        await device.SubscribeAsync();
        await site.Api.SendMessageAsync(lamp, "not held up");
        Assert.Equal("not held up", (await device.NextAsync(TimeSpan.FromSeconds(5))).Content);
    }

    // [MQTT-6.0.0-1]
    [Fact]
    public async Task A_text_frame_ends_the_connection()
    {
        using var socket = await OpenAsync("mqtt");

        await socket.SendAsync("hello"u8.ToArray(), WebSocketMessageType.Text, endOfMessage: true, default);

        Assert.Equal(WebSocketCloseStatus.InvalidMessageType, await ClosedAsync(socket));
    }

    [Fact]
    public async Task Garbage_in_a_binary_frame_ends_the_connection()
    {
        using var socket = await OpenAsync("mqtt");

        await socket.SendAsync(new byte[3000], WebSocketMessageType.Binary, endOfMessage: true, default);

        Assert.NotNull(await ClosedAsync(socket));
    }

    // [MQTT-6.0.0-3]
    [Theory]
    [InlineData(null)]
    [InlineData("graphql-ws")]
    [InlineData("MQTT")]
    [InlineData("mqttv3.1.1")]
    public async Task A_client_that_does_not_offer_the_subprotocol_is_refused(string? subprotocol)
    {
        using var socket = new ClientWebSocket();
        socket.Options.CollectHttpResponseDetails = true;
        if (subprotocol is not null) socket.Options.AddSubProtocol(subprotocol);

        await Assert.ThrowsAsync<WebSocketException>(() => socket.ConnectAsync(site.WebSocket, default));

        Assert.Equal(HttpStatusCode.BadRequest, socket.HttpStatusCode);
    }

    [Fact]
    public async Task What_is_no_WebSocket_is_told_so()
    {
        using var http = new HttpClient();

        Assert.Equal(HttpStatusCode.UpgradeRequired, (await http.GetAsync($"http://127.0.0.1:{site.Node.RestPort}/mqtt")).StatusCode);
        Assert.Equal(HttpStatusCode.NotFound, (await http.GetAsync($"http://127.0.0.1:{site.Node.RestPort}/mqtt/more")).StatusCode);
    }

    [Fact]
    public async Task A_node_that_stops_says_good_bye_over_WebSocket_too()
    {
        await using var node = await Node.StartAsync();
        await node.Api.CreateProductAsync();
        var lamp = await node.Api.CreateDeviceAsync("lamp_1");
        using var socket = await OpenAsync("mqtt", new Uri($"ws://127.0.0.1:{node.RestPort}/mqtt"));
        await socket.SendAsync(RawMqtt.Connect(lamp, v5: true), WebSocketMessageType.Binary, endOfMessage: true, default);
        await ReceiveAsync(socket, 2);

        var (exitCode, took) = await node.TerminateAsync();

        Assert.Equal(0, exitCode);
        Assert.True(took < TimeSpan.FromSeconds(6), $"It took {took}.");
        var rest = new List<byte>();
        while (await TryReceiveAsync(socket) is { Length: > 0 } bytes) rest.AddRange(bytes);
        Assert.Contains("E0", Convert.ToHexString([.. rest])); // DISCONNECT
        Assert.Contains("8B", Convert.ToHexString([.. rest])); // server shutting down
    }

    private Task<Device> ConnectAsync(string lamp, MqttProtocolVersion version) =>
        Device.ConnectAsync(site.Node.RestPort, lamp, version, webSocket: site.WebSocket.AbsoluteUri);

    private async Task<ClientWebSocket> OpenAsync(string subprotocol, Uri? address = null)
    {
        var socket = new ClientWebSocket();
        socket.Options.AddSubProtocol(subprotocol);
        await socket.ConnectAsync(address ?? site.WebSocket, default);
        Assert.Equal(subprotocol, socket.SubProtocol); // [MQTT-6.0.0-4]
        return socket;
    }

    private static async Task<byte[]> ReceiveAsync(ClientWebSocket socket, int count)
    {
        var all = new List<byte>();
        while (all.Count < count) all.AddRange(await TryReceiveAsync(socket) is { Length: > 0 } bytes ? bytes : throw new InvalidOperationException("The connection ended."));
        return [.. all];
    }

    // Empty at the end.
    private static async Task<byte[]> TryReceiveAsync(ClientWebSocket socket)
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        var buffer = new byte[4096];
        var frame = await socket.ReceiveAsync(buffer, patience.Token);
        return frame.MessageType == WebSocketMessageType.Close ? [] : buffer[..frame.Count];
    }

    private static async Task<WebSocketCloseStatus?> ClosedAsync(ClientWebSocket socket)
    {
        while ((await TryReceiveAsync(socket)).Length > 0) { }
        return socket.CloseStatus;
    }
}
