using Akka.Actor;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push;

/// <summary>
/// Where a node tells the senders that it wrote rows. Nobody listens where they do not live: there their poll finds the
/// rows.
/// </summary>
public class BacklogSignal
{
    private volatile IActorRef _current = ActorRefs.Nobody;

    internal IActorRef Current
    {
        get => _current;
        set => _current = value;
    }

    /// <summary>An action has new rows, for example after <see cref="PushBacklog.ReplayAsync"/>.</summary>
    public virtual void RowsWritten(string actionId) =>
        _current.Tell(new BacklogSenders.HasRows(actionId), ActorRefs.NoSender);
}

/// <summary>
/// One in the cluster: keeps one <see cref="BacklogSender"/> for each action that has a backlog, and none for the
/// others.
/// </summary>
public sealed class BacklogSenders : UntypedActor, IWithTimers
{
    private readonly SenderServices _services;
    private readonly BacklogSignal _signal;
    private readonly ActorWork _work;
    private readonly Dictionary<string, IActorRef> _senders = [];
    private bool _isPolling;
    private bool _pollAgain;

    public BacklogSenders(SenderServices services, BacklogSignal signal)
    {
        (_services, _signal) = (services, signal);
        _work = new ActorWork(Self, services.Logger, services.Clock, services.Backlog.AsideAsync);
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
        _services.Consumers.Open();
        Timers.StartPeriodicTimer("poll", Poll.Instance, TimeSpan.Zero, _services.Options.PollInterval);
    }

    protected override void PostStop()
    {
        if (_signal.Current.Equals(Self)) _signal.Current = ActorRefs.Nobody;
        _services.Consumers.Close();
        _work.Cancel();
    }

    // All a sender knows is in the tables: a fresh one goes on where the old one was.
    protected override SupervisorStrategy SupervisorStrategy() => new OneForOneStrategy(_ => Directive.Stop);

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case HasRows rows:
                Send(rows.ActionId);
                break;
            case Poll:
                StartPoll();
                break;
            case Polled polled:
                _isPolling = false;
                foreach (var actionId in polled.HasRows) Send(actionId);
                if (_pollAgain) StartPoll();
                break;
            case Terminated gone:
                foreach (var (actionId, sender) in _senders)
                {
                    if (sender.Equals(gone.ActorRef)) _senders.Remove(actionId);
                }

                StartPoll(); // rows may have come while it was going
                break;
            default:
                Unhandled(message);
                break;
        }
    }

    private void Send(string actionId)
    {
        if (_senders.TryGetValue(actionId, out var sender))
        {
            sender.Tell(BacklogSender.More.Instance);
            return;
        }

        _senders.Add(actionId, Context.Watch(Context.ActorOf(
            Props.CreateBy(new SenderProducer(() => new BacklogSender(actionId, _services))))));
    }

    private void StartPoll()
    {
        (_pollAgain, var isPolling) = (_isPolling, _isPolling);
        if (isPolling) return;
        _isPolling = true;
        _work.UntilDone(async () => new Polled((await _services.Backlog.ViewAsync(_work.Stop)).HasRows));
    }

    private sealed class SenderProducer(Func<ActorBase> produce) : IIndirectActorProducer
    {
        public Type ActorType => typeof(BacklogSender);

        public ActorBase Produce() => produce();

        public void Release(ActorBase actor) { }
    }
}
