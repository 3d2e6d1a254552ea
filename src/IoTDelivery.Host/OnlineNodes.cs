using Akka.Actor;
using Akka.Cluster;
using IoTDelivery.Registry;

namespace IoTDelivery.Host;

/// <summary>Which incarnations of nodes are members now: a device whose connection was held by another one is OFFLINE, whatever its row says.</summary>
public sealed class OnlineNodes(ActorSystem system)
{
    /// <summary>This start of this node.</summary>
    public static NodeIncarnation Self(ActorSystem system) => new(Cluster.Get(system).SelfUniqueAddress.Uid.ToString());

    /// <summary>
    /// FROZEN, INACTIVE (never connected), ONLINE or OFFLINE. Of a sub-device it is what its gateway said:
    /// <see cref="ConnectionLog"/>.
    /// </summary>
    public string StatusOf(Device device) =>
        device.FrozenAt is not null ? "FROZEN"
        : device.ActiveAt is null ? "INACTIVE"
        : device.OnlineNode is { } node && Cluster.Get(system).State.Members.Any(m => m.UniqueAddress.Uid.ToString() == node) ? "ONLINE"
        : "OFFLINE";
}
