using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using IoTDelivery.EndToEnd.Harness;
using IoTDelivery.Tests.Databases;
using Npgsql;
using Xunit.Abstractions;

namespace IoTDelivery.EndToEnd;

/// <summary>Applications hear of every end, and in time, whatever the others and the database do.</summary>
[Collection(nameof(Alone))]
public sealed class EveryEndIsToldSpec(PostgreSqlDatabase server, ITestOutputHelper output)
    : IClassFixture<PostgreSqlDatabase>
{
    [Fact]
    public async Task A_receiver_that_is_slow_delays_nobody_elses_TIMEOUTs_of_sleeping_devices()
    {
        const int devices = 100, ttl = 10;
        // Twenty devices are reminded at once: if a reminder waited for this receiver, the last would be 15 s late.
        var slowness = TimeSpan.FromSeconds(3);
        var late = TimeSpan.FromSeconds(10);
        await using var quick = await Receiver.StartAsync();
        await using var slow = await Receiver.StartAsync();
        var told = new ConcurrentDictionary<string, Stopwatch>();
        var hurry = new TaskCompletionSource();
        quick.Answer = push =>
        {
            if (push.Status == "TIMEOUT" && told.TryGetValue(push.MessageId, out var since)) since.Stop();
            return Task.FromResult(200);
        };
        slow.Answer = async push =>
        {
            if (push.Status == "TIMEOUT") await Task.WhenAny(Task.Delay(slowness), hurry.Task); // slow is what it is
            return 200;
        };
        await using var node = await Node.StartAsync(
            "--Delivery:TtlUnit=00:00:01", "--Devices:SleepAfter=00:00:00.2", "--Reminders:PollInterval=00:00:00.1",
            "--Push:Timeout=00:00:10");
        await node.Api.CreateProductAsync();
        await node.Api.PushToAsync(quick.Url);
        await node.Api.PushToAsync(slow.Url);
        for (var i = 0; i < devices; i++) await node.Api.CreateDeviceAsync($"lamp_{i}");
        await Parallel.ForEachAsync(
            Enumerable.Range(0, devices), new ParallelOptions { MaxDegreeOfParallelism = 16 }, async (i, _) =>
            {
                told[$"m{i}"] = Stopwatch.StartNew();
                Api.Expect(HttpStatusCode.Created, await node.Api.SendMessageAsync($"lamp_{i}", "hello", $"m{i}", ttl));
            });

        await quick.UntilAsync(
            all => all.Where(p => p.Status == "TIMEOUT").DistinctBy(p => p.MessageId).Count() == devices, "TIMEOUT of all");

        var lates = told.Values.Select(t => t.Elapsed - TimeSpan.FromSeconds(ttl)).Order().ToList();
        output.WriteLine(
            $"{devices} TIMEOUTs: median {lates[devices / 2].TotalSeconds:0.0} s, worst {lates[^1].TotalSeconds:0.0} s late, " +
            $"while another receiver takes {slowness.TotalSeconds:0} s for each");
        Assert.True(lates[0] > TimeSpan.FromSeconds(-1), $"{lates[0]} is too early.");
        Assert.True(lates[^1] < late, $"{lates[^1]} late.");
        hurry.SetResult();
        await slow.UntilAsync(
            all => all.Where(p => p.Status == "TIMEOUT").DistinctBy(p => p.MessageId).Count() == devices,
            "TIMEOUT of all, too");
    }

    [SkippableFact]
    public async Task What_happened_to_a_device_is_told_although_it_is_deleted_before_the_rules_can_be_read()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var storage = await server.CreateAsync();
        await using var receiver = await Receiver.StartAsync();
        await using var node = await Node.StartAsync(
            "--Storage:Provider=PostgreSql", $"--Storage:ConnectionString={storage.ConnectionString}");
        await node.Api.CreateProductAsync();
        await node.Api.PushToAsync(receiver.Url);
        await node.Api.CreateDeviceAsync("lamp");
        await node.Api.CreateDeviceAsync("other");
        Api.Expect(HttpStatusCode.Created, await node.Api.SendMessageAsync("other", "hello", "before"));
        await receiver.UntilAsync(all => all.Any(p => p.MessageId == "before"), "PENDING of another device");

        await using (var db = new NpgsqlConnection(storage.ConnectionString + ";Pooling=false"))
        {
            await db.OpenAsync();
            await using var transaction = await db.BeginTransactionAsync();
            await using var locks = new NpgsqlCommand("lock table rule_revision in access exclusive mode", db, transaction);
            await locks.ExecuteNonQueryAsync();
            Api.Expect(HttpStatusCode.Created, await node.Api.SendMessageAsync("lamp", "hello", "m1"));
            Api.Expect(HttpStatusCode.NoContent, await node.Api.DeleteAsync("devices/lamp"));
            Api.Expect(HttpStatusCode.NotFound, await node.Api.GetAsync("devices/lamp"));
            Assert.Empty(receiver.StatusesOf("m1"));
            await transaction.CommitAsync();
        }

        await receiver.UntilAsync(all => all.Any(p => p is { MessageId: "m1", Status: "FAILED" }), "m1 FAILED");
        Assert.Equal(["PENDING", "FAILED"], receiver.StatusesOf("m1"));
        Assert.All(receiver.Pushes.Where(p => p.MessageId == "m1"), p => Assert.Equal("lamp", p.DeviceId));
    }
}
