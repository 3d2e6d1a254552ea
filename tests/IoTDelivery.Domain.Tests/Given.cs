using System.Collections.Immutable;
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

    public static Inflight Online(Outbox outbox, params Subscription[] subscriptions) => Online(outbox, new WireConnection(false, 65535), subscriptions);

    public static Inflight OnlineV5(Outbox outbox, int receiveMaximum, params Subscription[] subscriptions) =>
        Online(outbox, new WireConnection(ForbidsRepeats: true, receiveMaximum), subscriptions);

    public static Inflight Online(Outbox outbox, WireConnection connection, params Subscription[] subscriptions)
    {
        var wire = Inflight.None;
        wire.Connect(connection, [.. subscriptions], outbox, NoPackets, isSameConnection: false, Policy);
        return wire;
    }

    public static readonly ImmutableSortedDictionary<long, ushort> NoPackets = ImmutableSortedDictionary<long, ushort>.Empty;

    /// <summary>What is sent now, all packet ids being reserved.</summary>
    public static IReadOnlyList<Send> Next(this Inflight wire, Outbox outbox, DateTimeOffset now, DeliveryPolicy? policy = null) =>
        wire.Next(outbox, outbox.NextNumber - 1, long.MaxValue, now, policy ?? Policy);
}
