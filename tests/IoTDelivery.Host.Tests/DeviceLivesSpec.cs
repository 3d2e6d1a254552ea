using System.Diagnostics;
using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using Microsoft.Extensions.DependencyInjection;

namespace IoTDelivery.Host.Tests;

/// <summary>Creations, deletions and ends of logins that a node could not finish.</summary>
public sealed class DeviceLivesSpec(RunningPlatform platform) : IClassFixture<RunningPlatform>
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private DeviceGateway Gateway => platform.Services.GetRequiredService<DeviceGateway>();

    private Fencing Fence => platform.Services.GetRequiredService<Fencing>();

    private Registry.Devices Registry => platform.Services.GetRequiredService<Registry.Devices>();

    [Fact]
    public async Task A_deletion_that_was_answered_503_is_finished_while_the_node_runs_and_the_device_is_missing()
    {
        await ExpectAsync(201, HttpMethod.Post, "p1/devices", Create("resumed"));
        await WhileCutOffAsync(() => ExpectAsync(503, HttpMethod.Delete, "p1/devices/resumed"));

        await ExpectAsync(404, HttpMethod.Get, "p1/devices/resumed");
        await ExpectAsync(404, HttpMethod.Post, "p1/devices/resumed/messages", """{"message":"x"}""");
        var waited = Stopwatch.StartNew();
        while ((await Registry.UnfinishedAsync("", 10, default)).Any(d => d.DeviceId == "resumed"))
        {
            Assert.True(waited.Elapsed < Patience, "Nobody has resumed the deletion.");
            await Task.Delay(100); // a table tells nobody when it changes
        }

        await ExpectAsync(404, HttpMethod.Get, "p1/devices/resumed");
        var outbox = await Gateway.AskAsync(new ToDevice.List(DeviceId.Parse("resumed")), default);
        Assert.Equal(new OutboxReply.Refused(RefusalReason.NoSuchDevice), outbox);
    }

    [Fact]
    public async Task A_device_whose_deletion_was_answered_503_can_be_deleted_or_created_again_at_once()
    {
        await ExpectAsync(201, HttpMethod.Post, "p1/devices", Create("deleted"));
        await ExpectAsync(201, HttpMethod.Post, "p1/devices", Create("created"));
        await WhileCutOffAsync(async () =>
        {
            await ExpectAsync(503, HttpMethod.Delete, "p1/devices/deleted");
            await ExpectAsync(503, HttpMethod.Delete, "p1/devices/created");
            await ExpectAsync(503, HttpMethod.Post, "p1/devices", Create("created")); // not yet
        });

        await ExpectAsync(204, HttpMethod.Delete, "p1/devices/deleted");
        await ExpectAsync(404, HttpMethod.Delete, "p1/devices/deleted");
        await ExpectAsync(201, HttpMethod.Post, "p1/devices", Create("created"));
        await ExpectAsync(200, HttpMethod.Get, "p1/devices/created");
        await ExpectAsync(201, HttpMethod.Post, "p1/devices/created/messages", """{"message":"x"}""");
    }

    [Fact]
    public async Task A_creation_that_was_answered_503_leaves_nothing_to_see_and_can_be_asked_again()
    {
        await WhileCutOffAsync(() => ExpectAsync(503, HttpMethod.Post, "p1/devices", Create("again")));

        await ExpectAsync(404, HttpMethod.Get, "p1/devices/again");
        await ExpectAsync(404, HttpMethod.Delete, "p1/devices/again");
        await ExpectAsync(201, HttpMethod.Post, "p1/devices", Create("again"));
        await ExpectAsync(201, HttpMethod.Post, "p1/devices/again/messages", """{"message":"x"}""");
        await ExpectAsync(400, HttpMethod.Post, "p1/devices", Create("again"));
    }

    [Fact]
    public async Task A_late_Retire_of_the_former_life_leaves_the_device_and_its_messages_alone()
    {
        await ExpectAsync(201, HttpMethod.Post, "p1/devices", Create("late"));
        var former = (await Registry.FindAsync(DeviceId.Parse("late")))!;
        await ExpectAsync(204, HttpMethod.Delete, "p1/devices/late");
        await ExpectAsync(201, HttpMethod.Post, "p1/devices", Create("late"));
        await ExpectAsync(201, HttpMethod.Post, "p1/devices/late/messages", """{"message_id":"m1","message":"x"}""");

        var late = new ToDevice.Command(DeviceId.Parse("late"), new OutboxCommand.Retire(former.Header, former.Life));
        Assert.IsType<OutboxReply.Done>(await Gateway.AskAsync(late, default));
        await Registry.RemoveAsync(former, default);

        await ExpectAsync(200, HttpMethod.Get, "p1/devices/late");
        await ExpectAsync(200, HttpMethod.Get, "p1/devices/late/messages/m1");
        await ExpectAsync(201, HttpMethod.Post, "p1/devices/late/messages", """{"message":"y"}""");
    }

    [Fact]
    public async Task A_freeze_that_was_answered_503_refuses_at_once_and_ends_the_connection_while_the_node_runs()
    {
        await ExpectAsync(201, HttpMethod.Post, "p1/devices", Create("freezer"));
        var before = await LoginAsync("freezer");
        using var present = Inbox.Create(platform.System);
        Assert.IsType<ToConnection.Attached>(await AttachAsync(present, before));
        await WhileCutOffAsync(() => ExpectAsync(503, HttpMethod.Post, "p1/devices/freezer/freeze"));

        Assert.NotNull((await Registry.FindAsync(DeviceId.Parse("freezer")))!.FrozenAt);
        Assert.Equal(ToConnection.Evicted.ByOperator, await present.ReceiveAsync(Patience));
        var waited = Stopwatch.StartNew();
        while ((await Registry.UntoldAsync(0, 10, default)).Any(e => e.DeviceId == "freezer"))
        {
            Assert.True(waited.Elapsed < Patience, "It is told again and again.");
            await Task.Delay(100); // a table tells nobody when it changes
        }

        await ExpectAsync(204, HttpMethod.Post, "p1/devices/freezer/unfreeze");
        using var late = Inbox.Create(platform.System);
        Assert.Equal(ToConnection.Evicted.ByOperator, await AttachAsync(late, before));
        using var after = Inbox.Create(platform.System);
        Assert.IsType<ToConnection.Attached>(await AttachAsync(after, await LoginAsync("freezer")));
    }

    [Fact]
    public async Task A_new_secret_ends_the_connections_of_the_old_one_if_it_is_to_and_is_served_at_once()
    {
        await ExpectAsync(201, HttpMethod.Post, "p1/devices", Create("reset"));
        var before = await LoginAsync("reset");
        using var present = Inbox.Create(platform.System);
        Assert.IsType<ToConnection.Attached>(await AttachAsync(present, before));

        const string Reset = "p1/devices/reset/action?action_id=resetSecret";
        await ExpectAsync(200, HttpMethod.Post, Reset, """{"secret":"secret-of-none"}""");
        Assert.Equal(before.Generation, (await LoginAsync("reset")).Generation);
        await ExpectAsync(200, HttpMethod.Post, Reset, """{"secret":"secret-of-all","force_disconnect":true}""");

        Assert.Equal(ToConnection.Evicted.ByOperator, await present.ReceiveAsync(Patience));
        Assert.DoesNotContain(await Registry.UntoldAsync(0, 10, default), e => e.DeviceId == "reset");
        using var after = Inbox.Create(platform.System);
        Assert.IsType<ToConnection.Attached>(await AttachAsync(after, await LoginAsync("reset")));
    }

    // What a CONNECT reads of the row.
    private async Task<Registry.Device> LoginAsync(string id) => (await Registry.FindAsync(DeviceId.Parse(id)))!;

    private async Task<object> AttachAsync(Inbox connection, Registry.Device login)
    {
        var attach = new ToDevice.Attach(
            DeviceId.Parse(login.DeviceId),
            Guid.NewGuid(),
            DateTimeOffset.UtcNow,
            new WireConnection(ForbidsRepeats: false, ReceiveMaximum: 65_535),
            SessionExpiry: TimeSpan.Zero,
            StartsClean: true,
            Revision: 1,
            Subscriptions: [],
            Subscribed: [],
            Implicit: false,
            connection.Receiver,
            Generation: login.Generation);
        Gateway.Tell(attach, connection.Receiver);
        return await connection.ReceiveAsync(Patience);
    }

    private static string Create(string id) => $$"""{"product_id":"lamp","node_id":"{{id}}","device_id":"{{id}}"}""";

    // No device can be asked: as on the losing side of a partition.
    private async Task WhileCutOffAsync(Func<Task> act)
    {
        Fence.IsOnLosingSide = true;
        try
        {
            await act();
        }
        finally
        {
            Fence.IsOnLosingSide = false;
        }
    }

    private async Task ExpectAsync(int status, HttpMethod method, string path, string? body = null)
    {
        var answer = await platform.SendAsync(method, path, body);
        var got = (int)answer.Status;
        Assert.True(status == got, $"{method} {path}: expected {status}, got {got} {answer.Body}");
    }
}
