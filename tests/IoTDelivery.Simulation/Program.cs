using System.Diagnostics;
using System.Globalization;
using IoTDelivery.Simulation;

// One seed, one history. `./build.sh sim 1000` runs a thousand; `--seed N` tells one of them line by line.
//   IoTDelivery.Simulation [histories] [--from SEED] [--seed SEED] [--broken RULE] [--with FAULT]…
// `--with` lets happen what stands in World.NotYet; `--with all` is all of that.
var (histories, from, seed, broken, with) = (1000, 1, (int?)null, BrokenRule.None, new List<Fault>());
for (var i = 0; i < args.Length; i++)
{
    switch (args[i])
    {
        case "--from": from = int.Parse(args[++i], CultureInfo.InvariantCulture); break;
        case "--seed": seed = int.Parse(args[++i], CultureInfo.InvariantCulture); break;
        case "--broken": broken = Enum.Parse<BrokenRule>(args[++i], ignoreCase: true); break;
        case "--with" when args[++i] == "all": with.AddRange(World.NotYet); break;
        case "--with": with.Add(Enum.Parse<Fault>(args[i], ignoreCase: true)); break;
        default: histories = int.Parse(args[i], CultureInfo.InvariantCulture); break;
    }
}

if (seed is { } one)
{
    var (result, trace) = History.Shortest(one, broken, with);
    foreach (var line in trace) Console.WriteLine(line);
    Console.WriteLine($"seed {one}: {result.Violation ?? "no violation"}");
    return result.Violation is null ? 0 : 1;
}

var watch = Stopwatch.StartNew();
var summary = Summary.Of(Enumerable.Range(from, histories).Select(s => History.Run(s, broken, with)));
Console.WriteLine($"{summary}, {watch.Elapsed.TotalSeconds:f1} s");
foreach (var bad in summary.Bad.Take(40)) Console.WriteLine($"  seed {bad.Seed}: {bad.Violation}");
return summary.Bad.Count == 0 ? 0 : 1;
