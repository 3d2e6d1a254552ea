using System.Runtime.Versioning;
using System.Text.Json;
using IoTDelivery.Benchmarks;
using IoTDelivery.Storage;

[assembly: SupportedOSPlatform("linux")]

const string Usage = """
    dotnet run -c Release --project tests/IoTDelivery.Benchmarks -- delivery [--database sqlite|postgresql] [--devices 1000] [--seconds 20] [--without-peer] [--json]
    dotnet run -c Release --project tests/IoTDelivery.Benchmarks -- connect  [--database sqlite|postgresql] [--devices 5000] [--json]

    Without --database: both. Prints a Markdown table with machine, method and date; progress goes to the error output. Linux only.
    """;

if (args.Length == 0)
{
    Console.Error.WriteLine(Usage);
    return 2;
}

DatabaseProvider[] databases = Value("--database") switch
{
    null => [DatabaseProvider.Sqlite, DatabaseProvider.PostgreSql],
    var name => [Enum.Parse<DatabaseProvider>(name, ignoreCase: true)],
};
var json = args.Contains("--json");
var machine = Machine.This();
#if DEBUG
Console.Error.WriteLine("This is a Debug build, of the server, too: its figures mean nothing.");
#endif

switch (args[0])
{
    case "delivery":
        var time = TimeSpan.FromSeconds(int.Parse(Value("--seconds") ?? "20"));
        var devices = int.Parse(Value("--devices") ?? "1000");
        var deliveries = new List<DeliveryFigures>();
        foreach (var database in databases) deliveries.Add(await DeliveryBenchmark.RunAsync(database, devices, time));
        if (!args.Contains("--without-peer")) deliveries.Add(await Peer.RunAsync(devices, time));
        Console.WriteLine(json ? Json(deliveries) : Report.Delivery(deliveries, machine, time));
        return deliveries.All(f => f.Loss is { Missing: 0, ToldTwice: 0 }) ? 0 : 1;
    case "connect":
        var connects = new List<ConnectFigures>();
        foreach (var database in databases) connects.Add(await ConnectBenchmark.RunAsync(database, int.Parse(Value("--devices") ?? "5000")));
        Console.WriteLine(json ? Json(connects) : Report.Connect(connects, machine));
        return 0;
    case "peer":
        return await Peer.ServeAsync(int.Parse(Value("--port")!));
    default:
        Console.Error.WriteLine(Usage);
        return 2;
}

string? Value(string name) => Array.IndexOf(args, name) is >= 0 and var at && at + 1 < args.Length ? args[at + 1] : null;

string Json<T>(T figures) => JsonSerializer.Serialize(new { Date = DateTime.UtcNow, Machine = machine, Figures = figures }, Readable.Options);

internal static class Readable
{
    public static readonly JsonSerializerOptions Options = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };
}
