using System.Diagnostics.Metrics;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices;

/// <summary>What operators count: meter <c>IoTDelivery.Devices</c>.</summary>
public sealed class DeviceMetrics
{
    private readonly Meter _meter = new("IoTDelivery.Devices");
    private readonly Counter<long> _accepted;
    private readonly Counter<long> _ended;
    private readonly Counter<long> _lateAcks;
    private readonly UpDownCounter<long> _awake;

    public DeviceMetrics()
    {
        _accepted = _meter.CreateCounter<long>("messages.accepted", description: "Messages stored for a device.");
        _ended = _meter.CreateCounter<long>("messages.ended", description: "Messages that ended, by status.");
        _lateAcks = _meter.CreateCounter<long>("messages.late_acks", description: "PUBACKs that came after the message had ended.");
        _awake = _meter.CreateUpDownCounter<long>("devices.awake", description: "Devices in memory.");
    }

    public void Awake(int change) => _awake.Add(change);

    public void LateAck() => _lateAcks.Add(1);

    /// <summary>Counts facts that are in the journal.</summary>
    public void Stored(IReadOnlyList<OutboxEvent> events)
    {
        foreach (var @event in events)
        {
            switch (@event)
            {
                case OutboxEvent.MessageAccepted: _accepted.Add(1); break;
                case OutboxEvent.MessageDelivered: _ended.Add(1, new KeyValuePair<string, object?>("status", "DELIVERED")); break;
                case OutboxEvent.MessageTimedOut: _ended.Add(1, new KeyValuePair<string, object?>("status", "TIMEOUT")); break;
                case OutboxEvent.MessageFailed or OutboxEvent.MessageDeleted: _ended.Add(1, new KeyValuePair<string, object?>("status", "FAILED")); break;
            }
        }
    }
}
