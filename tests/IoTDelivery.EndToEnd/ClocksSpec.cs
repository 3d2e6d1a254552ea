using System.Diagnostics;
using System.Net;
using IoTDelivery.EndToEnd.Harness;
using IoTDelivery.Tests.Databases;
using Npgsql;
using Xunit.Abstractions;

namespace IoTDelivery.EndToEnd;

/// <summary>
/// Two nodes whose wall clocks disagree, by libfaketime: it lies about the time of day, not about how time passes.
/// </summary>
[Collection(nameof(Alone))]
public sealed class ClocksSpec(PostgreSqlDatabase server, ITestOutputHelper output) : IClassFixture<PostgreSqlDatabase>
{
    private const string Library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    private const byte SessionTakenOver = 0x8E;

    // What a device waits for: most of them, and each, on a machine that is busy with something else. A connection that
    // lost a race against its predecessor would be closed instead.
    private static readonly TimeSpan ServedMostly = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Served = TimeSpan.FromSeconds(10);

    private readonly List<TimeSpan> _served = [];

    /// <summary>A node, and a file that says how far its clock is off.</summary>
    private sealed record Skewed(Node Node, string File)
    {
        public async Task SetAsync(string offset)
        {
            await System.IO.File.WriteAllTextAsync(File + ".new", offset + "\n");
            System.IO.File.Move(File + ".new", File, overwrite: true);
        }

        // libfaketime answers EAGAIN to a timed wait while another thread begins one, and .NET takes that for the wait's end: a
        // blocking read of the socket, as the key ring's at the start, may then time out within milliseconds.
        public async Task StartAsync()
        {
            for (var left = 5; ; left--)
            {
                try
                {
                    await Node.StartAgainAsync();
                    return;
                }
                catch (InvalidOperationException ended) when (left > 0 && ended.Message.Contains("Timeout during reading"))
                {
                }
            }
        }

        public static Skewed Of(Node node)
        {
            var file = Path.Combine(node.Folder, "clock");
            node.Variables["LD_PRELOAD"] = Library;
            node.Variables["FAKETIME_TIMESTAMP_FILE"] = file;
            node.Variables["FAKETIME_NO_CACHE"] = "1";
            node.Variables["DONT_FAKE_MONOTONIC"] = "1"; // its name before 0.9.10
            node.Variables["FAKETIME_DONT_FAKE_MONOTONIC"] = "1";
            return new Skewed(node, file);
        }
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_device_that_changes_to_a_node_20_s_behind_is_served_and_its_old_connection_is_told(bool isV5)
    {
        FullSize.OnlyIf(isSister: !isV5);
        SkipWhatCannotRun();
        await using var nodes = await TwoNodes.StartAsync(server, "-20s");
        await nodes.BehindAsync(TimeSpan.FromSeconds(20));
        // Some live on the one node, some on the other.
        var ids = Enumerable.Range(0, 8).Select(i => $"lamp_{i}").ToArray();
        foreach (var id in ids) await nodes.Right.Api.CreateDeviceAsync(id);
        await WarmUpAsync(nodes);
        foreach (var id in ids)
        {
            using var old = await ConnectAsync(nodes.Right, id, isV5);
            await ServedAsync(nodes.Right, old, id, "1", null);
            var clock = Stopwatch.StartNew();
            using var young = await ConnectAsync(nodes.Behind.Node, id, isV5);
            await ServedAsync(nodes.Right, young, id, "2", clock);
            var reason = await old.Closed.WaitAsync(Served);
            Assert.Equal(isV5 ? SessionTakenOver : null, reason);
            Assert.False(young.Closed.IsCompleted);

            // And back, from behind to the right time.
            clock.Restart();
            using var back = await ConnectAsync(nodes.Right, id, isV5);
            await ServedAsync(nodes.Behind.Node, back, id, "3", clock);
            Assert.Equal(isV5 ? SessionTakenOver : null, await young.Closed.WaitAsync(Served));
            Assert.False(back.Closed.IsCompleted);
        }

        Assert.True(_served.Order().ElementAt(_served.Count / 2) < ServedMostly, string.Join(", ", _served));
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_node_whose_clock_is_set_back_an_hour_while_it_runs_serves_devices_that_connect(bool isV5)
    {
        FullSize.OnlyIf(isSister: true); // of the node that is behind from the start
        SkipWhatCannotRun();
        await using var nodes = await TwoNodes.StartAsync(server, "+0s");
        var ids = Enumerable.Range(0, 4).Select(i => $"lamp_{i}").ToArray();
        foreach (var id in ids) await nodes.Right.Api.CreateDeviceAsync(id);
        await WarmUpAsync(nodes);
        var before = new Dictionary<string, LastingClient>();
        foreach (var id in ids)
        {
            before[id] = await ConnectAsync(nodes.Behind.Node, id, isV5);
            await ServedAsync(nodes.Right, before[id], id, "1", null);
        }

        await nodes.Behind.SetAsync("-3600s");
        await nodes.BehindAsync(TimeSpan.FromHours(1));
        foreach (var id in ids)
        {
            await ServedAsync(nodes.Right, before[id], id, "2", null); // the connection that was there goes on
            var clock = Stopwatch.StartNew();
            using var young = await ConnectAsync(nodes.Behind.Node, id, isV5);
            await ServedAsync(nodes.Behind.Node, young, id, "3", clock);
            Assert.Equal(isV5 ? SessionTakenOver : null, await before[id].Closed.WaitAsync(Served));
            Assert.False(young.Closed.IsCompleted);
            before[id].Dispose();
        }

        var fresh = await nodes.Right.Api.CreateDeviceAsync("fresh");
        var first = Stopwatch.StartNew();
        using var never = await ConnectAsync(nodes.Behind.Node, fresh, isV5);
        await ServedAsync(nodes.Behind.Node, never, fresh, "1", first);
        Assert.True(_served.Order().ElementAt(_served.Count / 2) < ServedMostly, string.Join(", ", _served));
    }

    [SkippableTheory]
    [InlineData("-20s")]
    [InlineData("+20s")]
    public async Task A_reminder_due_between_nodes_whose_clocks_disagree_does_not_ring_in_circles(string offset)
    {
        FullSize.OnlyIf(isSister: offset.StartsWith('-'));
        SkipWhatCannotRun();
        const int devices = 20;
        await using var receiver = await Receiver.StartAsync();
        await using var nodes = await TwoNodes.StartAsync(
            server, offset,
            "--Delivery:TtlUnit=00:00:01", "--Devices:SleepAfter=00:00:00.2", "--Reminders:PollInterval=00:00:00.1");
        // A rule counts from when it was made, by the clock of the node that made it: by the one that is behind, so that it is for all.
        await (offset.StartsWith('-') ? nodes.Behind.Node : nodes.Right).Api.PushToAsync(receiver.Url);
        for (var i = 0; i < devices; i++) await nodes.Right.Api.CreateDeviceAsync($"lamp_{i}");
        var first = Stopwatch.StartNew();
        for (var i = 0; i < devices; i++)
        {
            var api = nodes[i % 2].Api;
            Api.Expect(HttpStatusCode.Created, await api.SendMessageAsync($"lamp_{i}", "hello", $"m{i}", ttl: 10));
        }

        var last = Stopwatch.StartNew();
        await receiver.UntilAsync(
            all => all.Where(p => p.Status == "TIMEOUT").DistinctBy(p => p.MessageId).Count() == devices,
            "TIMEOUT of all");
        var told = (AfterFirst: first.Elapsed, AfterLast: last.Elapsed);
        await using var database = new NpgsqlConnection(nodes.ConnectionString);
        await database.OpenAsync();
        var clock = Stopwatch.StartNew();
        while (await NumberAsync("select count(*) from reminder") > 0)
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60), "A reminder is left that nobody needs.");
            await Task.Delay(100); // a table tells nobody when it changes
        }

        // A ring moves its row one lease ahead, filing anew is one more change. The server counts both, a second later.
        var (changes, deleted) = (0L, 0L);
        while (deleted < devices)
        {
            await Task.Delay(200);
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60), $"{deleted} reminders were deleted.");
            deleted = await NumberAsync("select n_tup_del from pg_stat_user_tables where relname = 'reminder'");
            changes = await NumberAsync("select n_tup_upd from pg_stat_user_tables where relname = 'reminder'");
        }

        output.WriteLine(
            $"{offset}: {devices} messages of 10 s told TIMEOUT {told.AfterFirst.TotalSeconds:0.0} s after the first " +
            "was sent, " +
            $"{told.AfterLast.TotalSeconds:0.0} s after the last; {changes} changes of their reminders.");
        Assert.True(told.AfterFirst > TimeSpan.FromSeconds(9), $"{told} is too early.");
        Assert.True(told.AfterLast < TimeSpan.FromSeconds(20), $"{told} is too late.");

        // Filed with its message, moved when the device falls asleep; then two rings at most, each with one move.
        Assert.InRange(changes, devices, 6 * devices);

        async Task<long> NumberAsync(string sql)
        {
            await using var command = new NpgsqlCommand(sql, database);
            return Convert.ToInt64(await command.ExecuteScalarAsync());
        }
    }

    private void SkipWhatCannotRun()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        Skip.IfNot(File.Exists(Library), "libfaketime is not installed (apt-get install libfaketime).");
    }

    private static async Task<LastingClient> ConnectAsync(Node node, string id, bool isV5)
    {
        var client = await LastingClient.ConnectAsync(node.MqttPort, id, isV5, clean: true);
        await client.SubscribeAsync(Device.DownTopic(id));
        return client;
    }

    private async Task ServedAsync(
        Node api, LastingClient client, string device, string message, Stopwatch? sinceConnect)
    {
        Api.Expect(HttpStatusCode.Created, await api.Api.SendMessageAsync(device, "hello", message));
        Received received;
        do received = await client.NextAsync();
        while (received.Id != message); // what its predecessor got a moment ago may come once more
        await client.AcknowledgeAsync(received.PacketId);
        if (sinceConnect is null) return;
        _served.Add(sinceConnect.Elapsed);
        output.WriteLine($"{device}: served {sinceConnect.Elapsed.TotalMilliseconds:0} ms after it began to connect");
        Assert.True(sinceConnect.Elapsed < Served, $"{device} was served after {sinceConnect.Elapsed}.");
    }

    // A first message goes through code that was never compiled, and opens connections between the nodes.
    private async Task WarmUpAsync(TwoNodes nodes)
    {
        for (var i = 0; i < 8; i++)
        {
            var id = await nodes.Right.Api.CreateDeviceAsync($"warm_{i}");
            foreach (var (node, message) in ((Node, string)[])[(nodes.Right, "1"), (nodes.Behind.Node, "2")])
            {
                using var client = await ConnectAsync(node, id, isV5: i % 2 == 0);
                await ServedAsync(nodes[i % 2], client, id, message, null);
            }
        }
    }

    private sealed class TwoNodes : IAsyncDisposable
    {
        public required Node Right { get; init; }

        public required Skewed Behind { get; init; }

        public required string ConnectionString { get; init; }

        public Node this[int index] => index == 0 ? Right : Behind.Node;

        public static async Task<TwoNodes> StartAsync(
            PostgreSqlDatabase server, string offset, params string[] settings)
        {
            var connectionString = (await server.CreateAsync()).ConnectionString!;
            int[] ports = [Node.FreePort(), Node.FreePort()];
            var nodes = ports.Select(port => Node.Create(
            [
                "--Storage:Provider=PostgreSql", $"--Storage:ConnectionString={connectionString}", .. settings,
                $"--Cluster:SeedNodes:0=127.0.0.1:{ports[0]}", $"--Cluster:SeedNodes:1=127.0.0.1:{ports[1]}",
                $"--Cluster:Port={port}",
            ])).ToArray();
            var two = new TwoNodes
            {
                Right = nodes[0],
                Behind = Skewed.Of(nodes[1]),
                ConnectionString = connectionString,
            };
            try
            {
                await two.Behind.SetAsync(offset);
                await Task.WhenAll(two.Right.StartAgainAsync(), two.Behind.StartAsync());
                await two.Right.Api.CreateProductAsync();
                return two;
            }
            catch
            {
                await two.DisposeAsync();
                throw;
            }
        }

        /// <summary>Makes sure that the lie is believed: the Date of its HTTP answers says so.</summary>
        public async Task BehindAsync(TimeSpan by)
        {
            using var http = new HttpClient();
            var clock = Stopwatch.StartNew();
            while (true)
            {
                using var answer = await http.GetAsync($"http://127.0.0.1:{Behind.Node.RestPort}/");
                var off = DateTimeOffset.UtcNow - answer.Headers.Date!.Value;
                if (off > by - TimeSpan.FromSeconds(5) && off < by + TimeSpan.FromSeconds(5)) return;
                Assert.True(clock.Elapsed < TimeSpan.FromSeconds(30), $"Its clock is {off} behind, not {by}.");
                await Task.Delay(200); // the header is made once a second
            }
        }

        public async ValueTask DisposeAsync()
        {
            await Right.DisposeAsync();
            await Behind.Node.DisposeAsync();
        }
    }
}
