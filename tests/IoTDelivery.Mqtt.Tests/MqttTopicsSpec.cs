using IoTDelivery.Domain;
using Xunit;

namespace IoTDelivery.Mqtt.Tests;

/// <summary>Manual, "Topics".</summary>
public sealed class MqttTopicsSpec
{
    private static readonly DeviceId Dev = DeviceId.Parse("dev");

    [Fact]
    public void Messages_go_down_under_the_devices_id()
    {
        Assert.Equal("$oc/devices/dev/sys/messages/down", SystemTopics.MessagesDown(Dev));
    }

    [Theory]
    [InlineData("$oc/devices/dev/sys/messages/up", true)]
    [InlineData("$oc/devices/dev/sys/anything/new?request_id=1", true)]
    [InlineData("$oc/devices/dev/user/mine", true)]
    [InlineData("home/kitchen", true)]
    [InlineData("$oc/devices/dev2/sys/messages/up", false)]
    [InlineData("$oc/devices/de/sys/messages/up", false)]
    [InlineData("$oc/devices/dev", false)]
    [InlineData("$oc/broadcast/all", false)]
    [InlineData("$oc/other", false)]
    public void A_device_publishes_under_its_own_id_only(string topic, bool may) => Assert.Equal(may, MqttTopics.MayPublish(Dev, topic));

    [Theory]
    [InlineData("$oc/devices/dev/#", true)]
    [InlineData("$oc/devices/dev/sys/commands/#", true)]
    [InlineData("$oc/broadcast/all", true)]
    [InlineData("#", true)]
    [InlineData("$oc/devices/+/sys/messages/down", false)]
    [InlineData("$oc/#", false)]
    [InlineData("$oc/devices/#", false)]
    [InlineData("$oc/devices/other/sys/messages/down", false)]
    public void A_device_subscribes_to_its_own_id_and_broadcasts_only(string filter, bool may) => Assert.Equal(may, MqttTopics.MaySubscribe(Dev, filter));
}
