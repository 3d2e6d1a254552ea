using System.Diagnostics.Metrics;

namespace IoTDelivery.Mqtt;

/// <summary>The numbers of the device side, meter <see cref="Name"/>.</summary>
public static class MqttMeters
{
    /// <summary>Name of the meter.</summary>
    public const string Name = "IoTDelivery.Mqtt";

    private static readonly Meter Meter = new(Name);

    /// <summary>Connections open now, logged in or not.</summary>
    internal static readonly UpDownCounter<long> Connections = Meter.CreateUpDownCounter<long>("mqtt.connections");

    /// <summary>CONNECTs that were let in.</summary>
    internal static readonly Counter<long> Connects = Meter.CreateCounter<long>("mqtt.connects");

    /// <summary>Connections that were not let in, by <c>reason</c>.</summary>
    internal static readonly Counter<long> Refused = Meter.CreateCounter<long>("mqtt.refused");

    /// <summary>Logged-in connections that ended, by <c>reason</c>.</summary>
    internal static readonly Counter<long> Closed = Meter.CreateCounter<long>("mqtt.closed");

    /// <summary>Messages that devices published.</summary>
    internal static readonly Counter<long> Uplinks = Meter.CreateCounter<long>("mqtt.uplinks");

    /// <summary>Payload of <see cref="Uplinks"/>.</summary>
    internal static readonly Counter<long> UplinkBytes = Meter.CreateCounter<long>("mqtt.uplink.bytes", "By");

    /// <summary>PUBLISH packets to devices, repetitions included.</summary>
    internal static readonly Counter<long> Transmits = Meter.CreateCounter<long>("mqtt.transmits");

    /// <summary>PUBLISH packets that the client cannot take, or nobody can say in MQTT.</summary>
    internal static readonly Counter<long> Unsendable = Meter.CreateCounter<long>("mqtt.unsendable");

    /// <summary>QoS 1 packets that devices answered.</summary>
    internal static readonly Counter<long> Answers = Meter.CreateCounter<long>("mqtt.answers");

    /// <summary>Connections that ended by a fault of this program; each stands in the log with its stack.</summary>
    internal static readonly Counter<long> Faults = Meter.CreateCounter<long>("mqtt.faults");

    /// <summary>Attach messages, repetitions included: many more than connects and subscribes mean that devices are hard to reach.</summary>
    internal static readonly Counter<long> Attaches = Meter.CreateCounter<long>("mqtt.attaches");

    /// <summary>Broadcasts put on the wire, per connection.</summary>
    internal static readonly Counter<long> Broadcasts = Meter.CreateCounter<long>("mqtt.broadcasts");

    /// <summary>Broadcasts a subscribed connection did not get: it reads too slowly, or the packet is larger than it takes.</summary>
    internal static readonly Counter<long> BroadcastsMissed = Meter.CreateCounter<long>("mqtt.broadcasts.missed");
}
