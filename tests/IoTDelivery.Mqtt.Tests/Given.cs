using System.Collections.Immutable;
using System.Text;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;

namespace IoTDelivery.Mqtt.Tests;

/// <summary>Where a story begins.</summary>
internal static class Given
{
    public const string Secret = "12345678";
    public const string Timestamp = "2025041401";

    public static readonly DeviceId DeviceId = DeviceId.Parse("product_node-1");
    public static readonly string Down = SystemTopics.MessagesDown(DeviceId);
    public static readonly string Up = $"$oc/devices/{DeviceId}/sys/messages/up";
    public static readonly DateTimeOffset Noon = new(2026, 3, 1, 12, 0, 0, TimeSpan.Zero);

    public static Device Device { get; } = new()
    {
        DeviceId = DeviceId.Value,
        RecordId = "1",
        ProjectId = "project",
        ProductId = "product",
        NodeId = "node-1",
        Secret = Secret,
        CreatedAt = 0,
    };

    public static MqttSession Session(MqttProtocolVersion version = MqttProtocolVersion.V311) => new(DeviceId, version, SubscriptionsMax: 4, ReceiveMax: 2);

    public static AcceptedConnect Connect(
        MqttProtocolVersion version = MqttProtocolVersion.V311, bool startsClean = true, bool keepsSession = false, TimeSpan? keepAlive = null,
        bool isImplicit = false) =>
        new(DeviceId, Guid.NewGuid(), Noon, version, keepAlive ?? TimeSpan.FromMinutes(2), startsClean, keepsSession ? uint.MaxValue : 0, IsImplicit: isImplicit);

    public static MqttConnectPacket ConnectPacket(ushort keepAlive = 120) => new()
    {
        ClientId = $"{DeviceId}_0_0_{Timestamp}",
        Username = DeviceId.Value,
        Password = Encoding.ASCII.GetBytes(DeviceLogin.Password(Secret, Timestamp)),
        CleanSession = true,
        KeepAlivePeriod = keepAlive,
        RequestProblemInformation = true,
    };

    public static MqttPublishPacket Publish(string topic, int qos, ushort id = 7) => new()
    {
        Topic = topic,
        QualityOfServiceLevel = (MqttQualityOfServiceLevel)qos,
        PacketIdentifier = qos == 0 ? (ushort)0 : id,
        PayloadSegment = "hi"u8.ToArray(),
    };

    public static MqttSubscribePacket Subscribe(params (string TopicFilter, int QoS)[] filters) => new()
    {
        PacketIdentifier = 9,
        TopicFilters = [.. filters.Select(f => new MqttTopicFilter { Topic = f.TopicFilter, QualityOfServiceLevel = (MqttQualityOfServiceLevel)f.QoS })],
    };

    public static MqttUnsubscribePacket Unsubscribe(params string[] filters) => new() { PacketIdentifier = 10, TopicFilters = [.. filters] };

    public static MessageBody Body(
        string content = "hello",
        string? name = "greeting",
        ContentKind kind = ContentKind.Text,
        ContentEncoding encoding = ContentEncoding.None,
        PayloadFormat format = PayloadFormat.Standard,
        MessageProperties? properties = null) => new(name, content, kind, encoding, format, Down, Ttl: 5, properties);

    public static ToConnection.Transmit Transmit(ushort tag, int qos = 1, bool dup = false, MessageBody? body = null) =>
        new(MessageId.Parse($"message-{tag}"), body ?? Body(), tag, qos, dup);

    public static MessageProperties Properties(string? correlation = null, string? responseTopic = null, params UserProperty[] user) =>
        new(correlation, responseTopic, user.ToImmutableArray());
}
