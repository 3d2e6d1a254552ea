using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Tests.Databases;

namespace IoTDelivery.Push.Tests;

/// <summary>
/// A device is deleted while it is still pending something. Its outbox gives everything pending a header before the
/// registry's row goes; what was offered before that has none.
/// </summary>
public abstract class DeletedDeviceSpec<TDatabase>(TDatabase server) : PushSpec(server), IClassFixture<TDatabase>
    where TDatabase : TestDatabase
{
    [SkippableFact]
    public async Task What_was_offered_before_the_deletion_is_told_although_the_row_is_gone_when_its_header_is_read()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        var row = SlowRegistry(world);
        world.Notify(Given.Lamp, 1);
        await row.Asked.Task.WaitAsync(TimeSpan.FromSeconds(20));
        world.Notify(Given.Lamp, Failed(world, 2));
        await world.HeardAsync();
        row.Found.SetResult(null);

        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 2);
        Assert.Equal([1, 2], world.Application.Numbers("a", "lamp"));
    }

    [SkippableFact]
    public async Task With_nothing_new_to_tell_it_is_told_when_the_device_offers_again()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        var row = SlowRegistry(world);
        world.Notify(Given.Lamp, 1, 2);
        await row.Asked.Task.WaitAsync(TimeSpan.FromSeconds(20));
        row.Found.SetResult(null);
        await world.Warnings.UntilDroppedAsync();
        world.Retire(Given.Lamp, Given.Header);
        Assert.Empty(world.Owing.Heard);

        world.OfferAgain();
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 2);
        Assert.Equal([1, 2], world.Application.Numbers("a", "lamp"));
    }

    [SkippableFact]
    public async Task What_comes_behind_something_dropped_does_not_pay_for_it()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        world.Headers = _ => new((DeviceHeader?)null);
        world.Notify(Given.Lamp, 1);
        world.Notify(Given.Lamp, Given.Notification(2, world.Clock.GetUtcNow()) with { Header = Given.Header });
        await world.HeardAsync();
        Assert.Empty(world.Owing.Heard);

        world.Retire(Given.Lamp, Given.Header);
        world.OfferAgain();
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 2);
        Assert.Equal([1, 2], world.Application.Numbers("a", "lamp"));
    }

    [SkippableFact]
    public async Task Deleted_and_created_again_both_lives_are_told_each_with_its_own_header()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("first", appId: "app-1");
        await world.AddReceiverAsync("second", appId: "app-2");
        var row = SlowRegistry(world);
        world.Notify(Given.Lamp, 1);
        await row.Asked.Task.WaitAsync(TimeSpan.FromSeconds(20));
        world.Notify(Given.Lamp, Failed(world, 2));
        world.Headers = _ => new(Given.Header with { AppId = "app-2" });
        world.Notify(Given.Lamp, 3);
        await world.HeardAsync();

        // The read was so slow that it found the next device of that id.
        row.Found.SetResult(Given.Header with { AppId = "app-2" });

        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 3);
        Assert.Equal([1, 2], world.Application.Numbers("first", "lamp"));
        Assert.Equal([3], world.Application.Numbers("second", "lamp"));
    }

    [SkippableFact]
    public async Task A_registry_that_fails_and_then_knows_nothing_loses_nothing()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        var asked = 0;
        world.Headers = async _ =>
        {
            await Task.Yield();
            return ++asked < 3 ? throw new TimeoutException() : null;
        };
        world.Notify(Given.Lamp, 1);
        await world.Warnings.UntilDroppedAsync();
        Assert.Empty(world.Owing.Heard);

        world.Retire(Given.Lamp, Given.Header);
        world.OfferAgain();
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 1);
        Assert.Equal([1], world.Application.Numbers("a", "lamp"));
    }

    [SkippableFact]
    public async Task Another_dispatcher_that_takes_over_meanwhile_pays_nothing_untold_either()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        var row = SlowRegistry(world);
        world.Notify(Given.Lamp, 1);
        await row.Asked.Task.WaitAsync(TimeSpan.FromSeconds(20));
        await world.KillPusherAsync();
        world.StartPusher();
        row.Found.SetResult(null);
        await world.HeardAsync();
        world.OfferAgain(); // still without a header
        await world.Warnings.UntilDroppedAsync();
        Assert.Empty(world.Owing.Heard);

        world.Retire(Given.Lamp, Given.Header);
        world.OfferAgain();
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 1);
        Assert.Equal([1], world.Application.Numbers("a", "lamp"));
    }

    [SkippableFact]
    public async Task A_device_that_was_never_in_the_registry_is_acknowledged_when_it_still_brings_no_header_after_a_while()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a");
        world.Headers = _ => new((DeviceHeader?)null);
        world.Notify(Given.Lamp, 1);
        world.OfferAgain();
        await world.HeardAsync();
        Assert.Empty(world.Owing.Heard); // both offers may be older than a deletion

        world.Clock.Move(TimeSpan.FromMinutes(1));
        world.OfferAgain();
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 1);
        Assert.Empty(world.Application.All("a"));
    }

    [SkippableFact]
    public async Task What_finds_no_room_on_the_node_stays_with_its_device_until_it_offers_again()
    {
        await using var world = await WorldAsync(o => o.PendingMax = 2);
        await world.AddReceiverAsync("a");
        var (answer, asked) = (new TaskCompletionSource<int>(), new TaskCompletionSource());
        world.Application.Answers = _ =>
        {
            asked.TrySetResult();
            return answer.Task;
        };
        world.Notify(Given.Lamp, 1, 2);
        world.Notify(Given.Device(1), 1);
        world.Notify(Given.Device(1), 2);
        await asked.Task.WaitAsync(TimeSpan.FromSeconds(20));
        await world.HeardAsync();
        answer.SetResult(200);
        await world.Owing.UntilAcknowledgedAsync(Given.Lamp, 2);
        Assert.Equal(0, world.Owing.AcknowledgeNotifications(Given.Device(1)));

        world.OfferAgain();
        await world.Owing.UntilAcknowledgedAsync(Given.Device(1), 2);
        Assert.Equal([1, 2], world.Application.Numbers("a", "device-1"));
    }

    [SkippableFact]
    public async Task What_an_unknown_device_published_is_not_acknowledged()
    {
        await using var world = await WorldAsync();
        await world.AddReceiverAsync("a", resource: DeviceMessage.Subject, @event: DeviceMessage.SubjectEvent);
        world.Headers = _ => new((DeviceHeader?)null);
        var topic = UplinkTopic.MessagesUp(Given.Lamp);
        var taking = world.StartUplinks().TakeAsync(Given.Lamp, topic, new("on"u8.ToArray())).AsTask();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => taking.WaitAsync(TimeSpan.FromSeconds(20)));
        Assert.Empty(world.Application.All("a"));
    }

    private static Notification Failed(PushWorld world, int number) =>
        Given.Notification(number, world.Clock.GetUtcNow(), MessageStatus.Failed) with { Header = Given.Header };

    private static (TaskCompletionSource Asked, TaskCompletionSource<DeviceHeader?> Found) SlowRegistry(PushWorld world)
    {
        var asked = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var found = new TaskCompletionSource<DeviceHeader?>(TaskCreationOptions.RunContinuationsAsynchronously);
        world.Headers = async _ =>
        {
            asked.TrySetResult();
            return await found.Task;
        };
        return (asked, found);
    }
}

public sealed class SqliteDeletedDeviceSpec(SqliteDatabase database) : DeletedDeviceSpec<SqliteDatabase>(database);

public sealed class PostgreSqlDeletedDeviceSpec(PostgreSqlDatabase database)
    : DeletedDeviceSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerDeletedDeviceSpec(SqlServerDatabase database)
    : DeletedDeviceSpec<SqlServerDatabase>(database);
