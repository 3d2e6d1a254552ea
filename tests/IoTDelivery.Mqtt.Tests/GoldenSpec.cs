using System.Buffers;
using System.Text;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using MQTTnet.Formatter;
using MQTTnet.Packets;

namespace IoTDelivery.Mqtt.Tests;

/// <summary>
/// What devices get, byte for byte, in each payload form of the contract: <c>golden/*.txt</c>. Devices in the field read these: an old file is never edited,
/// a new form adds one.
/// </summary>
public sealed class GoldenSpec
{
    private static readonly MessageId Id = MessageId.Parse("b1224afb-e9f0-4916-8220-b6bab568e888");
    private static readonly string User = SystemTopics.User(Given.DeviceId, "alarms/red");

    private static readonly Dictionary<string, MqttPublishPacket> Packets = new()
    {
        ["standard"] = Down(Given.Body("hello \u706F", name: null)),
        ["standard-with-name"] = Down(Given.Body("hello", name: "greeting")),
        ["standard-json"] = Down(Given.Body("""{"on":true,"text":"a \"b\" <c>"}""", name: null, ContentKind.Json)),
        ["raw-string"] = Down(Given.Body("hello \u706F", format: PayloadFormat.Raw)),
        ["raw-json"] = Down(Given.Body("""{"on":true}""", kind: ContentKind.Json, format: PayloadFormat.Raw)),
        ["base64"] = Down(Given.Body("AP8KgA==", encoding: ContentEncoding.Base64)),
        ["custom-topic"] = Down(Given.Body("hello", name: null) with { Topic = User }),
        ["qos-0"] = Down(Given.Body("hello", name: null), qos: 0),
        ["properties"] = Down(Given.Body("hello", name: null, properties: Given.Properties("c-1", "answers/here", new UserProperty("key", "\u503C"), new UserProperty("key", "second")))),
        ["time-sync"] = TimeSyncResponse.To(Given.DeviceId, new TimeSyncRequest(null, 1582685678789), Given.Noon, Given.Noon.AddMilliseconds(2)),
    };

    public static TheoryData<string> Names => [.. Packets.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void A_device_gets_what_its_golden_file_says(string name)
    {
        var file = Path.Combine(AppContext.BaseDirectory, "golden", $"{name}.txt");
        var text = Text(Packets[name]);

        Assert.True(File.Exists(file), $"golden/{name}.txt is missing. What this release sends:\n{text}");
        Assert.Equal(File.ReadAllText(file), text);
    }

    [Fact]
    public void Every_golden_file_belongs_to_a_payload_form() => Assert.Equal(
        Packets.Keys.Order(), Directory.GetFiles(Path.Combine(AppContext.BaseDirectory, "golden"), "*.txt").Select(Path.GetFileNameWithoutExtension).Order());

    private static MqttPublishPacket Down(MessageBody body, int qos = 1) => DownPayload.Publish(
        Given.DeviceId, new ToConnection.Transmit(Id, body, Tag: 17, qos, Dup: false, Remaining: TimeSpan.FromDays(1)), isMqtt5: true, TimeSpan.FromDays(1));

    private static string Text(MqttPublishPacket packet)
    {
        var text = new StringBuilder();
        text.Append($"topic      {packet.Topic}\n");
        text.Append($"QoS        {(int)packet.QualityOfServiceLevel}\n");
        if (packet.CorrelationData is { } correlation) text.Append($"correlation data   {Encoding.UTF8.GetString(correlation)}\n");
        if (packet.ResponseTopic is { } response) text.Append($"response topic     {response}\n");
        foreach (var property in packet.UserProperties ?? []) text.Append($"user property      {property.Name}={property.ReadValueAsString()}\n");
        if (packet.MessageExpiryInterval > 0) text.Append($"message expiry     {packet.MessageExpiryInterval}\n");
        var payload = packet.Payload.ToArray();
        text.Append($"payload    {(payload.Contains((byte)0) ? Convert.ToHexString(payload) : Encoding.UTF8.GetString(payload))}\n");
        foreach (var version in new[] { MqttProtocolVersion.V311, MqttProtocolVersion.V500 })
        {
            var wire = new ArrayBufferWriter<byte>();
            MqttFraming.Write(wire, packet, version);
            text.Append($"{(version == MqttProtocolVersion.V311 ? "MQTT 3.1.1" : "MQTT 5    ")} {Convert.ToHexString(wire.WrittenSpan)}\n");
        }

        return text.ToString();
    }
}
