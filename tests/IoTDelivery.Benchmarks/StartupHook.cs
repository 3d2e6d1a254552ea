using System.Globalization;
using System.Runtime;
using System.Runtime.InteropServices;

/// <summary>
/// Runs inside the measured server (DOTNET_STARTUP_HOOKS) and does nothing until SIGCONT asks: then it writes what only the process itself knows
/// about its heap and its compiler. The name and the missing namespace are the runtime's rule.
/// </summary>
internal static class StartupHook
{
    public const string FileVariable = "IOTDELIVERY_BENCHMARK_HEAP";

    private static PosixSignalRegistration? _registration;

    public static void Initialize()
    {
        if (Environment.GetEnvironmentVariable(FileVariable) is not { } file) return;
        _registration = PosixSignalRegistration.Create(PosixSignal.SIGCONT, _ =>
        {
            var text = string.Create(
                CultureInfo.InvariantCulture, $"{GC.GetTotalAllocatedBytes()} {GC.GetTotalPauseDuration().TotalSeconds} {JitInfo.GetCompilationTime().TotalSeconds}");
            File.WriteAllText(file + ".new", text);
            File.Move(file + ".new", file);
        });
    }
}
