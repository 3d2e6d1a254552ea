using Akka.Actor;
using Akka.Cluster;
using IoTDelivery.Devices;
using IoTDelivery.Domain;

namespace IoTDelivery.Mqtt;

/// <summary>The way to all devices that are online and subscribed to a topic, on any node of the cluster.</summary>
public sealed class Broadcasts(ActorSystem system)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    /// <summary>To everybody who is there now, at most once: a node that cannot be reached at this moment does not hear of it.</summary>
    public void Send(ToSubscribers.Broadcast broadcast)
    {
        foreach (var node in Nodes()) node.Tell(broadcast, ActorRefs.NoSender);
    }

    /// <summary>Devices that are connected and subscribed; null if a node did not answer. Somewhat more than <see cref="ToSubscribers.Find.Max"/> may be told.</summary>
    public async Task<IReadOnlyList<DeviceId>?> FindAsync(ToSubscribers.Find find, CancellationToken cancel)
    {
        try
        {
            var answers = await Task.WhenAll(Nodes().Select(n => n.Ask<Subscribers>(find, Patience, cancel)));
            return [.. answers.SelectMany(a => a.DeviceIds).Distinct()];
        }
        catch (AskTimeoutException)
        {
            return null;
        }
    }

    private IEnumerable<ActorSelection> Nodes() => Cluster.Get(system).State.Members
        .Where(m => m.Status is MemberStatus.Up or MemberStatus.WeaklyUp or MemberStatus.Leaving)
        .Select(m => system.ActorSelection(new RootActorPath(m.Address) / "user" / BroadcastHub.Name));
}
