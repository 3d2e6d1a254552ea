using Akka.Actor;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices.Tests.Actor;

/// <summary>What a device knows of its reminder, and when it files another one.</summary>
public sealed class DeviceReminderSpec : Akka.TestKit.Xunit2.TestKit
{
    private static new readonly DateTimeOffset Now = DateTimeOffset.UnixEpoch + TimeSpan.FromDays(1);
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(60);
    private static readonly DeviceId Lamp = DeviceId.Parse("lamp");

    private readonly DeviceReminder _reminder = new(Interval);

    private static JournalMark Expiring(int? seconds) =>
        new(1, 1, 0, seconds is { } s ? Now + TimeSpan.FromSeconds(s) : null, 0);

    [Theory]
    [InlineData(null, false, null)] // nothing is pending
    [InlineData(null, true, 60)]    // a notification: offered again at the latest then
    [InlineData(20, false, 20)]
    [InlineData(20, true, 20)]
    [InlineData(600, true, 60)]
    [InlineData(600, false, 600)]
    [InlineData(-5, false, 60)]     // what is due already is being done
    public void It_is_needed_by_the_first_moment_at_which_the_device_must_act(int? expiry, bool isPending, int? needed) =>
        Assert.Equal(needed, (_reminder.NeededBy(Expiring(expiry), isPending, Now) - Now)?.TotalSeconds);

    [Fact]
    public void A_row_brings_a_reminder_unless_one_is_due_early_enough()
    {
        var first = _reminder.WithRow(Now + TimeSpan.FromSeconds(600), Now)!;
        Assert.Equal(Now + Interval, first.DueAt); // no later than the interval
        _reminder.OnRowStored(Lamp);
        Assert.Null(_reminder.WithRow(Now + Interval, Now));
        Assert.Equal(Now + TimeSpan.FromSeconds(30), _reminder.WithRow(Now + TimeSpan.FromSeconds(30), Now)!.DueAt);
        Assert.Equal(first, _reminder.Filed); // the row is not stored yet
    }

    [Fact]
    public void One_whose_time_has_come_is_renewed_while_something_is_pending()
    {
        _reminder.WithRow(Now + Interval, Now);
        _reminder.OnRowStored(Lamp);
        Assert.False(_reminder.MayHaveFired(Now));
        Assert.True(_reminder.MayHaveFired(Now + Interval));
        Assert.Equal(Now + Interval + Interval, _reminder.Renew(Now + TimeSpan.FromHours(1), Now + Interval)!.DueAt);
    }

    [Fact]
    public void One_whose_time_has_come_is_not_relied_on_when_nothing_is_pending()
    {
        _reminder.WithRow(Now + Interval, Now);
        _reminder.OnRowStored(Lamp);
        Assert.Null(_reminder.Renew(null, Now + Interval));
        Assert.Null(_reminder.DueAt);
        Assert.NotNull(_reminder.Filed); // to be deleted when the device falls asleep
        Assert.False(_reminder.MayHaveFired(Now + Interval));
    }

    [Fact]
    public void After_it_fired_a_row_brings_a_new_one_as_soon_as_the_device_does_something_else()
    {
        _reminder.OnFired(Guid.NewGuid(), Now + Interval, ActorRefs.Nobody);
        Assert.Null(_reminder.WithRow(Now + Interval, Now));
        _reminder.OnActivity();
        Assert.NotNull(_reminder.WithRow(Now + Interval, Now));
    }

    [Fact]
    public void Who_fired_it_is_answered_once()
    {
        var service = CreateTestProbe();
        _reminder.OnFired(Guid.NewGuid(), Now + Interval, service.Ref);
        _reminder.OnRowStored(Lamp);
        _reminder.ReplyHandled(Lamp);
        service.ExpectMsg(new ReminderHandled(Lamp));
        service.ExpectNoMsg(TimeSpan.Zero);
    }

    [Fact]
    public void A_token_of_another_owner_is_foreign_until_it_is_known()
    {
        var token = Guid.NewGuid();
        Assert.True(_reminder.IsForeign(token));
        _reminder.Distrust(token);
        Assert.False(_reminder.IsForeign(token));
    }

    [Theory]
    [InlineData(30, 30, true, true)]
    [InlineData(30, 20, true, false)]
    [InlineData(-30, 20, false, true)]   // due, but the wall clock is not believed: it fires again
    [InlineData(-30, -30, false, false)]
    [InlineData(3600, 3600, true, true)]
    [InlineData(3600, 3600, false, false)] // the wall clock may have been set back
    [InlineData(3600, 600, false, true)]
    public void A_device_that_falls_asleep_has_it_set_to_what_expires_next(int expiry, int dueAt, bool isBelieved, bool isSet)
    {
        _reminder.OnChanged(new FiledReminder(Guid.NewGuid(), Now + TimeSpan.FromSeconds(dueAt)));
        Assert.Equal(isSet, _reminder.IsSetFor(Now + TimeSpan.FromSeconds(expiry), Now, isBelieved));
    }

    [Theory]
    [InlineData(30, true, 30)]
    [InlineData(3600, true, 3600)]
    [InlineData(30, false, 30)]
    [InlineData(3600, false, 600)] // by a clock that was set back it would be an hour late
    public void A_device_that_falls_asleep_is_reminded_when_something_expires_or_the_clock_is_believed_again(
        int expiry, bool isBelieved, int dueAt)
    {
        var moved = _reminder.MovedTo(Now + TimeSpan.FromSeconds(expiry), Now, isBelieved);
        Assert.Equal(Now + TimeSpan.FromSeconds(dueAt), moved.DueAt);
        _reminder.OnChanged(moved);
        Assert.True(_reminder.IsSetFor(Now + TimeSpan.FromSeconds(expiry), Now, isBelieved));
    }
}
