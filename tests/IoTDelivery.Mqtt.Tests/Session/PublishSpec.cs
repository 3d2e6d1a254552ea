using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Session;

/// <summary>Chapters 3.3 to 3.7 and 4.3: PUBLISH and its answers, from the device.</summary>
public sealed class PublishSpec
{
    [Fact]
    public void QoS_0_is_counted_and_not_answered()
    {
        var step = Given.Session().On(Given.Publish(Given.Up, 0));

        Assert.NotNull(step.Uplink);
        Assert.Null(step.Reply);
        Assert.Null(step.End);
    }

    [Fact]
    public void QoS_1_is_answered_with_PUBACK()
    {
        var step = Given.Session().On(Given.Publish(Given.Up, 1, id: 7));

        Assert.Equal(7, Assert.IsType<MqttPubAckPacket>(step.Reply).PacketIdentifier);
        Assert.NotNull(step.Uplink);
    }

    [Fact]
    public void An_unknown_topic_under_the_devices_own_id_is_acknowledged()
    {
        var step = Given.Session().On(Given.Publish($"$oc/devices/{Given.DeviceId}/sys/events/up/never/heard/of", 1));

        Assert.IsType<MqttPubAckPacket>(step.Reply);
        Assert.Null(step.End);
    }

    // [MQTT-4.3.3-2]
    [Fact]
    public void QoS_2_is_counted_once_however_often_it_is_repeated_before_its_PUBREL()
    {
        var first = Given.Session().On(Given.Publish(Given.Up, 2, id: 7));
        var again = first.Next.On(Given.Publish(Given.Up, 2, id: 7));
        var release = again.Next.On(new MqttPubRelPacket { PacketIdentifier = 7 });
        var anew = release.Next.On(Given.Publish(Given.Up, 2, id: 7));

        Assert.Equal(7, Assert.IsType<MqttPubRecPacket>(first.Reply).PacketIdentifier);
        Assert.NotNull(first.Uplink);
        Assert.IsType<MqttPubRecPacket>(again.Reply);
        Assert.Null(again.Uplink);
        Assert.Equal(7, Assert.IsType<MqttPubCompPacket>(release.Reply).PacketIdentifier);
        Assert.NotNull(anew.Uplink);
    }

    [Fact]
    public void A_PUBREL_nobody_waits_for_is_answered_all_the_same()
    {
        var step = Given.Session(MqttProtocolVersion.V500).On(new MqttPubRelPacket { PacketIdentifier = 7 });

        Assert.Equal(MqttPubCompReasonCode.PacketIdentifierNotFound, Assert.IsType<MqttPubCompPacket>(step.Reply).ReasonCode);
    }

    // [MQTT-3.3.4-7]: Given.Session holds two.
    [Fact]
    public void More_unreleased_QoS_2_than_the_receive_maximum_ends_the_connection()
    {
        var session = Given.Session().On(Given.Publish(Given.Up, 2, id: 1)).Next.On(Given.Publish(Given.Up, 2, id: 2)).Next;

        Assert.Equal(MqttDisconnectReasonCode.ReceiveMaximumExceeded, session.On(Given.Publish(Given.Up, 2, id: 3)).End?.ReasonCode);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void Another_devices_topic_ends_a_3_1_1_connection(int qos)
    {
        var step = Given.Session().On(Given.Publish("$oc/devices/other/sys/messages/up", qos));

        Assert.NotNull(step.End);
        Assert.Null(step.Reply);
        Assert.Null(step.Uplink);
    }

    [Fact]
    public void Another_devices_topic_is_refused_in_MQTT_5()
    {
        var session = Given.Session(MqttProtocolVersion.V500);

        var qos0 = session.On(Given.Publish("$oc/devices/other/sys/messages/up", 0));
        var qos1 = session.On(Given.Publish("$oc/devices/other/sys/messages/up", 1));
        var qos2 = session.On(Given.Publish("$oc/devices/other/sys/messages/up", 2));

        Assert.All([qos0, qos1, qos2], step => Assert.True(step is { End: null, Uplink: null }));
        Assert.Null(qos0.Reply);
        Assert.Equal(MqttPubAckReasonCode.NotAuthorized, Assert.IsType<MqttPubAckPacket>(qos1.Reply).ReasonCode);
        Assert.Equal(MqttPubRecReasonCode.NotAuthorized, Assert.IsType<MqttPubRecPacket>(qos2.Reply).ReasonCode);
    }

    // [MQTT-3.3.2-2]
    [Theory]
    [InlineData("home/+")]
    [InlineData("#")]
    [InlineData("")]
    public void A_topic_with_a_wildcard_or_without_a_name_ends_the_connection(string topic) =>
        Assert.Equal(MqttDisconnectReasonCode.TopicNameInvalid, Given.Session().On(Given.Publish(topic, 0)).End?.ReasonCode);

    // [MQTT-3.3.2-9]: none was offered in CONNACK.
    [Fact]
    public void A_topic_alias_ends_the_connection()
    {
        var publish = Given.Publish("", 0);
        publish.TopicAlias = 1;

        Assert.Equal(MqttDisconnectReasonCode.TopicAliasInvalid, Given.Session(MqttProtocolVersion.V500).On(publish).End?.ReasonCode);
    }

    // [MQTT-2.3.1-1]
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Packet_id_0_ends_the_connection(int qos) =>
        Assert.Equal(MqttDisconnectReasonCode.MalformedPacket, Given.Session().On(Given.Publish(Given.Up, qos, id: 0)).End?.ReasonCode);

    [Fact]
    public void A_PUBACK_is_for_the_outbox_with_its_reason_code()
    {
        var step = Given.Session(MqttProtocolVersion.V500).On(new MqttPubAckPacket { PacketIdentifier = 300, ReasonCode = MqttPubAckReasonCode.QuotaExceeded });

        Assert.Equal(new PubAckReceived(300, 0x97), step.Acknowledged);
        Assert.Null(step.Reply);
    }
}
