using Akka.Actor;
using Akka.Event;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices.Reminders;

/// <summary>Fires the reminders that are due. One per node; any number of them may read the same table.</summary>
//
//   due ──take (moves one lease ahead)──► fired ──Reminder──► the device stores what was due ──► ReminderHandled ·
// deletes or moves it
//                                          └── nobody answers: it is due again when the lease is over
//
public sealed class ReminderService : UntypedActor, IWithTimers
{
    private sealed record Poll
    {
        public static readonly Poll Instance = new();
    }

    private sealed record Due(IReadOnlyList<DueReminder> Reminders, int Asked);

    private readonly ReminderTable _table;
    private readonly DeviceGateway _devices;
    private readonly TimeProvider _clock;
    private readonly ReminderOptions _options;
    private readonly Fencing _fence;
    private readonly Dictionary<DeviceId, long> _unanswered = [];
    private readonly ILoggingAdapter _log = Context.GetLogger();
    private bool _isReading;
    private bool _moreMayBeDue;

    public ReminderService(ReminderTable table, DeviceGateway devices, TimeProvider clock, ReminderOptions options, Fencing fence) =>
        (_table, _devices, _clock, _options, _fence) = (table, devices, clock, options, fence);

    public ITimerScheduler Timers { get; set; } = null!;

    protected override void PreStart() => Timers.StartPeriodicTimer("poll", Poll.Instance, TimeSpan.Zero, _options.PollInterval);

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case Poll:
                GiveUpOnSilence();
                TakeDue();
                break;

            case Due due:
                _isReading = false;
                _moreMayBeDue = due.Reminders.Count == due.Asked;
                foreach (var reminder in due.Reminders) Fire(reminder);
                break;

            case ReminderHandled handled:
                _unanswered.Remove(handled.DeviceId);

                // Half empty, not one by one: a statement that moves ten reminders costs little more than one that moves one.
                if (_moreMayBeDue && _unanswered.Count <= _options.Concurrency / 2) TakeDue();
                break;

            case Status.Failure failure:
                _isReading = false;
                _log.Warning(failure.Cause, "Reminders cannot be read; reading again in {0}.", _options.PollInterval);
                break;

            default:
                Unhandled(message);
                break;
        }
    }

    private void Fire(DueReminder reminder)
    {
        if (!DeviceId.TryParse(reminder.DeviceId, out var deviceId)) return;
        _unanswered[deviceId] = _clock.GetTimestamp();
        _devices.Tell(new ToDevice.Reminder(deviceId, reminder.Token, reminder.DueIn), Self);
    }

    private void TakeDue()
    {
        var free = _options.Concurrency - _unanswered.Count;
        if (_isReading || free <= 0 || _fence.IsOnLosingSide) return; // others may run the devices by now: they fire their reminders
        _isReading = true;
        _table.TakeDueAsync(free, _options.Lease, CancellationToken.None).PipeTo(Self, success: reminders => new Due(reminders, free));
    }

    // After a lease a reminder fires again by itself: who has not answered by then is not waited for any more.
    private void GiveUpOnSilence()
    {
        if (_unanswered.Count == 0) return;
        foreach (var silent in _unanswered.Where(r => _clock.GetElapsedTime(r.Value) >= _options.Lease).Select(r => r.Key).ToList()) _unanswered.Remove(silent);
    }
}
