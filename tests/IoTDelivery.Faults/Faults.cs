using IoTDelivery.Faults.History;

namespace IoTDelivery.Faults;

/// <summary>One fault: what, and whom it hits.</summary>
public sealed record Fault(string Kind, int Node, int Seconds)
{
    public const string Kill = "kill", Stop = "stop", Drain = "drain", Peers = "peers", Cut = "cut", Fast = "database-fast", Immediate = "database-immediate";

    /// <summary>So many of each, mixed by the seed.</summary>
    public static IReadOnlyList<Fault> Plan(int seed, int nodes, int kills, int partitions, int stops, int drains, int database)
    {
        var random = new Random(seed);
        List<string> kinds =
        [
            .. Enumerable.Repeat(Kill, kills), .. Enumerable.Range(0, partitions).Select(i => i % 2 == 0 ? Peers : Cut), .. Enumerable.Repeat(Stop, stops),
            .. Enumerable.Repeat(Drain, drains), .. Enumerable.Range(0, database).Select(i => i % 2 == 0 ? Immediate : Fast),
        ];
        var plan = kinds.Select(kind => new Fault(kind, random.Next(nodes), kind switch
        {
            Stop => random.Next(3, 41),
            Peers or Cut => random.Next(5, 41),
            _ => random.Next(2, 6),
        })).ToArray();
        random.Shuffle(plan);
        return plan;
    }

    /// <summary>Every node once, one after the other, as an upgrade does.</summary>
    public static IReadOnlyList<Fault> Rolling(int nodes) => [.. Enumerable.Range(0, nodes).Select(node => new Fault(Drain, node, 0))];

    /// <summary>One of each, in an order of the seed.</summary>
    public static IReadOnlyList<Fault> OneOfEach(int seed, int nodes)
    {
        var random = new Random(seed);
        var plan = new[] { (Kill, 2), (Stop, 8), (Drain, 0), (Peers, 12), (Cut, 12), (Immediate, 2) }.Select(f => new Fault(f.Item1, random.Next(nodes), f.Item2)).ToArray();
        random.Shuffle(plan);
        return plan;
    }

    /// <summary>Makes it happen, and puts right what an operator or a network would.</summary>
    public async Task HappenAsync(Site site, Recorder history, CancellationToken cancel)
    {
        var node = site.Nodes[Node];
        var peers = site.Nodes.Where(n => n != node).ToList();
        var lasts = TimeSpan.FromSeconds(Seconds);
        var isOfDatabase = Kind is Fast or Immediate;
        if (Kind == Peers) await node.LeavePeersAsync(peers);
        if (Kind == Cut) await node.CutAsync();

        // Of a partition it says that it is complete: what is asked from here on is asked of two halves.
        history.Add(new Entry(What.Fault) { Node = isOfDatabase ? "database" : node.Name, Word = Kind, Text = $"{Seconds} s" });
        switch (Kind)
        {
            case Kill:
                await node.KillAsync();
                await Task.Delay(lasts, cancel);
                break;
            case Stop:
                node.Stop();
                await Task.Delay(lasts, cancel);
                break;
            case Drain:
                var (exitCode, took) = await node.DrainAsync();
                history.Add(new Entry(What.Note) { Node = node.Name, Word = Kind, Status = exitCode, Text = $"ended {took.TotalSeconds:0.0} s after SIGTERM with {exitCode}" });
                break;
            case Peers or Cut:
                await Task.Delay(lasts, cancel);
                break;
            case Fast or Immediate:
                await site.Database.StopAsync(Kind == Fast ? "fast" : "immediate");
                await Task.Delay(lasts, cancel);
                break;
        }

        history.Add(new Entry(What.Healed) { Node = isOfDatabase ? "database" : node.Name, Word = Kind });
        switch (Kind)
        {
            case Kill or Drain: node.Start(); break;
            case Stop: node.Continue(); break;
            case Peers: await node.JoinPeersAsync(peers); break;
            case Cut: await node.MendAsync(); break;
            case Fast or Immediate: await site.Database.StartAsync(); break;
        }
    }
}
