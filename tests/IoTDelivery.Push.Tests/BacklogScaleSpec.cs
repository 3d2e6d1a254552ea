using System.Diagnostics;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using IoTDelivery.Tests.Databases;
using LinqToDB.Data;
using Xunit.Abstractions;

namespace IoTDelivery.Push.Tests;

/// <summary>
/// What many receivers that are down, and much that waits for them, cost: statements are counted and asserted, seconds
/// are only told.
/// </summary>
public abstract class BacklogScaleSpec<TDatabase>(TDatabase server, ITestOutputHelper output)
    : PushSpec(server), IClassFixture<TDatabase>
    where TDatabase : TestDatabase
{
    [SkippableTheory]
    [InlineData(1), InlineData(90)]
    public async Task The_view_is_one_statement_however_many_receivers_are_down(int down)
    {
        await using var world = await WorldAsync(drains: false);
        await TakeDownAsync(world, down);
        using var statements = new Statements(world.Database.ConnectionString);
        var view = await world.Backlog.ViewAsync(default);
        Assert.Equal(down, view.IsOpen.Count);
        Assert.Equal(1, statements.Count);

        var clock = Stopwatch.StartNew();
        for (var i = 0; i < 100; i++) await world.Backlog.ViewAsync(default);
        output.WriteLine($"{down} receivers down: {clock.Elapsed.TotalMilliseconds / 100:f2} ms per look");
    }

    [SkippableFact]
    public async Task Many_notifications_share_a_look_and_wait_for_none_that_is_young_enough()
    {
        const int rounds = 8, each = 250;
        await using var none = await WorldAsync(drains: false);
        await using var most = await WorldAsync(drains: false);
        foreach (var world in new[] { none, most }) await world.AddReceiverAsync("a");
        await TakeDownAsync(most, 90);
        foreach (var world in new[] { none, most }) await TellAsync(world, 0); // compiled from here on
        var (without, with) = (new List<double>(), new List<double>());
        for (var round = 1; round <= rounds; round++) // in turns: what else the machine does meets both
        {
            without.AddRange(await TellAsync(none, round));
            with.AddRange(await TellAsync(most, round));
        }

        output.WriteLine($"none of 91 receivers down: {Told(without)}; 90 down: {Told(with)}");

        async Task<List<double>> TellAsync(PushWorld world, int round)
        {
            using var statements = new Statements(world.Database.ConnectionString);
            var (all, times) = (Stopwatch.StartNew(), new List<double>());
            for (var d = round * each; d < (round + 1) * each; d++)
            {
                var one = Stopwatch.StartNew();
                world.Notify(Given.Device(d), 1);
                await world.Owing.UntilAcknowledgedAsync(Given.Device(d), 1);
                times.Add(one.Elapsed.TotalMilliseconds);
            }

            // The rules' revision and the view, as often as a look may begin; however many notifications and receivers
            // there are.
            // The last one of before, one that has begun and one that ends behind it come on top.
            var looks = (int)(all.Elapsed / (Registry.RuleBook.MaxAge / 2)) + 3;
            Assert.InRange(statements.Count, 1, 2 * looks);
            return times;
        }

        static string Told(List<double> times)
        {
            times.Sort();
            return $"p50 {times[times.Count / 2]:f2} ms, p99 {times[times.Count * 99 / 100]:f2} ms";
        }
    }

    [SkippableFact]
    public async Task A_thousand_rows_are_a_handful_of_statements()
    {
        await using var world = await WorldAsync(drains: false);
        using var statements = new Statements(world.Database.ConnectionString);
        var n = 0L;
        await WriteAsync();
        output.WriteLine($"{statements.Count} statements of linq2db for 1,000 rows");
        Assert.InRange(statements.Count, 0, 10);
        Assert.Equal(1000, await world.RowsAsync("a"));

        var clock = Stopwatch.StartNew();
        for (var i = 0; i < 10; i++) await WriteAsync();
        output.WriteLine($"{10_000 / clock.Elapsed.TotalSeconds:f0} rows/s");
        Assert.Equal(11_000, await world.RowsAsync("a"));

        Task WriteAsync() => world.Backlog.WriteAsync(
            [.. Enumerable.Range(0, 1000).Select(i => Row($"device-{i}", ++n))], [], default);
    }

    [SkippableFact]
    public async Task Rows_get_their_ids_in_the_order_they_were_written()
    {
        await using var world = await WorldAsync(drains: false);
        var writes = Enumerable.Range(0, 700).Select(i => Write($"device-{i % 7}", i + 1));
        await world.Backlog.WriteAsync([.. writes], [], default);
        var page = await world.Backlog.ReadAsync("a", 0, [], 1000, default);
        Assert.Equal(Enumerable.Range(1, 700).Select(n => (long)n), page.Rows.Select(r => r.Number));
    }

    [SkippableFact]
    public async Task One_row_that_the_database_refuses_is_put_aside_alone()
    {
        await using var world = await WorldAsync(drains: false);
        await world.PoisonAsync(13);
        var writes = Enumerable.Range(1, 100).Select(i => Write($"device-{i}", i));
        var results = await world.Backlog.WriteAsync([.. writes], ["a"], default);
        Assert.Equal(WriteOutcome.Refused, Assert.Single(results, r => r.Outcome != WriteOutcome.Written).Outcome);
        Assert.Equal(WriteOutcome.Refused, results[12].Outcome);
        Assert.Equal(99, await world.RowsAsync("a"));
        Assert.Contains("a", (await world.Backlog.ViewAsync(default)).IsOpen);
    }

    [SkippableFact]
    public async Task While_one_row_is_refused_the_others_are_acknowledged_and_it_is_neither_acknowledged_nor_lost()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        await world.PoisonAsync(13);
        var isDown = true;
        world.Application.Answers = _ => Task.FromResult(isDown ? 503 : 200);
        for (var n = 11; n <= 15; n++) world.Notify(Given.Device(n), n);
        foreach (var n in new[] { 11, 12, 14, 15 }) await world.Owing.UntilAcknowledgedAsync(Given.Device(n), n);
        await world.Warnings.UntilAsync(1);
        Assert.Equal(0, world.Owing.AcknowledgeNotifications(Given.Device(13)));

        Volatile.Write(ref isDown, false);
        await world.Owing.UntilAcknowledgedAsync(Given.Device(13), 13);
        await world.Application.UntilAsync(() => world.Application.Taken("a").Count == 5);
    }

    [SkippableFact]
    public async Task A_row_that_keeps_failing_costs_each_other_device_one_read_and_not_one_per_notification()
    {
        await using var world = await WorldAsync(drains: false);
        await world.AddReceiverAsync("a");
        await world.Backlog.WriteAsync([Write("poison", 1)], [], default);
        world.Notify(Given.Lamp, 1);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 1);
        using var transactions = new Statements(world.Database.ConnectionString, TraceOperation.BeginTransaction);
        for (var n = 2; n <= 50; n++)
        {
            world.Notify(Given.Lamp, n);
            await world.Owing.UntilAcknowledgedAsync(Given.Lamp, n);
        }

        Assert.Equal(0, transactions.Count);
        Assert.Equal(Enumerable.Range(1, 50).Select(n => (long)n), world.Application.Numbers("a", "lamp"));
    }

    [SkippableFact]
    public async Task A_backlog_of_one_device_is_looked_through_for_others_once_and_not_for_every_page()
    {
        const int rows = 5000;
        await using var world = await WorldAsync(
            o => o.BoundsInterval = o.PollInterval = TimeSpan.FromMinutes(1), drains: false);
        await world.AddReceiverAsync("a");
        await FillAsync(world, rows, _ => "lamp");
        await world.Backlog.WriteAsync([Write("other", rows + 1)], [], default);
        var clock = Stopwatch.StartNew();
        using var statements = new Statements(world.Database.ConnectionString, where: "NOT IN");
        world.StartDrainers();
        var within = TimeSpan.FromSeconds(60);
        await world.Application.UntilAsync(() => world.Application.Taken("a").Count == rows + 1, within);
        var seconds = clock.Elapsed.TotalSeconds;
        output.WriteLine($"{rows} rows of one device drained in {seconds:f1} s, {statements.Count} looks for others");
        Assert.Equal(Enumerable.Range(1, rows).Select(n => (long)n), world.Application.Numbers("a", "lamp"));
        Assert.InRange(statements.Count, 1, 12); // of 20 pages
    }

    [SkippableTheory]
    [InlineData(5_000), InlineData(400_000)]
    public async Task A_device_drains_as_fast_as_its_receiver_answers_however_much_waits(int rows)
    {
        const int told = 4_000;
        Skip.If(
            rows > 100_000 && Environment.GetEnvironmentVariable("IOTDELIVERY_E2E") != "full",
            "Takes half a minute: set IOTDELIVERY_E2E=full.");
        var asShipped = new PushOptions();
        await using var world = await WorldAsync(
            o => (o.BoundsInterval, o.PollInterval) = (asShipped.BoundsInterval, asShipped.PollInterval),
            drains: false);
        await world.AddReceiverAsync("a");
        await FillAsync(world, rows, _ => "lamp");
        var last = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var clock = new Stopwatch();
        var first = TimeSpan.Zero;
        world.Application.Answers = post =>
        {
            if (post.Number == 1) first = clock.Elapsed;
            if (post.Number == told) last.TrySetResult();
            return Task.FromResult(200);
        };
        using var statements = new Statements(world.Database.ConnectionString);
        clock.Start();
        world.StartDrainers();
        await last.Task.WaitAsync(TimeSpan.FromSeconds(60));
        output.WriteLine(
            $"{rows} rows of one device: the first told after {first.TotalSeconds:f2} s, {told} after "
            + $"{clock.Elapsed.TotalSeconds:f2} s, {statements.Count} statements");
        var numbers = world.Application.Numbers("a", "lamp");
        Assert.Equal(Enumerable.Range(1, numbers.Length).Select(n => (long)n), numbers);
    }

    [SkippableFact]
    public async Task Bounds_count_what_came_since_they_were_checked_and_not_the_whole_backlog()
    {
        await using var world = await WorldAsync(drains: false);
        world.Options.BacklogBytesMax = long.MaxValue;
        await FillAsync(world, 2000, i => $"device-{i % 10}");
        var count = default(BacklogCount);
        for (var i = 0; i < 3; i++)
        {
            count = (await world.Backlog.TrimAsync("a", [], world.Options, count, default)).Count;
        }

        await FillAsync(world, 7, i => $"late-{i}");
        count = (await world.Backlog.TrimAsync("a", [], world.Options, count, default)).Count;
        Assert.Equal((2007, 2007 * 300L), (count.AllRows, count.AllBytes));
        Assert.Equal(2000, count.Rows);

        world.Options.BacklogBytesMax = 300 * 1000;
        var trimmed = await world.Backlog.TrimAsync("a", [], world.Options, count, default);
        Assert.Equal((1007, 1000), (trimmed.TooMany, trimmed.Count.AllRows));
        Assert.Equal((1000, 300_000L), await world.Backlog.CountAsync("a", default));
    }

    private static BacklogWrite Write(string deviceId, int number) => new("a", deviceId,
        [(number, Body(deviceId, number))], WriteMode.Append);

    private static BacklogWrite Row(string deviceId, long number) =>
        new("a", deviceId, [(number, new byte[300])], WriteMode.Append);

    private static byte[] Body(string deviceId, int number) => StatusNotification.Write(
        DeviceId.Parse(deviceId), Given.Notification(number, Given.Noon), Given.Header, PushShape.Flat);

    private static Task TakeDownAsync(PushWorld world, int receivers) => world.Backlog.WriteAsync(
        [.. Enumerable.Range(0, receivers).Select(i => Write("lamp", 1) with { ActionId = $"down-{i:d3}" })],
        [.. Enumerable.Range(0, receivers).Select(i => $"down-{i:d3}")], default);

    private static async Task FillAsync(PushWorld world, int rows, Func<int, string> device)
    {
        for (var from = 0; from < rows; from += 1000)
        {
            await world.Backlog.WriteAsync(
                [.. Enumerable.Range(from, Math.Min(1000, rows - from)).Select(i => Padded(device(i), i + 1))], [],
                default);
        }

        static BacklogWrite Padded(string deviceId, int number)
        {
            var write = Write(deviceId, number);
            var body = write.Notifications[0].Body;
            Assert.InRange(body.Length, 0, 300);
            var padding = Enumerable.Repeat((byte)' ', 300 - body.Length);
            return write with { Notifications = [(number, [.. body, .. padding])] };
        }
    }
}

public sealed class SqliteBacklogScaleSpec(SqliteDatabase database, ITestOutputHelper output)
    : BacklogScaleSpec<SqliteDatabase>(database, output);

public sealed class PostgreSqlBacklogScaleSpec(PostgreSqlDatabase database, ITestOutputHelper output)
    : BacklogScaleSpec<PostgreSqlDatabase>(database, output);

public sealed class SqlServerBacklogScaleSpec(SqlServerDatabase database, ITestOutputHelper output)
    : BacklogScaleSpec<SqlServerDatabase>(database, output);
