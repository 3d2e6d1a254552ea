using static IoTDelivery.Domain.Tests.Given;

namespace IoTDelivery.Domain.Tests;

public sealed class InflightSpec
{
    // Runs the wire forward a tenth of a second at a time and notes what is sent when.
    private static List<(double At, string Id, ushort Tag, bool Dup)> Run(Inflight wire, Outbox outbox, double seconds, double from = 0)
    {
        var sent = new List<(double, string, ushort, bool)>();
        for (var tenth = 0; tenth <= seconds * 10; tenth++)
        {
            var at = from + tenth / 10.0;
            var sends = wire.Next(outbox, Noon.AddSeconds(at));
            sent.AddRange(sends.Select(s => (at, s.Message.MessageId.Value, s.Tag, s.Dup)));
        }

        return sent;
    }

    private static (Outbox, Inflight) AcceptedOnline(string id, Inflight wire)
    {
        var events = Outbox.Empty.Decide(Accept(id), wire, Noon, Policy).Events;
        wire.Follow(Outbox.Empty, events);
        return (Outbox.Empty.Apply(events, Policy), wire);
    }

    [Fact]
    public void Without_a_PUBACK_it_is_sent_again_three_times_two_seconds_apart_with_DUP_and_the_same_packet_id()
    {
        var (outbox, wire) = AcceptedOnline("m1", Online(Outbox.Empty, QoS1));

        var sent = Run(wire, outbox, 60);

        Assert.Equal([0, 2, 4, 6], sent.Select(s => s.At));
        Assert.Equal([false, true, true, true], sent.Select(s => s.Dup));
        Assert.Single(sent.Select(s => s.Tag).Distinct());
    }

    [Fact]
    public void After_coming_online_it_is_sent_in_five_rounds_ten_seconds_apart_each_with_its_repetitions()
    {
        var outbox = Outbox(Accept("m1"));
        var wire = Online(outbox, QoS1);

        var sent = Run(wire, outbox, 120);

        Assert.Equal([0, 2, 4, 6, 10, 12, 14, 16, 20, 22, 24, 26, 30, 32, 34, 36, 40, 42, 44, 46], sent.Select(s => s.At));
    }

    [Fact]
    public void Subscribing_again_starts_the_rounds_again_but_never_within_two_seconds_of_the_last_send()
    {
        var outbox = Outbox(Accept("m1"));
        var wire = Online(outbox, QoS1);
        Run(wire, outbox, 5); // 0 2 4

        wire.Subscribe([QoS1], [QoS1], outbox, Noon.AddSeconds(5), Policy);
        var sent = Run(wire, outbox, 100, from: 5);

        Assert.Equal([6, 8, 10, 12, 16], sent.Select(s => s.At).Take(5));
        Assert.Equal(20, sent.Count);
    }

    [Fact]
    public void Subscribing_another_topic_starts_nothing()
    {
        var outbox = Outbox(Accept("m1"));
        var wire = Online(outbox, QoS1);
        Run(wire, outbox, 50);

        wire.Subscribe([QoS1, new Subscription("other", 1)], [new Subscription("other", 1)], outbox, Noon.AddSeconds(60), Policy);

        Assert.Empty(Run(wire, outbox, 60, from: 60));
    }

    [Fact]
    public void A_PUBACK_ends_the_repetitions()
    {
        var (outbox, wire) = AcceptedOnline("m1", Online(Outbox.Empty, QoS1));
        var tag = Assert.Single(Run(wire, outbox, 1)).Tag;

        var number = wire.Acknowledge(tag, qos: 1);

        Assert.Equal(1, number);
        Assert.Null(wire.NextAt);
        Assert.Null(wire.Acknowledge(tag, qos: 1)); // a second PUBACK is a late duplicate
    }

    [Fact]
    public void At_QoS_0_it_is_sent_once_and_only_the_transport_can_answer()
    {
        var (outbox, wire) = AcceptedOnline("m1", Online(Outbox.Empty, QoS0));

        var sent = Run(wire, outbox, 60);

        Assert.Single(sent);
        Assert.Null(wire.Acknowledge(sent[0].Tag, qos: 1));
        Assert.Equal(1, wire.Acknowledge(sent[0].Tag, qos: 0));
    }

    [Fact]
    public void MQTT_5_repeats_with_a_fresh_packet_and_a_PUBACK_for_any_of_them_ends_it()
    {
        var (outbox, wire) = AcceptedOnline("m1", OnlineV5(Outbox.Empty, 65535, QoS1));

        var sent = Run(wire, outbox, 10);

        Assert.Equal(4, sent.Select(s => s.Tag).Distinct().Count());
        Assert.All(sent, s => Assert.False(s.Dup));
        Assert.Equal(1, wire.Acknowledge(sent[1].Tag, qos: 1));
    }

    [Fact]
    public void MQTT_5_skips_a_repetition_without_a_free_slot_and_the_schedule_counts_on()
    {
        var (outbox, wire) = AcceptedOnline("m1", OnlineV5(Outbox.Empty, receiveMaximum: 3, QoS1));

        var sent = Run(wire, outbox, 60);

        Assert.Equal([0, 2], sent.Select(s => s.At));
        Assert.Null(wire.NextAt);
        Assert.True(wire.HasRoom); // the last place is kept for what was never sent
    }

    [Fact]
    public void The_window_bounds_what_is_sent_for_the_first_time_and_a_PUBACK_lets_the_next_one_out_in_order()
    {
        var outbox = Outbox(Accept("m1"), Accept("m2"), Accept("m3"));
        var wire = OnlineV5(outbox, receiveMaximum: 2, QoS1);

        var sent = Run(wire, outbox, 0);
        Assert.Equal(["m1", "m2"], sent.Select(s => s.Id));

        wire.Acknowledge(sent[0].Tag, 1);
        outbox = outbox.Apply(new OutboxEvent.MessageDelivered(Id("m1"), Noon), Policy);
        Assert.Equal(["m3"], Run(wire, outbox, 0).Select(s => s.Id));
    }

    [Fact]
    public void A_session_that_goes_on_sends_again_with_the_original_packet_id_and_DUP()
    {
        var outbox = Outbox(Accept("m1"), Accept("m2"));
        var wire = Online(outbox, QoS1);
        var sent = Run(wire, outbox, 1);

        wire.Connect(new WireConnection(false, 65535), [QoS1], outbox, wire.Unacknowledged(), isSameConnection: false, Policy);
        var again = Run(wire, outbox, 0, from: 2);

        Assert.Equal(sent.Select(s => (s.Id, s.Tag)), again.Select(s => (s.Id, s.Tag)));
        Assert.All(again, s => Assert.True(s.Dup));
    }

    [Fact]
    public void A_clean_session_starts_with_fresh_packets()
    {
        var outbox = Outbox(Accept("m1"));
        var wire = Online(outbox, QoS1);
        Run(wire, outbox, 1);

        wire.Connect(new WireConnection(false, 65535), [QoS1], outbox, NoPackets, isSameConnection: false, Policy);

        Assert.False(Assert.Single(Run(wire, outbox, 0, from: 2)).Dup);
    }

    [Fact]
    public void A_message_that_is_not_stored_yet_is_not_sent()
    {
        var (outbox, wire) = AcceptedOnline("m1", Online(Outbox.Empty, QoS1));

        Assert.Empty(wire.Next(outbox, storedUpTo: 0, long.MaxValue, Noon, Policy));
        Assert.Single(wire.Next(outbox, storedUpTo: 1, long.MaxValue, Noon, Policy));
    }

    [Fact]
    public void A_message_whose_topic_nobody_subscribed_does_not_hold_up_the_others()
    {
        var outbox = Outbox(Accept("m1", topic: "somewhere/else"), Accept("m2"));
        var wire = Online(outbox, QoS1);

        Assert.Equal(["m2"], Run(wire, outbox, 0).Select(s => s.Id));
        wire.Subscribe([QoS1, new Subscription("somewhere/#", 1)], [new Subscription("somewhere/#", 1)], outbox, Noon, Policy);
        Assert.Equal(["m1"], Run(wire, outbox, 0).Select(s => s.Id));
    }
}
