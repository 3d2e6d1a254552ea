using MQTTnet.Packets;
using MQTTnet.Protocol;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Session;

/// <summary>Chapters 3.1, 3.12 and 3.14, and what no client may send.</summary>
public sealed class OutOfPlaceSpec
{
    [Fact]
    public void PINGREQ_is_answered() => Assert.IsType<MqttPingRespPacket>(Given.Session().On(MqttPingReqPacket.Instance).Reply);

    // [MQTT-3.1.0-2]
    [Fact]
    public void A_second_CONNECT_ends_the_connection() =>
        Assert.Equal(MqttDisconnectReasonCode.ProtocolError, Given.Session().On(Given.ConnectPacket()).End?.ReasonCode);

    [Fact]
    public void DISCONNECT_ends_the_connection_without_a_word()
    {
        var end = Given.Session().On(new MqttDisconnectPacket()).End;

        Assert.NotNull(end);
        Assert.Null(end.ReasonCode);
    }

    public static TheoryData<MqttPacket> OfServers =>
    [
        new MqttConnAckPacket(), new MqttSubAckPacket { ReasonCodes = [] }, new MqttUnsubAckPacket(), MqttPingRespPacket.Instance,
        new MqttPubRecPacket(), new MqttPubCompPacket(), new MqttAuthPacket(),
    ];

    [Theory]
    [MemberData(nameof(OfServers))]
    public void What_only_a_server_says_ends_the_connection(MqttPacket packet) =>
        Assert.Equal(MqttDisconnectReasonCode.ProtocolError, Given.Session().On(packet).End?.ReasonCode);
}
