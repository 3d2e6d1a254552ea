using System.Net;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Runtime.Versioning;
using System.Text.RegularExpressions;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.EndToEnd;

/// <summary>The commands of the README's cluster on one machine and of docs/CLUSTER.md, run as they stand there; only the ports are free ones, and the program is not published again.</summary>
[UnsupportedOSPlatform("windows")] // bash, file modes
public sealed partial class ReadmeClusterSpec : IAsyncLifetime
{
    private static readonly string Root = Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "../../../../.."));
    private readonly string _folder = Directory.CreateTempSubdirectory("iotdelivery-e2e-").FullName;
    private readonly int _port = FreePorts();

    [SkippableFact]
    public async Task A_cluster_on_one_machine_works_as_written_also_behind_haproxy_and_stops_without_a_trace()
    {
        foreach (var program in new[] { "curl", "openssl", "mosquitto_sub" }) Skip.If(Command.Find(program) is null, $"{program} is not installed.");
        Skip.If(!Directory.Exists("/usr/lib/postgresql"), "PostgreSQL's server binaries are not installed (apt-get install postgresql).");
        var section = File.ReadAllText(Path.Combine(Root, "README.md")).Split("\n## ").Single(s => s.StartsWith("A cluster on one machine\n"));
        var (start, talk, stop) = Block().Matches(section).Select(m => m.Groups[1].Value).ToArray() is [var a, var b, var c] ? (a, b, c) : throw new InvalidOperationException("The section has other blocks.");

        var said = await RunAsync(start);
        for (var i = 1; i <= 3; i++) Assert.Matches($@"(?m)^node{i}  REST http://127\.0\.0\.1:{_port + i}  MQTT 127\.0\.0\.1:{_port + 100 + i}  pid \d+", said);
        Assert.Contains($"application token  {_folder}/data/cluster/node1/data/api-token", said);
        Assert.Contains($"admin token        {_folder}/data/cluster/node1/data/admin-token", said);

        var talked = await RunAsync(talk);
        Assert.Matches("""(?m)^\{"message_id":"[^"]+","result":\{"status":"(PENDING|DELIVERED)".*$""", talked);
        Assert.Matches("""(?m)^\{.*"content":"hello".*$""", talked); // what the device printed

        foreach (var block in Block().Matches(File.ReadAllText(Path.Combine(Root, "docs/CLUSTER.md"))).Select(m => m.Groups[1].Value))
        {
            Assert.Matches($"(?m)^ADDRESS .*\n(127.0.0.1:.*\n)*127.0.0.1:{_port + 203} |\"status\":\"Healthy\"", await RunAsync(block) + "\n");
        }

        await BehindHaproxyAsync();

        // Started again, nothing is started twice; stopped, nothing is left but the data.
        Assert.Equal(Pids(said), Pids(await RunAsync(start)));
        var stopped = await RunAsync(stop);
        foreach (var pid in Pids(said))
        {
            Assert.Contains($"(pid {pid}) is told to stop", stopped);
            Assert.False(Directory.Exists($"/proc/{pid}"), $"{pid} still runs.");
        }

        Assert.Contains("PostgreSQL has stopped", stopped);
    }

    public Task InitializeAsync()
    {
        File.SetUnixFileMode(_folder, File.GetUnixFileMode(_folder) | UnixFileMode.OtherExecute | UnixFileMode.GroupExecute); // the user postgres must get to its folder
        return Task.CompletedTask;
    }

    public async Task DisposeAsync()
    {
        if (Directory.Exists($"{_folder}/data/cluster")) await RunAsync("deploy/local-cluster.sh stop");
        Directory.Delete(_folder, recursive: true);
    }

    // Our own configuration; only the addresses are those of this cluster, and its nodes hear no PROXY header, because
    // the README's device comes to them without haproxy: BehindProxySpec has that.
    private async Task BehindHaproxyAsync()
    {
        if (Command.Find("haproxy") is null && !File.Exists("/usr/sbin/haproxy")) return; // build.sh installs it where it may
        var (rest, mqtt, state) = (Node.FreePort(), Node.FreePort(), Node.FreePort());
        var configuration = File.ReadAllText(Path.Combine(Root, "docker/haproxy.cfg"))
            .Replace("bind :8080", $"bind 127.0.0.1:{rest}").Replace("bind :1883", $"bind 127.0.0.1:{mqtt}").Replace("bind :8404", $"bind 127.0.0.1:{state}");
        for (var i = 1; i <= 3; i++)
        {
            configuration = configuration.Replace($"node{i}:8080", $"127.0.0.1:{_port + i}").Replace(
                $"node{i}:1883 port 8080 send-proxy-v2", $"127.0.0.1:{_port + 100 + i} port {_port + i}");
        }

        await File.WriteAllTextAsync($"{_folder}/haproxy.cfg", configuration);
        await using var haproxy = Command.Start(_folder, File.Exists("/usr/sbin/haproxy") ? "/usr/sbin/haproxy" : "haproxy", "-db", "-f", $"{_folder}/haproxy.cfg");
        using var http = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{rest}/v5/iot/demo/") };
        http.DefaultRequestHeaders.Add("X-Auth-Token", File.ReadAllText($"{_folder}/data/cluster/node2/data/api-token"));
        await UntilAsync(async () => (await http.GetAsync($"http://127.0.0.1:{state}/")).IsSuccessStatusCode);
        await UntilAsync(async () => Regex.Count(await http.GetStringAsync($"http://127.0.0.1:{state}/;csv"), "(?m)^(rest|mqtt),node[123],.*,UP,") == 6);

        (await http.PostAsJsonAsync("devices", new { product_id = "lamp", node_id = "2", auth_info = new { secret = Device.Secret } })).EnsureSuccessStatusCode();
        await using var device = await Device.OnlineAsync(mqtt, "lamp_2");
        for (var i = 0; i < 6; i++)
        {
            var sent = await http.PostAsJsonAsync("devices/lamp_2/messages", new { message_id = $"m{i}", message = "through the middle" });
            Assert.Equal(HttpStatusCode.Created, sent.StatusCode);
            Assert.Equal($"m{i}", (await device.NextAsync()).Id);
        }

        Assert.Equal(HttpStatusCode.NotFound, (await http.GetAsync("/admin/cluster")).StatusCode);
    }

    private static async Task UntilAsync(Func<Task<bool>> isSo)
    {
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                if (await isSo()) return;
            }
            catch (HttpRequestException) when (attempt < 400)
            {
                // it does not listen yet
            }

            Assert.True(attempt < 400, "haproxy does not find the nodes.");
            await Task.Delay(50);
        }
    }

    private async Task<string> RunAsync(string commands)
    {
        var script = commands
            .Replace("data/cluster/program/IoTDelivery.Host.dll", Node.HostDll)
            .Replace("deploy/local-cluster.sh stop", $"{Root}/deploy/local-cluster.sh stop");
        script = Start().Replace(script, $"{Root}/deploy/local-cluster.sh --port {_port} --program {Node.HostDll}");
        script = Ports().Replace(script, m => $"{_port + int.Parse(m.Value) - 8080}");
        await using var shell = Command.Start(_folder, "/bin/bash", "-c", script);
        Assert.True(await shell.ExitAsync(TimeSpan.FromMinutes(3)) == 0, $"{script}\n{shell.Output}\n{shell.Errors}");
        return shell.Output;
    }

    private static string[] Pids(string said) => [.. Pid().Matches(said).Select(m => m.Groups[1].Value)];

    // The script counts its ports from one.
    private static int FreePorts()
    {
        while (true)
        {
            var first = Random.Shared.Next(20_000, 30_000);
            if (new[] { 1, 2, 3, 101, 102, 103, 201, 202, 203, 300 }.All(i => IsFree(first + i))) return first;
        }

        static bool IsFree(int port)
        {
            try
            {
                using var listener = new TcpListener(IPAddress.Loopback, port);
                listener.Start();
                return true;
            }
            catch (SocketException)
            {
                return false;
            }
        }
    }

    [GeneratedRegex("(?s)```sh\n(.*?)```")]
    private static partial Regex Block();

    [GeneratedRegex(@"(?m)^deploy/local-cluster\.sh$")]
    private static partial Regex Start();

    [GeneratedRegex(@"\b8[01]8[123]\b")]
    private static partial Regex Ports();

    [GeneratedRegex(@"pid (\d+)  ")]
    private static partial Regex Pid();
}
