using Akka.Actor;
using Akka.Cluster;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push;

/// <summary>
/// One in the cluster: when a node is gone, the devices it held are offline, and nobody but us will say so.
/// </summary>
public sealed class LostNodeReaper : UntypedActor, IWithTimers
{
    // How long a node that has just joined may be unknown here. What stood in the table before and is held by nobody
    // then, nobody will end.
    private static readonly TimeSpan JoinGrace = TimeSpan.FromSeconds(10);

    private readonly StatusChanges _changes;
    private readonly ILogger<LostNodeReaper> _logger;
    private readonly DateTimeOffset _startedAt;
    private readonly ActorWork _work;
    private readonly Cluster _cluster = Cluster.Get(Context.System);

    public LostNodeReaper(StatusChanges changes, ILogger<LostNodeReaper> logger, TimeProvider clock) =>
        (_changes, _logger, _startedAt, _work) = (changes, logger, clock.GetUtcNow(), new ActorWork(Self, logger));

    private sealed record Look
    {
        public static readonly Look Instance = new();
    }

    private sealed record Reaped
    {
        public static readonly Reaped Instance = new();
    }

    public ITimerScheduler Timers { get; set; } = null!;

    protected override void PreStart()
    {
        _cluster.Subscribe(Self, ClusterEvent.SubscriptionInitialStateMode.InitialStateAsEvents, typeof(ClusterEvent.MemberRemoved));
        Timers.StartSingleTimer("look", Look.Instance, JoinGrace);
    }

    protected override void PostStop()
    {
        _cluster.Unsubscribe(Self);
        _work.Cancel();
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
            case Reaped:
                break;
            default:
                Unhandled(message);
                break;
        }
    }

    private async Task EndUnknownAsync()
    {
        var holders = await _changes.HoldersAsync(_startedAt, _work.Stop);
        var members = _cluster.State.Members.Select(m => Incarnation(m).Value).ToHashSet();
        foreach (var holder in holders)
        {
            if (!members.Contains(holder)) await EndAsync(new NodeIncarnation(holder));
        }
    }

    private async Task EndAsync(NodeIncarnation node)
    {
        var devices = await _changes.EndAsync(node, _work.Stop);
        if (devices > 0) _logger.ConnectionsEnded(node.Value, devices);
    }

    // As the program names itself.
    private static NodeIncarnation Incarnation(Member member) => new(member.UniqueAddress.Uid.ToString());

    private void Start(Func<Task> work) => _work.UntilDone(async () =>
    {
        await work();
        return Reaped.Instance;
    });
}
