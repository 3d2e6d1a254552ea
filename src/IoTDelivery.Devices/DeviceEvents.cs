using IoTDelivery.Domain;

namespace IoTDelivery.Devices;

/// <summary>What one write stores: one row of the journal. A busy device writes many facts at once, an idle one a single fact.</summary>
public sealed record DeviceEvents(IReadOnlyList<OutboxEvent> Events)
{
    /// <summary>The reminder that these facts make necessary: stored in the same transaction, but no part of the row.
    /// Null if one is stored that is due early enough.</summary>
    public ReminderRequest? Reminder { get; init; }
}

/// <summary>Wakes the device at the latest then.</summary>
/// <param name="Token">Says whose reminder it is: only the device that stored it, or was woken by it, deletes
/// it.</param>
/// <param name="DueAt">A timestamp of the clock that never jumps (<see cref="TimeProvider.GetTimestamp"/>): what
/// remains until then is told to the database.</param>
public sealed record ReminderRequest(Guid Token, long DueAt);
