using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>A program somebody else wrote, or ours as it is typed: its two outputs apart, its exit code, ended by its pid.</summary>
public sealed class Command : IAsyncDisposable
{
    private readonly Process _process;
    private readonly ConcurrentQueue<string> _output = [], _errors = [];
    private readonly SemaphoreSlim _news = new(0);
    private readonly Task _allRead;

    private Command(Process process)
    {
        _process = process;
        _allRead = Task.WhenAll(ReadAsync(process.StandardOutput, _output), ReadAsync(process.StandardError, _errors));
    }

    public string Output => string.Join('\n', _output);

    public string Errors => string.Join('\n', _errors);

    public bool HasEnded => _process.HasExited;

    public static Command Start(string folder, string program, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        return new Command(Process.Start(start)!);
    }

    /// <summary>The host, with nothing on its command line but this.</summary>
    public static Command Host(string folder, params string[] arguments) => Start(folder, "dotnet", [Node.HostDll, .. arguments]);

    /// <summary>The full path of an installed program, or null.</summary>
    public static string? Find(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Select(folder => Path.Combine(folder, program)).FirstOrDefault(File.Exists);

    /// <summary>Waits until the program has printed what the test waits for; fails if it ends before.</summary>
    public async Task<string> PrintedAsync(Func<string, bool> enough, string what)
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (true)
        {
            var isOver = _allRead.IsCompleted; // looked at first: what it printed last is read all the same
            var output = Output;
            if (enough(output)) return output;
            if (isOver) Assert.Fail($"The program ended with {_process.ExitCode} and never printed {what}:\n{output}\n{Errors}");
            try
            {
                await Task.WhenAny(_news.WaitAsync(patience.Token), _allRead);
                patience.Token.ThrowIfCancellationRequested();
            }
            catch (OperationCanceledException)
            {
                Assert.Fail($"The program never printed {what}:\n{output}\n{Errors}");
            }
        }
    }

    /// <summary>Waits for the end of it and of both outputs.</summary>
    public async Task<int> ExitAsync(TimeSpan? patience = null)
    {
        using var limit = new CancellationTokenSource(patience ?? TimeSpan.FromSeconds(60));
        await _process.WaitForExitAsync(limit.Token);
        await _allRead.WaitAsync(limit.Token);
        return _process.ExitCode;
    }

    /// <summary>SIGTERM.</summary>
    public void Terminate()
    {
        if (kill(_process.Id, 15) != 0) throw new InvalidOperationException("SIGTERM was not delivered.");
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited) _process.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    private async Task ReadAsync(StreamReader reader, ConcurrentQueue<string> lines)
    {
        while (await reader.ReadLineAsync() is { } line)
        {
            lines.Enqueue(line);
            _news.Release();
        }
    }

    [DllImport("libc", SetLastError = true)]
    private static extern int kill(int pid, int signal);
}
