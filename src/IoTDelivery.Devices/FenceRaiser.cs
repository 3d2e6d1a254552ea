using Akka.Actor;
using Akka.Cluster;

namespace IoTDelivery.Devices;

/// <summary>Raises the <see cref="FenceWatch"/> when a member becomes unreachable or is downed. One per node.</summary>
public sealed class FenceRaiser(FenceWatch fence) : UntypedActor
{
    private readonly Cluster _cluster = Cluster.Get(Context.System);
    private readonly TimeSpan _duration = 2 * Context.System.Settings.Config.GetTimeSpan("akka.cluster.split-brain-resolver.stable-after", TimeSpan.FromSeconds(20));

    protected override void PreStart() => _cluster.Subscribe(
        Self, ClusterEvent.SubscriptionInitialStateMode.InitialStateAsEvents, typeof(ClusterEvent.UnreachableMember), typeof(ClusterEvent.MemberDowned));

    protected override void PostStop() => _cluster.Unsubscribe(Self);

    protected override void OnReceive(object message) => fence.Raise(_duration);
}
