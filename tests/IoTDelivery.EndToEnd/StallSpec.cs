using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using IoTDelivery.EndToEnd.Harness;
using Microsoft.Data.Sqlite;
using Xunit.Abstractions;

namespace IoTDelivery.EndToEnd;

/// <summary>
/// A database that stands still for ten seconds: applications may be asked to come again, devices notice nothing.
/// </summary>
[Collection(nameof(Alone))]
public sealed class StallSpec(ITestOutputHelper output)
{
    private const int Devices = 200;
    private static readonly TimeSpan Stall = TimeSpan.FromSeconds(10);

    [Fact]
    public async Task SQLite_locked_for_ten_seconds_ends_no_connection_and_loses_nothing()
    {
        await using var receiver = await Receiver.StartAsync();
        var told = new Tally(receiver);
        await using var node = await Node.StartAsync();
        await node.Api.CreateProductAsync();
        await node.Api.PushToAsync(receiver.Url);
        var ids = Enumerable.Range(0, Devices).Select(i => $"lamp_{i}").ToArray();
        var clients = new ConcurrentDictionary<string, LastingClient>();
        await Parallel.ForEachAsync(ids, new ParallelOptions { MaxDegreeOfParallelism = 32 }, async (id, _) =>
        {
            await node.Api.CreateDeviceAsync(id);
            var client = await LastingClient.ConnectAsync(node.MqttPort, id, v5: true);
            await client.SubscribeAsync(Device.DownTopic(id));
            clients[id] = client;
        });
        var came = new ConcurrentDictionary<string, ConcurrentDictionary<string, int>>();
        using var over = new CancellationTokenSource();
        var reading = ids.Select(id => ReadAsync(clients[id], came.GetOrAdd(id, _ => []), over.Token)).ToArray();

        var answered = new ConcurrentDictionary<string, string>(); // message → device
        var (refused, others) = (new ConcurrentDictionary<string, int>(), new ConcurrentQueue<string>());
        var isUnderWay = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var slowest = TimeSpan.Zero;
        using var enough = new CancellationTokenSource();
        var posting = ids.Select(id => PostAsync(id, enough.Token)).ToArray();
        await isUnderWay.Task.WaitAsync(TimeSpan.FromSeconds(60));
        int before, during;
        var file = Path.Combine(node.Folder, "data", "iotdelivery.db");
        await using (var second = new SqliteConnection($"Data Source={file};Pooling=false"))
        {
            await second.OpenAsync();
            await ExecuteAsync("begin immediate");
            before = answered.Count;
            await Task.Delay(Stall); // time is what is awaited here
            during = answered.Count - before;
            await ExecuteAsync("rollback");

            async Task ExecuteAsync(string sql)
            {
                await using var command = second.CreateCommand();
                command.CommandText = sql;
                command.CommandTimeout = 30;
                await command.ExecuteNonQueryAsync();
            }
        }

        var release = answered.Count;
        var clock = Stopwatch.StartNew();
        while (answered.Count < release + 2 * Devices && clock.Elapsed < TimeSpan.FromSeconds(60))
        {
            await Task.Delay(50); // it goes on
        }

        enough.Cancel();
        await Task.WhenAll(posting); // each message that was refused was asked for again until it was answered 201
        Assert.True(
            answered.Count >= release + 2 * Devices,
            $"Only {answered.Count - release} messages in {clock.Elapsed} after the stall.\n{node.Output}");
        Assert.True(others.IsEmpty, string.Join('\n', others.Take(5)));
        Assert.All(refused.Keys, id => Assert.Contains(id, answered));

        await told.UntilAsync("DELIVERED", answered.Count, TimeSpan.FromMinutes(2));
        Assert.All(
            clients, c => Assert.False(c.Value.Closed.IsCompleted, $"{c.Key} lost its connection.\n{node.Output}"));
        Assert.Equal(0, told.Of("FAILED") + told.Of("TIMEOUT"));
        Assert.All(answered, a => Assert.True(came[a.Value].ContainsKey(a.Key), $"{a.Key} never came."));
        Assert.Equal(answered.Count, came.Values.Sum(c => c.Count)); // and nothing else
        over.Cancel();
        foreach (var client in clients.Values) client.Dispose();
        await Task.WhenAll(reading);
        output.WriteLine(
            $"{answered.Count} messages to {Devices} devices, {before} before and {during} during a stall of " +
            $"{Stall.TotalSeconds:0} s; " +
            $"{refused.Count} messages got {refused.Values.Sum()} answers 503 and 201 later; " +
            $"slowest answer {slowest.TotalSeconds:0.0} s; " +
            $"{came.Values.Sum(c => c.Values.Sum()) - answered.Count} repetitions; 0 lost, 0 connections lost.");

        async Task PostAsync(string device, CancellationToken stop)
        {
            for (var n = 0; !stop.IsCancellationRequested; n++)
            {
                var message = $"{device}-{n}";
                while (true)
                {
                    var clock = Stopwatch.StartNew();
                    var answer = await node.Api.SendMessageAsync(device, message, message);
                    lock (answered) slowest = clock.Elapsed > slowest ? clock.Elapsed : slowest;
                    if (answer.Status == HttpStatusCode.Created) break;
                    if (answer.Status != HttpStatusCode.ServiceUnavailable)
                    {
                        others.Enqueue($"{message}: {(int)answer.Status} {answer.Body}");
                        return;
                    }

                    refused.AddOrUpdate(message, 1, (_, count) => count + 1);
                    await Task.Delay(200, CancellationToken.None); // an application that was told to come again later
                }

                answered[message] = device;
                if (answered.Count >= Devices) isUnderWay.TrySetResult();
                // Some four hundred a second in all.
                await Task.Delay(500, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    // Acknowledges all it gets.
    private static async Task ReadAsync(
        LastingClient client, ConcurrentDictionary<string, int> came, CancellationToken over)
    {
        while (!over.IsCancellationRequested)
        {
            Received received;
            try
            {
                received = await client.NextAsync(TimeSpan.FromMinutes(5));
            }
            catch (System.Threading.Channels.ChannelClosedException)
            {
                return;
            }

            came.AddOrUpdate(received.Id, 1, (_, count) => count + 1);
            await client.AcknowledgeAsync(received.PacketId);
        }
    }
}
