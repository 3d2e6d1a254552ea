using IoTDelivery.Domain;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;

namespace IoTDelivery.Mqtt.Tests.Session;

/// <summary>What only MQTT 5 has: topic aliases (3.3.2.3.4) and the session expiry of a DISCONNECT (3.14.2.2.2).</summary>
public sealed class Mqtt5Spec
{
    private static readonly MqttSession Start = Given.Session(MqttProtocolVersion.V500) with { TopicAliasMax = 2 };

    // [MQTT-3.3.2-12]
    [Fact]
    public void An_alias_stands_for_the_topic_it_was_said_with_until_it_is_said_with_another()
    {
        var session = Start.On(Publish(Given.Up, alias: 2)).Next;

        var again = session.On(Publish("", alias: 2));
        Assert.Equal(Given.Up, again.Uplink!.Topic);
        Assert.Null(again.End);

        session = again.Next.On(Publish("other/topic", alias: 2)).Next;
        Assert.Equal("other/topic", session.On(Publish("", alias: 2)).Uplink!.Topic);
    }

    // [MQTT-3.3.2-9]
    [Fact]
    public void An_alias_above_what_was_offered_ends_the_connection() => Assert.Equal(
        new SessionEnd("topic alias", MqttDisconnectReasonCode.TopicAliasInvalid), Start.On(Publish(Given.Up, alias: 3)).End);

    [Fact]
    public void An_alias_that_was_never_said_with_a_topic_ends_the_connection() => Assert.Equal(
        new SessionEnd("unknown topic alias", MqttDisconnectReasonCode.ProtocolError), Start.On(Publish("", alias: 1)).End);

    [Fact]
    public void No_topic_and_no_alias_ends_the_connection() => Assert.Equal(MqttDisconnectReasonCode.TopicNameInvalid, Start.On(Publish("", alias: 0)).End!.ReasonCode);

    [Fact]
    public void What_a_device_may_not_publish_it_may_not_publish_by_alias_either()
    {
        var session = Start.On(Publish("$oc/devices/other/sys/messages/up", alias: 1));
        Assert.Equal(MqttPubAckReasonCode.NotAuthorized, Assert.IsType<MqttPubAckPacket>(session.Reply).ReasonCode);

        var again = session.Next.On(Publish("", alias: 1));

        Assert.Null(again.Uplink);
        Assert.Equal(MqttPubAckReasonCode.NotAuthorized, Assert.IsType<MqttPubAckPacket>(again.Reply).ReasonCode);
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(60u)]
    public void A_DISCONNECT_may_change_the_session_expiry(uint expiry) => Assert.Equal(
        new SessionEnd("disconnect", ReasonCode: null, expiry), Start.On(new DisconnectWithExpiry(expiry)).End);

    // [MQTT-3.14.2-2]
    [Fact]
    public void A_session_that_was_to_end_with_its_connection_cannot_be_kept_after_all()
    {
        var session = Start with { MayOutlive = false };

        Assert.Equal(MqttDisconnectReasonCode.ProtocolError, session.On(new DisconnectWithExpiry(1)).End!.ReasonCode);
        Assert.Equal("disconnect", session.On(new DisconnectWithExpiry(0)).End!.Why);
    }

    private static MqttPublishPacket Publish(string topic, ushort alias)
    {
        var publish = Given.Publish(topic, qos: 1);
        publish.TopicAlias = alias;
        return publish;
    }
}
