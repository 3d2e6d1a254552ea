using System.Runtime.Versioning;
using IoTDelivery.Faults;
using IoTDelivery.Faults.History;

[assembly: SupportedOSPlatform("linux")]

const string Usage = """
    dotnet run -c Release --project tests/IoTDelivery.Faults -- history [--seed S] [--kills 20] [--partitions 10] [--stops 4] [--drains 4] [--database 3]
                 [--paths 3] [--clocks 4] [--backends 3] [--commits 4] [--handoffs 2] [--file FILE]
    dotnet run -c Release --project tests/IoTDelivery.Faults -- history --short [--seed S] [--file FILE]
    dotnet run -c Release --project tests/IoTDelivery.Faults -- rolling [--seed S] [--file FILE]
    dotnet run -c Release --project tests/IoTDelivery.Faults -- failover [--runs 10]
    dotnet run -c Release --project tests/IoTDelivery.Faults -- fullload [--minutes 30]
    dotnet run -c Release --project tests/IoTDelivery.Faults -- check FILE

    history    three nodes and PostgreSQL under steady load, one fault after the other; what happened is written to FILE and checked
    rolling    the same while all three nodes are restarted by SIGTERM, one after the other
    failover   how long devices wait when their node is killed
    fullload   as many messages as the site takes, and no node takes another one for dead
    check      reads a history again

    Needs root on Linux, ip (iproute2) and PostgreSQL's server binaries: the site has network namespaces of its own. Exit code 0: every promise held; 1: not;
    77: it cannot be run here, and why.
    """;

if (args is ["check", var recorded]) return HistoryRun.Report(Checker.Check(HistoryFile.Read(recorded))) ? 0 : 1;
if (args is not ["history" or "rolling" or "failover" or "fullload", ..])
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
var file = Value("--file") ?? Path.Combine(Path.GetTempPath(), $"iotdelivery-{args[0]}-{seed}.jsonl");
var arguments = string.Join(' ', args);
try
{
    return args[0] switch
    {
        "rolling" => await HistoryRun.RunAsync(file, seed, Fault.Rolling(nodes: 3), arguments, isGentle: true),
        "failover" => await FailoverRun.RunAsync(file, seed, Number("--runs", 10)),
        "fullload" => await FullLoadRun.RunAsync(file, seed, TimeSpan.FromMinutes(Number("--minutes", 30))),
        _ when args.Contains("--short") => await HistoryRun.RunAsync(file, seed, Fault.Few(seed, nodes: 3), arguments),
        _ => await HistoryRun.RunAsync(
            file, seed, Fault.Plan(seed, nodes: 3, Number), arguments),
    };
}
catch (CannotRunException cause)
{
    Console.WriteLine(cause.Message);
    return Enclosure.CannotRun;
}

string? Value(string name) => Array.IndexOf(args, name) is >= 0 and var at && at + 1 < args.Length ? args[at + 1] : null;

int Number(string name, int otherwise) => Value(name) is { } text ? int.Parse(text) : otherwise;
