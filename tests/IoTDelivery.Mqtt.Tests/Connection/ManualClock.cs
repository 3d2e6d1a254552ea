namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>A clock that moves when it is told to. Timers run by the real one.</summary>
internal sealed class ManualClock : TimeProvider
{
    private long _ticks = Given.Noon.UtcTicks;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public void Advance(TimeSpan by) => Interlocked.Add(ref _ticks, by.Ticks);

    public override long GetTimestamp() => Volatile.Read(ref _ticks);

    public override DateTimeOffset GetUtcNow() => new(Volatile.Read(ref _ticks), TimeSpan.Zero);
}
