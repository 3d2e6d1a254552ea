namespace IoTDelivery.Push;

//                        BreakerFailures in a row              ProbeInterval over
//   closed ─────────────────────────────────────────► open ────────────────────────► probe may go
//    │  ▲                                                ▲                                │  │
//    │  ├── answered: counting starts again              └──────────── failed ────────────┘  │
//    └──┘◄──────────────────────────────── answered ────────────────────────────────────────┘
//
// "Answered" is anything that shows a receiver at work: 200, and a refusal for good as well.

/// <summary>Whether a receiver counts as down. Times are milliseconds since 1970.</summary>
/// <param name="Failures">Failures since the last answer.</param>
/// <param name="ProbeAt">When the next probe may go; null while closed.</param>
public readonly record struct Breaker(int Failures, long? ProbeAt)
{
    /// <summary>True while the receiver counts as down.</summary>
    public bool IsOpen => ProbeAt is not null;

    /// <summary>A breaker that was opened at this time, by another node or before a restart.</summary>
    public static Breaker OpenSince(long openedAt, long now, PushOptions options) =>
        new(options.BreakerFailures, Math.Min(openedAt, now) + (long)options.ProbeInterval.TotalMilliseconds); // a clock ahead of ours must not postpone the probe

    /// <summary>The receiver answered.</summary>
    public Breaker Answered() => default;

    /// <summary>The receiver did not answer, or not 200.</summary>
    public Breaker Failed(long now, PushOptions options) =>
        IsOpen || Failures + 1 >= options.BreakerFailures
            ? new(Failures + 1, now + (long)options.ProbeInterval.TotalMilliseconds)
            : new(Failures + 1, null);

    /// <summary>True if a probe is due.</summary>
    public bool MayProbe(long now) => now >= ProbeAt;
}
