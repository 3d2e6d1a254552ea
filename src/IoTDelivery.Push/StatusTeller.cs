using Akka.Actor;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push;

//                                                     changed again: the row stays
//   table ──every StatusInterval──► told, one per device at a time ──settled──► row removed
//
// Nothing is in memory that is not in the table: whoever is the one in the cluster next tells again what was not settled, under the same numbers.

/// <summary>One in the cluster: tells applications which devices came online or went.</summary>
public sealed class StatusTeller : UntypedActor, IWithTimers
{
    private const int AtOnce = 500;

    private readonly StatusChanges _changes;
    private readonly Reports _reports;
    private readonly PushOptions _options;
    private readonly ILogger<StatusTeller> _logger;
    private readonly HashSet<string> _telling = [];
    private readonly CancellationTokenSource _stopped = new();
    private readonly CancellationToken _stop;
    private readonly IActorRef _self;
    private List<StatusChange> _told = [];
    private bool _isBusy;

    public StatusTeller(StatusChanges changes, Reports reports, PushOptions options, ILogger<StatusTeller> logger)
    {
        (_changes, _reports, _options, _logger) = (changes, reports, options, logger);
        (_stop, _self) = (_stopped.Token, Self);
    }

    private sealed record Round
    {
        public static readonly Round Instance = new();
    }

    private sealed record Read(IReadOnlyList<StatusChange> Oldest);

    private sealed record Settled(StatusChange Change);

    public ITimerScheduler Timers { get; set; } = null!;

    protected override void PreStart() => Timers.StartPeriodicTimer("round", Round.Instance, TimeSpan.Zero, _options.StatusInterval);

    protected override void PostStop() => _stopped.Cancel();

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case Round:
                StartRound();
                break;
            case Read read:
                _isBusy = false;
                foreach (var change in read.Oldest) Tell(change);
                break;
            case Settled settled:
                _told.Add(settled.Change);
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
        var told = _told;
        _told = [];
        foreach (var change in told) _telling.Remove(change.DeviceId);
        _ = Task.Run(async () =>
        {
            try
            {
                _self.Tell(await RetryDelay.UntilDoneAsync(() => ForgetAndReadAsync(told), _logger.DatabaseAway, _stop), ActorRefs.NoSender);
            }
            catch (Exception) when (_stop.IsCancellationRequested)
            {
                // All it knew is in the table.
            }
        });
    }

    private async Task<Read> ForgetAndReadAsync(List<StatusChange> told)
    {
        if (told.Count > 0) await _changes.ForgetAsync(told, _stop);
        return new Read(await _changes.OldestAsync(2 * AtOnce, _stop));
    }

    private void Tell(StatusChange change)
    {
        if (_telling.Count >= AtOnce || !_telling.Add(change.DeviceId)) return;
        _ = SettleAsync(change);
    }

    private async Task SettleAsync(StatusChange change)
    {
        await _reports.SettleAsync(new DeviceStatus(change)).ConfigureAwait(false);
        _self.Tell(new Settled(change), ActorRefs.NoSender);
    }
}
