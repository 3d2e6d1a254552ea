using System.Buffers;
using MQTTnet.Formatter;
using MQTTnet.Protocol;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Session;

/// <summary>
/// All 256 reason codes of every MQTT 5 packet that a device may put one into, as bytes: which exist, and what follows
/// from one that does not.
/// </summary>
public sealed class ReasonCodeSpec
{
    private static readonly byte[] OfPubAck = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    private static readonly byte[] OfDisconnect =
    [
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
        0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ];

    /// <summary>What it is, its bytes around the code, the codes that exist.</summary>
    public static TheoryData<string, byte[], byte[], byte[]> Packets => new()
    {
        { "PUBACK", [0x40, 3, 0, 7], [], OfPubAck },
        { "PUBACK with properties", [0x40, 4, 0, 7], [0], OfPubAck },
        { "PUBACK with a reason string", [0x40, 8, 0, 7], [4, 0x1F, 0, 1, (byte)'x'], OfPubAck },
        { "PUBREL", [0x62, 3, 0, 7], [], [0x00, 0x92] },
        { "PUBREL with properties", [0x62, 4, 0, 7], [0], [0x00, 0x92] },
        { "DISCONNECT", [0xE0, 1], [], OfDisconnect },
        { "DISCONNECT with properties", [0xE0, 2], [0], OfDisconnect },
        { "DISCONNECT with a session expiry", [0xE0, 7], [5, 0x11, 0, 0, 0, 60], OfDisconnect },
        { "PUBREC, which answers a QoS 2 that is never sent", [0x50, 3, 0, 7], [], [] },
        { "PUBCOMP, likewise", [0x70, 3, 0, 7], [], [] },
        { "AUTH, which no CONNECT can begin here", [0xF0, 2], [0], [] },
    };

    // [MQTT-3.4.2-1], [MQTT-3.6.2-1], [MQTT-3.14.2-1]
    [Theory]
    [MemberData(nameof(Packets))]
    public void A_code_that_its_table_does_not_have_is_a_protocol_error_and_any_other_means_what_it_did(
        string what, byte[] before, byte[] behind, byte[] existing)
    {
        for (var code = 0; code <= 0xFF; code++)
        {
            var step = Given.Session(MqttProtocolVersion.V500)
                .On(Read([.. before, (byte)code, .. behind], MqttProtocolVersion.V500));

            var isError = step.End?.ReasonCode == MqttDisconnectReasonCode.ProtocolError;
            Assert.True(isError != existing.Contains((byte)code), $"{what}, 0x{code:X2}: {step.End}");
            if (isError)
            {
                Assert.Null(step.Acknowledged);
                Assert.Null(step.Reply);
            }
            else if (before[0] == 0x40)
            {
                Assert.Equal(new PubAckReceived(7, (byte)code), step.Acknowledged);
                Assert.Null(step.End);
            }
            else if (before[0] == 0xE0)
            {
                Assert.Equal(
                    ("disconnect", behind.Length == 6 ? 60u : null), (step.End!.Why, step.End.SessionExpiryInterval));
            }
            else
            {
                Assert.NotNull(step.Reply);
            }
        }
    }

    // MQTT 3.1 and 3.1.1 know none.
    [Theory]
    [InlineData(MqttProtocolVersion.V310)]
    [InlineData(MqttProtocolVersion.V311)]
    public void Older_versions_carry_none(MqttProtocolVersion version) => Assert.Equal(
        new PubAckReceived(7, 0), Given.Session(version).On(Read([0x40, 2, 0, 7], version)).Acknowledged);

    // 3.8.3.1: QoS 3 and retain handling 3 do not exist, nor do the two bits above [MQTT-3.8.3-5].
    [Fact]
    public void All_256_options_of_a_subscription()
    {
        for (var options = 0; options <= 0xFF; options++)
        {
            var bytes = new ReadOnlySequence<byte>(
            [
                0x82, 11, 0, 9, 0, 0, 1, (byte)'a', (byte)(options & 0x0C), 0, 1, (byte)'b', (byte)options,
            ]);
            var isMalformed =
                MqttFraming.TryRead(ref bytes, MqttProtocolVersion.V500, 1024, out var packet) == Frame.Malformed;
            Assert.True(isMalformed == (options & 0xC0) > 0, $"0x{options:X2}");
            if (isMalformed) continue;

            var end = Given.Session(MqttProtocolVersion.V500).On(packet!).End;

            var exists = (options & 0x03) != 3 && (options & 0x30) != 0x30;
            Assert.True(exists == (end is null), $"0x{options:X2}: {end}");
        }
    }

    private static MQTTnet.Packets.MqttPacket Read(byte[] packet, MqttProtocolVersion version)
    {
        var bytes = new ReadOnlySequence<byte>(packet);
        Assert.Equal(Frame.Packet, MqttFraming.TryRead(ref bytes, version, 1024, out var read));
        Assert.True(bytes.IsEmpty);
        return read!;
    }
}
