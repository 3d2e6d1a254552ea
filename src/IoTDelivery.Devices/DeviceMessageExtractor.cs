using Akka.Cluster.Sharding;

namespace IoTDelivery.Devices;

/// <summary>Device id → entity → shard.</summary>
public sealed class DeviceMessageExtractor() : HashCodeMessageExtractor(ShardCount)
{
    /// <summary>Part of the stored layout of a cluster: a new value needs a full stop of all nodes, not a rolling update.</summary>
    public const int ShardCount = 60;

    public override string? EntityId(object message) => message is ToDevice to ? to.DeviceId.Value : null;
}
