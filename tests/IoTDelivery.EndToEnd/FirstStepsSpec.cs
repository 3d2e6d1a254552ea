using System.Net;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.EndToEnd;

/// <summary>The platform as a process, with real clients: one message, away and there.</summary>
public sealed class FirstStepsSpec
{
    [Fact]
    public async Task A_message_accepted_while_the_device_was_away_arrives_when_it_comes_and_the_application_is_told_every_step()
    {
        await using var receiver = await Receiver.StartAsync();
        await using var node = await Node.StartAsync();
        await node.Api.CreateProductAsync();
        await node.Api.CreateDeviceAsync("lamp_1");
        await node.Api.PushToAsync(receiver.Url);

        var sent = Api.Expect(HttpStatusCode.Created, await node.Api.SendMessageAsync("lamp_1", "hello", "m1"));
        Assert.Equal("PENDING", sent.MessageStatus);
        await receiver.UntilAsync(p => p.Count == 1, "PENDING");

        await using var device = await Device.OnlineAsync(node.MqttPort, "lamp_1");
        Assert.Equal("hello", (await device.NextAsync()).Content);
        await receiver.UntilAsync(p => p.Count == 2, "DELIVERED");
        Assert.Equal(["PENDING", "DELIVERED"], receiver.StatusesOf("m1"));
    }
}
