using System.Buffers;
using System.Text;
using System.Text.Json;
using IoTDelivery.Domain;
using IoTDelivery.Tests.Databases;

namespace IoTDelivery.Push.Tests;

public abstract class UplinkNotificationsSpec<TDatabase>(TDatabase server) : PushSpec(server), IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    [SkippableFact]
    public async Task A_message_is_taken_when_its_receiver_has_answered_and_not_before()
    {
        await using var world = await StartAsync();
        var asked = new TaskCompletionSource();
        var answer = new TaskCompletionSource<int>();
        world.Application.Answers = _ =>
        {
            asked.TrySetResult();
            return answer.Task;
        };
        var taking = world.Publish(1);
        await asked.Task.WaitAsync(TimeSpan.FromSeconds(20));
        Assert.False(taking.IsCompleted);

        answer.SetResult(200);
        await Soon(taking);
        Assert.Equal(["1"], world.Messages("a"));
        Assert.Equal(0, await world.World.RowsAsync("a"));
    }

    [SkippableFact]
    public async Task A_receiver_that_is_down_gets_everything_later_in_order_and_the_device_does_not_wait_for_it()
    {
        await using var world = await StartAsync();
        var isDown = true;
        world.Application.Answers = _ => Task.FromResult(isDown ? 503 : 200);
        await Soon(Task.WhenAll(Enumerable.Range(1, 20).Select(world.Publish)));

        Volatile.Write(ref isDown, false);
        await world.Application.UntilAsync(() => world.Messages("a").Length >= 20);
        Assert.Equal(Enumerable.Range(1, 20).Select(n => $"{n}"), world.Messages("a"));
        await PushWorld.UntilAsync(async () => await world.World.RowsAsync("a") == 0);
    }

    [SkippableFact]
    public async Task While_neither_the_receiver_nor_the_database_takes_it_it_is_not_taken()
    {
        await using var world = await StartAsync();
        world.Application.Answers = _ => Task.FromResult(503);
        await world.World.RefuseRowsAsync();
        var taking = Task.WhenAll(world.Publish(1), world.Publish(2));
        await world.World.Warnings.UntilAsync(2); // the database refused twice
        Assert.False(taking.IsCompleted);

        await world.World.TakeRowsAsync();
        await Soon(taking);
        world.Application.Answers = _ => Task.FromResult(200);
        await world.Application.UntilAsync(() => world.Messages("a").Length >= 2);
        Assert.Equal(["1", "2"], world.Messages("a"));
    }

    [SkippableFact]
    public async Task What_no_rule_forwards_is_taken_at_once_also_while_the_database_is_away()
    {
        await using var world = await StartAsync(withRule: false);
        await world.World.AddReceiverAsync("other"); // of another subject
        await PushWorld.UntilAsync(() => Task.FromResult(world.World.Book.Newest.LoadedFrom != long.MinValue));
        await world.World.HideAsync("rule_revision");

        Assert.True(world.Publish(1).IsCompletedSuccessfully);
        await world.World.ShowAsync("rule_revision");
    }

    [SkippableFact]
    public async Task A_rule_that_was_made_active_is_obeyed_a_moment_later()
    {
        await using var world = await StartAsync(withRule: false);
        await PushWorld.UntilAsync(() => Task.FromResult(world.World.Book.Newest.LoadedFrom != long.MinValue));
        await world.World.AddReceiverAsync("a", resource: DeviceMessage.Subject, @event: DeviceMessage.SubjectEvent);
        await PushWorld.UntilAsync(async () =>
        {
            await Soon(world.Publish(1));
            return world.Messages("a").Length > 0;
        });
    }

    [SkippableFact]
    public async Task What_a_failed_pusher_leaves_the_next_one_settles_in_order()
    {
        await using var world = await StartAsync();
        var never = new TaskCompletionSource<int>();
        var asked = new TaskCompletionSource();
        world.Application.Answers = _ =>
        {
            asked.TrySetResult();
            return never.Task;
        };
        var taking = Task.WhenAll(Enumerable.Range(1, 5).Select(world.Publish));
        await asked.Task.WaitAsync(TimeSpan.FromSeconds(20));
        await world.World.KillPusherAsync();
        var late = world.Publish(6);
        world.Application.Answers = _ => Task.FromResult(200);

        world.World.StartPusher();
        await Soon(Task.WhenAll(taking, late));
        Assert.Equal(["1", "2", "3", "4", "5", "6"], world.Messages("a"));
        never.SetResult(500);
    }

    [SkippableFact]
    public async Task A_message_the_receiver_refuses_is_a_dead_letter_and_taken()
    {
        await using var world = await StartAsync();
        world.Application.Answers = _ => Task.FromResult(413);
        await Soon(world.Publish(1));
        Assert.Equal("HTTP 413", Assert.Single(await world.World.DeadLettersAsync("a")).Reason);
    }

    [SkippableFact]
    public async Task A_gateway_speaks_for_the_devices_behind_it_and_for_nobody_else()
    {
        await using var world = await StartAsync();
        world.World.Headers = async id =>
        {
            await Task.Yield();
            return id.Value switch
            {
                "child" => Given.Header with { GatewayId = "lamp" },
                "stranger" => Given.Header with { GatewayId = "another-gateway" },
                "lamp" => Given.Header with { GatewayId = "lamp" },
                _ => null,
            };
        };
        foreach (var id in new[] { "child", "stranger", "unknown", "lamp" }) await Soon(world.PublishAsync($$"""{"object_device_id":"{{id}}","content":"x"}"""));
        Assert.Equal(["child", "lamp", "lamp", "lamp"], world.Application.Taken("a").Select(p => p.DeviceId));
    }

    [SkippableFact]
    public async Task Every_repetition_carries_the_same_request_id()
    {
        await using var world = await StartAsync();
        var attempts = 0;
        world.Application.Answers = _ => Task.FromResult(Interlocked.Increment(ref attempts) < 4 ? 503 : 200);
        await Soon(world.Publish(1));
        await world.Application.UntilAsync(() => world.Messages("a").Length == 1);
        Assert.Single(world.Application.All("a").Select(l => l.Post.Body).Distinct());
    }

    private async Task<PublishingWorld> StartAsync(bool withRule = true)
    {
        var world = await WorldAsync();
        if (withRule) await world.AddReceiverAsync("a", resource: DeviceMessage.Subject, @event: DeviceMessage.SubjectEvent);
        return new PublishingWorld(world, world.StartUplinks());
    }

    private static Task Soon(Task task) => task.WaitAsync(TimeSpan.FromSeconds(20));

    private sealed record PublishingWorld(PushWorld World, UplinkNotifications Uplinks) : IAsyncDisposable
    {
        public Application Application => World.Application;

        public Task Publish(int number) => PublishAsync($"{number}");

        public Task PublishAsync(string payload) =>
            Uplinks.TakeAsync(Given.Lamp, UplinkTopic.MessagesUp(Given.Lamp), new ReadOnlySequence<byte>(Encoding.UTF8.GetBytes(payload))).AsTask();

        public string[] Messages(string receiver) =>
            [.. Application.Taken(receiver).Select(p => JsonDocument.Parse(p.Body).RootElement.GetProperty("notify_data").GetProperty("message").GetString()!)];

        public ValueTask DisposeAsync() => World.DisposeAsync();
    }
}

public sealed class SqliteUplinkNotificationsSpec(SqliteDatabase database) : UplinkNotificationsSpec<SqliteDatabase>(database);

public sealed class PostgreSqlUplinkNotificationsSpec(PostgreSqlDatabase database) : UplinkNotificationsSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerUplinkNotificationsSpec(SqlServerDatabase database) : UplinkNotificationsSpec<SqlServerDatabase>(database);
