using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Text.Json;
using IoTDelivery.EndToEnd.Harness;
using Xunit.Abstractions;

namespace IoTDelivery.EndToEnd;

/// <summary>Messages for many devices at once survive the power cut that comes in the middle of them.</summary>
[Collection(nameof(Alone))]
public sealed class BatchSpec(ITestOutputHelper output)
{
    private const int Devices = 1_000, Online = 500, Tasks = 10, Total = Devices * Tasks;

    [Fact]
    public async Task Ten_thousand_messages_of_batch_tasks_and_a_kill_in_the_middle_end_with_exactly_one_accepted_message_per_target()
    {
        // Every message of a device fits its history, where it can be counted.
        await using var node = await Node.StartAsync("--Delivery:PendingMax=100", "--Delivery:HistoryMax=100", "--Batch:RatePerSecond=2000", "--Batch:Concurrency=64", "--Batch:PollInterval=00:00:00.1");
        await node.Api.CreateProductAsync();
        var ids = Enumerable.Range(0, Devices).Select(i => $"lamp_{i}").ToArray();
        var many = new ParallelOptions { MaxDegreeOfParallelism = 64 };
        await Parallel.ForEachAsync(ids, many, async (id, _) => await node.Api.CreateDeviceAsync(id));
        var came = new ConcurrentDictionary<string, ConcurrentQueue<string>>(); // device → messages as they came, repetitions included
        var online = await ConnectAsync(node, ids[..Online], came);

        var clock = Stopwatch.StartNew();
        var tasks = new string[Tasks];
        await Parallel.ForEachAsync(Enumerable.Range(0, Tasks), many, async (n, _) => tasks[n] = await CreateAsync(node, n, ids));
        await node.UntilRowsAsync("batch_target where status = 2", rows => rows >= Total / 2, "half of the targets took their message");
        await node.KillAsync();
        var (sentIn, settled, inHand) = (clock.Elapsed, await node.CountAsync("batch_target where status = 2"), await node.CountAsync("batch_target where status = 1"));
        Assert.InRange(settled, Total / 2, Total - 1);
        foreach (var device in online) await device.DisposeAsync();

        clock.Restart();
        await node.StartAgainAsync();
        online = await ConnectAsync(node, ids[..Online], came);
        var progress = await EndedAsync(node);
        var endedIn = clock.Elapsed;
        await UntilAsync(() => ids[..Online].All(id => came[id].Distinct().Count() == Tasks), "Devices that are online have not all their messages.");

        Assert.Equal(tasks.Order(), progress.Keys.Order());
        Assert.All(progress.Values, p => Assert.Equal(
            """{"total":1000,"processing":0,"success":1000,"fail":0,"waitting":0,"fail_wait_retry":0,"stopped":0,"removed":0}""", p));
        await Parallel.ForEachAsync(ids, many, async (id, _) =>
        {
            var messages = Api.Expect(HttpStatusCode.OK, await node.Api.GetAsync($"devices/{id}/messages")).Body.GetProperty("messages").EnumerateArray().ToList();
            Assert.Equal(tasks.Order(), messages.Select(m => m.GetProperty("message_id").GetString()!.Split('-')[0]).Order()); // one of each task, none doubled
        });
        Assert.All(ids[..Online], id => Assert.Equal(tasks.Order(), came[id].Distinct().Select(m => m.Split('-')[0]).Order()));
        Assert.Equal(Total, await TargetsAsync(node, tasks));
        foreach (var device in online) await device.DisposeAsync();

        var packets = came.Values.Sum(c => c.Count);
        output.WriteLine(
            $"{Tasks} tasks × {Devices} targets, {Online} devices online: killed after {sentIn.TotalSeconds:0.0} s with {settled} targets settled ({settled / sentIn.TotalSeconds:0}/s) and {inHand} in hand; "
            + $"all ended {endedIn.TotalSeconds:0.0} s after the restart began, {Total} accepted, 0 lost, 0 doubled; {Online * Tasks} messages came to devices online in {packets} packets ({packets - Online * Tasks} repetitions).");
    }

    private static async Task<string> CreateAsync(Node node, int n, string[] ids)
    {
        var document = new { message = new { n } };
        var created = Api.Expect(HttpStatusCode.Created, await (n == 0 // one by its filter, the others by list
            ? node.Api.PostAsync("batchtasks", new { task_name = $"task_{n}", task_type = "createMessages", targets_filter = new { product_ids = new[] { "lamp" } }, document })
            : node.Api.PostAsync("batchtasks", new { task_name = $"task_{n}", task_type = "createMessages", targets = ids, document })));
        return created.Body.GetProperty("task_id").GetString()!;
    }

    private static async Task<IReadOnlyList<Device>> ConnectAsync(Node node, string[] ids, ConcurrentDictionary<string, ConcurrentQueue<string>> came)
    {
        var devices = new ConcurrentBag<Device>();
        await Parallel.ForEachAsync(ids, new ParallelOptions { MaxDegreeOfParallelism = 64 }, async (id, _) =>
        {
            var mine = came.GetOrAdd(id, _ => []);
            devices.Add(await Device.OnlineAsync(node.MqttPort, id, acknowledge: received =>
            {
                mine.Enqueue(received.Id);
                return Task.FromResult(true);
            }));
        });
        return [.. devices];
    }

    private static async Task<Dictionary<string, string>> EndedAsync(Node node)
    {
        List<JsonElement> all = [];
        await UntilAsync(
            async () =>
            {
                all = [.. Api.Expect(HttpStatusCode.OK, await node.Api.GetAsync("batchtasks?task_type=createMessages&limit=50")).Body.GetProperty("batchtasks").EnumerateArray()];
                return all.All(t => t.GetProperty("status").GetString() == "Success");
            },
            $"Not all tasks ended.\n{node.Output}");
        return all.ToDictionary(t => t.GetProperty("task_id").GetString()!, t => t.GetProperty("task_progress").GetRawText());
    }

    // Page by page, as an application reads them.
    private static async Task<int> TargetsAsync(Node node, string[] tasks)
    {
        var seen = new ConcurrentDictionary<string, byte>();
        await Parallel.ForEachAsync(tasks, async (task, _) =>
        {
            for (var marker = "ffffffffffffffffffffffff"; ;)
            {
                var page = Api.Expect(HttpStatusCode.OK, await node.Api.GetAsync($"batchtasks/{task}?limit=50&marker={marker}")).Body;
                var details = page.GetProperty("task_details").EnumerateArray().ToList();
                if (details.Count == 0) return;
                Assert.All(details, d => Assert.True(d.GetProperty("status").GetString() == "Success" && seen.TryAdd($"{task} {d.GetProperty("target").GetString()}", 0), $"{d}"));
                marker = page.GetProperty("page").GetProperty("marker").GetString()!;
            }
        });
        return seen.Count;
    }

    private static Task UntilAsync(Func<bool> isTrue, string otherwise) => UntilAsync(() => Task.FromResult(isTrue()), otherwise);

    private static async Task UntilAsync(Func<Task<bool>> isTrue, string otherwise)
    {
        for (var clock = Stopwatch.StartNew(); !await isTrue();)
        {
            Assert.True(clock.Elapsed < TimeSpan.FromMinutes(2), otherwise);
            await Task.Delay(50); // nobody tells when a task has ended
        }
    }
}
