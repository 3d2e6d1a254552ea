using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using IoTDelivery.EndToEnd.Harness;
using IoTDelivery.Tests.Databases;
using Xunit.Abstractions;

namespace IoTDelivery.EndToEnd;

/// <summary>201 means stored: what was answered survives the power cut that comes in the middle of it.</summary>
[Collection(nameof(Alone))]
public sealed class KillSpec(PostgreSqlDatabase postgres, ITestOutputHelper output) : IClassFixture<PostgreSqlDatabase>
{
    [Fact]
    public Task Ten_thousand_messages_and_a_kill_in_the_middle_on_SQLite_lose_nothing_that_was_answered() => RunAsync("SQLite", devices: 500, each: 20);

    [SkippableFact]
    public async Task Two_thousand_messages_and_a_kill_in_the_middle_on_PostgreSQL_lose_nothing_that_was_answered()
    {
        FullSize.OnlyIf(isSister: true); // FaultsSpec kills nodes on PostgreSQL
        Skip.If(postgres.SkipReason is not null, postgres.SkipReason);
        var storage = await postgres.CreateAsync();
        await RunAsync("PostgreSQL", devices: 100, each: 20, "--Storage:Provider=PostgreSql", $"--Storage:ConnectionString={storage.ConnectionString}");
    }

    private async Task RunAsync(string database, int devices, int each, params string[] settings)
    {
        await using var receiver = await Receiver.StartAsync();
        var told = new Tally(receiver);
        await using var node = await Node.StartAsync(settings);
        await node.Api.CreateProductAsync();
        await node.Api.PushToAsync(receiver.Url);
        var ids = Enumerable.Range(0, devices).Select(i => $"lamp_{i}").ToArray();
        var sixtyFour = new ParallelOptions { MaxDegreeOfParallelism = 64 };
        await Parallel.ForEachAsync(ids, sixtyFour, async (id, _) => await node.Api.CreateDeviceAsync(id));

        var answered = new ConcurrentDictionary<string, string?>(); // message → the status its 201 named
        var (middle, back) = (new TaskCompletionSource(), new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
        var (count, lost, repeated, unknown) = (0, 0, 0, new ConcurrentBag<string>());
        var clock = Stopwatch.StartNew();
        var sending = Parallel.ForEachAsync(Enumerable.Range(0, devices), sixtyFour, async (i, _) =>
        {
            for (var n = 0; n < each;)
            {
                var id = MessageOf(ids[i], n);
                Answer answer;
                try
                {
                    answer = await node.Api.SendMessageAsync(ids[i], id, id);
                }
                catch (HttpRequestException)
                {
                    Interlocked.Increment(ref lost);
                    await back.Task;
                    if (i % 2 == 0)
                    {
                        Interlocked.Increment(ref repeated); // with the same message_id
                        continue;
                    }

                    unknown.Add(id);
                    return; // this application never asks again
                }

                answered[id] = Api.Expect(HttpStatusCode.Created, answer).MessageStatus;
                n++;
                if (Interlocked.Increment(ref count) == devices * each / 2) middle.TrySetResult();
            }
        });
        await Task.WhenAny(middle.Task, sending);
        Assert.False(sending.IsCompleted);
        await node.KillAsync();
        var answeredBefore = answered.Count;
        var sentIn = clock.Elapsed;
        await node.StartAgainAsync();
        back.SetResult();
        await sending;
        Assert.True(lost > 0, "The kill interrupted nobody.");
        Assert.All(answered, a => Assert.Equal("PENDING", a.Value));

        // An answer that was lost and never asked for again: the message may be stored or not. Which of the two holds is settled by now.
        var accepted = answered.Keys.ToHashSet();
        foreach (var id in unknown)
        {
            var shown = Api.Expect(HttpStatusCode.OK, await node.Api.GetAsync($"devices/{id[..id.IndexOf('-')]}/messages/{id}"));
            if (shown.Body.TryGetProperty("message_id", out var _)) accepted.Add(id);
        }

        clock.Restart();
        var came = new ConcurrentDictionary<string, string[]>(); // device → messages in the order they came first
        var online = new ConcurrentBag<Device>();
        await Parallel.ForEachAsync(ids, sixtyFour, async (id, _) =>
        {
            var device = await Device.ConnectAsync(node.MqttPort, id);
            while (!device.Client.IsConnected && clock.Elapsed < TimeSpan.FromSeconds(30)) device = await Device.ConnectAsync(node.MqttPort, id); // told that the server is not available: asks again
            Assert.True(device.Client.IsConnected, $"{id} was not let in after {clock.Elapsed}, as number {online.Count}. The node said:\n{node.Output}");
            await device.SubscribeAsync();
            online.Add(device);
            var (missing, first) = (Enumerable.Range(0, each).Select(n => MessageOf(id, n)).Where(accepted.Contains).ToHashSet(), new List<string>());
            while (missing.Count > 0)
            {
                var received = await device.NextAsync();
                Assert.Equal(received.Id, received.Content);
                if (!first.Contains(received.Id)) first.Add(received.Id);
                missing.Remove(received.Id);
            }

            came[id] = [.. first];
        });
        var deliveredIn = clock.Elapsed;

        foreach (var (id, first) in came)
        {
            Assert.Equal(first.Order(StringComparer.Ordinal), first); // the ids sort as they were sent
            Assert.All(first, message => Assert.Contains(message, accepted));
        }

        await told.UntilAsync("DELIVERED", accepted.Count, TimeSpan.FromMinutes(2));
        var statuses = told.Statuses();
        Assert.Equal(accepted.Count, statuses.Count);
        Assert.All(accepted, message => Assert.Equal("PENDING DELIVERED", statuses[message]));
        foreach (var device in online) await device.DisposeAsync();
        output.WriteLine(
            $"{database}: {devices} devices, {answeredBefore} messages answered 201 when the process was killed ({sentIn.TotalSeconds:0.0} s, {answeredBefore / sentIn.TotalSeconds:0}/s), " +
            $"{lost} answers lost, {repeated} of them asked again, {unknown.Count} never asked again ({accepted.Count - answered.Count} of these stored); {answered.Count} answered in all, {came.Values.Sum(f => f.Length)} arrived, " +
            $"0 lost, 0 out of order, in {deliveredIn.TotalSeconds:0.0} s; webhook told {told.Count} times, {told.Count - statuses.Values.Sum(s => s.Split(' ').Length)} repetitions.");
    }

    private static string MessageOf(string device, int n) => $"{device}-{n:00}";
}
