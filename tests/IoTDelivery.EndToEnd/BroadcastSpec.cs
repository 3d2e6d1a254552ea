using System.Net;
using System.Text;
using IoTDelivery.EndToEnd.Harness;
using MQTTnet.Formatter;
using MQTTnet.Protocol;

namespace IoTDelivery.EndToEnd;

/// <summary>One message for everybody who subscribed, from somebody else's HTTP client to somebody else's MQTT clients.</summary>
public sealed class BroadcastSpec(BroadcastSpec.OneSite site) : IClassFixture<BroadcastSpec.OneSite>
{
    /// <summary>It takes five broadcasts a minute.</summary>
    public sealed class OneSite() : Site("--Api:BroadcastsPerMinute=5");

    [Fact]
    public async Task A_broadcast_reaches_who_is_online_and_subscribed_and_with_a_ttl_it_waits_for_the_acknowledgement()
    {
        var (lamp, fan, other) = (await site.NewDeviceAsync(), await site.NewDeviceAsync(), await site.NewDeviceAsync());
        await using var first = await SubscribedAsync(lamp, "$oc/broadcast/news", MqttProtocolVersion.V311);
        await using var second = await SubscribedAsync(fan, "$oc/broadcast/+", MqttProtocolVersion.V500);
        await using var third = await SubscribedAsync(other, "$oc/broadcast/other", MqttProtocolVersion.V311);

        var answer = Api.Expect(HttpStatusCode.Created, await BroadcastAsync("news", "Grüße", ttl: 0, messageId: null));
        Assert.Equal("$oc/broadcast/news", answer.Body.GetProperty("topic_full_name").GetString());
        foreach (var device in new[] { first, second }) Assert.Equal(("Grüße", 0), await device.NextAsync() is var got ? (got.Content, got.QoS) : default);

        // Cached: QoS 1, a status of its own per device, the same id.
        Api.Expect(HttpStatusCode.Created, await BroadcastAsync("news", "keep this", ttl: 60, messageId: "kept"));
        foreach (var device in new[] { first, second }) Assert.Equal(("keep this", 1), await device.NextAsync() is var got ? (got.Content, got.QoS) : default);
        await site.Receiver.UntilAsync(all => all.Count(p => p.MessageId == "kept" && p.Status == "DELIVERED") == 2, "both delivered");
        Assert.Equal("DELIVERED", await site.StatusAsync(lamp, "kept"));
        Assert.Equal(HttpStatusCode.BadRequest, (await BroadcastAsync("news", "something else", ttl: 60, messageId: "kept")).Status);

        // Too many to be cached for.
        var more = new List<Device>();
        for (var i = 0; i < 9; i++) more.Add(await SubscribedAsync(await site.NewDeviceAsync(), "$oc/broadcast/#", MqttProtocolVersion.V311));
        var refused = await BroadcastAsync("news", "too many", ttl: 5, messageId: "many");
        Assert.Equal((HttpStatusCode.BadRequest, true), (refused.Status, refused.ErrorMessage!.Contains("more than 10 devices")));
        Api.Expect(HttpStatusCode.Created, await BroadcastAsync("other", "for all of these", ttl: 0, messageId: null));
        foreach (var device in more.Append(third)) Assert.Equal("for all of these", (await device.NextAsync()).Content);
        Assert.Equal("for all of these", (await second.NextAsync()).Content); // it hears of every topic
        foreach (var device in more) await device.DisposeAsync();
        Assert.Equal((0, 0), (first.Waiting, second.Waiting)); // nothing twice, and nothing of what was refused

        var limited = await BroadcastAsync("news", "a sixth within the minute", ttl: 0, messageId: null);
        Assert.Equal((HttpStatusCode.Forbidden, "IOTDA.021101"), (limited.Status, limited.ErrorCode));
    }

    private Task<Answer> BroadcastAsync(string topic, string text, int ttl, string? messageId) => site.Api.PostAsync(
        "broadcast-messages", new { topic_full_name = $"$oc/broadcast/{topic}", message = Convert.ToBase64String(Encoding.UTF8.GetBytes(text)), ttl, message_id = messageId });

    private async Task<Device> SubscribedAsync(string id, string topicFilter, MqttProtocolVersion version)
    {
        var device = await Device.ConnectAsync(site.Node.MqttPort, id, version);
        await device.Client.SubscribeAsync(new MQTTnet.MqttClientSubscribeOptionsBuilder().WithTopicFilter(topicFilter, MqttQualityOfServiceLevel.AtLeastOnce).Build());
        return device;
    }
}
