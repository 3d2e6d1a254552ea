using System.Runtime.Versioning;
using System.Text.Json;
using System.Text.RegularExpressions;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.EndToEnd;

/// <summary>The commands of docs/LOGIN.md, run as they stand there; only the ports are free ones, and `dotnet run` is the program it would have built.</summary>
[UnsupportedOSPlatform("windows")] // /bin/sh
public sealed partial class LoginDocSpec : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iotdelivery-e2e-").FullName;

    [SkippableFact]
    public async Task Every_way_to_log_in_works_as_written()
    {
        Skip.If(Command.Find("curl") is null, "curl is not installed (apt-get install curl).");
        Skip.If(Command.Find("openssl") is null, "openssl is not installed (apt-get install openssl).");
        var (rest, mqtt) = (Node.FreePort(), Node.FreePort());
        var page = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "../../../../../docs/LOGIN.md")).Replace("127.0.0.1:8080", $"127.0.0.1:{rest}");
        var blocks = Block().Matches(page).Select(m => m.Groups[1].Value).ToArray();
        Assert.Equal(4, blocks.Length);
        var (siteToken, start, password, signature) = (blocks[0], blocks[1], blocks[2], blocks[3]);

        await using var node = Shell(Run().Replace(start.Replace("dotnet run --project src/IoTDelivery.Host -- hash-password", $"dotnet {Node.HostDll} hash-password"), // exec: the node has the shell's pid
            $"exec dotnet {Node.HostDll} --urls=http://127.0.0.1:{rest} --Mqtt:Port={mqtt}"));
        await node.PrintedAsync(o => o.Contains("IoTDelivery.Akka is running"), "that it runs");

        foreach (var block in new[] { siteToken, password, signature })
        {
            await using var call = Shell(block);
            Assert.Equal(0, await call.ExitAsync());
            Assert.True(call.Output.StartsWith('{') && JsonDocument.Parse(call.Output).RootElement.TryGetProperty("devices", out _), $"{block}\nprinted:\n{call.Output}\n{call.Errors}");
        }

        await using var wrong = Shell(signature.Replace("example-secret-key", "another-secret-key"));
        Assert.Equal(0, await wrong.ExitAsync());
        Assert.Contains("IOTDA.000002", wrong.Output);
        node.Terminate();
        Assert.Equal(0, await node.ExitAsync());
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private Command Shell(string script) => Command.Start(_folder, "/bin/sh", "-c", script);

    [GeneratedRegex("(?s)```sh\n(.*?)```")]
    private static partial Regex Block();

    [GeneratedRegex("(?m)^dotnet run --project src/IoTDelivery.Host --")]
    private static partial Regex Run();
}
