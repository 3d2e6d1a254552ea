using Akka.Actor;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push;

//                                                     changed again: the row stays
//   table ──every StatusInterval──► reported, one per device at a time ──settled──► row removed
//
// Nothing is in memory that is not in the table: whoever is the one in the cluster next reports again what was not
// settled, under the same numbers.

/// <summary>One in the cluster: tells applications which devices came online or went.</summary>
public sealed class PresenceReporter : UntypedActor, IWithTimers
{
    private const int AtOnce = 500;

    private readonly StatusChanges _changes;
    private readonly VolatileNotifications _volatile;
    private readonly PushOptions _options;
    private readonly HashSet<string> _reporting = [];
    private readonly ActorWork _work;
    private readonly IActorRef _self;
    private List<StatusChange> _reported = [];
    private bool _isBusy;

    public PresenceReporter(
        StatusChanges changes, VolatileNotifications notifications, PushOptions options, ILogger<PresenceReporter> logger)
    {
        (_changes, _volatile, _options, _self) = (changes, notifications, options, Self);
        _work = new ActorWork(Self, logger);
    }

    private sealed record Round
    {
        public static readonly Round Instance = new();
    }

    private sealed record Read(IReadOnlyList<StatusChange> Oldest);

    private sealed record Settled(StatusChange Change);

    public ITimerScheduler Timers { get; set; } = null!;

    protected override void PreStart() => Timers.StartPeriodicTimer("round", Round.Instance, TimeSpan.Zero, _options.StatusInterval);

    protected override void PostStop() => _work.Cancel();

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case Round:
                StartRound();
                break;
            case Read read:
                _isBusy = false;
                foreach (var change in read.Oldest) Report(change);
                break;
            case Settled settled:
                _reported.Add(settled.Change);
                break;
            default:
                Unhandled(message);
                break;
        }
    }

    // The rows of what was settled go first, in the same breath: what is still there then has changed again.
    private void StartRound()
    {
        if (_isBusy) return;
        _isBusy = true;
        var reported = _reported;
        _reported = [];
        foreach (var change in reported) _reporting.Remove(change.DeviceId);
        _work.UntilDone(() => ForgetAndReadAsync(reported));
    }

    private async Task<Read> ForgetAndReadAsync(List<StatusChange> reported)
    {
        if (reported.Count > 0) await _changes.ForgetAsync(reported, _work.Stop);
        return new Read(await _changes.OldestAsync(2 * AtOnce, _work.Stop));
    }

    private void Report(StatusChange change)
    {
        if (_reporting.Count >= AtOnce || !_reporting.Add(change.DeviceId)) return;
        _ = SettleAsync(change);
    }

    private async Task SettleAsync(StatusChange change)
    {
        await _volatile.SettleAsync(new DeviceStatus(change)).ConfigureAwait(false);
        _self.Tell(new Settled(change), ActorRefs.NoSender);
    }
}
