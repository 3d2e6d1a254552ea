using System.Runtime.Versioning;
using IoTDelivery.Faults;
using IoTDelivery.Faults.History;

[assembly: SupportedOSPlatform("linux")]

const string Usage = """
    dotnet run -c Release --project tests/IoTDelivery.Faults -- history [--seed S] [--kills 20] [--partitions 10] [--stops 4] [--drains 4] [--database 3] [--file FILE]
    dotnet run -c Release --project tests/IoTDelivery.Faults -- history --short [--seed S] [--file FILE]
    dotnet run -c Release --project tests/IoTDelivery.Faults -- check FILE

    history    three nodes and PostgreSQL under steady load, one fault after the other; what happened is written to FILE and checked
    check      reads a history again

    Needs root on Linux, ip (iproute2) and PostgreSQL's server binaries: the site has network namespaces of its own. Exit code 0: every promise held; 1: not;
    77: it cannot be run here, and why.
    """;

if (args is ["check", var recorded]) return HistoryRun.Report(Checker.Check(HistoryFile.Read(recorded))) ? 0 : 1;
if (args is not ["history", ..])
{
    Console.Error.WriteLine(Usage);
    return 2;
}

if (!Enclosure.IsInside)
{
    if (await Enclosure.ProblemAsync() is not { } problem) return await Enclosure.EnterAsync(args);
    Console.WriteLine(problem);
    return Enclosure.CannotRun;
}

Enclosure.EndWithParent();
var seed = Number("--seed", Random.Shared.Next(1, 100_000));
var file = Value("--file") ?? Path.Combine(Path.GetTempPath(), $"iotdelivery-history-{seed}.jsonl");
try
{
    var plan = args.Contains("--short") ? Fault.OneOfEach(seed, nodes: 3) : Fault.Plan(seed, nodes: 3, Number("--kills", 20), Number("--partitions", 10), Number("--stops", 4), Number("--drains", 4), Number("--database", 3));
    return await HistoryRun.RunAsync(file, seed, plan, string.Join(' ', args));
}
catch (CannotRunException cause)
{
    Console.WriteLine(cause.Message);
    return Enclosure.CannotRun;
}

string? Value(string name) => Array.IndexOf(args, name) is >= 0 and var at && at + 1 < args.Length ? args[at + 1] : null;

int Number(string name, int otherwise) => Value(name) is { } text ? int.Parse(text) : otherwise;
