using IoTDelivery.Domain;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Session;

/// <summary>Chapters 3.8 to 3.11: SUBSCRIBE and UNSUBSCRIBE.</summary>
public sealed class SubscribeSpec
{
    [Fact]
    public void Each_filter_is_granted_and_QoS_2_is_granted_as_1()
    {
        var step = Given.Session().On(Given.Subscribe((Given.Down, 0), ("a", 1), ("b", 2)));

        Assert.Equal(
            [MqttSubscribeReasonCode.GrantedQoS0, MqttSubscribeReasonCode.GrantedQoS1, MqttSubscribeReasonCode.GrantedQoS1], Codes(step));
        Assert.Equal<Subscription>([new Subscription(Given.Down, 0), new("a", 1), new("b", 1)], step.Subscribed!.Value);
        Assert.Equal<Subscription>(step.Subscribed.Value, step.Next.Subscriptions);
    }

    // [MQTT-3.8.4-3]
    [Fact]
    public void A_filter_that_is_there_is_replaced_and_counts_as_subscribed_again()
    {
        var session = Given.Session().On(Given.Subscribe((Given.Down, 0), ("a", 0))).Next;

        var step = session.On(Given.Subscribe((Given.Down, 1)));

        Assert.Equal<Subscription>([new Subscription(Given.Down, 1), new("a", 0)], step.Next.Subscriptions);
        Assert.Equal<Subscription>([new Subscription(Given.Down, 1)], step.Subscribed!.Value);
    }

    [Fact]
    public void Another_devices_topics_are_refused_and_the_rest_is_granted()
    {
        var step = Given.Session().On(Given.Subscribe(("$oc/devices/other/sys/messages/down", 1), ("$oc/devices/+/sys/messages/down", 1), (Given.Down, 1)));

        Assert.Equal([MqttSubscribeReasonCode.NotAuthorized, MqttSubscribeReasonCode.NotAuthorized, MqttSubscribeReasonCode.GrantedQoS1], Codes(step));
        Assert.Equal<Subscription>([new Subscription(Given.Down, 1)], step.Subscribed!.Value);
    }

    [Fact]
    public void A_SUBSCRIBE_of_which_nothing_is_granted_changes_nothing()
    {
        var step = Given.Session().On(Given.Subscribe(("$oc/devices/other/#", 1)));

        Assert.Null(step.Subscribed);
        Assert.NotNull(step.Reply);
    }

    [Theory]
    [InlineData("a/#/b", MqttSubscribeReasonCode.TopicFilterInvalid)]
    [InlineData("a+", MqttSubscribeReasonCode.TopicFilterInvalid)]
    [InlineData("", MqttSubscribeReasonCode.TopicFilterInvalid)]
    [InlineData("$share/group/a", MqttSubscribeReasonCode.SharedSubscriptionsNotSupported)]
    public void A_filter_nobody_can_serve_is_refused(string filter, MqttSubscribeReasonCode code) =>
        Assert.Equal([code], Codes(Given.Session(MqttProtocolVersion.V500).On(Given.Subscribe((filter, 1)))));

    // Given.Session holds four.
    [Fact]
    public void Filters_beyond_the_limit_are_refused_but_known_ones_may_be_repeated()
    {
        var session = Given.Session().On(Given.Subscribe(("1", 0), ("2", 0), ("3", 0), ("4", 0))).Next;

        Assert.Equal([MqttSubscribeReasonCode.QuotaExceeded, MqttSubscribeReasonCode.GrantedQoS1], Codes(session.On(Given.Subscribe(("5", 0), ("4", 1)))));
    }

    // [MQTT-3.8.3-3]
    [Fact]
    public void A_SUBSCRIBE_without_a_filter_ends_the_connection() =>
        Assert.Equal(MqttDisconnectReasonCode.ProtocolError, Given.Session().On(Given.Subscribe()).End?.ReasonCode);

    // [MQTT-3-8.3-4]
    [Fact]
    public void QoS_3_ends_the_connection() =>
        Assert.Equal(MqttDisconnectReasonCode.MalformedPacket, Given.Session().On(Given.Subscribe(("a", 3))).End?.ReasonCode);

    [Fact]
    public void An_UNSUBSCRIBE_removes_what_is_there_and_says_what_was_not()
    {
        var session = Given.Session(MqttProtocolVersion.V500).On(Given.Subscribe(("a", 0), ("b", 1))).Next;

        var step = session.On(Given.Unsubscribe("a", "c"));

        var answer = Assert.IsType<MqttUnsubAckPacket>(step.Reply);
        Assert.Equal([MqttUnsubscribeReasonCode.Success, MqttUnsubscribeReasonCode.NoSubscriptionExisted], answer.ReasonCodes);
        Assert.Equal<Subscription>([new Subscription("b", 1)], step.Next.Subscriptions);
        Assert.Empty(step.Subscribed!.Value); // a change, and no trigger for delivery
    }

    // [MQTT-3.10.4-5]
    [Fact]
    public void An_UNSUBSCRIBE_that_matches_nothing_is_answered_and_changes_nothing()
    {
        var step = Given.Session().On(Given.Unsubscribe("c"));

        Assert.IsType<MqttUnsubAckPacket>(step.Reply);
        Assert.Null(step.Subscribed);
    }

    private static IEnumerable<MqttSubscribeReasonCode> Codes(SessionStep step) => Assert.IsType<MqttSubAckPacket>(step.Reply).ReasonCodes;
}
