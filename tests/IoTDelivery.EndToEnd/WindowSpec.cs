using System.Net;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.EndToEnd;

/// <summary>The shortest ttl is a second, and nothing is repeated while a test looks on.</summary>
public sealed class ShortLived() : Site(
    "--Delivery:TtlUnit=00:00:00.2", "--Delivery:RepeatInterval=00:01:00", "--Delivery:RoundInterval=00:10:00");

/// <summary>
/// A message that ended unacknowledged gives its place in the window back: a client that was deaf is served again.
/// </summary>
public sealed class WindowSpec(ShortLived site) : IClassFixture<ShortLived>
{
    // The window (Delivery:InflightMax), and what comes after it.
    private const int Window = 32, After = 8;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_device_that_acknowledged_nothing_of_a_whole_window_gets_the_next_messages(bool isV5)
    {
        var lamp = await site.NewDeviceAsync();
        using var client = await LastingClient.ConnectAsync(site.Node.MqttPort, lamp, isV5);
        await client.SubscribeAsync(Device.DownTopic(lamp));
        var deaf = new List<Received>();
        for (var i = 0; i < Window; i++) await SendAsync(lamp, i, ttl: 5);
        while (deaf.Count < Window) deaf.Add(await client.NextAsync());
        await TimedOutAsync(lamp, Window);
        await ServedAsync(client, lamp, deaf);
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_sub_device_whose_gateway_acknowledged_none_of_32_messages_gets_the_next_ones(bool isV5)
    {
        FullSize.OnlyIf(isSister: !isV5);
        var hub = await site.NewDeviceAsync();
        var plug = $"plug_of_{hub}";
        Api.Expect(HttpStatusCode.Created, await site.Api.PostAsync("devices", new
        {
            device_id = plug,
            node_id = plug,
            product_id = "lamp",
            gateway_id = hub,
            auth_info = new { secret = Device.Secret },
        }));
        using var client = await LastingClient.ConnectAsync(site.Node.MqttPort, hub, isV5);
        await client.SubscribeAsync(Device.DownTopic(hub));
        var deaf = new List<Received>();
        for (var i = 0; i < Window; i++) // one on the wire at a time, so that each ends before the next is sent
        {
            await SendAsync(plug, i, ttl: 5);
            deaf.Add(await client.NextAsync());
            await site.ToldAsync($"{plug}-{i}", "TIMEOUT");
        }

        await TimedOutAsync(plug, Window);
        await ServedAsync(client, plug, deaf);
    }

    private async Task SendAsync(string device, int number, int ttl) =>
        Api.Expect(HttpStatusCode.Created, await site.Api.SendMessageAsync(device, "hello", $"{device}-{number}", ttl));

    private Task TimedOutAsync(string device, int count) => site.Receiver.UntilAsync(
        all => count == all
            .Where(p => p.DeviceId == device && p.Status == "TIMEOUT").DistinctBy(p => p.MessageId).Count(),
        $"TIMEOUT of {count} messages of {device}");

    private async Task ServedAsync(LastingClient client, string device, List<Received> deaf)
    {
        for (var i = Window; i < Window + After; i++)
        {
            await SendAsync(device, i, ttl: 1440);
            var received = await client.NextAsync(TimeSpan.FromSeconds(10));
            Assert.Equal((device, $"{device}-{i}"), (received.ObjectDeviceId, received.Id));
            Assert.DoesNotContain(deaf, d => d.PacketId == received.PacketId); // the client still holds those ids
            await client.AcknowledgeAsync(received.PacketId);
            await site.ToldAsync(received.Id, "DELIVERED");
        }

        Assert.False(client.Closed.IsCompleted);
        foreach (var late in deaf) await client.AcknowledgeAsync(late.PacketId);
        await SendAsync(device, Window + After, ttl: 1440);
        var last = await client.NextAsync();
        await client.AcknowledgeAsync(last.PacketId);
        await site.ToldAsync(last.Id, "DELIVERED");
        Assert.All(deaf, d => Assert.Equal("TIMEOUT", site.Receiver.StatusesOf(d.Id)[^1]));
    }
}
