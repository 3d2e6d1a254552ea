using Akka.Actor;
using Akka.Cluster;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push;

/// <summary>One in the cluster: when a node is gone, the devices it held are offline, and nobody but us will say so.</summary>
public sealed class LostConnections : UntypedActor, IWithTimers
{
    // How long a node that has just joined may be unknown here. What stood in the table before and is held by nobody then, nobody will end.
    private static readonly TimeSpan Acquaintance = TimeSpan.FromSeconds(10);

    private readonly StatusChanges _changes;
    private readonly ILogger<LostConnections> _logger;
    private readonly DateTimeOffset _startedAt;
    private readonly CancellationTokenSource _stopped = new();
    private readonly CancellationToken _stop;
    private readonly Cluster _cluster = Cluster.Get(Context.System);

    public LostConnections(StatusChanges changes, ILogger<LostConnections> logger, TimeProvider clock) =>
        (_changes, _logger, _startedAt, _stop) = (changes, logger, clock.GetUtcNow(), _stopped.Token);

    private sealed record Look
    {
        public static readonly Look Instance = new();
    }

    public ITimerScheduler Timers { get; set; } = null!;

    protected override void PreStart()
    {
        _cluster.Subscribe(Self, ClusterEvent.SubscriptionInitialStateMode.InitialStateAsEvents, typeof(ClusterEvent.MemberRemoved));
        Timers.StartSingleTimer("look", Look.Instance, Acquaintance);
    }

    protected override void PostStop()
    {
        _cluster.Unsubscribe(Self);
        _stopped.Cancel();
    }

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case Look:
                Start(EndUnknownAsync); // of nodes that went while nobody was here to see it: all of them, after a restart
                break;
            case ClusterEvent.MemberRemoved removed:
                Start(() => EndAsync(Incarnation(removed.Member)));
                break;
            default:
                Unhandled(message);
                break;
        }
    }

    private async Task EndUnknownAsync()
    {
        var holders = await _changes.HoldersAsync(_startedAt, _stop);
        var members = _cluster.State.Members.Select(m => Incarnation(m).Value).ToHashSet();
        foreach (var holder in holders)
        {
            if (!members.Contains(holder)) await EndAsync(new NodeIncarnation(holder));
        }
    }

    private async Task EndAsync(NodeIncarnation node)
    {
        var devices = await _changes.EndAsync(node, _stop);
        if (devices > 0) _logger.ConnectionsEnded(node.Value, devices);
    }

    // As the program names itself.
    private static NodeIncarnation Incarnation(Member member) => new(member.UniqueAddress.Uid.ToString());

    private void Start(Func<Task> work) => _ = Task.Run(async () =>
    {
        try
        {
            await RetryDelay.UntilDoneAsync(
                async () =>
                {
                    await work();
                    return true;
                },
                _logger.DatabaseAway,
                _stop);
        }
        catch (Exception) when (_stop.IsCancellationRequested)
        {
            // The next one looks again.
        }
    });
}
