using Akka.Actor;
using Akka.Event;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices.Reminders;

/// <summary>Rings for devices whose call is due. One per node; any number of them may look at the same table.</summary>
//
//   due ──take (moves one lease ahead)──► rung ──Reminder──► the device stores what was due ──► ReminderHandled ·
// deletes or moves it
//                                          └── nobody answers: it is due again when the lease is over
//
public sealed class ReminderService : UntypedActor, IWithTimers
{
    private sealed record Look
    {
        public static readonly Look Instance = new();
    }

    private sealed record Due(IReadOnlyList<DueReminder> Rings, int Asked);

    private readonly ReminderTable _calls;
    private readonly DeviceGateway _devices;
    private readonly TimeProvider _clock;
    private readonly ReminderOptions _options;
    private readonly FenceWatch _fence;
    private readonly Dictionary<DeviceId, long> _ringing = [];
    private readonly ILoggingAdapter _log = Context.GetLogger();
    private bool _isLooking;
    private bool _moreMayBeDue;

    public ReminderService(ReminderTable calls, DeviceGateway devices, TimeProvider clock, ReminderOptions options, FenceWatch fence) =>
        (_calls, _devices, _clock, _options, _fence) = (calls, devices, clock, options, fence);

    public ITimerScheduler Timers { get; set; } = null!;

    protected override void PreStart() => Timers.StartPeriodicTimer("look", Look.Instance, TimeSpan.Zero, _options.PollInterval);

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case Look:
                GiveUpOnSilence();
                TakeDue();
                break;

            case Due due:
                _isLooking = false;
                _moreMayBeDue = due.Rings.Count == due.Asked;
                foreach (var ring in due.Rings) Wake(ring);
                break;

            case ReminderHandled acted:
                _ringing.Remove(acted.DeviceId);

                // Half empty, not one by one: a statement that moves ten calls costs little more than one that moves a single call.
                if (_moreMayBeDue && _ringing.Count <= _options.Concurrency / 2) TakeDue();
                break;

            case Status.Failure failure:
                _isLooking = false;
                _log.Warning(failure.Cause, "Reminders cannot be read; looking again in {0}.", _options.PollInterval);
                break;

            default:
                Unhandled(message);
                break;
        }
    }

    private void Wake(DueReminder ring)
    {
        if (!DeviceId.TryParse(ring.DeviceId, out var deviceId)) return;
        _ringing[deviceId] = _clock.GetTimestamp();
        _devices.Tell(new ToDevice.Reminder(deviceId, ring.Token, ring.DueIn), Self);
    }

    private void TakeDue()
    {
        var free = _options.Concurrency - _ringing.Count;
        if (_isLooking || free <= 0 || _fence.IsCutOff) return; // the calls of devices that others may run by now are theirs to answer
        _isLooking = true;
        _calls.TakeDueAsync(free, _options.Lease, CancellationToken.None).PipeTo(Self, success: rings => new Due(rings, free));
    }

    // After a lease the call rings again by itself; whoever has not answered by then does not count as ringing any more.
    private void GiveUpOnSilence()
    {
        if (_ringing.Count == 0) return;
        foreach (var silent in _ringing.Where(r => _clock.GetElapsedTime(r.Value) >= _options.Lease).Select(r => r.Key).ToList()) _ringing.Remove(silent);
    }
}
