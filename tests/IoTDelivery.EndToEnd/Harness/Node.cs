using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using IoTDelivery.Tests;
using Microsoft.Data.Sqlite;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>The platform as a process of its own, started as an operator starts it and ended as a power cut or an operator ends it.</summary>
public sealed class Node : IAsyncDisposable
{
    public const string Token = "end-to-end-token", Project = "p1";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly string[] _settings;
    private readonly bool _ownsFolder;
    private readonly ConcurrentQueue<string> _output = [];
    private Process? _process;

    private Node(string folder, bool ownsFolder, string[] settings)
    {
        (Folder, _ownsFolder, _settings) = (folder, ownsFolder, settings);
        (RestPort, MqttPort) = (Ports.Take(), Ports.Take());
        Api = new Api(new Uri($"http://127.0.0.1:{RestPort}/v5/iot/{Project}/"), Token);
    }

    /// <summary>Its working directory; SQLite and the token lie in its <c>data</c>.</summary>
    public string Folder { get; }

    public int RestPort { get; }

    public int MqttPort { get; }

    public Api Api { get; }

    /// <summary>Environment variables of its process beside those of the tests.</summary>
    public Dictionary<string, string> Variables { get; } = [];

    public int ProcessId => _process!.Id;

    /// <summary>When the running process was started.</summary>
    public DateTime StartedAt { get; private set; }

    /// <summary>Everything it printed.</summary>
    public string Output => string.Join('\n', _output);

    /// <summary>Resident memory in bytes.</summary>
    public long ResidentBytes
    {
        get
        {
            var line = File.ReadLines($"/proc/{ProcessId}/status").First(l => l.StartsWith("VmRSS:"));
            return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) * 1024;
        }
    }

    /// <summary>The host's own build output, of the same configuration as the tests.</summary>
    public static string HostDll { get; } = Path.GetFullPath(Path.Combine(
        AppContext.BaseDirectory, "../../../../../src/IoTDelivery.Host/bin", new DirectoryInfo(AppContext.BaseDirectory).Parent!.Name, "net10.0/IoTDelivery.Host.dll"));

    /// <summary>A node in a new folder, running and ready. Settings as on the command line: <c>--Delivery:PendingMax=100</c>.</summary>
    public static async Task<Node> StartAsync(params string[] settings)
    {
        var node = Create(settings);
        await node.StartAgainAsync();
        return node;
    }

    /// <summary>A node that is not started yet.</summary>
    public static Node Create(params string[] settings) => new(Directory.CreateTempSubdirectory("iotdelivery-e2e-").FullName, ownsFolder: true, settings);

    /// <summary>Starts the process (again) on the same folder and ports and waits until it takes requests.</summary>
    public async Task StartAgainAsync(params string[] more)
    {
        Launch([HostDll], more);
        await ReadyAsync();
    }

    /// <summary>Starts another program on the same folder, ports and settings, for example one that dies at a chosen moment.</summary>
    public void Launch(string[] program, params string[] more)
    {
        var start = new ProcessStartInfo("dotnet") { WorkingDirectory = Folder, RedirectStandardOutput = true, RedirectStandardError = true };
        string[] arguments =
        [
            .. program, $"--urls=http://127.0.0.1:{RestPort}", $"--Mqtt:Port={MqttPort}", $"--Api:Token={Token}", "--Logging:LogLevel:Default=Warning", .. _settings, .. more,
        ];
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        foreach (var (name, value) in Variables) start.Environment[name] = value;
        StartedAt = DateTime.UtcNow;
        _process = Process.Start(start)!;
        _process.OutputDataReceived += (_, line) => Keep(line.Data);
        _process.ErrorDataReceived += (_, line) => Keep(line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();

        void Keep(string? line)
        {
            if (line is null) return;
            _output.Enqueue(line);
            while (_output.Count > 2_000) _output.TryDequeue(out var _);
        }
    }

    /// <summary>Waits until REST answers.</summary>
    public async Task ReadyAsync()
    {
        var clock = Stopwatch.StartNew();
        while (true)
        {
            if (_process!.HasExited) throw new InvalidOperationException($"The node ended with {_process.ExitCode}:\n{Output}");
            try
            {
                await Api.GetAsync("products");
                return;
            }
            catch (HttpRequestException) when (clock.Elapsed < Patience)
            {
                await Task.Delay(20); // nothing listens yet: there is no event to await but the port itself
            }
        }
    }

    /// <summary>kill -9.</summary>
    public async Task KillAsync()
    {
        if (_process is null || _process.HasExited) return;
        _process.Kill();
        await _process.WaitForExitAsync();
    }

    /// <summary>Waits for a process that ends by itself and tells its exit code.</summary>
    public async Task<int> ExitAsync()
    {
        using var patience = new CancellationTokenSource(Patience);
        await _process!.WaitForExitAsync(patience.Token);
        return _process.ExitCode;
    }

    /// <summary>SIGTERM. Returns the exit code and how long it took.</summary>
    public async Task<(int ExitCode, TimeSpan Took)> TerminateAsync()
    {
        var clock = Stopwatch.StartNew();
        if (kill(_process!.Id, 15) != 0) throw new InvalidOperationException("SIGTERM was not delivered.");
        return (await ExitAsync(), clock.Elapsed);
    }

    /// <summary>SIGHUP.</summary>
    public void HangUp()
    {
        if (kill(_process!.Id, 1) != 0) throw new InvalidOperationException("SIGHUP was not delivered.");
    }

    public async ValueTask DisposeAsync()
    {
        await KillAsync();
        _process?.Dispose();
        Api.Dispose();
        SqliteConnection.ClearAllPools();
        if (_ownsFolder) Directory.Delete(Folder, recursive: true);
    }

    /// <summary>A port for a server that starts later.</summary>
    public static int FreePort() => Ports.Take();

    [DllImport("libc", SetLastError = true)]
    private static extern int kill(int pid, int signal);
}
