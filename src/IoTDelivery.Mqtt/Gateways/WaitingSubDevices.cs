using IoTDelivery.Domain;

namespace IoTDelivery.Mqtt;

/// <summary>Sub-devices that wait to be carried, in order, each once, and no more than <paramref name="max"/>.</summary>
internal sealed class WaitingSubDevices(int max)
{
    private readonly Queue<DeviceId> _order = new();
    private readonly HashSet<DeviceId> _known = [];

    public int Count => _order.Count;

    public void Add(DeviceId subDevice)
    {
        if (_order.Count < max && _known.Add(subDevice)) _order.Enqueue(subDevice);
    }

    public DeviceId? Next()
    {
        if (!_order.TryDequeue(out var next)) return null;
        _known.Remove(next);
        return next;
    }
}
