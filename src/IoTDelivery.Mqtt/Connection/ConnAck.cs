using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;

namespace IoTDelivery.Mqtt;

/// <summary>The CONNACK of this server.</summary>
internal static class ConnAck
{
    /// <summary>
    /// The client is let in. No Maximum QoS: a client that means to subscribe with QoS 2 would give up instead of taking 1.
    /// It says that nothing is retained, but a RETAIN flag or a will that comes all the same is passed over: closing would
    /// help nobody.
    /// </summary>
    public static MqttConnAckPacket Accept(AcceptedConnect connect, bool sessionPresent, MqttOptions options) => new()
    {
        ReasonCode = MqttConnectReasonCode.Success,
        ReturnCode = MqttConnectReturnCode.ConnectionAccepted,
        IsSessionPresent = sessionPresent,
        MaximumQoS = MqttQualityOfServiceLevel.ExactlyOnce, // the codec leaves it out then
        WildcardSubscriptionAvailable = true, // and this; what is not available it says
        ReceiveMaximum = (ushort)options.ReceiveMax,
        MaximumPacketSize = (uint)options.PacketBytesMax,
        TopicAliasMaximum = (ushort)options.TopicAliasMax,
        ServerKeepAlive = connect.IsKeepAliveOurs ? (ushort)connect.KeepAlive.TotalSeconds : (ushort)0, // [MQTT-3.2.2-21]
    };

    /// <summary>The client is not let in: nothing more than the code and perhaps why.</summary>
    public static MqttConnAckPacket Refuse(MqttConnectReasonCode code, string? reason) => new()
    {
        ReasonCode = code,
        ReturnCode = MqttConnectReasonCodeConverter.ToConnectReturnCode(code),
        ReasonString = reason,
        MaximumQoS = MqttQualityOfServiceLevel.ExactlyOnce,
        RetainAvailable = true,
        SharedSubscriptionAvailable = true,
        SubscriptionIdentifiersAvailable = true,
        WildcardSubscriptionAvailable = true,
    };
}
