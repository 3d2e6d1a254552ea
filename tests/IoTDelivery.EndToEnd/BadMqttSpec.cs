using System.Diagnostics;
using System.Net;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.EndToEnd;

/// <summary>A node that is quick to lose its patience.</summary>
public sealed class ImpatientSite() : Site("--Mqtt:KeepAliveMin=00:00:01", "--Mqtt:WriteTimeout=00:00:01", "--Mqtt:ConnectTimeout=00:00:02");

/// <summary>Clients that do not keep to MQTT, over TCP. Each loses its own connection and nothing else happens.</summary>
public sealed class BadMqttSpec(ImpatientSite site) : IClassFixture<ImpatientSite>
{
    private const byte MalformedPacket = 0x81, ProtocolError = 0x82, NotAuthorized = 0x87, KeepAliveTimeout = 0x8D, PacketTooLarge = 0x95, TopicNameInvalid = 0x90;

    // ---- before the CONNECT is accepted

    public static TheoryData<string, byte[]> NoConnects => new()
    {
        { "a PINGREQ", [0xC0, 0] },
        { "a PUBLISH", RawMqtt.PublishTo("a", 0) },
        { "a SUBSCRIBE", RawMqtt.Subscribe("a", 1) },
        { "a CONNACK", [0x20, 2, 0, 0] },
        { "a CONNECT with flags in its first byte", [0x11, .. RawMqtt.Connect("anybody")[1..]] },
        { "a CONNECT of another protocol", RawMqtt.Packet(0x10, [.. RawMqtt.Text("HTTP"), 4, 2, 0, 60, .. RawMqtt.Text("x")]) },
        { "a CONNECT that ends in the middle of a field", RawMqtt.Packet(0x10, RawMqtt.Connect("anybody")[2..20]) },
        { "HTTP", "GET / HTTP/1.1\r\nHost: lamp\r\n\r\n"u8.ToArray() },
        { "a TLS hello", [0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3] },
        { "a remaining length of five bytes", [0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x01] },
        { "the header of a CONNECT larger than 16 KB", [0x10, 0x81, 0x80, 0x01] },
        { "the header of a CONNECT of 256 MB", [0x10, 0xFF, 0xFF, 0xFF, 0x7F] },
    };

    [Theory]
    [MemberData(nameof(NoConnects))]
    public async Task What_is_no_CONNECT_closes_the_connection_without_a_word(string what, byte[] bytes)
    {
        using var bad = await RawMqtt.OpenAsync(site.Node.MqttPort);
        await bad.SendAsync(bytes);

        Assert.True((await bad.ClosedAsync()).Count == 0, what);
        await AssertTheNodeWorksAsync();
    }

    [Fact]
    public async Task Garbage_closes_the_connection()
    {
        var random = new Random(17);
        for (var i = 0; i < 50; i++)
        {
            var garbage = new byte[random.Next(6, 3_000)];
            random.NextBytes(garbage);
            garbage[0] = (byte)(i % 2 == 0 ? 0x10 : garbage[0]); // half of it looks like a CONNECT at first
            using var bad = await RawMqtt.OpenAsync(site.Node.MqttPort);
            await bad.SendAsync(garbage);
            await bad.ClosedAsync(); // at the latest after ConnectTimeout, if it looks like the beginning of something
        }

        await AssertTheNodeWorksAsync();
    }

    [Fact]
    public async Task A_client_that_says_nothing_is_closed_after_the_connect_timeout()
    {
        using var bad = await RawMqtt.OpenAsync(site.Node.MqttPort);

        Assert.Empty(await bad.ClosedAsync());
        await AssertTheNodeWorksAsync();
    }

    [Theory]
    [InlineData(false, 4)]
    [InlineData(true, 0x86)]
    public async Task A_wrong_password_is_told_bad_user_name_or_password(bool v5, byte code)
    {
        var lamp = await site.NewDeviceAsync();
        using var bad = await RawMqtt.OpenAsync(site.Node.MqttPort);
        await bad.SendAsync(RawMqtt.Connect(lamp, v5, password: new string('0', 64)));

        AssertRefused(code, await bad.ClosedAsync());
        await AssertTheNodeWorksAsync();
    }

    [Theory]
    [InlineData(false, 4)]
    [InlineData(true, 0x86)]
    public async Task An_unknown_device_is_told_the_same_as_a_wrong_password(bool v5, byte code)
    {
        using var bad = await RawMqtt.OpenAsync(site.Node.MqttPort);
        await bad.SendAsync(RawMqtt.Connect("nobody", v5));

        AssertRefused(code, await bad.ClosedAsync());
        await AssertTheNodeWorksAsync();
    }

    // MQTT 5 is told another one: Mqtt5Spec.
    [Fact]
    public async Task A_keep_alive_of_zero_is_told_client_identifier_not_valid()
    {
        var lamp = await site.NewDeviceAsync();
        using var bad = await RawMqtt.OpenAsync(site.Node.MqttPort);
        await bad.SendAsync(RawMqtt.Connect(lamp, keepAlive: 0));

        AssertRefused(2, await bad.ClosedAsync());
        await AssertTheNodeWorksAsync();
    }

    [Fact]
    public async Task A_protocol_level_nobody_speaks_is_told_unacceptable_protocol_version()
    {
        using var bad = await RawMqtt.OpenAsync(site.Node.MqttPort);
        await bad.SendAsync(RawMqtt.Connect("anybody", level: 6));

        AssertRefused(1, await bad.ClosedAsync());
        await AssertTheNodeWorksAsync();
    }

    // ---- after it

    public static TheoryData<string, byte[], byte> Violations => new()
    {
        { "a PUBLISH of QoS 3", [0x36, 8, 0, 1, (byte)'a', 0, 1, 0, (byte)'x', (byte)'x'], MalformedPacket },
        { "a SUBSCRIBE with wrong reserved bits", [0x80, .. RawMqtt.Subscribe("a", 1, v5: true)[1..]], MalformedPacket },
        { "a PINGREQ with wrong reserved bits", [0xC1, 0], MalformedPacket },
        { "packet type 0", [0x00, 0], MalformedPacket },
        { "a PUBLISH whose topic is longer than the packet", [0x30, 5, 0, 200, (byte)'a', (byte)'b', (byte)'c'], MalformedPacket },
        { "a PUBLISH with packet id 0", RawMqtt.PublishTo("a", 1, v5: true, packetId: 0), MalformedPacket },
        { "a PUBLISH to a topic with a wildcard", RawMqtt.PublishTo("a/#", 1, v5: true), TopicNameInvalid },
        { "a remaining length of five bytes", [0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], MalformedPacket },
        { "the header of a packet of 256 MB", [0x30, 0xFF, 0xFF, 0xFF, 0x7F], PacketTooLarge },
        { "the header of a packet just over the limit", [0x30, .. LengthOf((1024 * 1024) + 4096)], PacketTooLarge },
        { "a CONNACK", [0x20, 3, 0, 0, 0], ProtocolError },
        { "a SUBSCRIBE without a filter", RawMqtt.Packet(0x82, [0, 1, 0]), ProtocolError },
    };

    [Theory]
    [MemberData(nameof(Violations))]
    public async Task A_violation_closes_the_connection_and_an_MQTT_5_client_is_told_why(string what, byte[] bytes, byte reason)
    {
        var lamp = await site.NewDeviceAsync();
        using var bad = await RawMqtt.LoggedInAsync(site.Node.MqttPort, lamp, v5: true);
        await bad.SendAsync(bytes);

        AssertToldWhy(reason, await bad.ClosedAsync(), what);
        await AssertTheNodeWorksAsync();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_second_CONNECT_closes_the_connection(bool v5)
    {
        var lamp = await site.NewDeviceAsync();
        using var bad = await RawMqtt.LoggedInAsync(site.Node.MqttPort, lamp, v5);
        await bad.SendAsync(RawMqtt.Connect(lamp, v5));

        var said = await bad.ClosedAsync();
        if (v5) AssertToldWhy(ProtocolError, said, "a second CONNECT");
        else Assert.Empty(said); // MQTT 3.1.1 has no words for it
        await AssertTheNodeWorksAsync();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_client_that_is_silent_for_one_and_a_half_keep_alives_is_closed(bool v5)
    {
        var lamp = await site.NewDeviceAsync();
        using var bad = await RawMqtt.LoggedInAsync(site.Node.MqttPort, lamp, v5, keepAlive: 1);
        var clock = Stopwatch.StartNew();

        var said = await bad.ClosedAsync();
        Assert.InRange(clock.Elapsed.TotalSeconds, 1.2, 10);
        if (v5) AssertToldWhy(KeepAliveTimeout, said, "silence");
        else Assert.Empty(said);
        await AssertTheNodeWorksAsync();
    }

    [Fact]
    public async Task A_client_that_pings_within_its_keep_alive_stays()
    {
        var lamp = await site.NewDeviceAsync();
        using var good = await RawMqtt.LoggedInAsync(site.Node.MqttPort, lamp, keepAlive: 1);
        using var silent = await RawMqtt.LoggedInAsync(site.Node.MqttPort, await site.NewDeviceAsync(), keepAlive: 1);
        var closed = silent.ClosedAsync();

        while (!closed.IsCompleted) // as long as it takes to close one that does not
        {
            await good.SendAsync(new byte[] { 0xC0, 0 });
            Assert.Equal(RawMqtt.PingResp, (await good.NextAsync())?.Type);
            await Task.WhenAny(closed, Task.Delay(200)); // a ping every fifth of its keep-alive is what it does
        }

        await good.SendAsync(new byte[] { 0xC0, 0 });
        Assert.Equal(RawMqtt.PingResp, (await good.NextAsync())?.Type);
    }

    // ---- topics of another device

    [Fact]
    public async Task A_report_on_the_topic_of_another_device_closes_an_MQTT_3_1_1_connection()
    {
        var (lamp, other) = (await site.NewDeviceAsync(), await site.NewDeviceAsync());
        using var bad = await RawMqtt.LoggedInAsync(site.Node.MqttPort, lamp);
        await bad.SendAsync(RawMqtt.PublishTo($"$oc/devices/{other}/sys/messages/up", 1));

        Assert.Empty(await bad.ClosedAsync()); // no PUBACK: it would be a lie
        await AssertTheNodeWorksAsync();
    }

    [Fact]
    public async Task A_report_on_the_topic_of_another_device_is_refused_in_MQTT_5()
    {
        var (lamp, other) = (await site.NewDeviceAsync(), await site.NewDeviceAsync());
        using var bad = await RawMqtt.LoggedInAsync(site.Node.MqttPort, lamp, v5: true);
        await bad.SendAsync(RawMqtt.PublishTo($"$oc/devices/{other}/sys/messages/up", 1, v5: true));

        var answer = await bad.NextAsync();
        Assert.Equal((RawMqtt.PubAck, NotAuthorized), (answer!.Type, answer.Body[2]));
        await AssertTheNodeWorksAsync();
    }

    [Theory]
    [InlineData(false, 0x80, "$oc/devices/{0}/sys/messages/down")]
    [InlineData(true, 0x87, "$oc/devices/{0}/sys/messages/down")]
    [InlineData(false, 0x80, "$oc/devices/+/sys/messages/down")]
    [InlineData(false, 0x80, "$oc/#")]
    public async Task A_subscription_to_the_topics_of_another_device_is_refused_and_nothing_of_it_arrives(bool v5, byte code, string filter)
    {
        var (lamp, other) = (await site.NewDeviceAsync(), await site.NewDeviceAsync());
        using var bad = await RawMqtt.LoggedInAsync(site.Node.MqttPort, lamp, v5);
        await bad.SendAsync(RawMqtt.Subscribe(string.Format(filter, other), 1, v5));
        Assert.Equal((RawMqtt.SubAck, code), (await bad.NextAsync()) is { } answer ? (answer.Type, answer.Body[^1]) : default);

        await using (var device = await Device.OnlineAsync(site.Node.MqttPort, other))
        {
            await site.Api.SendMessageAsync(other, messageId: $"for_{other}");
            await device.NextAsync();
            await site.ToldAsync($"for_{other}", "DELIVERED");
        }

        await bad.SendAsync(new byte[] { 0xC0, 0 });
        Assert.Equal(RawMqtt.PingResp, (await bad.NextAsync())?.Type); // the next thing it hears, and the connection stands
    }

    // ---- clients that do not read

    [Fact]
    public async Task A_client_that_never_reads_is_not_read_either_and_is_closed_after_the_write_timeout()
    {
        var lamp = await site.NewDeviceAsync();
        using var bad = await RawMqtt.LoggedInAsync(site.Node.MqttPort, lamp, receiveBuffer: 4096);
        var pings = new byte[64 * 1024];
        for (var i = 0; i < pings.Length; i += 2) pings[i] = 0xC0;

        // Each PINGREQ wants a PINGRESP that nobody takes: sooner or later the node stops reading, then it closes.
        var (bytes, clock, before) = (0L, Stopwatch.StartNew(), site.Node.ResidentBytes);
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (await bad.SendAsync(pings, patience.Token)) bytes += pings.Length;

        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60));
        Assert.InRange(bytes, 1, 512 * 1024 * 1024);
        Assert.True(site.Node.ResidentBytes - before < 100 * 1024 * 1024, $"{bytes} bytes were sent and the node grew by {site.Node.ResidentBytes - before}.");
        await AssertTheNodeWorksAsync();
    }

    private static byte[] LengthOf(int length) => RawMqtt.Packet(0, new byte[length])[1..^length];

    private static void AssertRefused(byte code, IReadOnlyList<RawPacket> said)
    {
        var answer = Assert.Single(said);
        Assert.Equal((RawMqtt.ConnAck, code), (answer.Type, answer.Body[1]));
    }

    private static void AssertToldWhy(byte reason, IReadOnlyList<RawPacket> said, string what)
    {
        Assert.True(said.Count == 1 && said[0].Type == RawMqtt.Disconnect, $"{what}: {string.Join(", ", said)}");
        Assert.True(said[0].Body[0] == reason, $"{what}: 0x{said[0].Body[0]:X2}, not 0x{reason:X2}");
    }

    // A device that keeps to the rules gets its message.
    private async Task AssertTheNodeWorksAsync()
    {
        var lamp = await site.NewDeviceAsync();
        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp);
        Assert.Equal("DELIVERED", Api.Expect(HttpStatusCode.Created, await site.Api.SendMessageAsync(lamp, messageId: $"good_{lamp}")).MessageStatus);
        Assert.Equal($"good_{lamp}", (await device.NextAsync()).Id);
    }
}
