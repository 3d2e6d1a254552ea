using static IoTDelivery.Domain.OutboxEvent;
using static IoTDelivery.Domain.Tests.Given;

namespace IoTDelivery.Domain.Tests;

public sealed class OutboxSpec
{
    private static readonly DeviceHeader Header = new("project", null, "node", "product", null);

    private static Decision Decide(Outbox outbox, OutboxCommand command, Inflight? wire = null, DateTimeOffset? at = null, DeliveryPolicy? policy = null) =>
        outbox.Decide(command, wire ?? Inflight.None, at ?? Noon, policy ?? Policy);

    private static readonly OutboxReply NoSuchDevice = Decision.Refuse(RefusalReason.NoSuchDevice).Reply;

    private static OutboxCommand.Retire Retire(long life) => new(Header, life);

    private static OutboxCommand.Register Register(long life) => new(life);

    private static OutboxCommand.EndLogins EndLogins(long generation) => new(generation);

    [Fact]
    public void A_message_for_a_device_that_is_away_is_PENDING_and_the_application_is_pending_that_word()
    {
        var decision = Decide(Outbox.Empty, Accept("m1"));

        var accepted = Assert.IsType<MessageAccepted>(Assert.Single(decision.Events));
        Assert.Equal(MessageStatus.Pending, accepted.Answer);
        Assert.Equal(Noon.AddDays(1), accepted.ExpiresAt);
        Assert.Equal(MessageStatus.Pending, Assert.IsType<OutboxReply.Accepted>(decision.Reply).Status);
        var pending = Assert.Single(Outbox.Empty.Apply(decision.Events, Policy).Notifications);
        Assert.Equal((1, MessageStatus.Pending), (pending.Number, pending.Status));
    }

    [Fact]
    public void A_message_that_can_go_out_at_once_is_answered_DELIVERED_and_nothing_is_pending_until_the_PUBACK()
    {
        var decision = Decide(Outbox.Empty, Accept("m1"), Online(Outbox.Empty, QoS1));
        var outbox = Outbox.Empty.Apply(decision.Events, Policy);

        Assert.Equal(MessageStatus.Delivered, Assert.IsType<OutboxReply.Accepted>(decision.Reply).Status);
        Assert.Empty(outbox.Notifications);
        Assert.Equal(MessageStatus.Delivered, outbox.Show(Id("m1"))!.Status);

        var acked = outbox.Apply(Decide(outbox, new OutboxCommand.Acknowledge(Id("m1")), at: Noon.AddSeconds(1)).Events, Policy);
        Assert.Equal(MessageStatus.Delivered, Assert.Single(acked.Notifications).Status);
        Assert.Empty(acked.Open);
    }

    [Fact]
    public void A_device_that_is_connected_but_has_not_subscribed_gets_nothing_yet() =>
        Assert.Equal(MessageStatus.Pending, Assert.IsType<OutboxReply.Accepted>(Decide(Outbox.Empty, Accept("m1"), Online(Outbox.Empty)).Reply).Status);

    [Fact]
    public void A_message_pending_for_a_day_times_out()
    {
        var outbox = Outbox(Accept("m1"));

        Assert.Empty(Decide(outbox, OutboxCommand.Expire.Instance, at: Noon.AddDays(1).AddTicks(-1)).Events);
        Assert.Equal([new MessageTimedOut(Id("m1"), Noon.AddDays(1))], Decide(outbox, OutboxCommand.Expire.Instance, at: Noon.AddDays(1)).Events);
    }

    [Fact]
    public void A_message_answered_DELIVERED_without_a_PUBACK_times_out_at_the_end_of_its_ttl()
    {
        var wire = Online(Outbox.Empty, QoS1);
        var outbox = Outbox.Empty.Apply(Decide(Outbox.Empty, Accept("m1", ttl: 5), wire).Events, Policy);

        var ended = outbox.Apply(Decide(outbox, OutboxCommand.Expire.Instance, wire, Noon.AddMinutes(5)).Events, Policy);

        Assert.Equal(MessageStatus.TimedOut, ended.Show(Id("m1"))!.Status);
        Assert.Equal(MessageStatus.TimedOut, Assert.Single(ended.Notifications).Status);
    }

    [Fact]
    public void The_same_id_and_body_is_answered_as_the_first_time_even_after_the_end()
    {
        var outbox = Outbox(Accept("m1"), new OutboxCommand.Acknowledge(Id("m1")));

        var again = Decide(outbox, Accept("m1"), Online(outbox, QoS1), Noon.AddHours(23));

        Assert.Empty(again.Events);
        Assert.Equal(new OutboxReply.Accepted(Id("m1"), MessageStatus.Pending, Noon), again.Reply);
    }

    [Fact]
    public void The_same_id_with_another_body_is_an_error()
    {
        Assert.Equal(Decision.Refuse(RefusalReason.IdConflict).Reply, Decide(Outbox(Accept("m1")), Accept("m1", "other")).Reply);
        Assert.Equal(Decision.Refuse(RefusalReason.IdConflict).Reply, Decide(Outbox(Accept("m1"), new OutboxCommand.Acknowledge(Id("m1"))), Accept("m1", ttl: 5)).Reply);
    }

    [Fact]
    public void After_the_window_an_id_is_free_again()
    {
        var outbox = Outbox(Accept("m1"), new OutboxCommand.Acknowledge(Id("m1")));

        var decision = Decide(outbox, Accept("m1", "other"), at: Noon + Policy.IdempotencyWindow);

        Assert.Single(decision.Events);
        var next = outbox.Apply(decision.Events, Policy);
        Assert.Equal("other", next.FindOpen(Id("m1"))!.Body.Content);
    }

    [Fact]
    public void The_twenty_first_message_displaces_the_oldest_which_ends_FAILED()
    {
        var outbox = Outbox([.. Enumerable.Range(1, 20).Select(i => Accept($"m{i}"))]);

        var decision = Decide(outbox, Accept("m21"));

        Assert.Equal(new MessageFailed(Id("m1"), ErrorInfo.Displaced, Noon), decision.Events[0]);
        Assert.IsType<MessageAccepted>(decision.Events[1]);
        var next = outbox.Apply(decision.Events, Policy);
        Assert.Equal(20, next.Open.Count);
        Assert.Equal("m2", next.Open.First().MessageId.Value);
    }

    [Fact]
    public void A_full_queue_of_a_connected_and_subscribed_device_refuses_instead_of_displacing()
    {
        var outbox = Outbox([.. Enumerable.Range(1, 20).Select(i => Accept($"m{i}"))]);

        Assert.Equal(Decision.Refuse(RefusalReason.TooMuchAtOnce).Reply, Decide(outbox, Accept("m21"), Online(outbox, QoS1)).Reply);
    }

    [Fact]
    public void Who_is_not_told_what_became_of_the_old_messages_may_not_send_new_ones()
    {
        var policy = Policy with { NotificationsMax = 20 };
        var outbox = Outbox([.. Enumerable.Range(1, 20).Select(i => Accept($"m{i}"))]); // PENDING is pending twenty times

        Assert.Equal(Decision.Refuse(RefusalReason.TooMuchAtOnce).Reply, Decide(outbox, Accept("m21"), policy: policy).Reply);
        Assert.IsType<OutboxReply.Accepted>(Decide(outbox, Accept("m1"), policy: policy).Reply); // known already
        var ends = Decide(outbox, OutboxCommand.Expire.Instance, at: Noon.AddDays(2), policy: policy).Events;
        Assert.IsType<OutboxReply.Accepted>(Decide(outbox.AcknowledgeNotifications(1), Accept("m21"), policy: policy).Reply);
        Assert.Equal(39, outbox.Apply(ends, policy).Notifications.Count); // no end is kept back
    }

    [Fact]
    public void What_is_on_the_wire_does_not_count_against_the_cache_and_is_never_displaced()
    {
        var policy = Policy with { PendingMax = 1 };
        var (outbox, wire) = (Outbox.Empty, Online(Outbox.Empty, QoS1));
        Take("m1"); // on the wire
        wire.Subscribe([], [], outbox, Noon, policy); // unsubscribed meanwhile
        Take("m2"); // waits
        var decision = Decide(outbox, Accept("m3"), wire, policy: policy);

        Assert.Equal(new MessageFailed(Id("m2"), ErrorInfo.Displaced, Noon), decision.Events[0]);

        void Take(string id)
        {
            var events = Decide(outbox, Accept(id), wire, policy: policy).Events;
            wire.Follow(outbox, events);
            outbox = outbox.Apply(events, policy);
            wire.Next(outbox, Noon, policy);
        }
    }

    [Fact]
    public void Bytes_count_too_and_displace_as_many_as_it_takes()
    {
        var policy = Policy with { PendingBytesMax = MessageBody.ContentBytesMax };
        var outbox = Outbox(Accept("m1", new string('a', 100_000)), Accept("m2", new string('b', 100_000)), Accept("m3"));

        var decision = Decide(outbox, Accept("m4", new string('c', 200_000)), policy: policy);

        Assert.Equal(["m1", "m2"], decision.Events.OfType<MessageFailed>().Select(e => e.MessageId.Value));
    }

    [Fact]
    public void Ttl_0_for_a_device_that_is_away_is_answered_FAILED_with_014016()
    {
        var decision = Decide(Outbox.Empty, Accept("m1", ttl: 0));

        Assert.Equal(MessageStatus.Failed, Assert.IsType<OutboxReply.Accepted>(decision.Reply).Status);
        Assert.Equal(new MessageFailed(Id("m1"), ErrorInfo.DeviceNotOnline, Noon), decision.Events[1]);
        Assert.Equal(MessageStatus.Failed, Assert.Single(Outbox.Empty.Apply(decision.Events, Policy).Notifications).Status);
    }

    [Fact]
    public void Ttl_0_for_a_device_without_the_topic_is_answered_FAILED_with_014112() =>
        Assert.Equal(new MessageFailed(Id("m1"), ErrorInfo.NotSubscribed, Noon), Decide(Outbox.Empty, Accept("m1", ttl: 0), Online(Outbox.Empty)).Events[1]);

    [Fact]
    public void Ttl_0_gets_the_first_schedule_and_then_times_out_or_fails_with_the_connection()
    {
        var wire = Online(Outbox.Empty, QoS1);
        var outbox = Outbox.Empty.Apply(Decide(Outbox.Empty, Accept("m1", ttl: 0), wire).Events, Policy);

        Assert.Equal(Noon.AddSeconds(8), outbox.NextExpiry);
        Assert.Equal([new MessageFailed(Id("m1"), ErrorInfo.DeviceNotOnline, Noon)], Decide(outbox, OutboxCommand.LoseConnection.Instance).Events);
    }

    [Fact]
    public void A_message_the_device_refuses_ends_FAILED_and_says_with_which_code()
    {
        var outbox = Outbox(Accept("m1"));

        var failed = Assert.IsType<MessageFailed>(Assert.Single(Decide(outbox, new OutboxCommand.Refuse(Id("m1"), 0x97)).Events));

        Assert.Contains("0x97", failed.Error.Text);
    }

    [Fact]
    public void A_PUBACK_after_the_end_changes_nothing()
    {
        var outbox = Outbox(Accept("m1"));
        outbox = outbox.Apply(Decide(outbox, OutboxCommand.Expire.Instance, at: Noon.AddDays(2)).Events, Policy);

        Assert.Empty(Decide(outbox, new OutboxCommand.Acknowledge(Id("m1"))).Events);
    }

    [Fact]
    public void A_deleted_message_ends_FAILED_is_pushed_and_reads_as_unknown()
    {
        var outbox = Outbox(Accept("m1"));
        var next = outbox.Apply(Decide(outbox, new OutboxCommand.Delete(Id("m1"))).Events, Policy);

        Assert.Null(next.Show(Id("m1")));
        Assert.Equal(MessageStatus.Failed, next.Notifications[^1].Status);
        Assert.Equal(ErrorInfo.Deleted, next.Notifications[^1].Error);
        Assert.Equal(Decision.Refuse(RefusalReason.NoSuchMessage).Reply, Decide(next, new OutboxCommand.Delete(Id("m1"))).Reply);
    }

    [Fact]
    public void A_message_answered_DELIVERED_cannot_be_deleted()
    {
        var outbox = Outbox.Empty.Apply(Decide(Outbox.Empty, Accept("m1"), Online(Outbox.Empty, QoS1)).Events, Policy);

        Assert.Equal(Decision.Refuse(RefusalReason.NotWaiting).Reply, Decide(outbox, new OutboxCommand.Delete(Id("m1"))).Reply);
    }

    [Fact]
    public void Taking_everything_back_ends_what_still_waits_and_lets_what_is_on_its_way_go_on()
    {
        var outbox = Outbox.Empty.Apply(Decide(Outbox.Empty, Accept("sent"), Online(Outbox.Empty, QoS1)).Events, Policy);
        foreach (var id in (string[])["m1", "m2"]) outbox = outbox.Apply(Decide(outbox, Accept(id)).Events, Policy);

        var next = outbox.Apply(Decide(outbox, OutboxCommand.DeleteAll.Instance).Events, Policy);

        Assert.Equal("sent", Assert.Single(next.Open).MessageId.Value);
        Assert.Equal(["m1", "m2"], next.Notifications.Where(n => n.Error == ErrorInfo.Deleted).Select(n => n.MessageId.Value));
        Assert.Null(next.Show(Id("m1")));
        Assert.Empty(Decide(next, OutboxCommand.DeleteAll.Instance).Events);
    }

    [Fact]
    public void Deleting_the_device_ends_everything_FAILED_and_what_is_pending_carries_its_header()
    {
        var outbox = Outbox(Accept("m1"), Accept("m2"), Retire(1));

        Assert.Empty(outbox.Open);
        Assert.Equal(4, outbox.Notifications.Count);
        Assert.All(outbox.Notifications, n => Assert.Equal(Header, n.Header));
        Assert.Equal([ErrorInfo.DeviceDeleted, ErrorInfo.DeviceDeleted], outbox.Notifications.Where(n => n.Status == MessageStatus.Failed).Select(n => n.Error));
        Assert.Equal(Decision.Refuse(RefusalReason.NoSuchDevice).Reply, Decide(outbox, Accept("m3")).Reply);
    }

    [Fact]
    public void A_device_registered_again_starts_empty_but_never_reuses_a_notification_number()
    {
        var outbox = Outbox(Accept("m1"), Retire(1), Register(2), Accept("m1", "other"));

        Assert.Equal("other", outbox.Show(Id("m1"))!.Body.Content);
        Assert.Equal([1, 2, 3], outbox.Notifications.Select(n => n.Number));
    }

    [Fact]
    public void What_an_earlier_life_has_not_told_yet_keeps_the_header_of_that_life()
    {
        var later = Header with { NodeId = "later" };
        var outbox = Outbox(Accept("m1"), Retire(1), Register(2), Accept("m2"), new OutboxCommand.Retire(later, 2));

        Assert.Equal([Header, Header, later, later], outbox.Notifications.Select(n => n.Header));
    }

    [Fact]
    public void A_Retire_that_comes_late_does_not_end_the_life_after_its_own()
    {
        var outbox = Outbox(Accept("m1"), Retire(1), Register(2), Accept("m2"));

        Assert.Equal(Decision.Nothing, Decide(outbox, Retire(1)));
        Assert.Equal([new Retired(Header, Noon, 2)], Decide(outbox, Retire(2)).Events);
    }

    [Fact]
    public void A_Retire_that_comes_late_does_not_end_the_second_life_after_its_own_either()
    {
        var outbox = Outbox(
            Retire(1), Register(2), Retire(2), Register(3));

        Assert.Equal(Decision.Nothing, Decide(outbox, Retire(1)));
        Assert.Equal(Decision.Nothing, Decide(outbox, Retire(2)));
        Assert.False(outbox.IsRetired);
    }

    [Fact]
    public void A_device_that_was_created_and_deleted_before_lives_were_numbered_goes_on_as_one_whose_lives_are()
    {
        var outbox = Outbox(Accept("m1"), Retire(0));
        Assert.True(outbox.IsRetired);

        outbox = outbox.Apply(Decide(outbox, Register(1)).Events, Policy);
        Assert.False(outbox.IsRetired);
        Assert.Equal(Decision.Nothing, Decide(outbox, Retire(0)));
        Assert.Equal([new Retired(Header, Noon, 1)], Decide(outbox, Retire(1)).Events);
    }

    [Fact]
    public void A_Register_that_comes_late_does_not_bring_back_what_was_deleted()
    {
        var deleted = Outbox(Retire(1), Register(2), Retire(2));
        Assert.Equal(NoSuchDevice, Decide(deleted, Register(2)).Reply);
        Assert.Equal(NoSuchDevice, Decide(deleted, Register(1)).Reply);

        var alive = deleted.Apply(Decide(deleted, Register(3)).Events, Policy);
        Assert.Equal(NoSuchDevice, Decide(alive, Register(2)).Reply);
        Assert.Equal(Decision.Nothing, Decide(alive, Register(3))); // asked again
        Assert.Equal(3, alive.Life);
    }

    [Fact]
    public void A_creation_that_was_given_up_before_its_Register_arrived_stays_given_up()
    {
        var outbox = Outbox(Retire(1), Retire(2));

        Assert.Equal(NoSuchDevice, Decide(outbox, Register(2)).Reply);
        Assert.Equal([new Registered(Noon, 3)], Decide(outbox, Register(3)).Events);
    }

    [Fact]
    public void The_first_life_of_a_device_costs_no_event_and_can_be_ended()
    {
        Assert.Equal(Decision.Nothing, Decide(Outbox.Empty, Register(7)));
        Assert.Equal([new Retired(Header, Noon, 7)], Decide(Outbox(Accept("m1")), Retire(7)).Events);
    }

    [Fact]
    public void A_Register_of_an_older_release_begins_a_life_without_a_number()
    {
        var outbox = Outbox(Retire(1), Register(0));

        Assert.False(outbox.IsRetired);
        Assert.Equal(Decision.Nothing, Decide(outbox, Register(0)));
    }

    [Fact]
    public void A_freeze_ends_the_logins_of_earlier_generations_and_one_that_comes_late_or_again_changes_nothing()
    {
        Assert.Equal(0, Outbox.Empty.Generation);
        var outbox = Outbox(EndLogins(5));

        Assert.Equal(5, outbox.Generation);
        Assert.Equal(Decision.Nothing, Decide(outbox, EndLogins(5)));
        Assert.Equal(Decision.Nothing, Decide(outbox, EndLogins(4)));
        Assert.Equal([new LoginsEnded(6)], Decide(outbox, EndLogins(6)).Events);
    }

    [Fact]
    public void A_life_begins_with_the_generation_of_its_number_so_logins_of_the_former_one_count_no_more()
    {
        var deleted = Outbox(EndLogins(5), Retire(1));
        Assert.Equal(Decision.Nothing, Decide(deleted, EndLogins(6)));

        var again = deleted.Apply(Decide(deleted, Register(7)).Events, Policy);
        Assert.Equal((7, 0), (again.Generation, again.LoginsEndedBy));
        Assert.Equal(Decision.Nothing, Decide(again, EndLogins(6))); // of the former life
        Assert.Equal(8, again.Apply(Decide(again, EndLogins(8)).Events, Policy).Generation);
    }

    [Fact]
    public void A_life_that_an_older_release_began_lets_in_logins_without_a_number() =>
        Assert.Equal(0, Outbox(EndLogins(5), Retire(1), Register(0)).Generation);

    [Fact]
    public void Which_logins_count_no_more_is_part_of_the_snapshot() =>
        Assert.Equal(5, Domain.Outbox.From(Outbox(EndLogins(5)).ToSnapshot()).Generation);

    private const string Custom = "custom/b";

    // What waits (d: the down topic, c: a custom one, oldest first), which topics are subscribed now (null: the device is
    // away), the topic of the new message, whether the count or the bytes are at their bound, and what is displaced (null:
    // the new message is refused).
    [Theory]
    [InlineData("ddd", null, 'd', true, "1"), InlineData("ddd", null, 'd', false, "1")]
    [InlineData("ddd", null, 'c', true, "1"), InlineData("ddd", null, 'c', false, "1")]
    [InlineData("cdd", null, 'd', true, "1"), InlineData("cdd", null, 'd', false, "1")]
    [InlineData("ddd", "d", 'd', true, null), InlineData("ddd", "d", 'd', false, null)]
    [InlineData("ddd", "d", 'c', true, null), InlineData("ddd", "d", 'c', false, null)]
    [InlineData("dcd", "d", 'c', true, "2"), InlineData("dcd", "d", 'c', false, "2")]
    [InlineData("cdc", "d", 'c', true, "1"), InlineData("cdc", "d", 'c', false, "1")]
    [InlineData("dcd", "d", 'd', true, null), InlineData("dcd", "d", 'd', false, null)]
    [InlineData("ccc", "d", 'c', true, "1"), InlineData("ccc", "d", 'c', false, "1")]
    [InlineData("cdc", "c", 'd', true, "2"), InlineData("cdc", "c", 'd', false, "2")]
    [InlineData("dcd", "cd", 'd', true, null), InlineData("dcd", "cd", 'c', false, null)]
    [InlineData("ddd", "", 'd', true, "1"), InlineData("ddd", "", 'c', false, "1")]
    public void A_new_message_displaces_the_oldest_whose_topic_is_not_subscribed_and_is_refused_if_there_is_none(
        string waiting, string? subscribed, char topic, bool isCountFull, string? displaced)
    {
        var outbox = Outbox.Empty;
        foreach (var (number, t) in waiting.Select((t, i) => (i + 1, t)))
        {
            outbox = outbox.Apply(Decide(outbox, Accept($"{number}", "12345", topic: TopicOf(t))).Events, Policy);
        }

        var policy = isCountFull
            ? Policy with { PendingMax = 3 }
            : Policy with { PendingBytesMax = outbox.OpenBytes + 2 };
        var wire = subscribed is null
            ? Inflight.None
            : Online(outbox, [.. subscribed.Select(t => new Subscription(TopicOf(t), 1))]);
        var decision = Decide(outbox, Accept("new", "12345", topic: TopicOf(topic)), wire, policy: policy);

        if (displaced is null)
        {
            Assert.Equal(Decision.Refuse(RefusalReason.TooMuchAtOnce).Reply, decision.Reply);
            Assert.Empty(decision.Events);
        }
        else
        {
            var failed = decision.Events.OfType<MessageFailed>().Select(e => e.MessageId.Value);
            Assert.Equal(displaced, string.Join(' ', failed));
            Assert.Equal("new", Assert.Single(decision.Events.OfType<MessageAccepted>()).MessageId.Value);
        }

        static string TopicOf(char t) => t == 'd' ? Down : Custom;
    }

    [Fact]
    public void As_much_is_displaced_as_the_new_message_needs_and_nothing_if_all_of_it_is_not_enough()
    {
        var outbox = Outbox(
            Accept("1", "12345", topic: Custom), Accept("2", "12345"), Accept("3", "12345", topic: Custom));
        var policy = Policy with { PendingBytesMax = outbox.OpenBytes };
        var wire = Online(outbox, QoS1);

        var fits = Decide(outbox, Accept("new", new string('x', 9), topic: Custom), wire, policy: policy);
        Assert.Equal(["1", "3"], fits.Events.OfType<MessageFailed>().Select(e => e.MessageId.Value));
        var tooLarge = Decide(outbox, Accept("new", new string('x', 11), topic: Custom), wire, policy: policy);
        Assert.Equal(Decision.Refuse(RefusalReason.TooMuchAtOnce).Reply, tooLarge.Reply);
    }

    [Fact]
    public void A_message_for_a_topic_nobody_subscribed_throws_nothing_out_that_is_being_delivered()
    {
        var outbox = Outbox.Empty;
        var wire = OnlineV5(outbox, receiveMaximum: 1, QoS1);
        for (var i = 0; i < 21; i++)
        {
            var decision = Decide(outbox, Accept($"a{i}"), wire);
            wire.Follow(outbox, decision.Events);
            outbox = outbox.Apply(decision.Events, Policy);
            wire.Next(outbox, Noon);
        }

        Assert.IsType<OutboxReply.Refused>(Decide(outbox, Accept("a21"), wire).Reply);
        Assert.IsType<OutboxReply.Refused>(Decide(outbox, Accept("b", topic: Custom), wire).Reply);
    }

    [Fact]
    public void Nobody_is_overtaken_while_the_window_is_full()
    {
        var policy = Policy with { InflightMax = 1 };
        var wire = Inflight.None;
        wire.Connect(new WireConnection(false, 65535), [QoS1], Domain.Outbox.Empty, NoPackets, isSameConnection: false, policy);
        var first = Decide(Outbox.Empty, Accept("m1"), wire, policy: policy);
        wire.Follow(Outbox.Empty, first.Events);
        var outbox = Outbox.Empty.Apply(first.Events, policy);

        Assert.Equal(MessageStatus.Pending, Assert.IsType<OutboxReply.Accepted>(Decide(outbox, Accept("m2"), wire, policy: policy).Reply).Status);
    }

    [Fact]
    public void The_history_keeps_the_newest_twenty_of_any_status()
    {
        var outbox = Outbox.Empty;
        for (var i = 1; i <= 30; i++)
        {
            outbox = outbox.Apply(Decide(outbox, Accept($"m{i}")).Events, Policy);
            if (i % 2 == 0) outbox = outbox.Apply(Decide(outbox, new OutboxCommand.Acknowledge(Id($"m{i}"))).Events, Policy);
        }

        var list = outbox.List().Items;
        Assert.Equal("m30", list[0].MessageId.Value);
        Assert.Equal(15, outbox.Open.Count); // what is open is never forgotten
        Assert.All(outbox.Ended, m => Assert.InRange(m.Number, 11, 30));
    }

    [Fact]
    public void A_list_stops_below_the_bytes_it_may_have_and_says_that_there_is_more()
    {
        var outbox = Outbox(Accept("m1", new string('a', 60)), Accept("m2", new string('b', 60)), Accept("m3", new string('c', 200)));

        var (first, more) = outbox.List(bytesMax: 100);
        Assert.Equal(["m3"], first.Select(m => m.MessageId.Value));
        Assert.True(more);
        (var rest, more) = outbox.List(before: 3, bytesMax: 130);
        Assert.Equal(["m2", "m1"], rest.Select(m => m.MessageId.Value));
        Assert.False(more);
    }

    [Fact]
    public void At_most_the_newest_256_ids_are_remembered()
    {
        var outbox = Outbox.Empty;
        for (var i = 1; i <= 300; i++) outbox = outbox.Apply(Decide(outbox, Accept($"m{i}", ttl: 0)).Events, Policy);

        Assert.Equal(256, outbox.Remembered.Count);
        Assert.False(outbox.Remembered.Contains(Id("m44")));
        Assert.True(outbox.Remembered.Contains(Id("m45")));
    }

    [Fact]
    public void A_acknowledged_notification_is_pending_no_more()
    {
        var outbox = Outbox(Accept("m1"), Accept("m2")).Apply(new NotificationsAcknowledged(1), Policy);

        Assert.Equal(2, Assert.Single(outbox.Notifications).Number);
    }
}
