using Akka.Actor;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices.Tests.Actor;

/// <summary>Which notifications are offered, to whom, and when again.</summary>
public sealed class NotificationOfferSpec : Akka.TestKit.Xunit2.TestKit
{
    private static new readonly DateTimeOffset Now = DateTimeOffset.UnixEpoch;
    private static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(60);
    private static readonly DeliveryPolicy Policy = new();

    private readonly IActorRef _sink;
    private readonly Outbox _outbox = Outbox.Empty;
    private NotificationOffer _offer;

    public NotificationOfferSpec()
    {
        _sink = CreateTestProbe().Ref;
        _offer = NotificationOffer.After(_outbox);
    }

    // Each is answered PENDING, and so has a notification.
    private void Accept(int messages)
    {
        for (var i = 0; i < messages; i++)
        {
            var id = MessageId.Parse($"m{_outbox.NextNumber}");
            _outbox.Apply(new OutboxEvent.MessageAccepted(id, new MessageBody(null, "hello", ContentKind.Text, ContentEncoding.None, PayloadFormat.Standard, "t", 60), MessageStatus.Pending, Now, Now), Policy);
        }
    }

    private JournalMark Stored => new(_outbox.NextNumber, _outbox.NextNotification, 0, null, 0);

    private long[] Offer(IActorRef? sink = null, JournalMark? stored = null, bool isAsStored = true, DateTimeOffset? now = null)
    {
        (_offer, var offered) = _offer.Next(_outbox, stored ?? Stored, isAsStored, sink ?? _sink, now ?? Now, RetryAfter);
        return [.. offered.Select(n => n.Number)];
    }

    private void Acknowledge(long upTo)
    {
        _offer = _offer.Acknowledge(upTo, Now + RetryAfter)!.Value;
        _outbox.AcknowledgeNotifications(upTo);
    }

    [Fact]
    public void What_is_stored_is_offered_once()
    {
        Accept(3);
        Assert.Equal([1, 2], Offer(stored: Stored with { NextNotification = 3 }));
        Assert.Equal([3], Offer());
        Assert.Equal([], Offer());
    }

    [Fact]
    public void Without_a_sink_it_is_tried_again_soon()
    {
        Accept(1);
        Assert.Equal([], Offer(ActorRefs.Nobody));
        Assert.InRange(_offer.RetryAt, Now + TimeSpan.FromMilliseconds(1), Now + TimeSpan.FromSeconds(1));
        Assert.Equal([1], Offer());
    }

    [Fact]
    public void Another_sink_is_offered_all_that_is_not_acknowledged()
    {
        Accept(3);
        Offer();
        Acknowledge(1);
        Assert.Equal([2, 3], Offer(CreateTestProbe().Ref));
    }

    [Fact]
    public void No_more_than_a_bound_are_offered_and_not_acknowledged()
    {
        Accept(NotificationsOffered.UnsettledMax + 10);
        Assert.Equal(NotificationsOffered.UnsettledMax, Offer().Length);
        Assert.Equal([], Offer());
        Acknowledge(5);
        Assert.Equal(Enumerable.Range(NotificationsOffered.UnsettledMax + 1, 5).Select(i => (long)i), Offer());
    }

    [Fact]
    public void Behind_a_retirement_that_is_not_stored_nothing_is_offered()
    {
        Accept(1);
        Assert.Equal([], Offer(isAsStored: false));
        Assert.Equal([1], Offer());
    }

    [Theory]
    [InlineData(0)] // acknowledged before
    [InlineData(3)] // never offered
    public void An_acknowledgement_that_says_nothing_new_is_ignored(long upTo)
    {
        Accept(3);
        Offer(stored: Stored with { NextNotification = 3 });
        Assert.Null(_offer.Acknowledge(upTo, Now));
    }

    [Fact]
    public void After_silence_all_that_is_not_acknowledged_is_offered_again()
    {
        Accept(3);
        Offer();
        Acknowledge(1);
        _offer = _offer.Retry(Now + RetryAfter - TimeSpan.FromMilliseconds(1));
        Assert.Equal([], Offer());
        _offer = _offer.Retry(Now + RetryAfter);
        Assert.Equal([2, 3], Offer());
    }

    [Fact]
    public void After_recovery_what_is_not_acknowledged_is_pending_and_nothing_is_offered()
    {
        Accept(3);
        _outbox.AcknowledgeNotifications(1);
        _offer = NotificationOffer.After(_outbox);
        Assert.True(_offer.IsPendingAt(Stored));
        Assert.False(_offer.IsUnstored);
        Assert.Equal([2, 3], Offer());
        Acknowledge(3);
        Assert.True(_offer.IsUnstored);
        Assert.False(_offer.IsPendingAt(Stored));
    }
}
