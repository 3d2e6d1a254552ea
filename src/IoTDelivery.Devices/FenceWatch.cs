namespace IoTDelivery.Devices;

/// <summary>
/// Whether a device that recovers now must first take a number in the journal. True for a while after a member became unreachable or was downed:
/// the cut-off owner of the device may still be writing, and its next write must collide.
/// </summary>
public sealed class FenceWatch(TimeProvider clock)
{
    private long _until;

    /// <summary>Recoveries from now on are fenced, for this long.</summary>
    public void Raise(TimeSpan duration) => Interlocked.Exchange(ref _until, (clock.GetUtcNow() + duration).UtcTicks);

    /// <summary>True while recoveries are fenced.</summary>
    public bool IsRaised => clock.GetUtcNow().UtcTicks < Interlocked.Read(ref _until);
}
