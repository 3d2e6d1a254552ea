namespace IoTDelivery.Simulation;

/// <summary>
/// The clock of one machine. What it shows differs from the true time, and may jump; what it counts with does neither, but begins anywhere, so that the timestamps of two
/// machines mean nothing to each other.
/// </summary>
internal sealed class MachineClock(int index) : TimeProvider
{
    /// <summary>How far two clocks that are kept in time may be apart from the true time.</summary>
    public static readonly TimeSpan SkewMax = TimeSpan.FromSeconds(30);

    private readonly long _began = TimeSpan.FromHours(7 * (index + 1)).Ticks;

    /// <summary>What it is always wrong by.</summary>
    public TimeSpan Skew { get; set; }

    /// <summary>What somebody, or a time server, has put it wrong by on top.</summary>
    public TimeSpan Jump { get; set; }

    /// <summary>True while nobody has put it wrong by more than a minute.</summary>
    public bool IsSane => Jump.Duration() <= TimeSpan.FromMinutes(1);

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override DateTimeOffset GetUtcNow() => OneThread.Instance.Now + Skew + Jump;

    public override long GetTimestamp() => _began + OneThread.Instance.Ticks;

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) =>
        OneThread.Instance.CreateTimer(callback, state, dueTime, period);
}
