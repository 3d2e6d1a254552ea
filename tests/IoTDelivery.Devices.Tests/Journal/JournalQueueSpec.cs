using IoTDelivery.Devices.Journal;

namespace IoTDelivery.Devices.Tests.Journal;

/// <summary>The queue in front of the journal, without a database: what is written together, what is tried again, what
/// fails, and who is told what.</summary>
public sealed class JournalQueueSpec : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    private readonly FakeStore _store = new();
    private readonly JournalLoad _load = new(bytesMax: 100_000);
    private JournalQueue? _queue;

    public async ValueTask DisposeAsync()
    {
        if (_queue is not null) await _queue.DisposeAsync();
    }

    [Fact]
    public async Task What_came_while_a_transaction_ran_goes_out_as_one_ordered_by_device()
    {
        var open = Hold();
        var first = Write("d5", 1);
        await _store.AttemptAsync();
        var others = new[] { Write("d9", 1), Write("d1", 1), Write("d7", 1) };

        open.SetResult();

        Assert.Equal(["d1", "d7", "d9"], await _store.AttemptAsync());
        await Task.WhenAll([first.Done, .. others.Select(o => o.Done)]).WaitAsync(Patience);
        Assert.Null(await first.Done); // Akka's word for: nothing was rejected
        Assert.Equal(4, _store.Rows.Count);
    }

    [Fact]
    public async Task The_rows_of_a_device_are_stored_in_order_one_transaction_each()
    {
        var open = Hold();
        var writes = Enumerable.Range(1, 5).Select(n => Write("d1", n)).ToList();
        open.SetResult();

        await Task.WhenAll(writes.Select(w => w.Done)).WaitAsync(Patience);

        Assert.Equal(Enumerable.Repeat("d1", 5), _store.Attempts().Select(Assert.Single));
        Assert.Equal([1, 2, 3, 4, 5], _store.Rows.Keys.Select(k => k.Nr));
    }

    [Fact]
    public async Task Rows_behind_one_that_failed_fail_untried_and_a_later_one_is_tried_again()
    {
        _store.Bad.Add("d1");
        var open = Hold();
        var writes = Enumerable.Range(1, 3).Select(n => Write("d1", n)).ToList();
        open.SetResult();

        foreach (var write in writes) await Assert.ThrowsAsync<FakeStore.BadData>(() => write.Done.WaitAsync(Patience));
        Assert.Single(_store.Attempts());

        _store.Bad.Clear();
        await Write("d1", 1).Done.WaitAsync(Patience);
        Assert.Equal((1, 0), (_store.Rows.Count, _load.Bytes));
    }

    [Fact]
    public async Task One_bad_row_among_a_hundred_fails_one_device_and_stores_the_others()
    {
        _store.Bad.Add("d042");
        var open = Hold();
        var writes = Enumerable.Range(0, 100).Select(n => Write($"d{n:000}", 1)).ToList();
        open.SetResult();

        await Assert.ThrowsAsync<FakeStore.BadData>(() => writes[42].Done.WaitAsync(Patience));
        await Task.WhenAll(writes.Where((_, i) => i != 42).Select(w => w.Done)).WaitAsync(Patience);

        Assert.Equal(99, _store.Rows.Count);
        Assert.True(_store.Attempts().Count < 40, "It is looked for in parts.");
    }

    [Fact]
    public async Task A_key_that_is_taken_says_another_owner_and_nobody_else_in_the_transaction_notices()
    {
        _store.Rows.Add(("d2", 7), ([9], "somebody else"));
        var open = Hold();
        var (first, taken, behind, third) = (Write("d1", 1), Write("d2", 7), Write("d2", 8), Write("d3", 1));
        open.SetResult();

        await Task.WhenAll(first.Done, third.Done).WaitAsync(Patience);
        await Assert.ThrowsAsync<SequenceNumberTakenException>(() => taken.Done.WaitAsync(Patience));
        await Assert.ThrowsAsync<SequenceNumberTakenException>(() => behind.Done.WaitAsync(Patience));
        Assert.DoesNotContain(("d2", 8), _store.Rows.Keys);
    }

    [Fact]
    public async Task A_commit_whose_answer_was_lost_and_that_had_happened_is_found_and_counts_as_stored()
    {
        _store.After.Enqueue(() => throw new FakeStore.Away("the connection is gone"));

        await Write("d1", 1).Done.WaitAsync(Patience);

        Assert.Equal((2, 1, 1), (_store.Attempts().Count, _store.Resets, _store.Rows.Count));
    }

    [Fact]
    public async Task A_commit_whose_answer_was_lost_and_that_had_not_happened_is_made_again()
    {
        _store.Before.Enqueue(() => throw new FakeStore.Away("the connection is gone"));

        await Write("d1", 1).Done.WaitAsync(Patience);

        Assert.Equal((2, 1), (_store.Attempts().Count, _store.Rows.Count));
    }

    [Fact]
    public async Task After_a_lost_answer_a_row_of_another_owner_is_not_taken_for_ours()
    {
        _store.Before.Enqueue(() =>
        {
            _store.Rows.Add(("d1", 1), ([1], "somebody else")); // with the very same bytes
            throw new FakeStore.Away("the connection is gone");
        });

        await Assert.ThrowsAsync<SequenceNumberTakenException>(() => Write("d1", 1).Done.WaitAsync(Patience));
    }

    [Fact]
    public async Task A_database_that_is_away_for_many_attempts_costs_time_and_no_write()
    {
        for (var i = 0; i < 12; i++) _store.Before.Enqueue(() => throw new FakeStore.Away("no answer"));

        var writes = Enumerable.Range(0, 50).Select(n => Write($"d{n}", 1)).ToList();

        await Task.WhenAll(writes.Select(w => w.Done)).WaitAsync(Patience);
        Assert.Equal((50, 0), (_store.Rows.Count, _load.Bytes));
    }

    [Fact]
    public async Task What_an_outage_outlives_fails_as_unavailable_and_not_as_another_owner()
    {
        await using var queue = Queue(new JournalQueueOptions { OutageMax = TimeSpan.FromMilliseconds(200), RetryAfter = TimeSpan.FromMilliseconds(20) });
        for (var i = 0; i < 10_000; i++) _store.Before.Enqueue(() => throw new FakeStore.Away("no answer"));

        var (first, behind) = (Write("d1", 1, queue), Write("d1", 2, queue));

        await Assert.ThrowsAsync<JournalUnavailableException>(() => first.Done.WaitAsync(Patience));
        await Assert.ThrowsAsync<JournalUnavailableException>(() => behind.Done.WaitAsync(Patience));
        Assert.Equal(0, _load.Bytes);
    }

    [Fact]
    public async Task A_row_that_fails_again_and_again_while_others_are_stored_fails_alone_long_before_an_outage_is_over()
    {
        _store.Locked.Add("locked");
        var locked = Write("locked", 1);

        for (var n = 1; !locked.Done.IsCompleted; n++) await Write("healthy", n).Done.WaitAsync(Patience);

        await Assert.ThrowsAsync<FakeStore.Away>(() => locked.Done);
    }

    [Fact]
    public async Task A_row_that_a_connection_of_our_own_still_locks_waits_for_it_while_others_are_stored()
    {
        _store.Locked.Add("locked");
        _store.IsHeldByOwn = true;
        var locked = Write("locked", 1);
        var tries = 0;
        for (var n = 1; tries < 6; n++)
        {
            await Write("healthy", n).Done.WaitAsync(Patience);
            tries += _store.Attempts().Count(a => a.Contains("locked"));
        }

        Assert.False(locked.Done.IsCompleted);
        _store.Locked.Clear();
        await locked.Done.WaitAsync(Patience);
    }

    // Akka tells nobody of his write before those that came earlier have ended: so at some time nobody writes any more.
    [Fact]
    public async Task A_row_that_fails_again_and_again_fails_soon_even_if_nothing_more_comes_behind_it()
    {
        _store.Locked.Add("locked");
        var writes = new[] { Write("a", 1), Write("locked", 1), Write("z", 1) };

        await Assert.ThrowsAsync<FakeStore.Away>(() => writes[1].Done.WaitAsync(Patience));
        await Task.WhenAll(writes[0].Done, writes[2].Done).WaitAsync(Patience);
    }

    [Fact]
    public async Task Recovery_waits_for_what_was_begun_and_what_was_not_begun_leaves()
    {
        var open = Hold();
        var (begun, queued) = (Write("d1", 1), Write("d1", 2));
        await _store.AttemptAsync();

        var settled = Queue().SettleAsync("d1");

        await Assert.ThrowsAsync<JournalUnavailableException>(() => queued.Done.WaitAsync(Patience));
        Assert.False(settled.IsCompleted);
        open.SetResult();
        await settled.WaitAsync(Patience);
        Assert.True(begun.Done.IsCompletedSuccessfully);
        Assert.Equal([("d1", 1L)], _store.Rows.Keys);
    }

    [Fact]
    public async Task Recovery_of_a_device_whose_row_nobody_began_waits_for_nothing_and_its_next_owner_writes()
    {
        var open = Hold();
        var running = Write("d1", 1);
        await _store.AttemptAsync();
        var queued = Write("d2", 5);

        await Queue().SettleAsync("d2").WaitAsync(Patience);
        await Assert.ThrowsAsync<JournalUnavailableException>(() => queued.Done.WaitAsync(Patience));
        var next = Write("d2", 3);
        open.SetResult();

        await Task.WhenAll(running.Done, next.Done).WaitAsync(Patience);
        Assert.Equal([("d1", 1L), ("d2", 3L)], _store.Rows.Keys.Order());
    }

    [Fact]
    public async Task Rows_of_an_actor_that_has_stopped_leave_the_queue_if_nobody_began_them()
    {
        var open = Hold();
        var running = Write("d1", 1);
        await _store.AttemptAsync();
        var orphan = new Orphan("d2");
        Queue().Enqueue(orphan);
        open.SetResult();

        await running.Done.WaitAsync(Patience);
        await Assert.ThrowsAsync<JournalUnavailableException>(() => orphan.Done.WaitAsync(Patience));
        Assert.Equal([("d1", 1L)], _store.Rows.Keys);
    }

    [Fact]
    public async Task What_waits_is_counted_in_bytes_until_it_is_stored()
    {
        var open = Hold();
        var writes = Enumerable.Range(0, 3).Select(n => Write($"d{n}", 1, message: new byte[40_000])).ToList();

        Assert.True(_load.IsFull);
        open.SetResult();
        await Task.WhenAll(writes.Select(w => w.Done)).WaitAsync(Patience);
        Assert.Equal((false, 0), (_load.IsFull, _load.Bytes));
    }

    [Fact]
    public async Task A_transaction_is_no_longer_than_its_bounds_and_a_large_row_goes_out_all_the_same()
    {
        await using var queue = Queue(new JournalQueueOptions { BatchMax = 3, BatchBytesMax = 2_000 });
        var open = Hold();
        var first = Write("a", 1, queue);
        await _store.AttemptAsync();
        var writes = Enumerable.Range(0, 6).Select(n => Write($"d{n}", 1, queue)).Append(Write("large", 1, queue, new byte[50_000])).ToList();
        open.SetResult();

        await Task.WhenAll(writes.Append(first).Select(w => w.Done)).WaitAsync(Patience);
        var attempts = _store.Attempts();
        Assert.All(attempts, a => Assert.InRange(a.Length, 1, 3));
        Assert.Contains(attempts, a => a is ["large"]);
    }

    [Fact]
    public async Task What_comes_while_a_transaction_is_under_way_goes_out_together_behind_it()
    {
        await using var queue = Queue(new JournalQueueOptions { Writers = 3, NextAfter = TimeSpan.FromHours(1) });
        var open = Hold();
        var first = Write("a", 1, queue);
        await _store.AttemptAsync();
        var writes = Enumerable.Range(0, 60).Select(n => Write($"d{n}", 1, queue)).ToList();
        open.SetResult();

        await Task.WhenAll(writes.Append(first).Select(w => w.Done)).WaitAsync(Patience);
        Assert.Equal(60, Assert.Single(_store.Attempts()).Length);
    }

    [Fact]
    public async Task A_transaction_that_hangs_holds_nobody_up()
    {
        await using var queue = Queue(new JournalQueueOptions { Writers = 3 });
        var open = Hold();
        var hanging = Write("a", 1, queue);
        await _store.AttemptAsync();

        for (var nr = 1; nr <= 3; nr++) await Write("b", nr, queue).Done.WaitAsync(Patience);
        Assert.False(hanging.Done.IsCompleted);
        open.SetResult();
        await hanging.Done.WaitAsync(Patience);
    }

    [Fact]
    public async Task A_full_transaction_waits_for_no_other()
    {
        await using var queue = Queue(
            new JournalQueueOptions { Writers = 3, NextAfter = TimeSpan.FromHours(1), BatchMax = 3 });
        var open = Hold();
        var hanging = Write("a", 1, queue);
        await _store.AttemptAsync();
        var writes = Enumerable.Range(0, 3).Select(n => Write($"d{n}", 1, queue)).ToList();

        await Task.WhenAll(writes.Select(w => w.Done)).WaitAsync(Patience);
        Assert.False(hanging.Done.IsCompleted);
        open.SetResult();
        await hanging.Done.WaitAsync(Patience);
    }

    [Fact]
    public async Task A_queue_that_is_closed_fails_what_waits_and_what_comes()
    {
        for (var i = 0; i < 10_000; i++) _store.Before.Enqueue(() => throw new FakeStore.Away("no answer"));
        var queue = Queue();
        var waiting = Write("d1", 1);
        await _store.AttemptAsync();

        await queue.DisposeAsync();

        await Assert.ThrowsAsync<JournalUnavailableException>(() => waiting.Done.WaitAsync(Patience));
        await Assert.ThrowsAsync<JournalUnavailableException>(() => Write("d2", 1).Done.WaitAsync(Patience));
        Assert.Equal(0, _load.Bytes);
    }

    private TaskCompletionSource Hold()
    {
        var open = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _store.Before.Enqueue(() => open.Task);
        return open;
    }

    private JournalQueue Queue(JournalQueueOptions? options = null)
    {
        if (options is not null) return new JournalQueue(_ => _store, options, _load, TimeProvider.System);
        return _queue ??= Queue(new JournalQueueOptions { RetryAfter = TimeSpan.FromMilliseconds(20) });
    }

    private DeviceWrite Write(string device, long nr, JournalQueue? queue = null, byte[]? message = null)
    {
        queue ??= Queue();
        var write = new DeviceWrite(device, [Row(device, nr, message ?? [1], queue.Id)], null);
        queue.Enqueue(write);
        return write;
    }

    private static JournalRow Row(string device, long nr, byte[] message, string writer) =>
        new(device, nr, message, "E1", 1, 0, writer);

    private sealed class Orphan(string device) : DeviceWrite(device, [Row(device, 1, [1], "")], null)
    {
        public override bool IsAbandoned => true;
    }
}
