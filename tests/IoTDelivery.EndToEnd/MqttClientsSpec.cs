using System.Net;
using System.Text;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.EndToEnd;

/// <summary>
/// Devices made with other people's MQTT libraries, as their documents show it: every version over TCP and WebSocket.
/// Mosquitto's are in <see cref="MosquittoSpec"/>.
/// </summary>
public sealed class MqttClientsSpec(PlainSite site) : IClassFixture<PlainSite>
{
    private const string Text = "grüße 你好 🌍 \u00a0\t end";

    [SkippableTheory]
    [InlineData("mqtt.js", 3, "mqtt")]
    [InlineData("mqtt.js", 4, "mqtt")]
    [InlineData("mqtt.js", 5, "mqtt")]
    [InlineData("mqtt.js", 3, "ws")]
    [InlineData("mqtt.js", 4, "ws")]
    [InlineData("mqtt.js", 5, "ws")]
    [InlineData("paho", 3, "mqtt")]
    [InlineData("paho", 4, "mqtt")]
    [InlineData("paho", 5, "mqtt")]
    [InlineData("paho", 3, "ws")]
    [InlineData("paho", 4, "ws")]
    [InlineData("paho", 5, "ws")]
    public async Task A_device_gets_its_message_byte_for_byte_which_is_DELIVERED_then_and_has_the_PUBACK_of_its_report(
        string library, int version, string scheme)
    {
        var port = scheme == "ws" ? site.Node.RestPort : site.Node.MqttPort;
        var lamp = await site.NewDeviceAsync();
        var (clientId, user, password) = Device.Login(lamp);
        await using var device = await Clients.StartAsync(library, new
        {
            address = $"{scheme}://127.0.0.1:{port}/mqtt", // over TCP nobody looks at the path
            version,
            clientId,
            user,
            password,
            down = Device.DownTopic(lamp),
            up = $"$oc/devices/{lamp}/sys/messages/up",
            report = Text,
        });
        await device.PrintedAsync(output => output.Contains("subscribed 1"), "that QoS 1 was granted");

        var message = new { message_id = lamp, message = Text, payload_format = "raw" };
        Api.Expect(HttpStatusCode.Created, await site.Api.PostAsync($"devices/{lamp}/messages", message));

        Assert.Equal(0, await device.ExitAsync());
        var bytes = Convert.ToHexStringLower(Encoding.UTF8.GetBytes(Text));
        Assert.Equal($"subscribed 1\nmessage 1 {bytes}\npublished", device.Output);
        Assert.Equal("", device.Errors);
        await site.ToldAsync(lamp, "DELIVERED");
        Assert.Equal("DELIVERED", await site.StatusAsync(lamp, lamp));
    }
}
