using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using IoTDelivery.EndToEnd.Harness;
using IoTDelivery.Push;
using LinqToDB;
using LinqToDB.Async;
using Xunit.Abstractions;

namespace IoTDelivery.EndToEnd;

/// <summary>Applications that are away, slow, broken or choosy: each is told everything, in order, and none of them is the others' business.</summary>
public sealed class ReceiversSpec(ITestOutputHelper output)
{
    private const int Messages = 5;

    private static readonly string[] Settings =
    [
        "--Push:Timeout=00:00:02", "--Push:RetryFirst=00:00:00.2", "--Push:RetryMax=00:00:01", "--Push:BreakerFailures=3", "--Push:ProbeInterval=00:00:01",
        "--Push:PollInterval=00:00:01", "--Push:BoundsInterval=00:00:01", "--Devices:ReminderInterval=00:00:05",
    ];

    private static readonly string[] Lamps = [.. Enumerable.Range(0, 20).Select(i => $"lamp_{i}")];

    [Fact]
    public async Task A_receiver_that_is_down_is_told_everything_in_order_when_it_is_back_and_the_other_one_does_not_notice()
    {
        var port = Node.FreePort();
        await using var up = await Receiver.StartAsync();
        await using var node = await StartAsync(up.Url, UrlOf(port));
        var latency = await MeasureAsync(up, node);

        await ToldAsync(up, "PENDING", "DELIVERED");
        await node.UntilRowsAsync("push_backlog", rows => rows == 2 * Lamps.Length * Messages, "one row for each notification of the receiver that is down");
        output.WriteLine($"One receiver down: the other one is told p50 {latency[latency.Count / 2]:0} ms, p99 {latency[latency.Count * 99 / 100]:0} ms, at most {latency[^1]:0} ms after the POST began.");
        Assert.True(latency[latency.Count * 99 / 100] < 2_000, "The receiver that is up waits for the one that is down.");

        await using var down = await Receiver.StartAsync(port);
        await ToldAsync(down, "PENDING", "DELIVERED");
        await node.UntilRowsAsync("push_backlog", rows => rows == 0, "the backlog told");
    }

    [Fact]
    public async Task A_slow_receiver_is_told_everything_in_order_and_the_other_one_does_not_notice()
    {
        await using var up = await Receiver.StartAsync();
        await using var slow = await Receiver.StartAsync();
        slow.Answer = async _ =>
        {
            await Task.Delay(1_000); // slow is what it is
            return 200;
        };
        await using var node = await StartAsync(up.Url, slow.Url);
        var latency = await MeasureAsync(up, node);

        await ToldAsync(up, "PENDING", "DELIVERED");
        output.WriteLine($"One receiver takes a second: the other one is told p50 {latency[latency.Count / 2]:0} ms, p99 {latency[latency.Count * 99 / 100]:0} ms, at most {latency[^1]:0} ms after the POST began.");
        Assert.True(latency[latency.Count * 99 / 100] < 2_000, "The receiver that is quick waits for the one that is slow.");
        await ToldAsync(slow, "PENDING", "DELIVERED");
    }

    [Fact]
    public async Task A_receiver_that_never_answers_in_time_counts_as_down_until_it_does()
    {
        await using var receiver = await Receiver.StartAsync();
        var awake = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        receiver.Answer = async _ =>
        {
            await awake.Task;
            return 200;
        };
        await using var node = await StartAsync(receiver.Url);
        await SendAsync(node);
        await node.UntilRowsAsync("push_breaker", rows => rows == 1, "the receiver counted as down");
        awake.SetResult();
        await ToldAsync(receiver, "PENDING");
        await node.UntilRowsAsync("push_breaker", rows => rows == 0, "the receiver counted as up again");
    }

    [Fact]
    public async Task What_is_answered_500_is_repeated_word_for_word_until_it_is_answered_200()
    {
        await using var receiver = await Receiver.StartAsync();
        var attempts = new ConcurrentDictionary<string, ConcurrentQueue<string>>();
        receiver.Answer = push =>
        {
            var bodies = attempts.GetOrAdd(push.RequestId, _ => []);
            bodies.Enqueue(push.Body.GetRawText());
            return Task.FromResult(bodies.Count % 2 == 1 ? 500 : 200);
        };
        await using var node = await StartAsync(receiver.Url);
        await SendAsync(node);
        await using var lamps = await DeliverAsync(node);
        await ToldAsync(receiver, "PENDING", "DELIVERED");
        Assert.All(attempts.Values, bodies => Assert.True(bodies.Count > 1 && bodies.Distinct().Count() == 1));
    }

    [Theory]
    [InlineData(400)]
    [InlineData(404)]
    [InlineData(410)]
    [InlineData(413)]
    [InlineData(422)]
    public async Task A_notification_refused_for_good_is_a_dead_letter_and_the_next_one_goes_on(int refusal)
    {
        await using var receiver = await Receiver.StartAsync();
        var refused = new ConcurrentBag<Harness.Push>();
        receiver.Answer = push =>
        {
            if (push is not { MessageId: "lamp_3-2", Status: "PENDING" }) return Task.FromResult(200);
            refused.Add(push);
            return Task.FromResult(refusal);
        };
        await using var node = await StartAsync(receiver.Url);
        await SendAsync(node);
        await using var lamps = await DeliverAsync(node);
        await receiver.UntilAsync(pushes => pushes.DistinctBy(p => p.RequestId).Count() == 2 * Lamps.Length * Messages - 1, "everything but the one it refused");
        Assert.Equal(["DELIVERED"], receiver.StatusesOf("lamp_3-2"));
        Assert.Equal(Lamps.Where(l => l != "lamp_3").Order(), FirstTold(receiver).Where(p => InOrder(p, "PENDING", "DELIVERED")).Select(p => p.Key).Order());

        await using var db = node.Database().Open();
        var letter = Assert.Single(await db.GetTable<DeadLetter>().ToListAsync());
        Assert.Equal(("lamp_3", 3, $"HTTP {refusal}"), (letter.DeviceId, letter.Number, letter.Reason));
        Assert.Equal(Assert.Single(refused).Body.GetRawText(), System.Text.Encoding.UTF8.GetString(letter.Body)); // once, and it lies there as it was sent
        Assert.Equal(0, await node.CountAsync("push_backlog"));
    }

    [Fact]
    public async Task A_rule_tells_what_happened_while_it_was_active_however_late_and_nothing_else()
    {
        var (early, late) = (Node.FreePort(), Node.FreePort());
        await using var node = await StartAsync(UrlOf(early));
        await node.Api.SendMessageAsync("lamp_0", "hello", "m1");
        await node.UntilRowsAsync("push_backlog", rows => rows == 1, "m1 pending to the first rule");

        // Created while m1 is pending: not for this one.
        var (rule, _) = await node.Api.PushToAsync(UrlOf(late));
        await node.Api.SendMessageAsync("lamp_0", "hello", "m2");
        await node.UntilRowsAsync("push_backlog", rows => rows == 3, "m2 pending to both");

        // Deactivated while m2 is pending: m2 is still for it, m3 is not.
        Api.Expect(HttpStatusCode.OK, await node.Api.PutAsync($"routing-rule/rules/{rule}", new { active = false }));
        await node.Api.SendMessageAsync("lamp_0", "hello", "m3");
        await node.UntilRowsAsync("push_backlog", rows => rows == 4, "m3 pending to the first rule");
        Api.Expect(HttpStatusCode.OK, await node.Api.PutAsync($"routing-rule/rules/{rule}", new { active = true }));
        await node.Api.SendMessageAsync("lamp_0", "hello", "m4");
        await node.UntilRowsAsync("push_backlog", rows => rows == 6, "m4 pending to both");

        await using var first = await Receiver.StartAsync(early);
        await using var second = await Receiver.StartAsync(late);
        await node.UntilRowsAsync("push_backlog", rows => rows == 0, "the backlog told");
        Assert.Equal(["m1", "m2", "m3", "m4"], FirstTold(first).Single().Select(p => p.MessageId));
        Assert.Equal(["m2", "m4"], FirstTold(second).Single().Select(p => p.MessageId));
    }

    [Fact]
    public async Task What_is_pending_to_a_rule_that_is_deleted_goes_with_it_and_with_no_other()
    {
        var (kept, gone) = (Node.FreePort(), Node.FreePort());
        await using var node = await StartAsync(UrlOf(kept));
        var (rule, _) = await node.Api.PushToAsync(UrlOf(gone));
        await SendAsync(node);
        await node.UntilRowsAsync("push_backlog", rows => rows == 2 * Lamps.Length * Messages, "everything pending to both");

        Api.Expect(HttpStatusCode.NoContent, await node.Api.DeleteAsync($"routing-rule/rules/{rule}"));
        await node.UntilRowsAsync("push_backlog", rows => rows == Lamps.Length * Messages, "the rows of the deleted rule gone");
        await using var first = await Receiver.StartAsync(kept);
        await using var second = await Receiver.StartAsync(gone);
        await ToldAsync(first, "PENDING");

        // A new rule to the same address is another one: it begins with what happens from now on.
        await node.Api.PushToAsync(UrlOf(gone));
        await using var lamps = await DeliverAsync(node);
        await ToldAsync(first, "PENDING", "DELIVERED");
        await ToldAsync(second, "DELIVERED");
    }

    [SkippableFact]
    public async Task A_backlog_outlives_the_process()
    {
        FullSize.OnlyIf(isSister: true); // of the one that is killed while its backlog goes out
        var port = Node.FreePort();
        await using var up = await Receiver.StartAsync();
        await using var node = await StartAsync(up.Url, UrlOf(port));
        await SendAsync(node);
        await node.UntilRowsAsync("push_backlog", rows => rows > Lamps.Length * Messages / 2, "half of it in the backlog");
        await node.KillAsync();
        var rows = await node.CountAsync("push_backlog");
        await node.StartAgainAsync();
        await using var lamps = await DeliverAsync(node);
        await ToldAsync(up, "PENDING", "DELIVERED");

        await using var down = await Receiver.StartAsync(port);
        await ToldAsync(down, "PENDING", "DELIVERED");
        await node.UntilRowsAsync("push_backlog", left => left == 0, "the backlog told");
        output.WriteLine($"Killed with {rows} rows in the backlog: {down.Pushes.Count} told after the restart, {down.Pushes.Count - down.Pushes.DistinctBy(p => p.RequestId).Count()} repetitions.");
    }

    [Fact]
    public async Task A_process_killed_while_its_backlog_goes_out_goes_on_where_it_was()
    {
        var port = Node.FreePort();
        await using var node = await StartAsync(UrlOf(port));
        await SendAsync(node);
        await node.UntilRowsAsync("push_backlog", rows => rows == Lamps.Length * Messages, "everything in the backlog");
        await using var receiver = await Receiver.StartAsync(port);
        await receiver.UntilAsync(pushes => pushes.Count >= 10, "the first ten");
        await node.KillAsync();
        await node.StartAgainAsync();
        await ToldAsync(receiver, "PENDING");
        await node.UntilRowsAsync("push_backlog", left => left == 0, "the backlog told");
    }

    private static string UrlOf(int port) => $"http://127.0.0.1:{port}/status";

    // A node with twenty lamps that are away, and a rule for each address.
    private static async Task<Node> StartAsync(params string[] urls)
    {
        var node = await Node.StartAsync(Settings);
        await node.Api.CreateProductAsync();
        foreach (var lamp in Lamps) await node.Api.CreateDeviceAsync(lamp);
        foreach (var url in urls) await node.Api.PushToAsync(url);
        return node;
    }

    // Five messages for each lamp: those of one lamp one after the other.
    private static Task SendAsync(Node node, Action<string>? before = null) => Parallel.ForEachAsync(Lamps, async (lamp, _) =>
    {
        for (var n = 0; n < Messages; n++)
        {
            before?.Invoke($"{lamp}-{n}");
            Api.Expect(HttpStatusCode.Created, await node.Api.SendMessageAsync(lamp, "hello", $"{lamp}-{n}"));
        }
    });

    // All lamps come, take what is theirs, and stay.
    private static async Task<Online> DeliverAsync(Node node)
    {
        var online = new Online();
        await Parallel.ForEachAsync(Lamps, async (lamp, _) =>
        {
            var device = await Device.OnlineAsync(node.MqttPort, lamp);
            online.Devices.Add(device);
            for (var ids = new HashSet<string>(); ids.Count < Messages;) ids.Add((await device.NextAsync()).Id);
        });
        return online;
    }

    private sealed class Online : IAsyncDisposable
    {
        public ConcurrentBag<Device> Devices { get; } = [];

        public async ValueTask DisposeAsync()
        {
            foreach (var device in Devices) await device.DisposeAsync();
        }
    }

    // How long after the beginning of each POST a receiver heard of it, sorted, while the lamps come and go.
    private static async Task<List<double>> MeasureAsync(Receiver receiver, Node node)
    {
        var (sent, latency) = (new ConcurrentDictionary<string, long>(), new ConcurrentDictionary<string, double>());
        receiver.Answer = push =>
        {
            if (push.Status == "PENDING") latency.TryAdd(push.MessageId, Stopwatch.GetElapsedTime(sent[push.MessageId]).TotalMilliseconds);
            return Task.FromResult(200);
        };
        await SendAsync(node, id => sent[id] = Stopwatch.GetTimestamp());
        await using var lamps = await DeliverAsync(node);
        await receiver.UntilAsync(pushes => pushes.DistinctBy(p => p.RequestId).Count() == 2 * Lamps.Length * Messages, "every message PENDING and DELIVERED");
        return [.. latency.Values.Order()];
    }

    // What a receiver was told first, by device.
    private static IEnumerable<IGrouping<string, Harness.Push>> FirstTold(Receiver receiver) => receiver.Pushes.DistinctBy(p => p.RequestId).GroupBy(p => p.DeviceId);

    // Each status of a device's messages in the order of the messages, and each message's statuses in theirs.
    private static bool InOrder(IEnumerable<Harness.Push> device, params string[] statuses)
    {
        var told = device.ToList();
        var (id, ids) = (told[0].DeviceId, Enumerable.Range(0, Messages));
        return statuses.All(status => told.Where(p => p.Status == status).Select(p => p.MessageId).SequenceEqual(ids.Select(n => $"{id}-{n}")))
            && told.GroupBy(p => p.MessageId).All(message => message.Select(p => p.Status).SequenceEqual(statuses));
    }

    // Waits until a receiver was told each of these statuses of each message; then all of it must be in order, and repetitions word for word.
    private static async Task ToldAsync(Receiver receiver, params string[] statuses)
    {
        var all = Lamps.Length * Messages * statuses.Length;
        await receiver.UntilAsync(pushes => pushes.DistinctBy(p => p.RequestId).Count() >= all, $"{all} notifications");
        var devices = FirstTold(receiver).ToList();
        Assert.Equal(Lamps.Order(), devices.Select(d => d.Key).Order());
        Assert.All(devices, d => Assert.True(InOrder(d, statuses), $"{d.Key}: {string.Join(", ", d.Select(p => $"{p.MessageId} {p.Status}"))}"));
        Assert.All(receiver.Pushes.GroupBy(p => p.RequestId), r => Assert.Single(r.Select(p => p.Body.GetRawText()).Distinct()));
    }
}
