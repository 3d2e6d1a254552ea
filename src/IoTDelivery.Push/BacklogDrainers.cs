using Akka.Actor;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push;

/// <summary>Where a node tells the drainers that it wrote rows. Nobody listens where they do not live: there their poll finds the rows.</summary>
public class BacklogSignal
{
    private volatile IActorRef _current = ActorRefs.Nobody;

    internal IActorRef Current
    {
        get => _current;
        set => _current = value;
    }

    /// <summary>An action has new rows, for example after <see cref="PushBacklog.ReplayAsync"/>.</summary>
    public virtual void RowsWritten(string actionId) => _current.Tell(new BacklogDrainers.HasRows(actionId), ActorRefs.NoSender);
}

/// <summary>One in the cluster: keeps one <see cref="ReceiverDrainer"/> for each action that has a backlog, and none for the others.</summary>
public sealed class BacklogDrainers : UntypedActor, IWithTimers
{
    private readonly Rules _rules;
    private readonly PushBacklog _backlog;
    private readonly Webhook _webhook;
    private readonly AmqpConsumers _consumers;
    private readonly BacklogSignal _signal;
    private readonly PushOptions _options;
    private readonly PushMetrics _metrics;
    private readonly ILogger<BacklogDrainers> _logger;
    private readonly TimeProvider _clock;
    private readonly Dictionary<string, IActorRef> _drainers = [];
    private readonly CancellationTokenSource _stopped = new();
    private readonly CancellationToken _stop;
    private bool _isPolling;
    private bool _pollAgain;

    public BacklogDrainers(
        Rules rules, PushBacklog backlog, Webhook webhook, AmqpConsumers consumers, BacklogSignal signal, PushOptions options, PushMetrics metrics, ILogger<BacklogDrainers> logger, TimeProvider clock)
    {
        (_rules, _backlog, _webhook, _consumers, _signal, _options, _metrics, _logger, _clock) = (rules, backlog, webhook, consumers, signal, options, metrics, logger, clock);
        _stop = _stopped.Token;
    }

    internal sealed record HasRows(string ActionId);

    private sealed record Poll
    {
        public static readonly Poll Instance = new();
    }

    private sealed record Polled(IReadOnlySet<string> HasRows);

    public ITimerScheduler Timers { get; set; } = null!;

    protected override void PreStart()
    {
        _signal.Current = Self;
        _consumers.Open();
        Timers.StartPeriodicTimer("poll", Poll.Instance, TimeSpan.Zero, _options.PollInterval);
    }

    protected override void PostStop()
    {
        if (_signal.Current.Equals(Self)) _signal.Current = ActorRefs.Nobody;
        _consumers.Close();
        _stopped.Cancel();
    }

    // All a drainer knows is in the tables: a fresh one goes on where the old one was.
    protected override SupervisorStrategy SupervisorStrategy() => new OneForOneStrategy(_ => Directive.Stop);

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case HasRows rows:
                Drain(rows.ActionId);
                break;
            case Poll:
                StartPoll();
                break;
            case Polled polled:
                _isPolling = false;
                foreach (var actionId in polled.HasRows) Drain(actionId);
                if (_pollAgain) StartPoll();
                break;
            case Terminated gone:
                foreach (var (actionId, drainer) in _drainers)
                {
                    if (drainer.Equals(gone.ActorRef)) _drainers.Remove(actionId);
                }

                StartPoll(); // rows may have come while it was going
                break;
            default:
                Unhandled(message);
                break;
        }
    }

    private void Drain(string actionId)
    {
        if (_drainers.TryGetValue(actionId, out var drainer))
        {
            drainer.Tell(ReceiverDrainer.More.Instance);
            return;
        }

        _drainers.Add(actionId, Context.Watch(Context.ActorOf(
            Props.CreateBy(new DrainerProducer(() => new ReceiverDrainer(actionId, _rules, _backlog, _webhook, _consumers, _options, _metrics, _logger, _clock))))));
    }

    private void StartPoll()
    {
        (_pollAgain, var isPolling) = (_isPolling, _isPolling);
        if (isPolling) return;
        _isPolling = true;
        var self = Self;
        _ = _backlog.AsideAsync(async () =>
        {
            try
            {
                var view = await RetryDelay.UntilDoneAsync(() => _backlog.ViewAsync(_stop), _logger.DatabaseAway, _stop, _clock);
                self.Tell(new Polled(view.HasRows), ActorRefs.NoSender);
            }
            catch (Exception) when (_stop.IsCancellationRequested)
            {
                // The next one polls.
            }
        });
    }

    private sealed class DrainerProducer(Func<ActorBase> produce) : IIndirectActorProducer
    {
        public Type ActorType => typeof(ReceiverDrainer);

        public ActorBase Produce() => produce();

        public void Release(ActorBase actor) { }
    }
}
