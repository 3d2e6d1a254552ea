using System.Globalization;
using System.Runtime.InteropServices;

namespace IoTDelivery.Benchmarks;

/// <summary>What a .NET process tells of itself since it started: its heap, and how long it was compiling its own code.</summary>
public readonly record struct Inside(long AllocatedBytes, double PauseSeconds, double CompilingSeconds);

/// <summary>What the kernel tells of a process.</summary>
public static class ProcessFigures
{
    private const int ClockTicksPerSecond = 100; // USER_HZ, the same on every Linux that runs .NET
    private const int SignalContinue = 18;

    /// <summary>Seconds of CPU, user and system, all threads.</summary>
    public static double CpuSeconds(int processId) => CpuOf(StatOf(processId) ?? throw new InvalidOperationException($"Process {processId} is gone."), withReaped: false);

    /// <summary>The same of a process and its children, those that have ended included.</summary>
    public static double CpuSecondsWithChildren(int processId)
    {
        var cpu = CpuOf(StatOf(processId)!, withReaped: true);
        foreach (var folder in Directory.GetDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(folder), out var id) && StatOf(id) is { } stat && stat[1] == $"{processId}") cpu += CpuOf(stat, withReaped: true);
        }

        return cpu;
    }

    public static int ParentOf(int processId) => int.Parse(StatOf(processId)![1], CultureInfo.InvariantCulture);

    public static long ResidentBytes(int processId) => Line($"/proc/{processId}/status", "VmRSS:") * 1024;

    /// <summary>Bytes the process sent to the disk.</summary>
    public static long WrittenBytes(int processId) => Line($"/proc/{processId}/io", "write_bytes:");

    /// <summary>Starts <paramref name="launch"/> with the hook that answers <see cref="InsideOf"/> later on.</summary>
    public static async Task<T> WithHookAsync<T>(string file, Func<Task<T>> launch)
    {
        Environment.SetEnvironmentVariable(StartupHook.FileVariable, file);
        Environment.SetEnvironmentVariable("DOTNET_STARTUP_HOOKS", typeof(ProcessFigures).Assembly.Location);
        try
        {
            return await launch();
        }
        finally
        {
            Environment.SetEnvironmentVariable("DOTNET_STARTUP_HOOKS", null);
            Environment.SetEnvironmentVariable(StartupHook.FileVariable, null);
        }
    }

    public static Inside InsideOf(int processId, string file)
    {
        File.Delete(file);
        if (kill(processId, SignalContinue) != 0) throw new InvalidOperationException($"Process {processId} is gone.");
        for (var tries = 0; !File.Exists(file); tries++)
        {
            if (tries > 5_000) throw new TimeoutException("The server did not tell about itself.");
            Thread.Sleep(1); // a file of another process: there is no event to await
        }

        var words = File.ReadAllText(file).Split(' ');
        return new Inside(
            long.Parse(words[0], CultureInfo.InvariantCulture), double.Parse(words[1], CultureInfo.InvariantCulture), double.Parse(words[2], CultureInfo.InvariantCulture));
    }

    private static long Line(string file, string name)
    {
        var line = File.ReadLines(file).First(l => l.StartsWith(name, StringComparison.Ordinal));
        return long.Parse(line.Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
    }

    // Behind the name in parentheses, which may contain anything: state, parent, …, utime (11), stime (12), and those of children waited for.
    private static string[]? StatOf(int processId)
    {
        try
        {
            var text = File.ReadAllText($"/proc/{processId}/stat");
            return text[(text.LastIndexOf(')') + 2)..].Split(' ');
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static double CpuOf(string[] stat, bool withReaped) =>
        stat.Skip(11).Take(withReaped ? 4 : 2).Sum(t => double.Parse(t, CultureInfo.InvariantCulture)) / ClockTicksPerSecond;

    [DllImport("libc", SetLastError = true)]
    private static extern int kill(int pid, int signal);
}
