using System.Collections.Concurrent;
using System.Text.Json;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>Programs made with other people's libraries, as their documents show it: scripts in Clients.</summary>
public static class Clients
{
    private static readonly string Folder = Path.Combine(AppContext.BaseDirectory, "Clients");
    private static readonly Lazy<Task<string?>> NodeModules = new(InstallNodeModulesAsync);
    private static readonly ConcurrentDictionary<string, Task<string?>> Pythons = [];

    /// <summary>Starts one; the test is skipped, with the reason, if its library cannot be had.</summary>
    /// <param name="library">rhea, qpid-proton, mqtt.js or paho.</param>
    /// <param name="settings">What the script reads, as JSON, from its only argument.</param>
    public static async Task<Command> StartAsync(string library, object settings)
    {
        var (program, script) = library switch
        {
            "rhea" => (await NodeAsync(), "rhea.mjs"),
            "mqtt.js" => (await NodeAsync(), "mqttjs.mjs"),
            "qpid-proton" => (await PythonAsync("proton", "python3-qpid-proton"), "proton_client.py"),
            "paho" => (await PythonAsync("paho.mqtt.client", "python3-paho-mqtt"), "paho_client.py"),
            _ => throw new ArgumentOutOfRangeException(nameof(library), library, "There is no such client."),
        };
        return Command.Start(Folder, program, script, JsonSerializer.Serialize(settings));
    }

    private static async Task<string> NodeAsync()
    {
        var isMissing = Command.Find("node") is null || Command.Find("npm") is null;
        Skip.If(isMissing, "node and npm are not installed (apt-get install nodejs npm).");
        var problem = await NodeModules.Value;
        Skip.If(problem is not null, problem);
        return "node";
    }

    // Debian's packages belong to Debian's Python, which is not always the first one.
    private static async Task<string> PythonAsync(string module, string package)
    {
        var python = await Pythons.GetOrAdd(module, FindAsync);
        Skip.If(python is null, $"No python3 has the module {module} (apt-get install {package}).");
        return python!;

        static async Task<string?> FindAsync(string module)
        {
            foreach (var python in new[] { "/usr/bin/python3", Command.Find("python3") })
            {
                if (python is null || !File.Exists(python)) continue;
                await using var import = Command.Start(Folder, python, "-c", $"import {module}");
                if (await import.ExitAsync() == 0) return python;
            }

            return null;
        }
    }

    // Once per build folder: what the lock file names, and nothing newer. Returns why it cannot be had.
    private static async Task<string?> InstallNodeModulesAsync()
    {
        var wanted = new FileInfo(Path.Combine(Folder, "package-lock.json"));
        var installed = new FileInfo(Path.Combine(Folder, "node_modules/.package-lock.json"));
        if (installed.Exists && installed.LastWriteTimeUtc > wanted.LastWriteTimeUtc) return null;
        string[] quietly = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"];
        await using var npm = Command.Start(
            Folder, "npm", ["ci", .. quietly, "--fetch-retries=1", "--fetch-timeout=30000"]);
        try
        {
            return await npm.ExitAsync(TimeSpan.FromMinutes(3)) == 0 ? null : $"npm ci failed: {npm.Errors}";
        }
        catch (OperationCanceledException)
        {
            return "npm ci did not end within 3 minutes.";
        }
    }
}
