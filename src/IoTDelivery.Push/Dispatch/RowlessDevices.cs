using Akka.Actor;
using IoTDelivery.Domain;

namespace IoTDelivery.Push;

/// <summary>
/// Devices of this node that had no row at an action when that was looked up, by the actor that offered. While it is
/// the same one, only this node writes rows for them, so nobody has to look again. Bounded: when it is full it forgets
/// everything, and each device costs one look more.
/// </summary>
internal sealed class RowlessDevices
{
    private const int Max = 100_000; // some 10 MB

    private readonly Dictionary<(string ActionId, DeviceId DeviceId), IActorRef> _devices = [];

    public bool Contains(string actionId, DeviceNotifications device) =>
        _devices.TryGetValue((actionId, device.DeviceId), out var actor) && actor.Equals(device.Device);

    /// <summary>Nothing of the lane's device waits at its action.</summary>
    public void Add(Lane lane)
    {
        // Other notifications come from connections, which move from node to node faster than devices: of these nothing
        // is known.
        var notification = lane.Notifications.Peek();
        if (notification.Volatile is not null) return;
        if (_devices.Count >= Max) _devices.Clear();
        _devices[(lane.Receiver.ActionId, lane.DeviceId)] = notification.Device.Device;
    }

    public void Remove(Lane lane) => _devices.Remove((lane.Receiver.ActionId, lane.DeviceId));
}
