using Akka.Actor;

namespace IoTDelivery.Devices;

/// <summary>One timer for all that is due: set anew only when something is due earlier than it.</summary>
internal sealed class TickTimer(IScheduler scheduler, IActorRef self, object tick)
{
    private static readonly TimeSpan DelayMax = TimeSpan.FromHours(1); // what is due later is looked at again then

    private ICancelable? _running;
    private DateTimeOffset _at;

    /// <summary>A tick comes at this time at the latest, by the clock that <paramref name="now"/> is of.</summary>
    public void Set(DateTimeOffset at, DateTimeOffset now)
    {
        if (_running is not null && _at <= at) return;
        _running?.Cancel();
        _at = at;
        var delay = at > now ? at - now : TimeSpan.Zero;
        _running = scheduler.ScheduleTellOnceCancelable(delay < DelayMax ? delay : DelayMax, self, tick, self);
    }

    /// <summary>The tick came.</summary>
    public void OnTick() => _running = null;

    /// <summary>No tick comes any more.</summary>
    public void Cancel() => _running?.Cancel();
}
