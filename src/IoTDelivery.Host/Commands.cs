using System.CommandLine;
using IoTDelivery.Batch;
using IoTDelivery.Devices;
using IoTDelivery.Host.Admin;
using IoTDelivery.Push;
using IoTDelivery.Registry;
using IoTDelivery.Storage;

namespace IoTDelivery.Host;

/// <summary>What the executable does besides being the platform. The table of contents.</summary>
public static class Commands
{
    /// <summary>True if this command line is not a plain start with settings.</summary>
    public static bool Owns(string[] args) => args is [var first, ..] && (!first.StartsWith('-') || first is "--help" or "-h" or "-?" or "--version");

    /// <summary>The exit code is 0 if the command did what it says, else 1.</summary>
    public static Task<int> RunAsync(string[] args, TextWriter? output = null, TextWriter? errors = null)
    {
        var configuration = new InvocationConfiguration();
        if (output is not null) configuration.Output = output;
        if (errors is not null) configuration.Error = errors;
        return Root().Parse(args).InvokeAsync(configuration);
    }

    /// <summary>The steps of every box, taken from where a node takes them.</summary>
    private static IReadOnlyList<Migration> Migrations =>
    [
        .. new ServiceCollection().AddRegistry().AddDevices().AddPush(new ConfigurationManager()).AddBatch(new BatchOptions())
            .Where(s => s.ServiceType == typeof(Migration)).Select(s => (Migration)s.ImplementationInstance!),
    ];

    private static RootCommand Root()
    {
        var demo = new Command("demo", "Plays the whole story by itself, on free ports and in a folder of its own.") { TreatUnmatchedTokensAsErrors = false };
        demo.SetAction((given, _) => Demo.RunAsync([.. given.UnmatchedTokens]));

        var hash = new Command("hash-password", "Reads a password from standard input and prints its hash for Api:Users.");
        hash.SetAction(given => HashPassword.Run(Console.In, given.InvocationConfiguration.Output, given.InvocationConfiguration.Error));

        var provider = new Option<DatabaseProvider>("--provider") { Description = "Sqlite, PostgreSql or SqlServer.", Required = true };
        var schema = new Command("schema", "Prints the script that makes every table, for sites where the program may not.") { provider };
        schema.SetAction(given => given.InvocationConfiguration.Output.Write(SqlSchema.Script(given.GetValue(provider), Migrations)));

        return new RootCommand("IoTDelivery.Akka. Without a command it is the platform; its settings follow as --Section:Key=value.")
        {
            demo, hash, schema, ClusterCommand.Create(),
        };
    }
}
