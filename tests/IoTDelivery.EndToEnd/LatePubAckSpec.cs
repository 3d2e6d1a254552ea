using System.Diagnostics;
using System.Net;
using System.Text.Json;
using IoTDelivery.EndToEnd.Harness;
using Xunit.Abstractions;

namespace IoTDelivery.EndToEnd;

/// <summary>A node where devices fall asleep at once, and where nothing is repeated while a test looks on.</summary>
public sealed class DrowsyNode : IAsyncLifetime
{
    private int _devices;

    public Node Node { get; private set; } = null!;

    public async Task InitializeAsync()
    {
        Node = await Node.StartAsync(
            "--Devices:SleepAfter=00:00:00.1", "--Delivery:RepeatInterval=00:01:00", "--Delivery:RoundInterval=00:10:00");
        await Node.Api.CreateProductAsync();
    }

    public async Task DisposeAsync() => await Node.DisposeAsync();

    /// <summary>A device nobody else uses; with a gateway it is a sub-device.</summary>
    public async Task<string> NewDeviceAsync(string? gateway = null)
    {
        var id = $"lamp_{Interlocked.Increment(ref _devices)}";
        Api.Expect(HttpStatusCode.Created, await Node.Api.PostAsync("devices", new
        {
            device_id = id,
            node_id = id,
            product_id = "lamp",
            gateway_id = gateway,
            auth_info = new { secret = Device.Secret },
        }));
        return id;
    }

    /// <summary>Waits until no device is in the node's memory.</summary>
    public async Task AllAsleepAsync()
    {
        var token = (await File.ReadAllTextAsync(Path.Combine(Node.Folder, "data", "admin-token"))).Trim();
        var clock = Stopwatch.StartNew();
        while (true)
        {
            var answer = await Node.Api.SendAsync(HttpMethod.Get, "/admin/cluster/shards", null, withToken: token);
            if (answer.Status == HttpStatusCode.OK && Awake(answer.Body) == 0) return;
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60), $"The devices never slept: {answer.Body}\n{Node.Output}");
            await Task.Delay(50); // a device tells nobody that it sleeps
        }

        static int Awake(JsonElement body) => body.GetProperty("regions").EnumerateArray()
            .SelectMany(r => r.GetProperty("shards").EnumerateArray()).Sum(s => s.GetProperty("entities").GetInt32());
    }
}

/// <summary>
/// The client acknowledges after its connection was lost, its device slept or its node died, and thousands of messages came:
/// the PUBACK ends the message it was for, or nothing.
/// </summary>
[Collection(nameof(Alone))]
public sealed class LatePubAckSpec(DrowsyNode site, ITestOutputHelper output) : IClassFixture<DrowsyNode>
{
    private const int PendingMax = 20;

    /// <summary>What became of the device's owner while the client was away.</summary>
    public enum Owner
    {
        Slept,
        Killed,
    }

    public static TheoryData<bool, Owner, bool> Everybody
    {
        get
        {
            var all = new TheoryData<bool, Owner, bool>();
            foreach (var isV5 in (bool[])[false, true])
            foreach (var owner in Enum.GetValues<Owner>())
            foreach (var isSubDevice in (bool[])[false, true])
                all.Add(isV5, owner, isSubDevice);
            return all;
        }
    }

    [Theory]
    [MemberData(nameof(Everybody))]
    public Task A_late_PUBACK_among_three_messages_ends_its_own_or_none(bool isV5, Owner owner, bool isSubDevice) =>
        RunAsync(isV5, owner, isSubDevice, posts: 3);

    [Theory]
    [MemberData(nameof(Everybody))]
    public Task A_late_PUBACK_after_three_thousand_messages_ends_its_own_or_none(bool isV5, Owner owner, bool isSubDevice) =>
        RunAsync(isV5, owner, isSubDevice, posts: 3_000);

    [SkippableTheory]
    [MemberData(nameof(Everybody))]
    public Task A_late_PUBACK_after_more_messages_than_there_are_packet_ids_ends_its_own_or_none(
        bool isV5, Owner owner, bool isSubDevice)
    {
        Skip.If(
            Environment.GetEnvironmentVariable("IOTDELIVERY_E2E") != "full",
            "Takes several minutes: set IOTDELIVERY_E2E=full, as ./build.sh e2e does.");
        return RunAsync(isV5, owner, isSubDevice, posts: 40_000);
    }

    private async Task RunAsync(bool isV5, Owner owner, bool isSubDevice, int posts)
    {
        var node = site.Node;
        var client = await site.NewDeviceAsync();
        var device = isSubDevice ? await site.NewDeviceAsync(gateway: client) : client;

        ushort late;
        using (var first = await LastingClient.ConnectAsync(node.MqttPort, client, isV5))
        {
            Assert.False(first.SessionPresent);
            await first.SubscribeAsync(Device.DownTopic(client));
            await PostAsync(device, "m1");
            var m1 = await first.NextAsync();
            Assert.Equal((device, "m1"), (m1.ObjectDeviceId, m1.Id));
            await first.AcknowledgeAsync(m1.PacketId);
            await UntilAsync(device, "m1", "DELIVERED");
            await PostAsync(device, "m2");
            var m2 = await first.NextAsync();
            Assert.Equal((device, "m2"), (m2.ObjectDeviceId, m2.Id));
            late = m2.PacketId;
            Assert.Equal(isSubDevice, late > 0x7FFF);
            if (owner == Owner.Killed) await KillAsync();
        }

        if (owner == Owner.Slept) await site.AllAsleepAsync();
        var clock = Stopwatch.StartNew();
        await Parallel.ForEachAsync(
            Enumerable.Range(0, posts), new ParallelOptions { MaxDegreeOfParallelism = 64 }, async (i, _) => await PostAsync(device, $"n{i}"));
        var posted = clock.Elapsed;
        if (owner == Owner.Killed) await KillAsync();
        else await site.AllAsleepAsync();

        using var again = await LastingClient.ConnectAsync(node.MqttPort, client, isV5);
        Assert.True(again.SessionPresent);
        var waiting = Math.Min(posts + 1, PendingMax);
        var came = new List<Received>();
        while (came.Count < (isSubDevice ? 1 : waiting)) came.Add(await again.NextAsync()); // a sub-device gets one at a time
        Assert.Equal(came.Count, came.DistinctBy(c => c.PacketId).Count());
        var m2Again = came.SingleOrDefault(c => c.Id == "m2");
        Assert.Equal(posts < PendingMax, m2Again is not null); // otherwise it was displaced
        var isResumed = m2Again is not null && owner == Owner.Slept && !isSubDevice;
        if (isResumed) Assert.Equal((late, true), (m2Again!.PacketId, m2Again.Dup));
        Assert.DoesNotContain(came, c => c.PacketId == late && c != (isResumed ? m2Again : null));

        // Acknowledgements count in their order: when the one behind it has, the late one has had its chance.
        await again.AcknowledgeAsync(late);
        var behind = came.First(c => !isResumed || c.Id != "m2");
        await again.AcknowledgeAsync(behind.PacketId);
        await UntilAsync(device, behind.Id, "DELIVERED");
        if (isResumed) Assert.Equal("DELIVERED", await StatusAsync(device, "m2"));
        string[] delivered = isResumed ? ["m2", behind.Id] : [behind.Id];
        await NoneButAsync(device, ["m1", .. delivered]);

        // And the rest is what it would have been: each goes by its own PUBACK, the last one, too.
        foreach (var other in came.Where(c => !delivered.Contains(c.Id))) await again.AcknowledgeAsync(other.PacketId);
        for (var i = came.Count; i < waiting; i++)
        {
            var next = await again.NextAsync();
            Assert.NotEqual(late, next.PacketId);
            came.Add(next);
            await again.AcknowledgeAsync(next.PacketId);
        }

        Assert.Equal(waiting, came.DistinctBy(c => c.Id).Count());
        foreach (var message in came) await UntilAsync(device, message.Id, "DELIVERED");
        output.WriteLine($"{posts} messages answered 201 in {posted.TotalSeconds:0.0} s; late PUBACK {late}; came as {came[0].PacketId}…{came[^1].PacketId}");
    }

    private async Task KillAsync()
    {
        await site.Node.KillAsync();
        await site.Node.StartAgainAsync();
    }

    // Refused while too much waits for this one device at once: asked again with the same id.
    private async Task PostAsync(string device, string id)
    {
        Answer answer;
        do answer = await site.Node.Api.SendMessageAsync(device, $"content of {id}", id);
        while (answer.Status == HttpStatusCode.Forbidden);
        Api.Expect(HttpStatusCode.Created, answer);
    }

    private async Task NoneButAsync(string device, string[] delivered)
    {
        var listed = Api.Expect(HttpStatusCode.OK, await site.Node.Api.GetAsync($"devices/{device}/messages"));
        var known = listed.Body.GetProperty("messages").EnumerateArray().Select(m => m.GetProperty("message_id").GetString()!).ToArray();
        Assert.NotEmpty(known);
        foreach (var id in known)
        {
            var status = await StatusAsync(device, id);
            Assert.True(status != "DELIVERED" || delivered.Contains(id), $"{id} ended DELIVERED, and nobody acknowledged it.");
        }
    }

    private async Task<string?> StatusAsync(string device, string id) =>
        Api.Expect(HttpStatusCode.OK, await site.Node.Api.GetAsync($"devices/{device}/messages/{id}")).Body.GetProperty("status").GetString();

    private async Task UntilAsync(string device, string id, string status)
    {
        var clock = Stopwatch.StartNew();
        while (await StatusAsync(device, id) is var now && now != status)
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(30), $"{id} is {now}, not {status}.\n{site.Node.Output}");
            await Task.Delay(20); // no rule, no webhook: thousands of notifications would be all it waits for
        }
    }
}
