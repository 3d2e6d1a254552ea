using Akka.Actor;
using Akka.Cluster;

namespace IoTDelivery.Devices;

/// <summary>Raises the <see cref="FenceWatch"/> when a member becomes unreachable or is downed. One per node.</summary>
public sealed class FenceRaiser(FenceWatch fence) : UntypedActor
{
    private readonly Cluster _cluster = Cluster.Get(Context.System);
    private readonly TimeSpan _duration = 2 * Context.System.Settings.Config.GetTimeSpan("akka.cluster.split-brain-resolver.stable-after", TimeSpan.FromSeconds(20));

    protected override void PreStart() => _cluster.Subscribe(
        Self, ClusterEvent.SubscriptionInitialStateMode.InitialStateAsEvents,
        typeof(ClusterEvent.UnreachableMember), typeof(ClusterEvent.MemberDowned), typeof(ClusterEvent.MemberRemoved));

    protected override void PostStop() => _cluster.Unsubscribe(Self);

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case ClusterEvent.MemberDowned downed:
                Downed(downed.Member);
                break;
            case ClusterEvent.MemberRemoved { PreviousStatus: MemberStatus.Down } removed: // gossip may skip the step before
                Downed(removed.Member);
                break;
            case ClusterEvent.UnreachableMember:
                fence.Raise(_duration);
                break;
        }
    }

    private void Downed(Member member)
    {
        fence.Raise(_duration);
        if (!member.UniqueAddress.Equals(_cluster.SelfUniqueAddress)) fence.OnDowned(member.UniqueAddress.Uid.ToString());
    }
}
