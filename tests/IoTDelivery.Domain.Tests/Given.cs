using IoTDelivery.Domain;

namespace IoTDelivery.Domain.Tests;

/// <summary>The words the specs are written in.</summary>
internal static class Given
{
    public static readonly DateTimeOffset Noon = new(2026, 1, 1, 12, 0, 0, TimeSpan.Zero);
    public static readonly DeliveryPolicy Policy = new();
    public static readonly DeviceId Device = DeviceId.Parse("product_node1");
    public static readonly string Down = SystemTopics.MessagesDown(Device);
    public static readonly Subscription QoS1 = new(Down, 1);
    public static readonly Subscription QoS0 = new(Down, 0);

    public static MessageId Id(string id) => MessageId.Parse(id);

    public static MessageBody Body(string content = "hello", int ttl = DeliveryPolicy.TtlDefault, string? topic = null) =>
        new(null, content, ContentKind.Text, ContentEncoding.None, PayloadFormat.Standard, topic ?? Down, ttl);

    public static OutboxCommand.Accept Accept(string id, string content = "hello", int ttl = DeliveryPolicy.TtlDefault, string? topic = null) =>
        new(Id(id), Body(content, ttl, topic));

    /// <summary>An outbox that has lived through these commands while the device was away.</summary>
    public static Outbox Outbox(params OutboxCommand[] commands) => commands.Aggregate(
        Domain.Outbox.Empty, (outbox, command) => outbox.Apply(outbox.Decide(command, Inflight.None, Noon, Policy).Events, Policy));

    public static Inflight Online(Outbox outbox, params Subscription[] subscriptions) =>
        Inflight.None.Connect(new WireConnection(ForbidsRepeats: false, 65535), [.. subscriptions], resumes: false, outbox.NextNumber - 1, Policy);

    public static Inflight OnlineV5(Outbox outbox, int receiveMaximum, params Subscription[] subscriptions) =>
        Inflight.None.Connect(new WireConnection(ForbidsRepeats: true, receiveMaximum), [.. subscriptions], resumes: false, outbox.NextNumber - 1, Policy);
}
