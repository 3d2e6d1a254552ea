using IoTDelivery.Faults.History;

namespace IoTDelivery.Faults;

/// <summary>Steady load, and one fault after the other.</summary>
public static class HistoryRun
{
    private const int Devices = 200;
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(0.9); // of one device: 222 messages a second in all
    private static readonly string[] Gentle = ["answered 201", "answered 503", $"answered nothing: {HttpRequestError.ConnectionError}"];
    private static readonly TimeSpan Calm = TimeSpan.FromSeconds(3), RecoveryPatience = TimeSpan.FromMinutes(3), SettlePatience = TimeSpan.FromSeconds(90);

    /// <summary>Exit code 0: every promise held. <paramref name="isGentle"/>: and no POST came to anything worse than a refused connection or a 503.</summary>
    public static async Task<int> RunAsync(string file, int seed, IReadOnlyList<Fault> plan, string arguments, bool isGentle = false)
    {
        var lastWords = new List<string>();
        var recoveries = new List<(Fault Fault, TimeSpan? Took)>();
        double sentFor;
        using (var history = new Recorder(file))
        {
            history.Add(new Entry(What.Run) { Text = $"seed {seed}, {arguments}" });
            TimeSpan? skew = plan.Any(f => f.IsOfClock) ? TimeSpan.FromSeconds(seed % 2 == 0 ? 20 : -20) : null;
            await using var town = await Town.StartAsync(history, seed, Devices, skew: skew);
            using var applications = new Applications(history, town.Site.Nodes, Interval, seed);
            using var stop = new CancellationTokenSource();
            town.Live();
            var begun = history.Now;
            town.Send((device, number, until) => applications.RunAsync(device.Id, number, until), stop.Token);
            await Task.Delay(2 * Calm);
            foreach (var fault in plan.Where(f => !f.IsOfClock || town.Site.Nodes[f.Node].Clock is not null))
            {
                Say($"{fault.Kind} of {(fault.IsOfDatabase ? "PostgreSQL" : town.Site.Nodes[fault.Node].Name)} for {fault.Seconds} s");
                await fault.HappenAsync(town.Site, history, CancellationToken.None);
                var took = await town.Site.WholeAsync(town.Ids, RecoveryPatience, CancellationToken.None);
                history.Add(took is null
                    ? new Entry(What.Note) { Text = $"Not whole again {RecoveryPatience.TotalSeconds:0} s after {fault}." }
                    : new Entry(What.Recovered) { Word = fault.Kind, Text = $"{took.Value.TotalSeconds:0.0} s" });
                recoveries.Add((fault, took));
                Say(took is null ? "never whole again" : $"whole again after {took.Value.TotalSeconds:0.0} s; {applications.Accepted} accepted");
                await Task.Delay(Calm);
            }

            sentFor = history.Now - begun;
            await stop.CancelAsync();
            var open = await town.SettleAsync(() => applications.All, SettlePatience);
            Say($"{applications.Accepted} accepted in {sentFor:0} s, {open.Count} of them without an end");
            lastWords.AddRange(town.Site.Nodes.Where(n => n.EndedByItself > 0).Select(n => $"{n.Name} ended by itself {n.EndedByItself} times"));

            void Say(string text) => Console.Error.WriteLine($"{history.Now,7:0.0} {text}");
        }

        var verdict = Checker.Check(HistoryFile.Read(file));
        Console.WriteLine($"Seed {seed}, {sentFor:0} s of load, {verdict.Counts.GetValueOrDefault("messages stored") / sentFor:0} messages/s stored. History: {file}");
        foreach (var line in lastWords) Console.WriteLine(line);
        foreach (var kind in recoveries.GroupBy(r => r.Fault.Kind))
        {
            var took = kind.Select(k => k.Took?.TotalSeconds ?? double.PositiveInfinity).Order().ToList();
            Console.WriteLine($"whole again after {kind.Key}: median {took[took.Count / 2]:0.0} s, worst {took[^1]:0.0} s of {took.Count}");
        }

        var isKept = Report(verdict) && recoveries.TrueForAll(r => r.Took is not null);
        if (!isGentle) return isKept ? 0 : 1;
        var rude = verdict.Counts.Where(c => c.Key.StartsWith("answered ", StringComparison.Ordinal) && !Gentle.Contains(c.Key)).Sum(c => c.Value);
        Console.WriteLine($"POSTs that came to anything but 201, 503 or a refused connection: {rude}");
        return isKept && rude == 0 ? 0 : 1;
    }

    /// <summary>Prints what the checker found; true if it found nothing wrong.</summary>
    public static bool Report(Verdict verdict)
    {
        foreach (var (what, count) in verdict.Counts.OrderBy(c => c.Key, StringComparer.Ordinal)) Console.WriteLine($"{count,9} {what}");
        foreach (var violation in verdict.Violations.Take(50)) Console.WriteLine($"VIOLATION {violation}");
        Console.WriteLine(verdict.Violations.Count == 0 ? "Every promise held." : $"{verdict.Violations.Count} violations.");
        return verdict.Violations.Count == 0;
    }
}
