using System.Net;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.EndToEnd;

/// <summary>A node with the product's own settings.</summary>
public sealed class PlainSite() : Site;

/// <summary>A device made of somebody else's programs: Eclipse Mosquitto's clients.</summary>
public sealed class MosquittoSpec(PlainSite site) : IClassFixture<PlainSite>
{
    private const string Missing = "mosquitto_sub and mosquitto_pub are not installed (apt-get install mosquitto-clients).";

    [SkippableTheory]
    [InlineData("mqttv311")]
    [InlineData("mqttv5")]
    public async Task Mosquitto_sub_receives_the_message_that_was_accepted_while_it_was_away(string version)
    {
        Skip.If(Command.Find("mosquitto_sub") is null, Missing);
        var (lamp, id) = (await site.NewDeviceAsync(), $"m_{version}");
        Assert.Equal("PENDING", Api.Expect(HttpStatusCode.Created, await site.Api.SendMessageAsync(lamp, "hello, mosquitto", id)).MessageStatus);

        await using var device = Command.Start(
            Path.GetTempPath(), "mosquitto_sub", [.. Login(lamp, version), "-q", "1", "-t", Device.DownTopic(lamp), "-C", "1", "-F", "%q %t %p"]);

        Assert.Equal(0, await device.ExitAsync());
        Assert.StartsWith($"1 {Device.DownTopic(lamp)} ", device.Output);
        Assert.Contains("hello, mosquitto", device.Output);
        await site.ToldAsync(id, "DELIVERED");
    }

    [SkippableTheory]
    [InlineData("mqttv311", 0)]
    [InlineData("mqttv311", 1)]
    [InlineData("mqttv311", 2)]
    [InlineData("mqttv5", 0)]
    [InlineData("mqttv5", 1)]
    [InlineData("mqttv5", 2)]
    public async Task Mosquitto_pub_reports_on_its_up_topic_and_is_content_with_the_answers(string version, int qos)
    {
        Skip.If(Command.Find("mosquitto_pub") is null, Missing);
        var lamp = await site.NewDeviceAsync();

        // Three times, so that a connection which the node closed after the first is noticed at QoS 0 too.
        await using var device = Command.Start(
            Path.GetTempPath(), "mosquitto_pub",
            [.. Login(lamp, version), "-d", "-q", $"{qos}", "-t", $"$oc/devices/{lamp}/sys/messages/up", "-m", "21.5", "--repeat", "3", "--repeat-delay", "0.1"]);

        Assert.Equal(0, await device.ExitAsync());
        Assert.Contains("received CONNACK (0)", device.Output);
        Assert.Equal(3, Said("sending PUBLISH"));
        Assert.Equal(qos == 1 ? 3 : 0, Said("received PUBACK"));
        Assert.Equal(qos == 2 ? 3 : 0, Said("received PUBREC"));
        Assert.Equal(qos == 2 ? 3 : 0, Said("received PUBCOMP"));
        Assert.Equal(1, Said("sending DISCONNECT"));
        Assert.Equal("", device.Errors);

        int Said(string what) => device.Output.Split('\n').Count(line => line.Contains(what));
    }

    [SkippableTheory]
    [InlineData("mqttv311")]
    [InlineData("mqttv5")]
    public async Task Mosquitto_sub_with_a_wrong_password_is_told_so(string version)
    {
        Skip.If(Command.Find("mosquitto_sub") is null, Missing);
        var lamp = await site.NewDeviceAsync();
        string[] login = Login(lamp, version);
        login[Array.IndexOf(login, "-P") + 1] = new string('0', 64);

        await using var device = Command.Start(Path.GetTempPath(), "mosquitto_sub", [.. login, "-t", Device.DownTopic(lamp), "-C", "1"]);

        Assert.NotEqual(0, await device.ExitAsync());
        Assert.Contains("bad user name or password", device.Errors, StringComparison.OrdinalIgnoreCase);
    }

    private string[] Login(string lamp, string version)
    {
        var (clientId, user, password) = Device.Login(lamp);
        return ["-V", version, "-h", "127.0.0.1", "-p", $"{site.Node.MqttPort}", "-i", clientId, "-u", user, "-P", password, "-k", "60"];
    }
}
