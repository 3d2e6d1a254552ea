using System.Collections.Immutable;
using IoTDelivery.Domain;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;

namespace IoTDelivery.Mqtt;

/// <summary>Why a connection ends.</summary>
/// <param name="Why">For the log and the meters: few different words.</param>
/// <param name="ReasonCode">What an MQTT 5 client is told; null if it is gone or has disconnected itself.</param>
/// <param name="SessionExpiryInterval">Seconds; what the client's DISCONNECT made of its session expiry. Null if it said nothing: the CONNECT's counts.</param>
public sealed record SessionEnd(string Why, MqttDisconnectReasonCode? ReasonCode, uint? SessionExpiryInterval = null);

/// <summary>The device acknowledged a QoS 1 PUBLISH; below 0x80 it has it.</summary>
public readonly record struct PubAckReceived(ushort PacketId, byte ReasonCode);

/// <summary>What follows from one packet. At most one packet answers a packet.</summary>
/// <param name="Next">The session from now on.</param>
/// <param name="Reply">For the device.</param>
/// <param name="Subscribed">Null if the subscriptions are as before; else what this packet subscribed, nothing on an UNSUBSCRIBE.</param>
/// <param name="Acknowledged">For the outbox.</param>
/// <param name="Uplink">A PUBLISH that is counted and taken; <paramref name="Reply"/> waits until it is.</param>
/// <param name="End">The connection is over, after <paramref name="Reply"/>.</param>
public readonly record struct SessionStep(
    MqttSession Next,
    MqttPacket? Reply = null,
    ImmutableArray<Subscription>? Subscribed = null,
    PubAckReceived? Acknowledged = null,
    MqttPublishPacket? Uplink = null,
    SessionEnd? End = null);

/// <summary>
/// One connection's rules after CONNECT, in the words of MQTT 3.1.1 and 5. Immutable; nothing here waits, writes or looks at a clock.
/// What goes down needs no memory here: the packet id of a QoS 1 PUBLISH is the device's own tag for it.
/// </summary>
//
//   PUBLISH QoS 0 ─────────────────────────────────────► counted
//   PUBLISH QoS 1 ── PUBACK ───────────────────────────► counted
//   PUBLISH QoS 2 ── PUBREC ──► unreleased ── PUBREL ──► PUBCOMP        counted at the first PUBLISH; again only PUBREC
//   SUBSCRIBE, UNSUBSCRIBE ── SUBACK, UNSUBACK ────────► told to the device actor when the subscriptions change
//   PUBACK ────────────────────────────────────────────► told to the device actor
//   PINGREQ ── PINGRESP           DISCONNECT, anything out of place ──► end
//
public sealed record MqttSession(DeviceId DeviceId, MqttProtocolVersion Version, int SubscriptionsMax, int ReceiveMax, int TopicAliasMax = 0)
{
    private static readonly SessionEnd Left = new("disconnect", ReasonCode: null);
    private static readonly MqttSubscribeReasonCode[] Granted = [MqttSubscribeReasonCode.GrantedQoS0, MqttSubscribeReasonCode.GrantedQoS1];

    /// <summary>All subscriptions in force, in the order they were made.</summary>
    public ImmutableArray<Subscription> Subscriptions { get; init; } = [];

    // QoS 2 publishes that were answered with PUBREC and not yet released [MQTT-4.3.3-2].
    private ImmutableHashSet<ushort> Unreleased { get; init; } = [];

    // [MQTT-3.3.2-7] They live as long as the connection.
    private ImmutableDictionary<ushort, string> TopicAliases { get; init; } = ImmutableDictionary<ushort, string>.Empty;

    /// <summary>False if the CONNECT asked for a session that ends with the connection: no DISCONNECT can then ask for one [MQTT-3.14.2-2].</summary>
    public bool MayOutlive { get; init; } = true;

    private bool IsMqtt5 => Version == MqttProtocolVersion.V500;

    /// <summary>What a packet of the device leads to.</summary>
    public SessionStep On(MqttPacket packet) => packet switch
    {
        _ when !ReasonCodes.Exists(packet) => ProtocolError("reason code"),
        MqttPublishPacket publish => OnPublish(publish),

        // [MQTT-4.3.2-1] A PUBACK ends the flow for its packet id. One nobody waits for is a late duplicate: the device actor knows.
        MqttPubAckPacket ack => new(this, Acknowledged: new PubAckReceived(ack.PacketIdentifier, (byte)ack.ReasonCode)),
        MqttPubRelPacket release => OnPubRel(release.PacketIdentifier),
        MqttSubscribePacket subscribe => OnSubscribe(subscribe),
        MqttUnsubscribePacket unsubscribe => OnUnsubscribe(unsubscribe),
        MqttPingReqPacket => new(this, Reply: MqttPingRespPacket.Instance), // [MQTT-3.12.4-1]
        DisconnectWithExpiry { SessionExpiryInterval: > 0 } when !MayOutlive => ProtocolError("session expiry raised from 0"), // [MQTT-3.14.2-2]
        DisconnectWithExpiry disconnect => new(this, End: Left with { SessionExpiryInterval = disconnect.SessionExpiryInterval }),
        MqttDisconnectPacket => new(this, End: Left), // [MQTT-3.14.4-1]

        // [MQTT-3.1.0-2] A second CONNECT is a protocol violation.
        MqttConnectPacket => ProtocolError("second CONNECT"),

        // PUBREC and PUBCOMP answer QoS 2, which is never sent down; AUTH continues what no CONNECT here can begin; the rest is for clients.
        _ => ProtocolError("packet out of place"),
    };

    /// <summary>True if a subscription of the client covers <paramref name="topic"/>.</summary>
    public bool IsSubscribed(string topic)
    {
        foreach (var subscription in Subscriptions)
        {
            if (subscription.Matches(topic)) return true;
        }

        return false;
    }

    private SessionStep OnPublish(MqttPublishPacket publish)
    {
        var (qos, id) = (publish.QualityOfServiceLevel, publish.PacketIdentifier);
        if (publish.TopicAlias > TopicAliasMax) return Broken("topic alias", MqttDisconnectReasonCode.TopicAliasInvalid); // [MQTT-3.3.2-9]
        if (publish.TopicAlias > 0 && string.IsNullOrEmpty(publish.Topic))
        {
            if (!TopicAliases.TryGetValue(publish.TopicAlias, out var known)) return ProtocolError("unknown topic alias"); // 3.3.2.3.4
            publish.Topic = known;
        }

        if (!TopicFilters.IsValidTopic(publish.Topic)) return Broken("topic", MqttDisconnectReasonCode.TopicNameInvalid); // [MQTT-3.3.2-2]
        if (qos > MqttQualityOfServiceLevel.AtMostOnce && id == 0) return Malformed("packet id 0"); // [MQTT-2.3.1-1]
        if (publish.SubscriptionIdentifiers is { Count: > 0 }) return ProtocolError("subscription identifier"); // [MQTT-3.3.4-6]
        return publish.TopicAlias > 0
            ? (this with { TopicAliases = TopicAliases.SetItem(publish.TopicAlias, publish.Topic) }).OnPublishTo(publish, qos, id) // [MQTT-3.3.2-12]
            : OnPublishTo(publish, qos, id);
    }

    private SessionStep OnPublishTo(MqttPublishPacket publish, MqttQualityOfServiceLevel qos, ushort id)
    {
        var isAllowed = MqttTopics.MayPublish(DeviceId, publish.Topic);

        // [MQTT-3.3.5-2] MQTT 3.1.1 knows no refusal: acknowledge it or close. Nothing of it is kept, so an acknowledgement would be a lie.
        if (!isAllowed && !IsMqtt5) return Broken("topic of another device", MqttDisconnectReasonCode.NotAuthorized);

        return qos switch
        {
            MqttQualityOfServiceLevel.AtMostOnce => new(this, Uplink: isAllowed ? publish : null),
            MqttQualityOfServiceLevel.AtLeastOnce => new(
                this,
                Reply: new MqttPubAckPacket { PacketIdentifier = id, ReasonCode = isAllowed ? MqttPubAckReasonCode.Success : MqttPubAckReasonCode.NotAuthorized },
                Uplink: isAllowed ? publish : null),
            _ => OnPublishQoS2(publish, isAllowed),
        };
    }

    private SessionStep OnPublishQoS2(MqttPublishPacket publish, bool isAllowed)
    {
        var id = publish.PacketIdentifier;
        if (Unreleased.Contains(id)) return new(this, Reply: new MqttPubRecPacket { PacketIdentifier = id }); // [MQTT-4.3.3-2] not a second time
        if (!isAllowed) return new(this, Reply: new MqttPubRecPacket { PacketIdentifier = id, ReasonCode = MqttPubRecReasonCode.NotAuthorized });
        if (Unreleased.Count >= ReceiveMax) return Broken("receive maximum", MqttDisconnectReasonCode.ReceiveMaximumExceeded); // [MQTT-3.3.4-7]

        return new(this with { Unreleased = Unreleased.Add(id) }, Reply: new MqttPubRecPacket { PacketIdentifier = id }, Uplink: publish);
    }

    private SessionStep OnPubRel(ushort id) => id == 0
        ? Malformed("packet id 0")
        : new(
            this with { Unreleased = Unreleased.Remove(id) },
            Reply: new MqttPubCompPacket // [MQTT-4.3.3-2] also for one that is not known: our PUBCOMP was lost
            {
                PacketIdentifier = id,
                ReasonCode = Unreleased.Contains(id) ? MqttPubCompReasonCode.Success : MqttPubCompReasonCode.PacketIdentifierNotFound,
            });

    private SessionStep OnSubscribe(MqttSubscribePacket subscribe)
    {
        if (subscribe.PacketIdentifier == 0) return Malformed("packet id 0"); // [MQTT-2.3.1-1]
        if (subscribe.TopicFilters.Count == 0) return ProtocolError("SUBSCRIBE without a topic filter"); // [MQTT-3.8.3-3]

        var all = Subscriptions.ToBuilder();
        var subscribed = ImmutableArray.CreateBuilder<Subscription>();
        var codes = new List<MqttSubscribeReasonCode>(subscribe.TopicFilters.Count); // [MQTT-3.8.4-5] one code per filter, in their order
        foreach (var filter in subscribe.TopicFilters)
        {
            if (filter.QualityOfServiceLevel > MqttQualityOfServiceLevel.ExactlyOnce) return Malformed("QoS 3"); // [MQTT-3-8.3-4]
            if (filter.RetainHandling > MqttRetainHandling.DoNotSendOnSubscribe)
            {
                return ProtocolError("retain handling 3"); // 3.8.3.1
            }

            if (Refusal(filter.Topic, subscribe, all) is { } refusal)
            {
                codes.Add(refusal);
                continue;
            }

            var subscription = new Subscription(filter.Topic, Math.Min((int)filter.QualityOfServiceLevel, 1)); // QoS 2 is granted as 1
            Put(all, subscription);
            Put(subscribed, subscription);
            codes.Add(Granted[subscription.QoS]);
        }

        var reply = new MqttSubAckPacket { PacketIdentifier = subscribe.PacketIdentifier, ReasonCodes = codes };
        return subscribed.Count == 0
            ? new(this, reply)
            : new(this with { Subscriptions = all.ToImmutable() }, reply, Subscribed: subscribed.ToImmutable());
    }

    // MQTT 3.1.1 has one word for all of these: 0x80. The codec says it.
    private MqttSubscribeReasonCode? Refusal(string topicFilter, MqttSubscribePacket subscribe, ImmutableArray<Subscription>.Builder all) =>
        !TopicFilters.IsValidFilter(topicFilter) ? MqttSubscribeReasonCode.TopicFilterInvalid
        : MqttTopics.IsShared(topicFilter) ? MqttSubscribeReasonCode.SharedSubscriptionsNotSupported
        : subscribe.SubscriptionIdentifier > 0 ? MqttSubscribeReasonCode.SubscriptionIdentifiersNotSupported
        : !MqttTopics.MaySubscribe(DeviceId, topicFilter) ? MqttSubscribeReasonCode.NotAuthorized
        : all.Count >= SubscriptionsMax && IndexOf(all, topicFilter) < 0 ? MqttSubscribeReasonCode.QuotaExceeded
        : null;

    private SessionStep OnUnsubscribe(MqttUnsubscribePacket unsubscribe)
    {
        if (unsubscribe.PacketIdentifier == 0) return Malformed("packet id 0");
        if (unsubscribe.TopicFilters.Count == 0) return ProtocolError("UNSUBSCRIBE without a topic filter"); // [MQTT-3.10.3-2]

        var all = Subscriptions.ToBuilder();
        var codes = new List<MqttUnsubscribeReasonCode>(unsubscribe.TopicFilters.Count);
        foreach (var topicFilter in unsubscribe.TopicFilters)
        {
            var index = IndexOf(all, topicFilter); // [MQTT-3.10.4-1] compared character by character
            if (index >= 0) all.RemoveAt(index);
            codes.Add(index >= 0 ? MqttUnsubscribeReasonCode.Success : MqttUnsubscribeReasonCode.NoSubscriptionExisted);
        }

        // [MQTT-3.10.4-5] UNSUBACK also where nothing matched.
        var reply = new MqttUnsubAckPacket { PacketIdentifier = unsubscribe.PacketIdentifier, ReasonCodes = codes };
        return all.Count == Subscriptions.Length
            ? new(this, reply)
            : new(this with { Subscriptions = all.ToImmutable() }, reply, Subscribed: []);
    }

    // [MQTT-3.8.4-3] A filter that is there already is replaced.
    private static void Put(ImmutableArray<Subscription>.Builder subscriptions, Subscription subscription)
    {
        var index = IndexOf(subscriptions, subscription.TopicFilter);
        if (index < 0) subscriptions.Add(subscription);
        else subscriptions[index] = subscription;
    }

    private static int IndexOf(ImmutableArray<Subscription>.Builder subscriptions, string topicFilter)
    {
        for (var i = 0; i < subscriptions.Count; i++)
        {
            if (subscriptions[i].TopicFilter == topicFilter) return i;
        }

        return -1;
    }

    private SessionStep Malformed(string why) => Broken(why, MqttDisconnectReasonCode.MalformedPacket);

    private SessionStep ProtocolError(string why) => Broken(why, MqttDisconnectReasonCode.ProtocolError);

    // [MQTT-4.8.0-1] A violation closes the connection; MQTT 5 says why first.
    private SessionStep Broken(string why, MqttDisconnectReasonCode code) => new(this, End: new SessionEnd(why, code));
}
