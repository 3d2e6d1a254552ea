namespace IoTDelivery.Devices;

/// <summary>
/// Whether the wall clock of this node can be believed. A ttl is calendar time, and what ends by it ends for good: so when
/// the wall clock has jumped away from the monotonic one, nothing ends until both agree again, or the wall clock has kept
/// its new time for a while. One per node, asked whenever something is about to end.
/// </summary>
//
//   agree ──more than a minute apart──► doubted ──agree again, or ten minutes later──► agree
//
public sealed class CalendarClock(TimeProvider clock)
{
    /// <summary>How far the wall clock may be from where it was expected: one minute, more than any correction in steps.</summary>
    public static readonly TimeSpan Tolerance = TimeSpan.FromMinutes(1);

    /// <summary>How long a wall clock that has jumped is doubted: ten minutes. Who set it wrong has set it right by then.</summary>
    public static readonly TimeSpan DoubtedFor = TimeSpan.FromMinutes(10);

    private readonly Lock _lock = new();
    private readonly long _began = clock.GetTimestamp();
    private DateTimeOffset _expected = clock.GetUtcNow(); // the wall clock when the monotonic one stood at zero
    private TimeSpan? _doubtedSince;

    /// <summary>True if what is due by the wall clock is due.</summary>
    public bool IsBelieved
    {
        get
        {
            lock (_lock)
            {
                var elapsed = clock.GetElapsedTime(_began);
                var expected = clock.GetUtcNow() - elapsed;
                var isNear = (expected - _expected).Duration() <= Tolerance;
                if (!isNear)
                {
                    _doubtedSince ??= elapsed;
                    if (elapsed - _doubtedSince < DoubtedFor) return false;
                }

                (_expected, _doubtedSince) = (expected, null); // small corrections add up: it is followed
                return true;
            }
        }
    }
}
