using IoTDelivery.EndToEnd.Harness;
using MQTTnet;
using MQTTnet.Formatter;
using MQTTnet.Protocol;

namespace IoTDelivery.EndToEnd;

/// <summary>The other direction: what devices say, and whether they are there.</summary>
public sealed class UplinksSpec
{
    private static readonly string[] Settings =
    [
        "--Push:Timeout=00:00:02", "--Push:RetryFirst=00:00:00.2", "--Push:RetryMax=00:00:01", "--Push:BreakerFailures=3", "--Push:ProbeInterval=00:00:01",
        "--Push:PollInterval=00:00:01",
    ];

    [SkippableTheory]
    [InlineData(MqttProtocolVersion.V311, MqttQualityOfServiceLevel.AtLeastOnce)]
    [InlineData(MqttProtocolVersion.V500, MqttQualityOfServiceLevel.ExactlyOnce)]
    public async Task What_a_device_published_and_saw_acknowledged_survives_kill_and_arrives_in_order(MqttProtocolVersion version, MqttQualityOfServiceLevel qos)
    {
        FullSize.OnlyIf(isSister: version == MqttProtocolVersion.V500);
        const int messages = 30;
        var port = Node.FreePort();
        await using var node = await Node.StartAsync(Settings);
        await node.Api.CreateProductAsync();
        await node.Api.CreateDeviceAsync("lamp_1");
        await node.Api.PushToAsync($"http://127.0.0.1:{port}/status", "device.message", "report");
        await using (var device = await Device.ConnectAsync(node.MqttPort, "lamp_1", version))
        {
            await Task.Delay(TimeSpan.FromSeconds(1)); // a rule is obeyed half a second after it was made active
            for (var n = 1; n <= messages; n++)
            {
                var published = await device.Client.PublishStringAsync($"$oc/devices/lamp_1/sys/messages/up?request_id=r{n}", $"{{\"n\":{n}}}", qos);
                Assert.True(published.IsSuccess);
            }

            await node.KillAsync();
        }

        await using var receiver = await Receiver.StartAsync(port);
        await node.StartAgainAsync();
        await receiver.UntilAsync(all => all.DistinctBy(p => p.RequestId).Count() == messages, "everything that was acknowledged");
        Assert.Equal(Enumerable.Range(1, messages).Select(n => $"r{n}"), receiver.Pushes.DistinctBy(p => p.RequestId).Select(p => p.RequestId));
        Assert.Equal("""{"n":1}""", receiver.Pushes[0].Body.GetProperty("notify_data").GetProperty("message").GetString());
    }

    [Fact]
    public async Task A_device_is_told_online_when_it_connects_and_offline_when_it_goes_or_its_node_is_killed()
    {
        await using var receiver = await Receiver.StartAsync();
        await using var node = await Node.StartAsync(Settings);
        await node.Api.CreateProductAsync();
        await node.Api.CreateDeviceAsync("lamp_1");
        await node.Api.PushToAsync(receiver.Url, "device.status", "update");

        await using (await Device.ConnectAsync(node.MqttPort, "lamp_1")) await ToldAsync("ONLINE");
        await ToldAsync("ONLINE", "OFFLINE");
        await using (await Device.ConnectAsync(node.MqttPort, "lamp_1"))
        {
            await ToldAsync("ONLINE", "OFFLINE", "ONLINE");
            await node.KillAsync();
        }

        await node.StartAgainAsync();
        await ToldAsync("ONLINE", "OFFLINE", "ONLINE", "OFFLINE");

        Task ToldAsync(params string[] statuses) =>
            receiver.UntilAsync(all => all.DistinctBy(p => p.RequestId).Select(p => p.Status).SequenceEqual(statuses), string.Join(", ", statuses));
    }
}
