using System.Diagnostics;

namespace IoTDelivery.Faults;

/// <summary>Short programs: <c>ip</c> and the like.</summary>
public static class Shell
{
    /// <summary>Runs it to its end; fails with what it said unless it ended with 0.</summary>
    public static async Task RunAsync(string line)
    {
        var (code, said) = await TryAsync(line);
        if (code != 0) throw new InvalidOperationException($"{line} ended with {code}: {said}");
    }

    /// <summary>Its exit code and what it said; 127 if there is no such program.</summary>
    public static async Task<(int ExitCode, string Said)> TryAsync(string line)
    {
        var words = line.Split(' ');
        try
        {
            using var process = Process.Start(new ProcessStartInfo(words[0], words[1..]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
            var (output, errors) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
            await process.WaitForExitAsync();
            return (process.ExitCode, (await output + await errors).Trim());
        }
        catch (System.ComponentModel.Win32Exception cause)
        {
            return (127, cause.Message);
        }
    }
}
