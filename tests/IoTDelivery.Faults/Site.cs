using System.Net.Http.Json;
using System.Text.Json;
using IoTDelivery.Devices;
using IoTDelivery.Faults.History;
using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;
using Npgsql;

namespace IoTDelivery.Faults;

/// <summary>
/// A small site: a switch, at its own address the applications and the devices, at another one the database; three nodes, each at the end of a cable of its own.
/// The clock of the last one is 20 s off all its life, behind or ahead; that of the one before can be set.
/// </summary>
public sealed class Site : IAsyncDisposable
{
    public const string Address = "10.77.0.1", DatabaseAddress = "10.77.0.2", Project = "p1", Token = "faults-token", AdminToken = "faults-admin-token", Secret = "device-secret-1";

    /// <summary>Settings that make a run short: what takes minutes in the field takes seconds here, and nothing is displaced while a node is away.</summary>
    private static readonly string[] Settings =
    [
        // The shortest ttl, 5 units, ends messages; the longest, 1440, lasts longer than a clock is ever set wrong.
        "--Delivery:TtlUnit=00:00:05",
        "--Delivery:PendingMax=2000", // a message a second while nobody is there
        "--Devices:ReminderInterval=00:00:20", "--Devices:OfferAgainAfter=00:00:30", "--Reminders:Lease=00:00:10",
        "--Push:Timeout=00:00:03", "--Push:RetryMax=00:00:05", "--Push:ProbeInterval=00:00:03", "--Push:PollInterval=00:00:01",
        "--Mqtt:KeepAliveMin=00:00:01", "--Logging:LogLevel:Default=Warning",
    ];

    private static readonly DeviceMessageExtractor Extractor = new();

    private readonly Recorder _history;
    private readonly string _folder = Directory.CreateTempSubdirectory("iotdelivery-faults-").FullName;
    private readonly HttpClient _http = new() { Timeout = TimeSpan.FromSeconds(15) };

    private Site(Recorder history, PostgreSqlDatabase database) => (_history, Database) = (history, database);

    public PostgreSqlDatabase Database { get; }

    public string ConnectionString { get; private set; } = "";

    public IReadOnlyList<SiteNode> Nodes { get; private set; } = [];

    /// <summary>Builds the network, starts the database and the nodes, and waits until they are one cluster.</summary>
    public static async Task<Site> StartAsync(Recorder history, TimeSpan? skew = null, int nodes = 3, params string[] more)
    {
        await Shell.RunAsync("ip link add br0 type bridge");
        await Shell.RunAsync($"ip addr add {Address}/24 dev br0");
        await Shell.RunAsync($"ip addr add {DatabaseAddress}/24 dev br0");
        await Shell.RunAsync("ip link set br0 up");
        var database = new PostgreSqlDatabase { Address = DatabaseAddress };
        await database.InitializeAsync();
        if (database.SkipReason is { } reason) throw new CannotRunException(reason);
        var site = new Site(history, database);
        try
        {
            var storage = await database.CreateAsync();
            site.ConnectionString = storage.ConnectionString!;
            var all = Enumerable.Range(1, nodes).ToArray();
            site.Nodes =
            [
                .. all.Select(number => new SiteNode(history, number, Path.Combine(site._folder, $"node{number}"),
                [
                    "--Storage:Provider=PostgreSql", $"--Storage:ConnectionString={storage.ConnectionString}", $"--Api:Token={Token}", $"--Api:AdminToken={AdminToken}", .. ClusterSettings(number, all), .. Settings, .. more,
                ])),
            ];
            if (skew is not null)
            {
                foreach (var node in site.Nodes.TakeLast(2)) node.Clock = await NodeClock.MakeAsync(site._folder, node.Name);
                site.Nodes[^1].Clock?.Set(skew.Value);
                history.Add(new Entry(What.Note)
                {
                    Node = site.Nodes[^1].Name,
                    Text = site.Nodes[^1].Clock is null ? "There is no C compiler (cc): all clocks are right" : $"its clock is {skew.Value.TotalSeconds} s off",
                });
            }

            foreach (var node in site.Nodes) await node.PlugInAsync();
            foreach (var node in site.Nodes) node.Start();
            await site.Nodes[0].RunningAsync();
            return site;
        }
        catch
        {
            await site.DisposeAsync();
            throw;
        }
    }

    private static IEnumerable<string> ClusterSettings(int number, int[] all) =>
    [
        $"--Cluster:Hostname={SiteNode.AddressOf(number)}", .. all.Select((n, i) => $"--Cluster:SeedNodes:{i}={SiteNode.AddressOf(n)}:4053"),
    ];

    /// <summary>A product, its devices and a rule for each webhook, through the first node.</summary>
    public async Task FillAsync(IEnumerable<string> devices, IEnumerable<string> webhooks)
    {
        await MadeAsync(HttpMethod.Post, "products", new { product_id = "lamp", name = "lamp", device_type = "lamp", protocol_type = "MQTT", data_format = "json", service_capabilities = Array.Empty<object>() });
        await Parallel.ForEachAsync(devices, new ParallelOptions { MaxDegreeOfParallelism = 16 }, async (id, _) =>
            await MadeAsync(HttpMethod.Post, "devices", new { device_id = id, node_id = id, product_id = "lamp", auth_info = new { secret = Secret } }));
        foreach (var url in webhooks)
        {
            var rule = (await MadeAsync(HttpMethod.Post, "routing-rule/rules", new { rule_name = "status", subject = new { resource = "device.message.status", @event = "update" } })).GetProperty("rule_id").GetString();
            await MadeAsync(HttpMethod.Post, "routing-rule/actions", new { rule_id = rule, channel = "HTTP_FORWARDING", channel_detail = new { http_forwarding = new { url } } });
            await MadeAsync(HttpMethod.Put, $"routing-rule/rules/{rule}", new { active = true });
        }

        // A rule is for what happened since it was made, by the clocks of the nodes: these were made before anything that
        // a clock which is set back an hour can tell of.
        await using var db = new NpgsqlConnection(ConnectionString + ";Pooling=false");
        await db.OpenAsync();
        await using var older = new NpgsqlCommand(
            """
            update rule_activity set active_from = active_from - 7200000;
            update routing_action set created_at = created_at - 7200000;
            update rule_revision set revision = revision + 1
            """, db);
        await older.ExecuteNonQueryAsync();
    }

    /// <summary>Waits until every node answers for every one of these devices, which takes three members that agree on who has which shard. Tells how long it took; null if it never came to it.</summary>
    public async Task<TimeSpan?> WholeAsync(IReadOnlyList<string> devices, TimeSpan patience, CancellationToken cancel)
    {
        var begun = _history.Now;
        var wanted = devices.SelectMany(device => Nodes.Select(node => (Node: node, Device: device))).ToList();
        while (true)
        {
            var isMissing = 0;
            await Parallel.ForEachAsync(wanted, new ParallelOptions { MaxDegreeOfParallelism = 24, CancellationToken = cancel }, async (pair, _) =>
            {
                if (Volatile.Read(ref isMissing) == 0 && !await pair.Node.AnswersForAsync(_http, pair.Device, TimeSpan.FromSeconds(3))) Volatile.Write(ref isMissing, 1);
            });
            if (isMissing == 0) return TimeSpan.FromSeconds(_history.Now - begun);
            if (_history.Now - begun > patience.TotalSeconds) return null;
            await Task.Delay(200, cancel);
        }
    }

    /// <summary>Which of these devices live in shards of this node, in the words of another one.</summary>
    public async Task<IReadOnlySet<string>> HostedByAsync(SiteNode node, SiteNode asked, IEnumerable<string> devices)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri(asked.Url(""), "/admin/cluster/shards"));
        request.Headers.Add("X-Auth-Token", AdminToken);
        using var response = await _http.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        if (!response.IsSuccessStatusCode) throw new InvalidOperationException($"{asked.Name} does not say where the shards are: {(int)response.StatusCode} {text}");
        var shards = JsonDocument.Parse(text).RootElement.GetProperty("regions").EnumerateArray()
            .Where(region => region.GetProperty("type").GetString() == "device" && region.GetProperty("address").GetString()!.StartsWith($"{node.Address}:", StringComparison.Ordinal))
            .SelectMany(region => region.GetProperty("shards").EnumerateArray()).Select(shard => shard.GetProperty("shard").GetString()).ToHashSet();
        return devices.Where(device => shards.Contains(Extractor.ShardId(device))).ToHashSet();
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var node in Nodes) await node.DisposeAsync();
        await Database.DisposeAsync();
        _http.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    // Until the cluster has formed a node may answer 503.
    private async Task<JsonElement> MadeAsync(HttpMethod method, string path, object body)
    {
        for (var attempt = 0; ; attempt++)
        {
            using var request = new HttpRequestMessage(method, Nodes[0].Url(path)) { Content = JsonContent.Create(body) };
            request.Headers.Add("X-Auth-Token", Token);
            using var response = await _http.SendAsync(request);
            var text = await response.Content.ReadAsStringAsync();
            if (response.IsSuccessStatusCode) return JsonSerializer.Deserialize<JsonElement>(text);
            if ((int)response.StatusCode != 503 || attempt == 20) throw new InvalidOperationException($"{method} {path} was answered {(int)response.StatusCode}: {text}");
            await Task.Delay(500);
        }
    }
}

/// <summary>Something a run needs is not here; the message says what.</summary>
public sealed class CannotRunException(string message) : Exception(message);
