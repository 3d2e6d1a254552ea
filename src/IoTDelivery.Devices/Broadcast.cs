using IoTDelivery.Domain;

namespace IoTDelivery.Devices;

/// <summary>What is said to the nodes that hold connections about one topic below <c>$oc/broadcast/</c>. Only devices of the project, and of the resource space if one is named, are meant.</summary>
public abstract record ToSubscribers(string ProjectId, string? AppId, string Topic)
{
    /// <summary>Send this to every connection that subscribed the topic, at QoS 0. No answer.</summary>
    public sealed record Broadcast(string ProjectId, string? AppId, string Topic, ReadOnlyMemory<byte> Payload) : ToSubscribers(ProjectId, AppId, Topic);

    /// <summary>Which devices are connected and subscribed to the topic? The answer is <see cref="Subscribers"/>.</summary>
    /// <param name="Max">More than so many are not told.</param>
    public sealed record Find(string ProjectId, string? AppId, string Topic, int Max) : ToSubscribers(ProjectId, AppId, Topic);
}

/// <summary>The answer of one node to <see cref="ToSubscribers.Find"/>.</summary>
public sealed record Subscribers(IReadOnlyList<DeviceId> DeviceIds);
