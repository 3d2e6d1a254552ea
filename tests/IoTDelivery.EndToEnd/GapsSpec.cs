using System.Net;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.EndToEnd;

/// <summary>A message for a device that never comes, and a process that dies in one gap of its life: nobody asks again, and still it ends and the application is told. Three classes, so that they run side by side.</summary>
public abstract class GapsSpec
{
    private const int KilledBySignal9 = 128 + 9;

    // A ttl of two seconds, and everything that bridges a crash shorter than it, as the defaults have it.
    private static readonly string[] Settings =
    [
        "--Delivery:TtlUnit=00:00:00.4", "--Devices:ReminderInterval=00:00:01", "--Devices:SleepAfter=00:00:00.2", "--Reminders:PollInterval=00:00:00.2", "--Reminders:Lease=00:00:01",
        "--Push:RetryFirst=00:00:00.2", "--Push:PollInterval=00:00:01",
    ];

    private protected static async Task RunAsync(string point, int nth, int failures)
    {
        await using var receiver = await Receiver.StartAsync();
        receiver.Answer = _ => Task.FromResult(Interlocked.Decrement(ref failures) < 0 ? 200 : 500);
        await using var node = Node.Create(Settings);
        node.Launch([DyingNode.Dll, "crash-at", point, $"{nth}"]);
        await node.ReadyAsync();
        await node.Api.CreateProductAsync();
        await node.Api.CreateDeviceAsync("lamp_1");
        await node.Api.PushToAsync(receiver.Url);

        var answered = await SendAsync(node);
        Assert.Equal(KilledBySignal9, await node.ExitAsync());

        await node.StartAgainAsync();
        if (!answered && await node.CountAsync("journal") == 0)
        {
            Assert.True(point is "filing", "Only before the write may a message be lost, and only unanswered.");
            Assert.True(await SendAsync(node)); // the application asks again, with the same id
        }

        // From here on nobody does anything: what is unfinished is found by its call.
        await receiver.UntilAsync(pushes => pushes.Any(p => p.Status == "TIMEOUT"), $"TIMEOUT after a crash at '{point}' {nth}");
        await node.UntilRowsAsync("reminder", rows => rows == 0, "nothing unfinished, and no call on file");
        await node.UntilRowsAsync("push_backlog", rows => rows == 0, "the backlog told");
        Assert.Equal(["PENDING", "TIMEOUT"], receiver.StatusesOf("m1"));
    }

    // False if the process died before it answered.
    private static async Task<bool> SendAsync(Node node)
    {
        try
        {
            var sent = Api.Expect(HttpStatusCode.Created, await node.Api.SendMessageAsync("lamp_1", "hello", "m1", ttl: 5));
            Assert.Equal("PENDING", sent.MessageStatus);
            return true;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }
}

/// <summary>The life of a reminder.</summary>
public sealed class ReminderGapsSpec : GapsSpec
{
    [SkippableTheory]
    [InlineData("filing", 1)]           // nothing is on file yet
    [InlineData("filed", 1)]            // the call and the message, in one transaction
    [InlineData("persisted", 1)]        // stored, and nobody knows
    [InlineData("replied", 1)]          // the application reads 201 from a dead process
    [InlineData("filing", 2)]           // about to sleep until the ttl ends
    [InlineData("filed", 2)]
    [InlineData("fired", 1)]             // moved one lease ahead, nobody woken
    [InlineData("handled", 1)]            // timed out, and the application does not know
    [InlineData("deleting", 1)]         // all done, and the call still on file
    [InlineData("deleted", 1)]
    public Task A_message_ends_although_the_process_died_in_the_life_of_its_reminder(string point, int nth)
    {
        FullSize.OnlyIf(isSister: nth == 2 || point is "replied" or "deleting");
        return RunAsync(point, nth, failures: 0);
    }
}

/// <summary>The life of an pending notification.</summary>
public sealed class NotificationGapsSpec : GapsSpec
{
    [SkippableTheory]
    [InlineData("offered", 1)]          // PENDING
    [InlineData("offered", 2)]          // TIMEOUT
    [InlineData("answered", 1)]         // by the application, and the push does not know
    [InlineData("answered", 2)]
    [InlineData("acknowledged", 1)]             // by the push, and the device does not know
    [InlineData("acknowledged", 2)]
    [InlineData("acknowledged and written", 1)]
    [InlineData("acknowledged and written", 2)]
    public Task A_status_is_told_although_the_process_died_while_it_was_pending(string point, int nth)
    {
        FullSize.OnlyIf(isSister: nth == 2 || point == "acknowledged and written");
        return RunAsync(point, nth, failures: 0);
    }
}

/// <summary>The same for a receiver that is down first.</summary>
public sealed class BacklogGapsSpec : GapsSpec
{
    [SkippableTheory]
    [InlineData("backlog row written", 1)]
    [InlineData("answered", 1)]         // the row is told and still there
    [InlineData("answered", 2)]
    [InlineData("acknowledged", 1)]             // the row is written, the device has not heard
    [InlineData("acknowledged and written", 1)]
    public Task A_status_is_told_although_the_process_died_while_it_waited_in_the_backlog(string point, int nth)
    {
        FullSize.OnlyIf(isSister: nth == 2 || point.StartsWith("acknowledged", StringComparison.Ordinal));
        return RunAsync(point, nth, failures: 1);
    }
}
