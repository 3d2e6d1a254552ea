namespace IoTDelivery.Simulation;

/// <summary>What came out of one history.</summary>
/// <param name="Violation">The promise that was broken first; null if all were kept.</param>
/// <param name="Counts">How often each fault happened.</param>
/// <param name="Fingerprint">The same for the same seed, always.</param>
public sealed record History(int Seed, string? Violation, int Messages, IReadOnlyDictionary<string, int> Counts, long Fingerprint)
{
    /// <summary>What does not happen unless asked for, because the product is not ready for it.</summary>
    public static IReadOnlyCollection<Fault> NotYet => World.NotYet;

    /// <summary>Lives through one history.</summary>
    /// <param name="with">What happens although the product is not ready for it (<see cref="World.NotYet"/>).</param>
    public static History Run(int seed, BrokenRule broken = BrokenRule.None, IReadOnlyCollection<Fault>? with = null) =>
        Run(seed, broken, Without(broken, with), trace: null);

    /// <summary>The same history told line by line, without the kinds of faults that it does not need to fail.</summary>
    public static (History History, IReadOnlyList<string> Trace) Shortest(
        int seed, BrokenRule broken = BrokenRule.None, IReadOnlyCollection<Fault>? with = null)
    {
        var without = Without(broken, with);
        if (Kind(without) is { } kind)
        {
            foreach (var fault in Enum.GetValues<Fault>())
            {
                if (!without.Add(fault)) continue;
                if (Kind(without) != kind) without.Remove(fault);
            }
        }

        List<string> trace = [];
        return (Run(seed, broken, without, trace), trace);

        // Of which message and when may differ: what was broken must not.
        string? Kind(HashSet<Fault> faults) => Run(seed, broken, faults, trace: null).Violation is { } violation
            ? string.Concat(violation.Where(c => !char.IsAsciiDigit(c)))
            : null;
    }

    // A broken rule can only show where what it is about happens.
    private static HashSet<Fault> Without(BrokenRule broken, IReadOnlyCollection<Fault>? with)
    {
        HashSet<Fault> without = [.. World.NotYet];
        without.ExceptWith(with ?? []);
        without.ExceptWith(World.NeededBy(broken));
        return without;
    }

    private static History Run(int seed, BrokenRule broken, HashSet<Fault> without, List<string>? trace)
    {
        // What awaits must go on where it is told to, not where a test runner would have it.
        var context = SynchronizationContext.Current;
        SynchronizationContext.SetSynchronizationContext(null);
        var world = new World(seed, broken, without, trace);
        try
        {
            world.Run();
            return new History(seed, world.Promises.Violation, world.Promises.Accepted, world.Counts, world.Fingerprint);
        }
        finally
        {
            world.Close();
            SynchronizationContext.SetSynchronizationContext(context);
        }
    }
}

/// <summary>What came out of many.</summary>
/// <param name="Fingerprint">Of all of them in this order: the same in every process.</param>
public sealed record Summary(int Histories, int Messages, IReadOnlyDictionary<string, int> Faults, IReadOnlyList<History> Bad, long Fingerprint)
{
    public static Summary Of(IEnumerable<History> histories)
    {
        var (count, messages, fingerprint, faults, bad) = (0, 0, 0L, new SortedDictionary<string, int>(StringComparer.Ordinal), new List<History>());
        foreach (var history in histories)
        {
            count++;
            messages += history.Messages;
            fingerprint = unchecked(fingerprint * 31 + history.Fingerprint);
            foreach (var (fault, times) in history.Counts) faults[fault] = faults.GetValueOrDefault(fault) + times;
            if (history.Violation is not null) bad.Add(history);
        }

        return new Summary(count, messages, faults, bad, fingerprint);
    }

    public override string ToString() =>
        $"{Histories:n0} histories, {Messages:n0} messages, faults: {string.Join(", ", Faults.Select(f => $"{f.Key} {f.Value:n0}"))}; violations: {Bad.Count}, fingerprint {Fingerprint:x}";
}
