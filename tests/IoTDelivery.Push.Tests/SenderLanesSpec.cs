namespace IoTDelivery.Push.Tests;

public sealed class SenderLanesSpec
{
    private const long Now = 1_000_000;

    private readonly PushOptions _options = new() { BreakerFailures = 2, ProbeInterval = TimeSpan.FromSeconds(10) };
    private readonly SenderLanes _lanes = new();

    [Fact]
    public void A_lane_goes_when_its_rows_are_removed_and_not_before()
    {
        _lanes.Add(Row(1));
        var lane = Send();
        _lanes.Complete(lane, Row(1), null);
        Assert.False(_lanes.IsEmpty);
        Assert.Single(_lanes.BeginRemoving());
        Assert.True(_lanes.EndRemoving(Now, new HashSet<long>(), new PushOptions()));
        Assert.True(_lanes.IsEmpty);
    }

    [Fact]
    public void A_lane_that_was_passed_over_reads_on_before_it_goes()
    {
        _lanes.Add(Row(1));
        var lane = Send();
        _lanes.PassOver();
        _lanes.Complete(lane, Row(1), null);
        _lanes.BeginRemoving();
        Assert.False(_lanes.EndRemoving(Now, new HashSet<long>(), new PushOptions()));
        Assert.Equal([lane], _lanes.Blocked);
        Assert.Equal(Now, _lanes.NextRetry);
    }

    [Fact]
    public void What_failed_is_read_again_with_those_behind_it()
    {
        _lanes.Add(Row(1));
        _lanes.Add(Row(2));
        var lane = Send();
        _lanes.Fail(lane, Now, _options, retryAfter: null);
        Assert.Empty(_lanes.Rows);
        Assert.InRange(_lanes.NextRetry!.Value, Now + 800, Now + 1000);
        _lanes.RetryAll(Now);
        Assert.Equal(Now, _lanes.NextRetry);
    }

    [Theory]
    [InlineData(0.1, 0.8, 1)]    // sooner than it would be asked anyway
    [InlineData(30, 30, 30)]
    [InlineData(86400, 600, 600)] // a receiver must not put off a notification for longer than it lives
    public void A_receiver_is_left_alone_for_as_long_as_it_asks_for_up_to_a_bound(double asked, double from, double to)
    {
        _lanes.Add(Row(1));
        _lanes.Fail(Send(), Now, _options, TimeSpan.FromSeconds(asked));
        Assert.InRange(_lanes.NextRetry!.Value, Now + (long)(from * 1000), Now + (long)(to * 1000));
    }

    [Fact]
    public void What_is_forgotten_is_not_in_memory_but_what_is_being_sent_is()
    {
        _lanes.Add(Row(1));
        _lanes.Add(Row(2));
        _lanes.Add(Row(3, "other"));
        var lane = Send();
        _lanes.PassOver();
        _lanes.Forget(Now);
        Assert.Equal([1], _lanes.Rows.Select(r => r.Id));
        Assert.Equal(["lamp"], _lanes.Devices);
        _lanes.Complete(lane, Row(1), null);
        _lanes.BeginRemoving();

        // What was forgotten, pages read from the beginning.
        Assert.True(_lanes.EndRemoving(Now, new HashSet<long>(), new PushOptions()));
    }

    [Fact]
    public void A_page_begins_behind_the_last_one_and_at_the_oldest_row_now_and_then()
    {
        var cursor = new BacklogCursor();
        cursor.BeginInspection();
        cursor.EndInspection(isCut: false, pagesMayCome: true);
        cursor.BeginPage();
        cursor.EndRead();
        cursor.Passed(17, isCut: false);
        Assert.Equal((17, false), (cursor.ReadUpTo, cursor.MayHaveMore));
        cursor.Inspect();
        Assert.Equal((0, true, true), (cursor.ReadUpTo, cursor.MayHaveMore, cursor.MustInspect));
    }

    [Fact]
    public void A_page_stops_at_a_row_that_is_too_young()
    {
        var cursor = new BacklogCursor();
        cursor.BeginPage();
        cursor.EndRead();
        cursor.StopAt(5, Now);
        Assert.Equal(4, cursor.ReadUpTo);
        Assert.False(cursor.MayReadPage(Now - 1));
        Assert.True(cursor.MayReadPage(Now));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_long_trim_goes_on_behind_a_page_or_at_once_when_none_can_come(bool pagesMayCome)
    {
        var cursor = new BacklogCursor();
        cursor.BeginInspection();
        cursor.EndInspection(isCut: true, pagesMayCome);
        Assert.Equal(!pagesMayCome, cursor.MustInspect);
        cursor.BeginPage();
        cursor.EndRead();
        Assert.True(cursor.MustInspect);
    }

    [Fact]
    public void A_breaker_is_written_when_it_changes_and_a_page_from_before_does_not_open_it_again()
    {
        var breaker = new SenderBreaker(_options);
        Assert.False(breaker.Failed(Now));
        Assert.True(breaker.Failed(Now));
        Assert.True(breaker.IsAhead);
        Assert.True(breaker.BeginWrite());
        Assert.True(breaker.IsAhead);
        breaker.EndWrite();
        Assert.False(breaker.IsAhead);

        var before = breaker.Changes;
        breaker.Close();
        Assert.False(breaker.Read(Now, before, Now));
        Assert.False(breaker.BeginWrite());
        breaker.EndWrite();
        Assert.True(breaker.Read(Now, breaker.Changes, Now));
        Assert.Equal(Now + 10_000, breaker.ProbeAt);
    }

    [Fact]
    public void A_count_is_for_good_one_check_after_a_row_was_seen()
    {
        var count = default(BacklogCount).Check((0, 0), (3, 30), newest: 10);
        Assert.Equal((0, 3, 30), (count.UpTo, count.AllRows, count.AllBytes));
        count = count.Check((4, 40), (1, 10), newest: 12); // one of them was committed late
        Assert.Equal((10, 5, 50), (count.UpTo, count.AllRows, count.AllBytes));
        count = count.Without(9, 10).Without(12, 10);
        Assert.Equal((3, 30, 0, 0), (count.Rows, count.Bytes, count.RowsBehind, count.BytesBehind));
    }

    private static BacklogRow Row(long id, string device = "lamp") =>
        new() { Id = id, ActionId = "a", DeviceId = device, Number = id, Body = [], Bytes = 0, CreatedAt = 0 };

    private SenderLane Send()
    {
        Assert.True(_lanes.TryTakeReady(out var lane));
        _lanes.Begin(lane, lane.Rows.Peek());
        return lane;
    }
}
