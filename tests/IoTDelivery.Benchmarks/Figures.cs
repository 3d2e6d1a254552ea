using IoTDelivery.Benchmarks.Load;

namespace IoTDelivery.Benchmarks;

/// <summary>Milliseconds.</summary>
public sealed record Latency(double P50, double P99, double Max)
{
    public static Latency Of(Ledger ledger, long from, Func<Entry, long> end)
    {
        var times = new List<double>();
        for (var number = from; number < ledger.Count; number++)
        {
            var entry = ledger[number];
            if (end(entry) != 0) times.Add(DeliveryLoad.Time(end(entry) - entry.Due).TotalMilliseconds);
        }

        times.Sort();
        return times.Count == 0 ? new Latency(0, 0, 0) : new Latency(At(0.5), At(0.99), times[^1]);

        double At(double part) => times[Math.Min(times.Count - 1, (int)(part * times.Count))];
    }
}

/// <summary>Closed loop: the most that goes through.</summary>
public sealed record Saturated(
    int InFlight, double PerSecond, double ServerCpuPerMillion, double DatabaseCpuPerMillion, double GeneratorCpuPerMillion,
    double ServerCores, double DatabaseCores, double GeneratorCores, double ResidentMb, double? AllocatedPerMessage, double? PausePercent, double? CompilingCores, Latency Ended);

/// <summary>Open loop at half of it.</summary>
public sealed record Half(double PerSecond, Latency Created, Latency Published, Latency Told);

/// <summary>What must be zero, but for repetitions.</summary>
public sealed record Loss(long Accepted, long Missing, long Refused, long PublishedAgain, long ToldAgain, long ToldTwice, long OtherStatuses)
{
    public static Loss Of(Ledger ledger) =>
        new(ledger.Accepted(), ledger.Missing(), ledger.Refused, ledger.PublishedAgain, ledger.ToldAgain, ledger.ToldTwice, ledger.OtherStatuses);
}

/// <summary>Everything of one database, or of one peer.</summary>
public sealed record DeliveryFigures(string Name, int Devices, Saturated Saturated, Half Half, Loss Loss, Written? Busy, Written? Stored, Written? Slept);

/// <summary>Everything of one connect run.</summary>
public sealed record ConnectFigures(string Name, int Devices, double PerSecond, double ServerCpuPerThousand, double ResidentKbPerConnection, double ResidentKbPerIdleConnection);
