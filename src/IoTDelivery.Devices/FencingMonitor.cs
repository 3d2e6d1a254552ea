using Akka.Actor;
using Akka.Cluster;

namespace IoTDelivery.Devices;

/// <summary>Keeps the <see cref="Fencing"/>: who is unreachable, who was downed, and whether this node is on the smaller side. One per node.</summary>
public sealed class FencingMonitor : UntypedActor
{
    private readonly Fencing _fence;
    private readonly Cluster _cluster = Cluster.Get(Context.System);
    private readonly TimeSpan _duration;
    private readonly int? _quorum;

    public FencingMonitor(Fencing fence)
    {
        _fence = fence;
        var resolver = Context.System.Settings.Config.GetConfig("akka.cluster.split-brain-resolver");
        _duration = 2 * resolver.GetTimeSpan("stable-after", TimeSpan.FromSeconds(20));
        _quorum = resolver.GetString("active-strategy") == "static-quorum" ? resolver.GetInt("static-quorum.quorum-size") : null;
    }

    protected override void PreStart() => _cluster.Subscribe(
        Self, ClusterEvent.SubscriptionInitialStateMode.InitialStateAsEvents, typeof(ClusterEvent.IReachabilityEvent), typeof(ClusterEvent.IMemberEvent));

    protected override void PostStop() => _cluster.Unsubscribe(Self);

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case ClusterEvent.CurrentClusterState state:
                _fence.IsOnLosingSide = IsOnLosingSide(state);
                return;
            case ClusterEvent.MemberDowned downed:
                Downed(downed.Member);
                break;
            case ClusterEvent.MemberRemoved { PreviousStatus: MemberStatus.Down } removed: // gossip may skip the step before
                Downed(removed.Member);
                break;
            case ClusterEvent.UnreachableMember:
                _fence.Raise(_duration);
                break;
        }

        _cluster.SendCurrentClusterState(Self);
    }

    private bool IsOnLosingSide(ClusterEvent.CurrentClusterState state)
    {
        var members = state.Members.Where(m => m.Status is MemberStatus.Up or MemberStatus.Leaving).ToList();
        var here = members.Count(m => !state.Unreachable.Contains(m));
        return SplitBrainRule.IsOnLosingSide(here, members.Count - here, members.MinBy(m => m.Address, Member.AddressOrdering) is not { } lowest || !state.Unreachable.Contains(lowest), _quorum);
    }

    private void Downed(Member member)
    {
        _fence.Raise(_duration);
        if (!member.UniqueAddress.Equals(_cluster.SelfUniqueAddress)) _fence.OnDowned(member.UniqueAddress.Uid.ToString());
    }
}
