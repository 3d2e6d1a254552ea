using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Push.Tests;

public sealed class ReceiverLanesSpec
{
    private static readonly TimeSpan Now = TimeSpan.FromHours(1);
    private static readonly HttpForwarding To = HttpForwarding.Of(new RuleAction
    {
        ActionId = "a",
        RecordId = "1",
        RuleId = "r",
        ProjectId = Given.Project,
        Channel = RuleAction.HttpForwarding,
        ChannelDetail = "{}",
        Url = "http://a/",
    })!;

    private readonly PushOptions _options = new()
    {
        ConcurrencyPerReceiver = 1,
        WaitingMax = 2,
        BreakerFailures = 2,
        WaitMax = TimeSpan.FromSeconds(5),
    };

    private readonly ReceiverLanes _receiver;

    public ReceiverLanesSpec() => _receiver = new ReceiverLanes("a", _options) { To = To };

    [Fact]
    public void A_lane_with_nothing_in_it_closes()
    {
        var lane = LaneOf(1);
        Assert.Equal(LaneStep.Close, _receiver.Next(lane, Now));
        _receiver.Close(lane);
        Assert.True(_receiver.IsIdle);
    }

    [Fact]
    public void A_healthy_receiver_is_waited_for()
    {
        var lane = LaneOf(1);
        Assert.True(Add(lane));
        Assert.Equal(LaneStep.AwaitSlot, _receiver.Next(lane, Now));
    }

    [Fact]
    public void What_is_for_a_queue_becomes_a_row()
    {
        _receiver.To = null;
        Assert.Equal(LaneStep.Append, NextOfNew());
    }

    [Fact]
    public void Older_rows_are_looked_for_where_there_may_be_some()
    {
        var lane = _receiver.LaneOf(Given.Device(1), Now, hasRows: true, isRowless: false);
        Add(lane);
        Assert.Equal(LaneStep.AppendIfBehind, _receiver.Next(lane, Now));

        var rowless = _receiver.LaneOf(Given.Device(2), Now, hasRows: true, isRowless: true);
        Add(rowless);
        Assert.Equal(LaneStep.AwaitSlot, _receiver.Next(rowless, Now));
    }

    [Fact]
    public void Rows_this_node_wrote_since_the_look_count_too_until_a_look_knows_them()
    {
        _receiver.RowsWrittenAt(Now);
        var (before, behind) = (Now - TimeSpan.FromSeconds(1), Now + TimeSpan.FromSeconds(1));
        Assert.True(_receiver.LaneOf(Given.Device(1), before, hasRows: false, isRowless: false).MayHaveOlderRows);
        _receiver.Look(behind, isOpen: false);
        Assert.False(_receiver.LaneOf(Given.Device(2), behind, hasRows: false, isRowless: false).MayHaveOlderRows);
    }

    [Fact]
    public void What_waits_too_long_or_is_too_much_becomes_a_row()
    {
        var lane = LaneOf(1);
        Add(lane);
        Assert.Equal(LaneStep.Append, _receiver.Next(lane, Now + TimeSpan.FromSeconds(6)));
        for (var d = 2; d <= 3; d++) Add(LaneOf(d));
        Assert.Equal(LaneStep.Append, _receiver.Next(lane, Now));
    }

    [Fact]
    public void Slots_are_taken_in_turn_and_who_waited_too_long_gives_way()
    {
        var (first, second, late) = (LaneOf(1), LaneOf(2), Now + TimeSpan.FromSeconds(6));
        foreach (var lane in new[] { first, second })
        {
            Add(lane);
            _receiver.AwaitSlot(lane);
        }

        Assert.True(_receiver.TryTakeSlot(Now, out var taken, out var step));
        Assert.Equal((first, LaneStep.AwaitSlot), (taken, step));
        Assert.False(_receiver.TryTakeSlot(Now, out _, out _)); // one slot
        _receiver.FreeSlot();
        Assert.True(_receiver.TryTakeSlot(late, out taken, out step));
        Assert.Equal((second, LaneStep.Append), (taken, step));
    }

    [Fact]
    public void When_the_breaker_opens_who_waits_is_told_and_a_look_that_began_before_does_not_close_it()
    {
        var lane = LaneOf(1);
        Add(lane);
        _receiver.AwaitSlot(lane);
        Assert.False(_receiver.Failed(0, out _));
        Assert.True(_receiver.Failed(0, out var waiting));
        Assert.Equal([lane], waiting);
        Assert.Equal(LaneStep.Append, _receiver.Next(lane, Now));

        _receiver.Look(Now, isOpen: false); // not written yet
        Assert.True(_receiver.IsOpen);
        _receiver.OpenedAt(Now);
        _receiver.Look(Now + TimeSpan.FromSeconds(1), isOpen: false); // a probe was answered
        Assert.False(_receiver.IsOpen);
        Assert.Equal(default, _receiver.Breaker);
    }

    private Lane LaneOf(int device) => _receiver.LaneOf(Given.Device(device), Now, hasRows: false, isRowless: false);

    private bool Add(Lane lane)
    {
        var device = new DeviceNotifications(lane.DeviceId);
        var notification = new PendingNotification(device, Given.Notification(1, Given.Noon), Now);
        notification.Resolve(Given.Header);
        notification.Match(PushShape.Flat);
        return _receiver.Add(lane, notification);
    }

    private LaneStep NextOfNew()
    {
        var lane = LaneOf(1);
        Add(lane);
        return _receiver.Next(lane, Now);
    }
}

public sealed class MatchQueueSpec
{
    private static readonly TimeSpan Now = TimeSpan.FromHours(1);

    private readonly MatchQueue _queue = new();

    [Fact]
    public void Nothing_to_match_is_no_reason_to_look() => Assert.False(_queue.TryBeginLook(Now));

    [Fact]
    public void One_look_at_a_time_serves_all_that_came_soon_enough_after_it_began()
    {
        Add(Now);
        Assert.True(_queue.TryBeginLook(Now));
        Add(Now + RuleBook.MaxAge);
        Add(Now + RuleBook.MaxAge + TimeSpan.FromMilliseconds(1));
        Assert.False(_queue.TryBeginLook(Now + TimeSpan.FromSeconds(1))); // one is under way
        Assert.False(_queue.TryNext(out _, out _));

        _queue.EndLook(new Look(Now, RuleSnapshot.Empty, BacklogView.Empty));
        Assert.True(_queue.TryNext(out _, out _));
        Assert.True(_queue.TryNext(out _, out _));
        Assert.False(_queue.TryNext(out _, out _)); // needs a younger one
        Assert.True(_queue.TryBeginLook(Now + RuleBook.MaxAge));
    }

    [Fact]
    public void A_look_in_use_is_renewed_before_it_is_too_old_and_one_that_nobody_uses_is_not()
    {
        Add(Now);
        Assert.True(_queue.TryBeginLook(Now));
        _queue.EndLook(new Look(Now, RuleSnapshot.Empty, BacklogView.Empty));
        Assert.True(_queue.TryNext(out _, out _));
        Assert.False(_queue.TryBeginLook(Now + TimeSpan.FromSeconds(1)));
        Add(Now + TimeSpan.FromMilliseconds(10));
        Assert.True(_queue.TryNext(out _, out _));
        Assert.False(_queue.TryBeginLook(Now + TimeSpan.FromMilliseconds(10))); // young enough
        Assert.True(_queue.TryBeginLook(Now + RuleBook.MaxAge / 2));
    }

    private void Add(TimeSpan at) =>
        _queue.Add(new PendingNotification(new DeviceNotifications(Given.Lamp), Given.Notification(1, Given.Noon), at));
}
