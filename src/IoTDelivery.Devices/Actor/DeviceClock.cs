using IoTDelivery.Devices.Reminders;

namespace IoTDelivery.Devices;

/// <summary>What time it is for one device: by the wall clock of its node, and by a clock that never jumps.</summary>
internal sealed class DeviceClock(TimeProvider clock, CalendarClock calendar)
{
    private readonly DateTimeOffset _bornAt = clock.GetUtcNow();
    private readonly long _bornTimestamp = clock.GetTimestamp();

    /// <summary>The wall clock. For what is calendar time, as a ttl.</summary>
    public DateTimeOffset Now => clock.GetUtcNow();

    /// <summary>Never jumps. For what is only a delay: the wall clock of a node may be set while it runs.</summary>
    public DateTimeOffset Steady => _bornAt + clock.GetElapsedTime(_bornTimestamp);

    /// <summary>True if what is due by the wall clock is due.</summary>
    public bool IsBelieved => calendar.IsBelieved;

    /// <summary>The timestamp of the moment that comes after this time.</summary>
    public long TimestampIn(TimeSpan time) => clock.TimestampIn(time);
}
