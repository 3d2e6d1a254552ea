using Akka.Actor;
using IoTDelivery.Devices;

namespace IoTDelivery.Simulation;

/// <summary>
/// A broken rule: each owner of a device begins its packet ids at 1 again, so that a late PUBACK of what a former one sent is taken for a packet of this one. It stands
/// between device and connection and translates the ids of what is sent for the first time; what a session repeats under an old id passes.
/// </summary>
internal sealed class Misnumbering
{
    private readonly Dictionary<IActorRef, ushort> _first = [];
    private readonly Dictionary<IActorRef, ushort> _last = [];

    /// <summary>What a device sends, as its connection hears it.</summary>
    public ToConnection.Transmit Down(IActorRef device, ToConnection.Transmit transmit)
    {
        if (!transmit.Dup) _first.TryAdd(device, transmit.Tag);
        if (!_first.TryGetValue(device, out var first) || transmit.Tag < first) return transmit;
        var tag = (ushort)(transmit.Tag - first + 1);
        _last[device] = Math.Max(tag, _last.GetValueOrDefault(device));
        return transmit with { Tag = tag };
    }

    /// <summary>What a connection answers, as the device hears it.</summary>
    public ToDevice.PacketAcknowledged Up(IActorRef device, ToDevice.PacketAcknowledged answered) =>
        _last.TryGetValue(device, out var last) && answered.Tag <= last ? answered with { Tag = (ushort)(answered.Tag + _first[device] - 1) } : answered;
}
