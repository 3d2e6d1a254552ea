using System.Runtime.InteropServices;

namespace IoTDelivery.Benchmarks;

/// <summary>Where the figures come from.</summary>
public sealed record Machine(string Cpu, int Cores, double MemoryGb, string System, string Kernel, string Runtime)
{
    public static Machine This()
    {
        var cpu = Value("/proc/cpuinfo", "model name") ?? RuntimeInformation.ProcessArchitecture.ToString();
        var memory = double.Parse(Value("/proc/meminfo", "MemTotal")!.Split(' ')[0]) / 1024 / 1024;
        var system = File.ReadLines("/etc/os-release").FirstOrDefault(l => l.StartsWith("PRETTY_NAME=", StringComparison.Ordinal))?[12..].Trim('"') ?? "Linux";
        return new Machine(
            cpu, Environment.ProcessorCount, Math.Round(memory), system, File.ReadAllText("/proc/sys/kernel/osrelease").Trim(), RuntimeInformation.FrameworkDescription);
    }

    public override string ToString() => $"{Cpu}, {Cores} cores, {MemoryGb:0} GB memory, {System}, kernel {Kernel}, {Runtime}";

    private static string? Value(string file, string name) =>
        File.ReadLines(file).FirstOrDefault(l => l.StartsWith(name, StringComparison.Ordinal))?.Split(':', 2)[1].Trim();
}
