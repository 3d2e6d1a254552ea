using IoTDelivery.Domain;

namespace IoTDelivery.Devices;

/// <summary>What one write stores: one row of the journal. A busy device writes many facts at once, an idle one a single fact.</summary>
public sealed record DeviceEvents(IReadOnlyList<OutboxEvent> Events);
