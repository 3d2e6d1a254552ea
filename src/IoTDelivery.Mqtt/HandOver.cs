using Akka.Actor;
using Akka.Cluster;

namespace IoTDelivery.Mqtt;

/// <summary>
/// Sends the connections of a node that stops to the others, one after the other: ten thousand devices that come at once are a storm for those who stay. A
/// connection whose turn has not come works on.
/// </summary>
internal sealed class HandOver(ActorSystem system, MqttOptions options)
{
    private int _turn = -1;

    /// <summary>How long the connection that asks may stay. Null: there is no other node to go to, so at once.</summary>
    public TimeSpan? NextTurn()
    {
        if (!HasOthers()) return null;
        var wait = TimeSpan.FromSeconds(Interlocked.Increment(ref _turn) / (double)options.HandOverPerSecond);
        return wait <= options.HandOverWithin ? wait : options.HandOverWithin * Random.Shared.NextDouble(); // more than fit: spread over the same time
    }

    private bool HasOthers()
    {
        if (!system.Settings.HasCluster) return false;
        var cluster = Cluster.Get(system);
        return cluster.State.Members.Any(m => m.Status == MemberStatus.Up && m.HasRole(MqttHosting.Role) && !m.UniqueAddress.Equals(cluster.SelfUniqueAddress));
    }
}
