using System.Diagnostics;

namespace IoTDelivery.Faults;

/// <summary>
/// The program runs in namespaces of its own: network (addresses and cables of a whole site), mounts (names of the nodes' namespaces) and processes. When its first
/// process ends, however it ends, the kernel ends all others and takes the networks away: nothing outlives a run.
/// </summary>
public static class Enclosure
{
    /// <summary>The exit code of a run that could not be made here.</summary>
    public const int CannotRun = 77;

    private const string Inside = "IOTDELIVERY_FAULTS_INSIDE";
    private const string Unshare = "unshare --net --mount --pid --fork --kill-child --mount-proc";

    public static bool IsInside => Environment.GetEnvironmentVariable(Inside) is not null;

    /// <summary>Why there can be no such namespaces here; null if there can.</summary>
    public static async Task<string?> ProblemAsync()
    {
        if (Environment.UserName != "root") return "Network namespaces need root.";
        if (await Shell.TryAsync("ip -V") is { ExitCode: not 0 }) return "The program ip is not installed (apt-get install iproute2).";
        var (code, said) = await Shell.TryAsync($"{Unshare} ip link add br0 type bridge");
        return code == 0 ? null : $"This machine lets us make no network namespaces: {said}";
    }

    /// <summary>Starts this program again inside and hands back its exit code.</summary>
    public static async Task<int> EnterAsync(string[] args)
    {
        // A shell is the first process: it buries the orphans.
        var words = Unshare.Split(' ');
        var start = new ProcessStartInfo(words[0]) { RedirectStandardInput = true, Environment = { [Inside] = "1" } };
        string[] program = ["dotnet", Environment.GetCommandLineArgs()[0]];
        foreach (var word in (string[])[.. words[1..], "sh", "-c", "mount -t tmpfs none /run && ip link set lo up && \"$0\" \"$@\"; exit $?", .. program, .. args]) start.ArgumentList.Add(word);
        using var process = Process.Start(start)!;
        await process.WaitForExitAsync();
        return process.ExitCode;
    }

    /// <summary>Inside: ends the program when whoever started it is gone, by whatever signal. Its end of this pipe is closed then.</summary>
    public static void EndWithParent() => new Thread(() =>
    {
        while (Console.In.Read() >= 0)
        {
            // Nobody says anything.
        }

        Environment.Exit(1);
    })
    { IsBackground = true }.Start();
}
