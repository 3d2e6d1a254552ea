using System.Collections.Concurrent;
using System.Text;
using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using IoTDelivery.Tests.Databases;

namespace IoTDelivery.Push.Tests;

public abstract class NotificationDispatcherSpec<TDatabase>(TDatabase server) : PushSpec(server), IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    [SkippableFact]
    public async Task What_is_pending_is_posted_and_acknowledged_and_costs_no_row()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        await world.RefuseRowsAsync();
        world.Notify(Given.Lamp, 1, 2, 3);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 3);
        Assert.Equal([1, 2, 3], world.Application.Numbers("a", "lamp"));
    }

    [SkippableTheory]
    [InlineData(200)]
    [InlineData(503)] // then it goes by way of the backlog
    public async Task Each_action_gets_the_shape_it_asks_for_and_the_others_that_of_the_site(int firstAnswer)
    {
        await using var world = await WorldAsync();
        string[] receivers = ["Flat", "HeaderBody", "Both", "site"];
        foreach (var receiver in receivers)
        {
            await world.AddReceiverAsync(receiver, shape: receiver == "site" ? null : receiver);
        }

        var asked = new ConcurrentDictionary<string, int>();
        world.Application.Answers = post => Task.FromResult(asked.TryAdd(post.Receiver, 0) ? firstAnswer : 200);

        var notification = Given.Notification(1, Given.Noon.AddYears(20)); // behind the making of the rules
        world.Notify(Given.Lamp, notification);
        await world.Application.UntilAsync(() => receivers.All(r => world.Application.Taken(r).Count == 1));
        foreach (var receiver in receivers)
        {
            var shape = Enum.TryParse<PushShape>(receiver, out var own) ? own : new PushOptions().Shape;
            var expected = StatusNotification.Write(Given.Lamp, notification, Given.Header, shape);
            Assert.Equal(Encoding.UTF8.GetString(expected), world.Application.Taken(receiver)[0].Body);
        }
    }

    [SkippableFact]
    public async Task Nobody_to_tell_is_acknowledged_at_once()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a", isActive: false);
        world.Notify(Given.Lamp, 1);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 1);
        Assert.Empty(world.Application.All("a"));
    }

    [SkippableFact]
    public async Task A_registry_that_does_not_answer_makes_the_device_wait()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        var calls = 0;
        world.Headers = async _ =>
        {
            await Task.Yield();
            return ++calls < 3 ? throw new TimeoutException() : Given.Header;
        };
        world.Notify(Given.Lamp, 1);
        world.Notify(Given.Lamp, 2);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 2);
        Assert.Equal([1, 2], world.Application.Numbers("a", "lamp"));
    }

    [SkippableFact]
    public async Task A_receiver_that_is_down_does_not_hold_up_another_and_gets_everything_in_order_later()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        await world.AddReceiverAsync("b");
        var isDown = true;
        world.Application.Answers = post => Task.FromResult(post.Receiver == "b" && isDown ? 503 : 200);

        foreach (var n in Enumerable.Range(1, 30)) world.Notify(Given.Lamp, n);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 30);
        Assert.Equal(Enumerable.Range(1, 30).Select(n => (long)n), world.Application.Numbers("a", "lamp"));
        Assert.Empty(world.Application.Taken("b"));
        Assert.Equal(30, await world.RowsAsync("b"));

        Volatile.Write(ref isDown, false);
        await world.Application.UntilAsync(() => world.Application.Taken("b").Count == 30);
        Assert.Equal(Enumerable.Range(1, 30).Select(n => (long)n), world.Application.Numbers("b", "lamp"));
        await PushWorld.UntilAsync(async () => await world.RowsAsync("b") == 0);
    }

    [SkippableFact]
    public async Task A_receiver_that_does_not_answer_holds_up_neither_another_receiver_nor_other_devices()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        await world.AddReceiverAsync("b");
        var answer = new TaskCompletionSource<int>();
        world.Application.Answers = post => post.Receiver == "b" && post.DeviceId == "lamp" ? answer.Task : Task.FromResult(200);

        world.Notify(Given.Lamp, 1, 2);
        world.Notify(Given.Device(1), 1, 2);
        await world.Application.UntilAsync(() => world.Application.Numbers("a", "lamp").Length == 2);
        await world.Owing.UntilAcknowledgedAsync(Given.Device(1), 2);
        Assert.Equal(0, world.Owing.AcknowledgeNotifications(Given.Lamp));

        answer.SetResult(200);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 2);
        Assert.Equal([1, 2], world.Application.Numbers("b", "lamp"));
    }

    [SkippableFact]
    public async Task No_more_than_the_allowed_posts_at_once_and_what_cannot_wait_goes_to_the_backlog()
    {
        await using var world = await WorldAsync(o => (o.ConcurrencyPerReceiver, o.WaitingMax) = (2, 3), drains: false);
        await world.AddReceiverAsync("a");
        var gate = new TaskCompletionSource<int>();
        var (now, atOnce, two) = (0, new ConcurrentQueue<int>(), new TaskCompletionSource());
        world.Application.Answers = async _ =>
        {
            atOnce.Enqueue(Interlocked.Increment(ref now));
            if (atOnce.Count == 2) two.TrySetResult();
            var answer = await gate.Task;
            Interlocked.Decrement(ref now);
            return answer;
        };

        for (var d = 1; d <= 10; d++) world.Notify(Given.Device(d), 1);
        await PushWorld.UntilAsync(async () => await world.RowsAsync("a") == 5); // 2 being sent, 3 waiting
        await two.Task.WaitAsync(TimeSpan.FromSeconds(20)); // and both have arrived
        gate.SetResult(200);
        for (var d = 1; d <= 10; d++) await world.Owing.UntilAcknowledgedAsync(Given.Device(d), 1);
        Assert.Equal(5, world.Application.Taken("a").Count);
        Assert.Equal(2, atOnce.Max());
    }

    [SkippableFact]
    public async Task What_waits_too_long_behind_a_slow_answer_goes_to_the_backlog_and_the_device_is_acknowledged()
    {
        await using var world = await WorldAsync(drains: false);
        await world.AddReceiverAsync("a");
        var (gate, first) = (new TaskCompletionSource<int>(), new TaskCompletionSource());
        world.Application.Answers = _ =>
        {
            first.TrySetResult();
            return gate.Task;
        };

        world.Notify(Given.Lamp, 1, 2, 3, 4);
        await first.Task.WaitAsync(TimeSpan.FromSeconds(20));
        world.Clock.Move(world.Options.WaitMax + TimeSpan.FromSeconds(1));
        gate.SetResult(200);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 4);

        Assert.Equal([1], world.Application.Numbers("a", "lamp"));
        Assert.Equal(3, await world.RowsAsync("a"));
    }

    [SkippableFact]
    public async Task After_500_it_is_repeated_byte_by_byte_until_200()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        var attempts = 0;
        world.Application.Answers = _ => Task.FromResult(Interlocked.Increment(ref attempts) < 4 ? 500 : 200);
        world.Notify(Given.Lamp, 1);
        await world.Application.UntilAsync(() => world.Application.Taken("a").Count == 1);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 1);
        Assert.Equal([500, 500, 500, 200], world.Application.All("a").Select(l => l.Answer));
        Assert.Single(world.Application.All("a").Select(l => l.Post.Body).Distinct());
    }

    [SkippableFact]
    public async Task What_is_refused_for_good_becomes_a_dead_letter_and_the_next_goes_on()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        world.Application.Answers = post => Task.FromResult(post.Number == 1 ? 422 : 200);
        world.Notify(Given.Lamp, 1, 2);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 2);
        Assert.Equal([422, 200], world.Application.All("a").Select(l => l.Answer));
        var letter = Assert.Single(await world.DeadLettersAsync("a"));
        Assert.Equal((1, "HTTP 422"), (letter.Number, letter.Reason));

        world.Application.Answers = _ => Task.FromResult(200);
        Assert.Equal(1, await world.Backlog.ReplayAsync("a", default));
        world.Signal.RowsWritten("a");
        await world.Application.UntilAsync(() => world.Application.Numbers("a", "lamp").SequenceEqual([2, 1]));
        Assert.Equal(world.Application.All("a")[0].Post.Body, world.Application.All("a")[2].Post.Body);
    }

    [SkippableFact]
    public async Task A_rule_made_after_the_fact_is_not_told_of_it()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("before");
        var happened = Given.Notification(1, world.Clock.GetUtcNow());
        world.Clock.Move(TimeSpan.FromSeconds(1));
        await world.AddReceiverAsync("after");
        world.Notify(Given.Lamp, happened);
        world.Notify(Given.Lamp, 2);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 2);
        Assert.Equal([1, 2], world.Application.Numbers("before", "lamp"));
        Assert.Equal([2], world.Application.Numbers("after", "lamp"));
    }

    [SkippableFact]
    public async Task A_deactivated_rule_is_told_of_what_happened_before_and_of_nothing_else()
    {
        await using var world = await WorldAsync();
        var rule = await world.AddReceiverAsync("a");
        var happened = Given.Notification(1, world.Clock.GetUtcNow());
        world.Clock.Move(TimeSpan.FromSeconds(1));
        await world.Rules.UpdateAsync(Given.Project, rule.RuleId, new RuleChange { IsActive = false }, default);
        world.Clock.Move(TimeSpan.FromSeconds(1));
        world.Notify(Given.Lamp, happened);
        world.Notify(Given.Lamp, 2);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 2);
        Assert.Equal([1], world.Application.Numbers("a", "lamp"));
    }

    [SkippableFact]
    public async Task A_rule_that_answered_its_PUT_receives_the_next_notification_every_time()
    {
        await using var world = await WorldAsync();
        var otherNode = new Rules(world.Database, world.Clock);
        var rule = await world.AddReceiverAsync("a", isActive: false);
        for (var n = 1; n <= 40; n += 2)
        {
            await otherNode.UpdateAsync(Given.Project, rule.RuleId, new RuleChange { IsActive = true }, default);
            world.Notify(Given.Lamp, n);
            await world.Owing.UntilAcknowledgedAsync(Given.Lamp, n);
            world.Clock.Move(TimeSpan.FromMilliseconds(2));
            await otherNode.UpdateAsync(Given.Project, rule.RuleId, new RuleChange { IsActive = false }, default);
            world.Clock.Move(TimeSpan.FromMilliseconds(2));
            world.Notify(Given.Lamp, n + 1);
            await world.Owing.UntilAcknowledgedAsync(Given.Lamp, n + 1);
        }

        Assert.Equal(Enumerable.Range(0, 20).Select(i => 2L * i + 1), world.Application.Numbers("a", "lamp"));
    }

    [SkippableFact]
    public async Task Another_projects_devices_are_none_of_a_rules_business()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        world.Headers = _ => new(Given.Header with { ProjectId = "project-2" });
        world.Notify(Given.Lamp, 1);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 1);
        Assert.Empty(world.Application.All("a"));
    }

    [SkippableFact]
    public async Task Offered_again_while_it_is_being_settled_it_is_not_started_twice()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        var answer = new TaskCompletionSource<int>();
        var asked = new TaskCompletionSource();
        world.Application.Answers = _ =>
        {
            asked.TrySetResult();
            return answer.Task;
        };
        world.Notify(Given.Lamp, 1);
        await asked.Task;
        for (var i = 0; i < 5; i++) world.OfferAgain();
        foreach (var actor in (IActorRef[])[world.Devices, world.Pusher]) await actor.Ask<ActorIdentity>(new Identify(null), TimeSpan.FromSeconds(20)); // all five were heard
        world.Notify(Given.Lamp, 2);
        answer.SetResult(200);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 2);
        Assert.Equal([1, 2], world.Application.Numbers("a", "lamp"));
    }

    [SkippableFact]
    public async Task An_offer_that_got_lost_in_between_is_not_acknowledged_with_the_next()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        var answer = new TaskCompletionSource<int>();
        var asked = new TaskCompletionSource();
        world.Application.Answers = _ =>
        {
            asked.TrySetResult();
            return answer.Task;
        };
        world.Notify(Given.Lamp, 1);
        await asked.Task;
        world.Pusher.Tell(new NotificationsOffered(Given.Lamp, [Given.Notification(3, world.Clock.GetUtcNow())]), world.Devices); // the same device: another sender is one that moved
        world.Notify(Given.Lamp, 2);
        answer.SetResult(200);
        await world.Owing.UntilHeardAsync(Given.Lamp, 2);
        Assert.Equal([1, 2], world.Application.Numbers("a", "lamp"));
        Assert.DoesNotContain(world.Owing.Heard, p => p.UpTo > 2);
    }

    [SkippableFact]
    public async Task PENDING_comes_before_DELIVERED_also_through_the_backlog()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        var isDown = true;
        world.Application.Answers = _ => Task.FromResult(isDown ? 500 : 200);
        for (var d = 1; d <= 20; d++)
        {
            world.Notify(Given.Device(d), Given.Notification(1, world.Clock.GetUtcNow(), MessageStatus.Pending));
            world.Notify(Given.Device(d), Given.Notification(2, world.Clock.GetUtcNow(), MessageStatus.Delivered));
        }

        for (var d = 1; d <= 20; d++) await world.Owing.UntilAcknowledgedAsync(Given.Device(d), 2);
        Volatile.Write(ref isDown, false);
        await world.Application.UntilAsync(() => world.Application.Taken("a").Count >= 40);
        foreach (var device in world.Application.Taken("a").GroupBy(p => p.DeviceId)) Assert.Equal(["PENDING", "DELIVERED"], device.Select(p => p.Status));
    }

    [SkippableFact]
    public async Task While_the_database_takes_no_rows_nothing_is_acknowledged_and_nothing_is_lost()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        await world.RefuseRowsAsync();
        var isDown = true;
        world.Application.Answers = _ => Task.FromResult(isDown ? 500 : 200);
        world.Notify(Given.Lamp, 1, 2);
        await world.Application.UntilAsync(() => world.Application.All("a").Count == 1);
        await world.Warnings.UntilAsync(3); // attempts to write
        Assert.Equal(0, world.Owing.AcknowledgeNotifications(Given.Lamp));

        await world.TakeRowsAsync();
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 2);
        Volatile.Write(ref isDown, false);
        await world.Application.UntilAsync(() => world.Application.Numbers("a", "lamp").SequenceEqual([1, 2]));
    }

    // Crash windows: offered | answered | backlog row written | acknowledged.

    [SkippableFact]
    public async Task Killed_after_the_offer_the_next_one_settles_it()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        world.Headers = _ => new(new TaskCompletionSource<DeviceHeader?>().Task);
        world.Notify(Given.Lamp, 1);
        await world.KillPusherAsync();
        world.Headers = _ => new(Given.Header);
        world.StartPusher();
        await OfferedToTheNextAsync(world);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 1);
        Assert.Equal([1], world.Application.Numbers("a", "lamp"));
    }

    [SkippableFact]
    public async Task Killed_after_the_answer_the_repetition_has_the_same_bytes()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        var arrived = new TaskCompletionSource();
        var killed = new TaskCompletionSource();
        world.Application.Answers = async _ =>
        {
            arrived.TrySetResult();
            await killed.Task;
            return 200;
        };
        world.Notify(Given.Lamp, 1, 2);
        await arrived.Task;
        await world.KillPusherAsync();
        killed.SetResult();
        await world.Application.UntilAsync(() => world.Application.Taken("a").Count == 1);
        Assert.Equal(0, world.Owing.AcknowledgeNotifications(Given.Lamp));

        world.StartPusher();
        await OfferedToTheNextAsync(world);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 2);
        Assert.Equal([1, 1, 2], world.Application.Numbers("a", "lamp"));
        Assert.Equal(world.Application.Taken("a")[0].Body, world.Application.Taken("a")[1].Body);
    }

    [SkippableFact]
    public async Task Killed_after_the_row_was_written_there_is_one_row_and_the_order_holds()
    {
        await using var world = await WorldAsync(drains: false);
        await world.AddReceiverAsync("a");
        world.Application.Answers = _ => Task.FromResult(500);
        world.Owing.IsDeaf = true; // crashed before the payment was heard
        world.Notify(Given.Lamp, 1, 2);
        await world.Owing.UntilHeardAsync(Given.Lamp, 2);
        await world.KillPusherAsync();

        world.Owing.IsDeaf = false;
        world.Application.Answers = _ => Task.FromResult(200);
        world.StartPusher();
        await OfferedToTheNextAsync(world);
        world.Notify(Given.Lamp, 3);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 3);
        Assert.Equal(3, await world.RowsAsync("a")); // 3 went behind them although the receiver is back
        world.StartDrainers();
        await world.Application.UntilAsync(() => world.Application.Numbers("a", "lamp").SequenceEqual([1, 2, 3]));
    }

    [SkippableFact]
    public async Task Killed_after_the_payment_nothing_is_repeated()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        world.Notify(Given.Lamp, 1);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 1);
        await world.KillPusherAsync();
        world.StartPusher();
        await OfferedToTheNextAsync(world);
        world.Notify(Given.Lamp, 2);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 2);
        Assert.Equal([1, 2], world.Application.Numbers("a", "lamp"));
    }

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Under_random_failures_and_kills_every_device_keeps_its_order_and_nothing_is_lost(int salt)
    {
        var seed = Environment.TickCount * 10 + salt;
        await using var world = await WorldAsync(o => (o.ConcurrencyPerReceiver, o.WaitingMax, o.BreakerFailures) = (4, 20, 5));
        var random = new Random(seed);
        var dice = new ConcurrentQueue<int>(Enumerable.Range(0, 20_000).Select(_ => random.Next(100)));
        var isOver = false;
        await world.AddReceiverAsync("a");
        await world.AddReceiverAsync("b");
        world.Application.Answers = async post =>
        {
            dice.TryDequeue(out var roll);
            if (Volatile.Read(ref isOver)) return 200;
            if (roll % 10 == 0) await Task.Delay(roll / 5);
            return post.Receiver == "b" ? roll < 60 ? 200 : 503 : roll < 90 ? 200 : 500;
        };

        const int devices = 12, each = 25;
        var next = new int[devices];
        while (next.Any(n => n < each))
        {
            var d = random.Next(devices);
            var count = Math.Min(random.Next(1, 4), each - next[d]);
            if (count > 0) world.Notify(Given.Device(d), [.. Enumerable.Range(next[d] + 1, count)]);
            next[d] += count;
            if (random.Next(60) == 0)
            {
                await world.KillPusherAsync();
                world.StartPusher();
                await OfferedToTheNextAsync(world);
            }

            if (random.Next(60) == 0)
            {
                await world.KillDrainersAsync();
                world.StartDrainers();
            }

            if (random.Next(4) == 0) await Task.Delay(random.Next(10));
        }

        try
        {
            for (var d = 0; d < devices; d++) await world.Owing.UntilAcknowledgedAsync(Given.Device(d), each);
            Volatile.Write(ref isOver, true);
            foreach (var receiver in new[] { "a", "b" })
            {
                await world.Application.UntilAsync(() => world.Application.Taken(receiver).Select(p => p.RequestId).Distinct().Count() == devices * each);
                for (var d = 0; d < devices; d++)
                {
                    Assert.Equal(Enumerable.Range(1, each).Select(n => (long)n), world.Application.Numbers(receiver, $"device-{d}").Distinct()); // first times, in order
                }

                await PushWorld.UntilAsync(async () => await world.RowsAsync(receiver) == 0);
            }
        }
        catch (Exception cause)
        {
            throw new InvalidOperationException($"seed {seed}: {cause.Message}", cause);
        }
    }

    // A device notices that its pusher is another one and offers everything unacknowledged. PreStart runs on its own time: wait for it.
    private static async Task OfferedToTheNextAsync(PushWorld world)
    {
        await world.Pusher.Ask<ActorIdentity>(new Identify(null), TimeSpan.FromSeconds(5));
        world.OfferAgain();
    }
}

public sealed class SqliteNotificationDispatcherSpec(SqliteDatabase database) : NotificationDispatcherSpec<SqliteDatabase>(database);

public sealed class PostgreSqlNotificationDispatcherSpec(PostgreSqlDatabase database) : NotificationDispatcherSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerNotificationDispatcherSpec(SqlServerDatabase database) : NotificationDispatcherSpec<SqlServerDatabase>(database);
