using IoTDelivery.EndToEnd.Harness;
using Xunit.Abstractions;

namespace IoTDelivery.EndToEnd;

/// <summary>Three nodes under load while everything happens to them; tests/IoTDelivery.Faults makes the history and its checker reads it.</summary>
[Collection(nameof(Alone))]
public sealed class FaultsSpec(ITestOutputHelper output)
{
    private const int CannotRun = 77;

    private static readonly string Program = Path.GetFullPath(Path.Combine(
        AppContext.BaseDirectory, "../../../../IoTDelivery.Faults/bin", new DirectoryInfo(AppContext.BaseDirectory).Parent!.Name, "net10.0/IoTDelivery.Faults.dll"));

    [SkippableFact]
    public async Task Three_nodes_under_load_keep_every_promise_whatever_happens_to_them()
    {
        var folder = Directory.CreateTempSubdirectory("iotdelivery-history-").FullName; // stays if the test fails: the history is what there is to read
        var file = Path.Combine(folder, "history.jsonl");
        string[] size = FullSize.IsOn ? [] : ["--short"];
        await using var faults = Command.Start(folder, "dotnet", [Program, "history", .. size, "--file", file]);

        var exitCode = await faults.ExitAsync(FullSize.IsOn ? TimeSpan.FromHours(2) : TimeSpan.FromMinutes(15));

        output.WriteLine(faults.Output);
        Skip.If(exitCode == CannotRun, faults.Output);
        Assert.True(exitCode == 0, $"{faults.Output}\n{faults.Errors}");
        Directory.Delete(folder, recursive: true);
    }
}
