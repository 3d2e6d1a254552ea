using Akka.Actor;
using Akka.TestKit.Xunit2;
using IoTDelivery.Domain;

namespace IoTDelivery.Push.Tests;

public sealed class DeviceNotificationsSpec : TestKit
{
    private static readonly TimeSpan At = TimeSpan.FromHours(1);

    private readonly DeviceNotifications _lamp = new(Given.Lamp);
    private readonly IActorRef _here, _moved;

    public DeviceNotificationsSpec() => (_here, _moved) = (CreateTestProbe().Ref, CreateTestProbe().Ref);

    [Fact]
    public void The_first_number_offered_is_the_lowest_outstanding_one()
    {
        Assert.Equal(2, Take(_here, 5, 6).Taken);
        Assert.Equal((4, 6), (_lamp.SettledUpTo, _lamp.OfferedUpTo));
    }

    [Fact]
    public void What_is_offered_again_is_taken_once()
    {
        Take(_here, 1, 2);
        Assert.Equal(1, Take(_here, 1, 2, 3).Taken);
        Assert.Equal(3, _lamp.Count);
    }

    [Fact]
    public void Behind_a_lost_offer_nothing_is_taken()
    {
        Take(_here, 1);
        Assert.Equal(0, Take(_here, 3).Taken);
        Assert.Equal(1, _lamp.OfferedUpTo);
        Assert.Equal(2, Take(_here, 2, 3).Taken);
    }

    [Fact]
    public void What_a_device_that_moved_does_not_offer_was_settled_elsewhere()
    {
        Take(_here, 1);
        var offer = Take(_moved, 4);
        Assert.Equal((1, true), (offer.Taken, offer.MustLookAgain));
        Assert.Equal(_moved, _lamp.Device);
    }

    [Fact]
    public void A_device_that_offers_what_is_settled_has_not_heard_of_it()
    {
        Take(_here, 1);
        Settle();
        Assert.True(Take(_here, 1).MustAcknowledge);
    }

    [Fact]
    public void Without_room_it_is_incomplete_until_the_rest_is_offered_again()
    {
        Assert.Equal(1, _lamp.Take(_here, Numbers(1, 2), room: 1, At).Taken);
        Assert.True(_lamp.IsIncomplete);
        Assert.Equal(0, Take(_here, 3).Taken);
        Assert.Equal(2, Take(_here, 2, 3).Taken);
        Assert.False(_lamp.IsIncomplete);
    }

    [Fact]
    public void What_has_no_header_is_dropped_with_all_behind_it()
    {
        Take(_here, 1);
        Resolve(Given.Header);
        Assert.Single(TakeResolved());
        Take(_here, 2, 3);
        Resolve(null);
        Assert.Null(_lamp.NextResolved(At, out var dropped));
        Assert.Equal(2, dropped);
        Assert.Equal((1, 1, true), (_lamp.Count, _lamp.OfferedUpTo, _lamp.IsIncomplete));
        Assert.False(_lamp.IsForgettable);
    }

    [Fact]
    public void A_header_counts_for_what_was_there_when_its_reading_began()
    {
        Take(_here, 1, 2);
        _lamp.Resolve(1, Given.Header);
        Assert.Equal([false, true], _lamp.Unresolved.Select(n => n.IsUnresolved));
    }

    [Fact]
    public void A_header_that_is_offered_is_that_of_everything_before_it()
    {
        Take(_here, 1);
        _lamp.Resolve(1, null);
        _lamp.Take(_here, [Given.Notification(2, Given.Noon) with { Header = Given.Header }], room: 10, At);
        Assert.Equal(1, _lamp.NextResolved(At, out _)!.Number);
        Assert.Equal(2, _lamp.NextResolved(At, out _)!.Number);
    }

    [Theory]
    [InlineData(9, false)]
    [InlineData(10, true)]
    public void A_device_that_brings_no_header_after_a_while_was_never_known(int seconds, bool isKnownToBeUnknown)
    {
        Take(_here, 1);
        Resolve(null);
        Assert.Empty(TakeResolved());
        var later = At + TimeSpan.FromSeconds(seconds);
        _lamp.Take(_here, Numbers(1), room: 10, later);
        Resolve(null);
        Assert.Equal(isKnownToBeUnknown, _lamp.NextResolved(later, out _) is { Header: null });
    }

    [Fact]
    public void It_is_complete_in_order_only()
    {
        Take(_here, 1, 2);
        Resolve(Given.Header);
        var taken = TakeResolved();
        Assert.True(taken[1].Settle());
        Assert.False(_lamp.TryComplete(out _));
        Assert.True(taken[0].Settle());
        while (_lamp.TryComplete(out _)) { }
        Assert.Equal(2, _lamp.SettledUpTo);
        Assert.True(_lamp.IsForgettable);
    }

    private static Notification[] Numbers(params int[] numbers) =>
        [.. numbers.Select(n => Given.Notification(n, Given.Noon))];

    private DeviceNotifications.Offer Take(IActorRef device, params int[] numbers) =>
        _lamp.Take(device, Numbers(numbers), room: 100, At);

    private void Resolve(DeviceHeader? header) => _lamp.Resolve(_lamp.Unresolved.Count, header);

    private List<PendingNotification> TakeResolved()
    {
        var resolved = new List<PendingNotification>();
        while (_lamp.NextResolved(At, out _) is { } next) resolved.Add(next);
        return resolved;
    }

    private void Settle()
    {
        Resolve(Given.Header);
        foreach (var notification in TakeResolved()) notification.Settle();
        while (_lamp.TryComplete(out _)) { }
    }
}
