using IoTDelivery.Domain;

namespace IoTDelivery.Simulation;

/// <summary>Whom messages are sent to: a device that connects, a sub-device that its gateway carries, or a sleeper that never comes.</summary>
internal class Addressee(DeviceId id, IReadOnlyList<string> topics, SimulatedDevice? gateway = null)
{
    public DeviceId Id { get; } = id;

    /// <summary>Where messages may be sent to. What goes to a sub-device goes out on its gateway's topics.</summary>
    public IReadOnlyList<string> Topics { get; } = topics;

    /// <summary>Whose connection carries it; null if it connects by itself.</summary>
    public SimulatedDevice? Gateway { get; } = gateway;

    /// <summary>Messages meant by a PUBACK that reached a node.</summary>
    public HashSet<string> Acknowledged { get; } = [];

    /// <summary>Messages meant by a PUBACK with a reason code of 0x80 or more that reached a node.</summary>
    public HashSet<string> Refused { get; } = [];

    /// <summary>Messages whose QoS 0 PUBLISH the transport took.</summary>
    public HashSet<string> Taken { get; } = [];
}
