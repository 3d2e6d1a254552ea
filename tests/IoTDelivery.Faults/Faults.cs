using IoTDelivery.Faults.History;

namespace IoTDelivery.Faults;

/// <summary>One fault: what, and whom it hits.</summary>
public sealed record Fault(string Kind, int Node, int Seconds)
{
    public const string Kill = "kill", Stop = "stop", Drain = "drain", Peers = "peers", Cut = "cut", Path = "path", Ahead = "clock-ahead", Behind = "clock-behind",
        StalledDrain = "stalled-drain", Fast = "database-fast", Immediate = "database-immediate", CommitFast = "database-commit-fast",
        CommitImmediate = "database-commit-immediate", Backend = "database-backend";

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    /// <summary>Whether it hits the database, and no node.</summary>
    public bool IsOfDatabase => Kind.StartsWith("database", StringComparison.Ordinal);

    /// <summary>Whether it needs a clock that can be set.</summary>
    public bool IsOfClock => Kind is Ahead or Behind;

    /// <summary>So many of each, mixed by the seed.</summary>
    public static IReadOnlyList<Fault> Plan(int seed, int nodes, Func<string, int, int> number)
    {
        var random = new Random(seed);
        List<string> kinds =
        [
            .. Some("--kills", 20, Kill), .. Some("--partitions", 10, Peers, Cut), .. Some("--stops", 4, Stop), .. Some("--drains", 4, Drain),
            .. Some("--database", 3, Immediate, Fast), .. Some("--paths", 3, Path), .. Some("--clocks", 4, Behind, Ahead), .. Some("--backends", 3, Backend),
            .. Some("--commits", 4, CommitImmediate, CommitFast), .. Some("--handoffs", 2, StalledDrain),
        ];
        var plan = kinds.Select(kind => Of(kind, random, nodes, kind switch
        {
            Stop => random.Next(3, 41),
            Peers or Cut => random.Next(5, 41),
            Path or Ahead or Behind => random.Next(5, 26),
            Backend or StalledDrain => random.Next(5, 11),
            _ => random.Next(2, 6),
        })).ToArray();
        random.Shuffle(plan);
        return plan;

        IEnumerable<string> Some(string name, int otherwise, params string[] all) => Enumerable.Range(0, number(name, otherwise)).Select(i => all[i % all.Length]);
    }

    /// <summary>Every node once, one after the other, as an upgrade does.</summary>
    public static IReadOnlyList<Fault> Rolling(int nodes) => [.. Enumerable.Range(0, nodes).Select(node => new Fault(Drain, node, 0))];

    /// <summary>A kill and one more that is soon over, in an order of the seed.</summary>
    public static IReadOnlyList<Fault> Few(int seed, int nodes)
    {
        var random = new Random(seed);
        var others = new[] { (Peers, 10), (Path, 6), (Ahead, 5), (Behind, 5), (CommitImmediate, 2), (Backend, 5) };
        var plan = new[] { (Kill, 2), others[random.Next(others.Length)] }
            .Select(f => Of(f.Item1, random, nodes, f.Item2)).ToArray();
        random.Shuffle(plan);
        return plan;
    }

    // Only the last but one has a clock that can be set.
    private static Fault Of(string kind, Random random, int nodes, int seconds) => new(kind, kind is Ahead or Behind ? nodes - 2 : random.Next(nodes), seconds);

    /// <summary>Makes it happen, and puts right what an operator or a network would.</summary>
    public async Task HappenAsync(Site site, Recorder history, CancellationToken cancel)
    {
        var node = site.Nodes[Node];
        var peers = site.Nodes.Where(n => n != node).ToList();
        var lasts = TimeSpan.FromSeconds(Seconds);
        var whom = IsOfDatabase ? "database" : node.Name;
        var backend = 0;
        if (Kind == Backend)
        {
            await site.Database.HoldCommitsAsync(site.ConnectionString);
            backend = await site.Database.StopWriterAsync(site.ConnectionString, Patience);
        }

        if (Kind == Peers) await node.LeavePeersAsync(peers);
        if (Kind == Cut) await node.CutAsync();

        // Of a partition it says that it is complete: what is asked from here on is asked of two halves.
        history.Add(new Entry(What.Fault) { Node = whom, Word = Kind, Text = $"{Seconds} s" });
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
                Ended(await node.DrainAsync());
                break;
            case StalledDrain:
                site.Database.Freeze();
                await Task.Delay(TimeSpan.FromSeconds(2), cancel); // in the middle of the stall
                var draining = node.DrainAsync();
                await Task.Delay(lasts, cancel);
                site.Database.Thaw();
                Ended(await draining);
                break;
            case Path:
                await node.LeaveDatabaseAsync();
                await Task.Delay(lasts, cancel);
                break;
            case Ahead or Behind:
                node.Clock!.Set(Kind == Ahead ? TimeSpan.FromHours(1) : TimeSpan.FromHours(-1));
                await Task.Delay(lasts, cancel);
                break;
            case Peers or Cut or Backend:
                await Task.Delay(lasts, cancel);
                break;
            case CommitFast or CommitImmediate:
                var unanswered = await site.Database.StopMidCommitAsync(Kind == CommitFast ? "fast" : "immediate", site.ConnectionString, Patience);
                history.Add(new Entry(What.Note) { Node = whom, Word = Kind, Text = $"{unanswered} commits of the journal were on the disk and unanswered" });
                await Task.Delay(lasts, cancel);
                break;
            case Fast or Immediate:
                await site.Database.StopAsync(Kind == Fast ? "fast" : "immediate");
                await Task.Delay(lasts, cancel);
                break;
        }

        history.Add(new Entry(What.Healed) { Node = whom, Word = Kind });
        switch (Kind)
        {
            case Kill or Drain or StalledDrain: node.Start(); break;
            case Stop: node.Continue(); break;
            case Peers: await node.JoinPeersAsync(peers); break;
            case Cut: await node.MendAsync(); break;
            case Path: await node.JoinDatabaseAsync(); break;
            case Ahead or Behind: node.Clock!.Set(TimeSpan.Zero); break;
            case Backend: site.Database.Continue(backend); break;
            case Fast or Immediate or CommitFast or CommitImmediate: await site.Database.StartAsync(); break;
        }

        void Ended((int? ExitCode, TimeSpan Took) end) => history.Add(new Entry(What.Note)
        {
            Node = node.Name,
            Word = Kind,
            Status = end.ExitCode,
            Text = $"ended {end.Took.TotalSeconds:0.0} s after SIGTERM with {end.ExitCode}",
        });
    }
}
