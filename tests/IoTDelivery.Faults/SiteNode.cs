using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using IoTDelivery.Faults.History;

namespace IoTDelivery.Faults;

/// <summary>A node: a process in a network namespace of its own, and its supervisor, which starts it again when it ends without being told to.</summary>
public sealed class SiteNode(Recorder history, int number, string folder, string[] settings) : IAsyncDisposable
{
    private const int RestPort = 8080, MqttPort = 1883, SigTerm = 15, SigCont = 18, SigStop = 19;
    private static readonly TimeSpan RestartAfter = TimeSpan.FromSeconds(1), Patience = TimeSpan.FromSeconds(60);

    private readonly ConcurrentQueue<string> _output = [];
    private readonly CancellationTokenSource _over = new();
    private Process? _process;
    private Task _watching = Task.CompletedTask;
    private volatile string? _wanted; // who ends the process, if somebody does

    public string Name { get; } = $"node{number}";

    public string Address { get; } = AddressOf(number);

    /// <summary>Its wall clock; null: the machine's.</summary>
    public NodeClock? Clock { get; set; }

    public IPEndPoint Mqtt { get; } = new(IPAddress.Parse(AddressOf(number)), MqttPort);

    /// <summary>Processes that ended although nobody ended them.</summary>
    public int EndedByItself { get; private set; }

    /// <summary>Everything its processes printed.</summary>
    public string LogFile { get; } = $"{history.Path}.node{number}.log";

    public static string AddressOf(int number) => $"10.77.0.{10 + number}";

    public Uri Url(string path) => new($"http://{Address}:{RestPort}/v5/iot/{Site.Project}/{path}");

    /// <summary>Gives it a network namespace and a cable to the switch.</summary>
    public async Task PlugInAsync()
    {
        Directory.CreateDirectory(folder);
        await Shell.RunAsync($"ip netns add {Name}");
        await Shell.RunAsync($"ip link add cable{number} type veth peer name eth0 netns {Name}");
        await Shell.RunAsync($"ip link set cable{number} master br0 up");
        await Shell.RunAsync($"ip -n {Name} addr add {Address}/24 dev eth0");
        await Shell.RunAsync($"ip -n {Name} link set eth0 up");
        await Shell.RunAsync($"ip -n {Name} link set lo up");
    }

    /// <summary>Starts the process and watches over it.</summary>
    public void Start()
    {
        _wanted = null;
        Launch();
    }

    /// <summary>Waits until REST listens.</summary>
    public async Task RunningAsync()
    {
        var clock = Stopwatch.StartNew();
        while (!await IsListeningAsync())
        {
            if (clock.Elapsed > Patience) throw new InvalidOperationException($"{Name} never listened:\n{string.Join('\n', _output)}");
            await Task.Delay(50); // there is no event to await but the port itself
        }
    }

    /// <summary>kill -9; it stays away until it is started.</summary>
    public async Task KillAsync()
    {
        _wanted = "kill";
        _process!.Kill();
        await _watching;
    }

    /// <summary>SIGTERM. Tells the exit code and how long it took; a process that does not end in a minute is killed, and has none.</summary>
    public async Task<(int? ExitCode, TimeSpan Took)> DrainAsync()
    {
        var clock = Stopwatch.StartNew();
        _wanted = "drain";
        Signal(SigTerm);
        if (await Task.WhenAny(_watching, Task.Delay(Patience)) == _watching) return (_process!.ExitCode, clock.Elapsed);
        history.Add(new Entry(What.Note) { Node = Name, Text = "It did not end within a minute of SIGTERM." });
        _process!.Kill();
        await _watching;
        return (null, clock.Elapsed);
    }

    public void Stop() => Signal(SigStop);

    public void Continue() => Signal(SigCont);

    /// <summary>Cuts the cable: no peers, no database, no applications, no devices.</summary>
    public Task CutAsync() => Shell.RunAsync($"ip link set cable{number} down");

    public Task MendAsync() => Shell.RunAsync($"ip link set cable{number} up");

    /// <summary>No packet goes from or to the peers; everything else works.</summary>
    public async Task LeavePeersAsync(IEnumerable<SiteNode> peers)
    {
        foreach (var peer in peers)
        {
            await Shell.RunAsync($"ip -n {Name} route add blackhole {peer.Address}/32");
            await Shell.RunAsync($"ip -n {peer.Name} route add blackhole {Address}/32");
        }
    }

    public async Task JoinPeersAsync(IEnumerable<SiteNode> peers)
    {
        foreach (var peer in peers)
        {
            await Shell.RunAsync($"ip -n {Name} route del blackhole {peer.Address}/32");
            await Shell.RunAsync($"ip -n {peer.Name} route del blackhole {Address}/32");
        }
    }

    /// <summary>
    /// No packet goes to the database, and nobody says so; everything else works. The database's frames go to a card that
    /// nobody has.
    /// </summary>
    public Task LeaveDatabaseAsync() =>
        Shell.RunAsync($"ip -n {Name} neigh replace {Site.DatabaseAddress} lladdr 02:00:00:00:00:99 dev eth0 nud permanent");

    public Task JoinDatabaseAsync() => Shell.RunAsync($"ip -n {Name} neigh del {Site.DatabaseAddress} dev eth0");

    /// <summary>Whether it answers a question about this device in time.</summary>
    public async Task<bool> AnswersForAsync(HttpClient http, string device, TimeSpan patience)
    {
        using var limit = new CancellationTokenSource(patience);
        using var request = new HttpRequestMessage(HttpMethod.Get, Url($"devices/{device}/messages/nothing"));
        request.Headers.Add("X-Auth-Token", Site.Token);
        try
        {
            using var response = await http.SendAsync(request, limit.Token);
            return response.StatusCode == HttpStatusCode.OK;
        }
        catch (Exception cause) when (cause is HttpRequestException or OperationCanceledException)
        {
            return false;
        }
    }

    /// <summary>Ends the process at once and for good.</summary>
    public async ValueTask DisposeAsync()
    {
        await _over.CancelAsync();
        _wanted = "end";
        if (_process is { HasExited: false }) _process.Kill();
        await _watching;
    }

    private void Launch()
    {
        var start = new ProcessStartInfo("ip") { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        string[] words = ["netns", "exec", Name, "dotnet", HostDll, $"--urls=http://{Address}:{RestPort}", $"--Mqtt:Port={MqttPort}", $"--Mqtt:Address={Address}", .. settings];
        foreach (var word in words) start.ArgumentList.Add(word);
        Clock?.GiveTo(start);
        var process = _process = Process.Start(start)!; // ip becomes the node: its pid is the node's
        process.OutputDataReceived += (_, line) => Keep(line.Data);
        process.ErrorDataReceived += (_, line) => Keep(line.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        history.Add(new Entry(What.Started) { Node = Name });
        _watching = WatchAsync(process);
    }

    private async Task WatchAsync(Process process)
    {
        await process.WaitForExitAsync();
        var wanted = _wanted;
        history.Add(new Entry(What.Ended) { Node = Name, Status = process.ExitCode, Word = wanted ?? "itself", Text = wanted is null ? string.Join('\n', _output.TakeLast(30)) : null });
        if (wanted is not null || _over.IsCancellationRequested) return;
        EndedByItself++;
        try
        {
            await Task.Delay(RestartAfter, _over.Token);
            if (_wanted is null) Launch();
        }
        catch (OperationCanceledException)
        {
            // The run is over.
        }
    }

    private void Keep(string? line)
    {
        if (line is null) return;
        _output.Enqueue(line);
        while (_output.Count > 5_000) _output.TryDequeue(out var _);
        lock (_output) File.AppendAllLines(LogFile, [line]);
    }

    private async Task<bool> IsListeningAsync()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            await socket.ConnectAsync(IPAddress.Parse(Address), RestPort);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    private void Signal(int signal)
    {
        if (kill(_process!.Id, signal) != 0) history.Add(new Entry(What.Note) { Node = Name, Text = $"Signal {signal} found no process." }); // it has ended by itself a moment ago
    }

    private static string HostDll { get; } = Path.GetFullPath(Path.Combine(
        AppContext.BaseDirectory, "../../../../../src/IoTDelivery.Host/bin", new DirectoryInfo(AppContext.BaseDirectory).Parent!.Name, "net10.0/IoTDelivery.Host.dll"));

    [DllImport("libc", SetLastError = true)]
    private static extern int kill(int pid, int signal);
}
