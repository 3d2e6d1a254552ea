using IoTDelivery.Registry;
using IoTDelivery.Tests.Databases;

namespace IoTDelivery.Push.Tests;

public abstract class PushBacklogSpec<TDatabase>(TDatabase server) : PushSpec(server), IClassFixture<TDatabase>, IAsyncLifetime where TDatabase : TestDatabase
{
    private PushWorld _world = null!;

    public async Task InitializeAsync() => _world = await WorldAsync(drains: false);

    public async Task DisposeAsync()
    {
        if (_world is not null) await _world.DisposeAsync(); // null if it was skipped
    }

    [SkippableFact]
    public async Task A_notification_written_twice_is_one_row()
    {
        await WriteAsync(WriteMode.Append, 1, 2);
        await WriteAsync(WriteMode.Append, 1, 2, 3);
        Assert.Equal([1, 2, 3], (await ReadAsync()).Select(r => r.Number));
    }

    [SkippableFact]
    public async Task A_page_is_bounded_in_rows_and_in_bytes_but_has_one_row_at_least()
    {
        var (large, huge) = (new byte[5 * 1024 * 1024], new byte[9 * 1024 * 1024]);
        await _world.Backlog.WriteAsync([new BacklogWrite("a", "lamp", [(1, large), (2, large)], WriteMode.Append)], [], default);
        await _world.Backlog.WriteAsync([new BacklogWrite("a", "huge", [(1, huge), (2, [])], WriteMode.Append)], [], default);
        await _world.Backlog.WriteAsync([new BacklogWrite("a", "small", [(1, []), (2, []), (3, [])], WriteMode.Append)], [], default);

        Assert.Equal(("1", true), await PageAsync("lamp", 100));
        Assert.Equal(("1", true), await PageAsync("huge", 100));
        Assert.Equal(("1 2", true), await PageAsync("small", 2));
        Assert.Equal(("1 2 3", false), await PageAsync("small", 100));

        async Task<(string Numbers, bool IsCut)> PageAsync(string device, int limit)
        {
            var page = await _world.Backlog.ReadAsync("a", 0, new[] { "lamp", "huge", "small" }.Except([device]).ToArray(), limit, default);
            return (string.Join(' ', page.Rows.Select(r => r.Number)), page.IsCut);
        }
    }

    [SkippableFact]
    public async Task A_notification_given_up_twice_is_one_dead_letter()
    {
        await WriteAsync(WriteMode.GiveUp, 1);
        await WriteAsync(WriteMode.GiveUp, 1);
        var letter = Assert.Single(await _world.DeadLettersAsync("a"));
        Assert.Equal("because", letter.Reason);
    }

    [SkippableFact]
    public async Task Behind_older_rows_of_its_device_it_is_written_and_else_it_is_not()
    {
        Assert.False(await WriteAsync(WriteMode.AppendIfBehind, 1));
        Assert.Empty(await ReadAsync());
        await WriteAsync(WriteMode.Append, 1);
        Assert.True(await WriteAsync(WriteMode.AppendIfBehind, 2));
        Assert.Equal([1, 2], (await ReadAsync()).Select(r => r.Number));
    }

    [SkippableFact]
    public async Task The_view_tells_who_has_rows_and_whose_breaker_is_open()
    {
        Assert.Empty((await _world.Backlog.ViewAsync(default)).HasRows);
        await _world.Backlog.WriteAsync([.. new[] { "c", "a", "b" }.Select(a => Of(a, WriteMode.Append, 1))], ["b", "nobody"], default);
        var view = await _world.Backlog.ViewAsync(default);
        Assert.Equal(["a", "b", "c"], view.HasRows.Order());
        Assert.Equal(["b"], view.IsOpen); // without rows an open breaker means nothing
    }

    [SkippableFact]
    public async Task Dead_letters_are_listed_in_pages_replayed_and_forgotten()
    {
        await WriteAsync(WriteMode.GiveUp, 1, 2, 3);
        var (items, count) = await _world.Backlog.DeadLettersAsync("a", 0, 2, default);
        Assert.Equal([1, 2], items.Select(l => l.Number));
        Assert.Equal(3, count);
        Assert.Equal([3], (await _world.Backlog.DeadLettersAsync("a", items[1].Id, 2, default)).Items.Select(l => l.Number));

        Assert.Equal(1, await _world.Backlog.ForgetDeadLettersAsync("a", items[0].Id, default));
        Assert.Equal(2, await _world.Backlog.ReplayAsync("a", default));
        Assert.Empty(await _world.DeadLettersAsync("a"));
        Assert.Equal([2, 3], (await ReadAsync()).Select(r => r.Number));
    }

    [SkippableFact]
    public async Task Dropping_an_action_says_how_many_went_with_it()
    {
        await WriteAsync(WriteMode.Append, 1, 2);
        await WriteAsync(WriteMode.GiveUp, 3);
        Assert.Equal((2, 1), await _world.Backlog.DropActionAsync("a", default));
        Assert.Equal((0, 0L), await _world.Backlog.CountAsync("a", default));
    }

    [SkippableFact]
    public async Task Where_one_dead_letter_is_refused_the_others_are_written_and_its_row_stays()
    {
        await WriteAsync(WriteMode.Append, 1, 2, 3, 4);
        await _world.PoisonLetterAsync(2);
        var rows = await ReadAsync();
        var refused = await _world.Backlog.SettleAsync(
            "a", [(rows[0], "because"), (rows[1], "because"), (rows[2], null)], isOpen: true, default);
        Assert.Equal(2, Assert.Single(refused).Row.Number);
        Assert.Equal([2, 4], (await ReadAsync()).Select(r => r.Number));
        Assert.Equal([1], (await _world.DeadLettersAsync("a")).Select(l => l.Number));
        Assert.NotNull(await _world.Backlog.OpenedAtAsync("a", default));

        _world.Clock.Move(TimeSpan.FromHours(25));
        Assert.Equal((1, 0, 1), await TrimAsync());
        Assert.Equal([2], (await ReadAsync()).Select(r => r.Number));
        Assert.Equal([1, 4], (await _world.DeadLettersAsync("a")).Select(l => l.Number));
    }

    [SkippableFact]
    public async Task What_is_too_old_falls_out_oldest_first()
    {
        await WriteAsync(WriteMode.Append, 1, 2);
        _world.Clock.Move(TimeSpan.FromHours(23));
        await WriteAsync(WriteMode.Append, 3);
        Assert.Equal((0, 0, 3), await TrimAsync());
        _world.Clock.Move(TimeSpan.FromHours(1.1));
        Assert.Equal((2, 0, 1), await TrimAsync());
        Assert.Equal([3], (await ReadAsync()).Select(r => r.Number));
        Assert.All(await _world.DeadLettersAsync("a"), l => Assert.StartsWith("not answered within", l.Reason));
    }

    [SkippableFact]
    public async Task What_is_too_much_falls_out_oldest_first_but_not_what_is_being_sent()
    {
        await WriteAsync(WriteMode.Append, 1, 2, 3, 4);
        var rows = await ReadAsync();
        _world.Options.BacklogBytesMax = rows[0].Bytes * 2;
        Assert.Equal((0, 2, 2), await TrimAsync(rows[0].Id));
        Assert.Equal([1, 4], (await ReadAsync()).Select(r => r.Number));
        Assert.Equal([2, 3], (await _world.DeadLettersAsync("a")).Select(l => l.Number));
    }

    private static BacklogWrite Of(string action, WriteMode mode, params int[] numbers) => new(action, Given.Lamp.Value,
        [.. numbers.Select(n => ((long)n, StatusNotification.Write(Given.Lamp, Given.Notification(n, Given.Noon), Given.Header, PushShape.Flat)))], mode, "because");

    private async Task<bool> WriteAsync(WriteMode mode, params int[] numbers) => (await _world.Backlog.WriteAsync([Of("a", mode, numbers)], [], default))[0].Outcome == WriteOutcome.Written;

    private async Task<(int TooOld, int TooMany, int Left)> TrimAsync(params long[] busy)
    {
        var trimmed = await _world.Backlog.TrimAsync("a", busy, _world.Options, default, default);
        return (trimmed.TooOld, trimmed.TooMany, trimmed.Count.AllRows);
    }

    private async Task<IReadOnlyList<BacklogRow>> ReadAsync() => (await _world.Backlog.ReadAsync("a", 0, [], 100, default)).Rows;
}

public sealed class SqlitePushBacklogSpec(SqliteDatabase database) : PushBacklogSpec<SqliteDatabase>(database);

public sealed class PostgreSqlPushBacklogSpec(PostgreSqlDatabase database) : PushBacklogSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerPushBacklogSpec(SqlServerDatabase database) : PushBacklogSpec<SqlServerDatabase>(database);
