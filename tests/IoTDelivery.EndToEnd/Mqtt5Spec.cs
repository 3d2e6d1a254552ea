using System.Net;
using IoTDelivery.EndToEnd.Harness;
using MQTTnet;
using MQTTnet.Formatter;
using MQTTnet.Packets;

namespace IoTDelivery.EndToEnd;

/// <summary>A site of its own, because its node is killed.</summary>
public sealed class MortalSite() : Site("--Mqtt:KeepAliveMin=00:00:05");

/// <summary>What only MQTT 5 has, from the application to the device.</summary>
public sealed class Mqtt5Spec(MortalSite site) : IClassFixture<MortalSite>
{
    // [MQTT-3.1.2-24] of MQTT 5: it must not be sent, and nothing ends silently.
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task A_message_larger_than_the_device_takes_ends_FAILED_and_the_next_one_gets_through(int qos)
    {
        var lamp = await site.NewDeviceAsync();
        await using var device = await Device.ConnectAsync(site.Node.MqttPort, lamp, MqttProtocolVersion.V500, more: o => o.WithMaximumPacketSize(500));
        await device.SubscribeAsync(qos);

        await site.Api.SendMessageAsync(lamp, new string('x', 600), $"large-{lamp}");
        await site.Api.SendMessageAsync(lamp, "small", $"small-{lamp}");

        Assert.Equal("small", (await device.NextAsync()).Content);
        var told = await site.ToldAsync($"large-{lamp}", "FAILED");
        Assert.Equal("FAILED", await site.StatusAsync(lamp, $"large-{lamp}"));
        Assert.Contains("error_info", told.Body.GetRawText());
        await site.ToldAsync($"small-{lamp}", "DELIVERED");
    }

    [Fact]
    public async Task A_keep_alive_out_of_bounds_is_replaced_by_ours()
    {
        var lamp = await site.NewDeviceAsync();
        await using var device = await Device.ConnectAsync(site.Node.MqttPort, lamp, MqttProtocolVersion.V500, more: o => o.WithKeepAlivePeriod(TimeSpan.FromSeconds(2)));

        Assert.True(device.Client.IsConnected);
        await Assert.ThrowsAnyAsync<Exception>(async () =>
        {
            await using var old = await Device.ConnectAsync(site.Node.MqttPort, lamp, MqttProtocolVersion.V311, more: o => o.WithKeepAlivePeriod(TimeSpan.FromSeconds(2)));
            Assert.True(old.Client.IsConnected, "It was not let in."); // as the manual says
        });
    }

    [Fact]
    public async Task A_session_outlives_its_connection_for_the_time_the_client_asked_for()
    {
        var lamp = await site.NewDeviceAsync();
        await using (var first = await SessionAsync(lamp, expiry: 2))
        {
            await first.Device.SubscribeAsync();
        }

        await using (var second = await SessionAsync(lamp, expiry: 2))
        {
            Assert.True(second.WasPresent);
            await site.Api.SendMessageAsync(lamp, "subscribed still", $"still-{lamp}");
            Assert.Equal("subscribed still", (await second.Device.NextAsync()).Content);
        }

        await Task.Delay(TimeSpan.FromSeconds(2.5)); // what is awaited is the passing of time
        await using var third = await SessionAsync(lamp, expiry: 2);
        Assert.False(third.WasPresent);
    }

    [Fact]
    public async Task A_DISCONNECT_with_session_expiry_0_ends_the_session_at_once_and_one_without_leaves_it()
    {
        var lamp = await site.NewDeviceAsync();
        await using (var first = await SessionAsync(lamp, expiry: 1000)) await first.Device.SubscribeAsync();
        using (var raw = await RawMqtt.OpenAsync(site.Node.MqttPort))
        {
            await raw.SendAsync(ConnectKeeping(lamp, 1000));
            var answer = await raw.NextAsync();
            Assert.Equal((RawMqtt.ConnAck, 1, 0), (answer!.Type, answer.Body[0], answer.Body[1])); // present
            await raw.SendAsync(RawMqtt.Packet(0xE0, [0, 5, 0x11, 0, 0, 0, 0]));
            Assert.Null(await raw.NextAsync());
        }

        await using var third = await SessionAsync(lamp, expiry: 1000);
        Assert.False(third.WasPresent);
    }

    [Fact]
    public async Task A_session_survives_the_death_of_its_node_however_short_it_was_to_outlive_the_connection()
    {
        await using var node = await Node.StartAsync();
        await node.Api.CreateProductAsync();
        var lamp = await node.Api.CreateDeviceAsync("lamp_1");
        await using (var first = await SessionAsync(lamp, expiry: 60, node)) await first.Device.SubscribeAsync();
        await using var second = await SessionAsync(lamp, expiry: 60, node); // holds it when the node dies
        Assert.True(second.WasPresent);

        await node.KillAsync();
        await node.StartAgainAsync();

        await using var third = await SessionAsync(lamp, expiry: 60, node);
        Assert.True(third.WasPresent);
    }

    private sealed record Session(Device Device, bool WasPresent) : IAsyncDisposable
    {
        public ValueTask DisposeAsync() => Device.DisposeAsync();
    }

    private async Task<Session> SessionAsync(string lamp, uint expiry, Node? node = null)
    {
        var wasPresent = false;
        var device = await Device.ConnectAsync(
            (node ?? site.Node).MqttPort, lamp, MqttProtocolVersion.V500, clean: false, more: o => o.WithSessionExpiryInterval(expiry), connected: r => wasPresent = r.IsSessionPresent);
        return new Session(device, wasPresent);
    }

    // Clean start 0 with a session expiry: flags 0xC0 instead of 0xC2, and one property.
    private static byte[] ConnectKeeping(string lamp, uint expiry)
    {
        var body = RawMqtt.Connect(lamp, v5: true)[2..];
        body[7] = 0xC0;
        return RawMqtt.Packet(0x10, [.. body[..10], 5, 0x11, (byte)(expiry >> 24), (byte)(expiry >> 16), (byte)(expiry >> 8), (byte)expiry, .. body[11..]]);
    }
}
