using MQTTnet.Packets;

namespace IoTDelivery.Mqtt;

/// <summary>The reason codes that exist (MQTT 5, the tables of chapter 3). The codec takes any byte for one.</summary>
internal static class ReasonCodes
{
    // 3.4.2.1
    private static ReadOnlySpan<byte> OfPubAck => [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];

    // 3.6.2.1
    private static ReadOnlySpan<byte> OfPubRel => [0x00, 0x92];

    // 3.14.2.1, and 0x8C, which only 2.4 has. Those that a server sends are among them: the client leaves, whatever it
    // says.
    private static ReadOnlySpan<byte> OfDisconnect =>
    [
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
        0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ];

    /// <summary>
    /// False if the packet carries a code that its table does not have [MQTT-3.4.2-1], [MQTT-3.6.2-1], [MQTT-3.14.2-1].
    /// PUBREC, PUBCOMP and AUTH are not looked at: from a device they are out of place with any code.
    /// </summary>
    public static bool Exists(MqttPacket packet) => packet switch
    {
        MqttPubAckPacket ack => OfPubAck.Contains((byte)ack.ReasonCode),
        MqttPubRelPacket release => OfPubRel.Contains((byte)release.ReasonCode),
        MqttDisconnectPacket disconnect => OfDisconnect.Contains((byte)disconnect.ReasonCode),
        DisconnectWithExpiry disconnect => OfDisconnect.Contains(disconnect.ReasonCode),
        _ => true,
    };
}
