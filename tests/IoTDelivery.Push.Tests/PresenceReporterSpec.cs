using IoTDelivery.Domain;
using IoTDelivery.Registry;
using IoTDelivery.Tests.Databases;
using LinqToDB;

namespace IoTDelivery.Push.Tests;

public abstract class PresenceReporterSpec<TDatabase>(TDatabase server) : PushSpec(server), IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    [SkippableFact]
    public async Task A_change_is_told_and_its_row_removed()
    {
        await using var world = await StartAsync();
        await ChangeAsync(world, Given.Lamp, StatusChange.Online);
        await world.Application.UntilAsync(() => Told(world, "lamp").SequenceEqual(["ONLINE"]));
        await UntilEmptyAsync(world);
    }

    [SkippableFact]
    public async Task A_device_that_flaps_while_it_is_told_about_is_told_about_once_more_and_that_is_its_last_state()
    {
        await using var world = await StartAsync();
        var asked = new TaskCompletionSource();
        var answer = new TaskCompletionSource<int>();
        world.Application.Answers = _ =>
        {
            asked.TrySetResult();
            return answer.Task;
        };
        await ChangeAsync(world, Given.Lamp, StatusChange.Online);
        await asked.Task.WaitAsync(TimeSpan.FromSeconds(20));
        for (var i = 0; i < 10; i++)
        {
            await ChangeAsync(world, Given.Lamp, StatusChange.Offline);
            await ChangeAsync(world, Given.Lamp, StatusChange.Online);
        }

        await ChangeAsync(world, Given.Lamp, StatusChange.Offline);
        answer.SetResult(200);
        await UntilEmptyAsync(world);
        Assert.Equal(["ONLINE", "OFFLINE"], Told(world, "lamp"));
    }

    [SkippableFact]
    public async Task A_receiver_that_is_down_is_told_later_in_order()
    {
        await using var world = await StartAsync();
        var isDown = true;
        world.Application.Answers = _ => Task.FromResult(isDown ? 503 : 200);
        foreach (var status in new[] { StatusChange.Online, StatusChange.Offline, StatusChange.Online })
        {
            await ChangeAsync(world, Given.Lamp, status);
            await UntilEmptyAsync(world); // lies in the backlog
        }

        Volatile.Write(ref isDown, false);
        await world.Application.UntilAsync(() => Told(world, "lamp").SequenceEqual(["ONLINE", "OFFLINE", "ONLINE"]));
    }

    [SkippableFact]
    public async Task What_one_teller_did_not_settle_the_next_one_tells()
    {
        await using var world = await StartAsync();
        var asked = new TaskCompletionSource();
        var answer = new TaskCompletionSource<int>();
        world.Application.Answers = _ =>
        {
            asked.TrySetResult();
            return answer.Task;
        };
        await ChangeAsync(world, Given.Lamp, StatusChange.Online);
        await asked.Task.WaitAsync(TimeSpan.FromSeconds(20));
        await world.KillTellerAsync();
        answer.SetResult(200);
        world.StartTeller();
        await UntilEmptyAsync(world);
        Assert.Single(world.Application.Taken("a").Select(p => p.RequestId).Distinct());
    }

    [SkippableFact]
    public async Task More_changes_than_are_told_at_once_are_all_told()
    {
        await using var world = await StartAsync();
        for (var d = 1; d <= 1_100; d++) await ChangeAsync(world, Given.Device(d), StatusChange.Online);
        await world.Application.UntilAsync(() => world.Application.Taken("a").Select(p => p.DeviceId).Distinct().Count() == 1_100);
        await UntilEmptyAsync(world);
        Assert.Equal(1_100, world.Application.Taken("a").Count);
    }

    private async Task<PushWorld> StartAsync()
    {
        var world = await WorldAsync();
        await world.AddReceiverAsync("a", resource: StatusChanges.Resource, @event: StatusChanges.Event);
        world.StartTeller();
        return world;
    }

    private static async Task ChangeAsync(PushWorld world, DeviceId deviceId, string status)
    {
        world.Clock.Move(TimeSpan.FromMilliseconds(10));
        var now = world.Clock.GetUtcNow().ToUnixTimeMilliseconds();
        await using var db = world.Database.Open();
        var change = new StatusChange { DeviceId = deviceId.Value, Status = status, ChangedAt = now, LastOnlineAt = now };
        if (await db.UpdateAsync(change) == 0) await db.InsertAsync(change);
    }

    private static string[] Told(PushWorld world, string deviceId) => [.. world.Application.Taken("a").Where(p => p.DeviceId == deviceId).Select(p => p.Status)];

    private static Task UntilEmptyAsync(PushWorld world) => PushWorld.UntilAsync(async () => (await world.Statuses.OldestAsync(1, default)).Count == 0);
}

public sealed class SqlitePresenceReporterSpec(SqliteDatabase database) : PresenceReporterSpec<SqliteDatabase>(database);

public sealed class PostgreSqlPresenceReporterSpec(PostgreSqlDatabase database) : PresenceReporterSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerPresenceReporterSpec(SqlServerDatabase database) : PresenceReporterSpec<SqlServerDatabase>(database);
