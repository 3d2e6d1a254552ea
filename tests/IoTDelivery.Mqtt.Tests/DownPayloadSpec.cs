using System.Text;
using IoTDelivery.Domain;
using MQTTnet.Packets;
using MQTTnet.Protocol;
using Xunit;

namespace IoTDelivery.Mqtt.Tests;

/// <summary>Manual, "Message Delivery" (what a device receives).</summary>
public sealed class DownPayloadSpec
{
    private static readonly MessageId Hello = MessageId.Parse("id-1");

    [Fact]
    public void Standard_is_the_manuals_object() => Assert.Equal(
        """{"object_device_id":"product_node-1","name":"greeting","id":"id-1","content":"hello"}""", Text(Given.Body()));

    [Fact]
    public void A_message_without_a_name_has_no_name_member() => Assert.Equal(
        """{"object_device_id":"product_node-1","id":"id-1","content":"hello"}""", Text(Given.Body(name: null)));

    [Fact]
    public void A_JSON_message_is_text_in_content() => Assert.Equal(
        """{"object_device_id":"product_node-1","id":"id-1","content":"{\"on\":true}"}""",
        Text(Given.Body("""{"on":true}""", name: null, ContentKind.Json)));

    [Fact]
    public void What_JSON_does_not_demand_is_not_escaped() => Assert.Contains(
        "\"content\":\"温度 <20° & it's 'é'\"", Text(Given.Body("温度 <20° & it's 'é'")));

    [Fact]
    public void Raw_is_the_content_itself() => Assert.Equal("{\"温\":1}", Text(Given.Body("{\"温\":1}", kind: ContentKind.Json, format: PayloadFormat.Raw)));

    [Fact]
    public void Base64_is_decoded_whatever_the_format_says() => Assert.Equal(
        [0, 255, 10], DownPayload.Of(Given.DeviceId, Hello, Given.Body("AP8K", encoding: ContentEncoding.Base64)));

    [Fact]
    public void A_large_message_does_not_spoil_the_next()
    {
        Assert.Equal(300_000, Text(Given.Body(new string('x', 300_000), format: PayloadFormat.Raw)).Length);
        Assert.EndsWith(new string('y', 300_000) + "\"}", Text(Given.Body(new string('y', 300_000))));
        Assert.EndsWith("\"hello\"}", Text(Given.Body()));
    }

    [Fact]
    public void A_QoS_1_publish_has_the_tag_as_packet_id()
    {
        var publish = DownPayload.Publish(Given.DeviceId, Given.Transmit(17, qos: 1, dup: true), isMqtt5: false, null);

        Assert.Equal((17, true, MqttQualityOfServiceLevel.AtLeastOnce, Given.Down), (publish.PacketIdentifier, publish.Dup, publish.QualityOfServiceLevel, publish.Topic));
    }

    [Fact]
    public void A_QoS_0_publish_has_neither_packet_id_nor_DUP()
    {
        var publish = DownPayload.Publish(Given.DeviceId, Given.Transmit(17, qos: 0, dup: true), isMqtt5: false, null);

        Assert.Equal((0, false), (publish.PacketIdentifier, publish.Dup));
    }

    [Fact]
    public void Properties_are_those_of_MQTT_5()
    {
        var body = Given.Body(properties: Given.Properties("c-1", "answers/here", new UserProperty("k", "值")));

        var publish = DownPayload.Publish(Given.DeviceId, Given.Transmit(1, body: body), isMqtt5: true, null);

        Assert.Equal("c-1", Encoding.UTF8.GetString(publish.CorrelationData));
        Assert.Equal("answers/here", publish.ResponseTopic);
        var property = Assert.Single(publish.UserProperties);
        Assert.Equal(("k", "值"), (property.Name, property.ReadValueAsString()));
    }

    [Fact]
    public void Properties_are_silently_absent_for_3_1_1()
    {
        var body = Given.Body(properties: Given.Properties("c-1", "answers/here", new UserProperty("k", "v")));

        var publish = DownPayload.Publish(Given.DeviceId, Given.Transmit(1, body: body), isMqtt5: false, null);

        Assert.Null(publish.CorrelationData);
        Assert.Null(publish.ResponseTopic);
        Assert.Null(publish.UserProperties);
    }

    // [MQTT-3.3.2-14]
    [Fact]
    public void A_response_topic_with_a_wildcard_is_left_out()
    {
        var body = Given.Body(properties: Given.Properties("c-1", "answers/+"));

        Assert.Null(DownPayload.Publish(Given.DeviceId, Given.Transmit(1, body: body), isMqtt5: true, null).ResponseTopic);
    }

    // [MQTT-3.3.2-6]
    [Theory]
    [InlineData(60, 60u)]
    [InlineData(59.9, 59u)]
    [InlineData(0.2, 1u)]
    [InlineData(-5, 1u)]
    public void An_MQTT_5_device_learns_what_is_left_of_the_ttl_and_never_0(double left, uint interval)
    {
        var remaining = TimeSpan.FromSeconds(left);

        Assert.Equal(interval, DownPayload.Publish(Given.DeviceId, Given.Transmit(1), isMqtt5: true, remaining).MessageExpiryInterval);
        Assert.Equal(0u, DownPayload.Publish(Given.DeviceId, Given.Transmit(1), isMqtt5: false, remaining).MessageExpiryInterval);
    }

    private static string Text(MessageBody body) => Encoding.UTF8.GetString(DownPayload.Of(Given.DeviceId, Hello, body));
}
