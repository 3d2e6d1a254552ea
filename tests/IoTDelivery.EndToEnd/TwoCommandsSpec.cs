using System.Runtime.Versioning;
using System.Text.Json;
using System.Text.RegularExpressions;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.EndToEnd;

/// <summary>The two commands of the README, as somebody types them who has never seen the platform.</summary>
[UnsupportedOSPlatform("windows")] // /bin/sh, file modes
public sealed partial class TwoCommandsSpec : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iotdelivery-e2e-").FullName;

    [Fact]
    public async Task The_demo_plays_the_whole_story_says_every_step_and_leaves_nothing_behind()
    {
        await using var demo = Command.Host(_folder, "demo");

        Assert.Equal(0, await demo.ExitAsync());
        string[] steps =
        [
            "starting a node", "an application created the device lamp_1", "a rule sends every message status", "while the device is away → 201 PENDING", "was told PENDING",
            "the device connected", "the device subscribed", "the device received", "was told DELIVERED", "while the device is there → 201 DELIVERED", "was told DELIVERED",
            "every step happened",
        ];
        var lines = demo.Output.Split('\n').Where(l => l.Length > 0).ToArray();
        Assert.Equal(steps.Length, lines.Length);
        for (var i = 0; i < steps.Length; i++) Assert.Contains(steps[i], lines[i]);
        Assert.Equal("", demo.Errors);
        Assert.False(Directory.Exists(lines[0].Split(' ')[^1]), "The demo's folder is still there.");
        Assert.Empty(Directory.GetFileSystemEntries(_folder));
    }

    [SkippableFact]
    public async Task The_plain_start_says_where_it_listens_and_where_the_token_lies_and_its_three_lines_work_as_pasted()
    {
        Skip.If(Command.Find("mosquitto_sub") is null, "mosquitto_sub is not installed (apt-get install mosquitto-clients).");
        Skip.If(Command.Find("curl") is null, "curl is not installed (apt-get install curl).");
        var (rest, mqtt) = (Node.FreePort(), Node.FreePort());
        await using var host = Command.Host(_folder, $"--urls=http://127.0.0.1:{rest}", $"--Mqtt:Port={mqtt}");

        var said = await host.PrintedAsync(o => o.Split('\n').Count(Pasted().IsMatch) == 3, "three lines to paste");

        var token = Path.Combine(_folder, "data", "api-token");
        Assert.Matches($@"(?m)^\s+REST\s+http://127\.0\.0\.1:{rest}$", said);
        Assert.Matches($@"(?m)^\s+MQTT\s+127\.0\.0\.1:{mqtt}$", said);
        Assert.Matches($@"(?m)^\s+storage\s+SQLite at {Regex.Escape(Path.Combine(_folder, "data", "iotdelivery.db"))}$", said);
        Assert.Matches($@"(?m)^\s+token\s+{Regex.Escape(token)}$", said);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(token));
        Assert.DoesNotContain(File.ReadAllText(token), said);

        var lines = said.Split('\n').Where(l => Pasted().IsMatch(l)).ToArray();
        await using var create = Shell(lines[0]);
        Assert.Equal(0, await create.ExitAsync());
        Assert.DoesNotContain("error_code", create.Output);
        Assert.Contains("\"device_id\":\"lamp_1\"", create.Output);

        await using var device = Shell(lines[1]);
        await using var send = Shell(lines[2]); // whether the device is there already or not
        Assert.Equal(0, await send.ExitAsync());
        Assert.True(JsonDocument.Parse(send.Output).RootElement.TryGetProperty("message_id", out var id), send.Output);
        var received = JsonDocument.Parse(await device.PrintedAsync(o => o.Contains("hello"), "the message")).RootElement;
        Assert.Equal((id.GetString(), "hello"), (received.GetProperty("id").GetString(), received.GetProperty("content").GetString()));

        host.Terminate();
        Assert.Equal(0, await host.ExitAsync());
        Assert.Equal("", host.Errors);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    // exec, so that the program has the shell's pid and ends with it.
    private Command Shell(string line) => Command.Start(_folder, "/bin/sh", "-c", line.StartsWith("mosquitto_sub", StringComparison.Ordinal) ? "exec " + line : line);

    [GeneratedRegex("^(curl|mosquitto_sub) ")]
    private static partial Regex Pasted();
}
