namespace IoTDelivery.Devices;

/// <summary>What an idle device does next.</summary>
internal enum PassivationStep
{
    /// <summary>Nothing: it is connected.</summary>
    Stay,

    /// <summary>Store which notifications are acknowledged.</summary>
    FlushAcknowledged,

    /// <summary>Take a snapshot.</summary>
    Snapshot,

    /// <summary>Set the reminder to the next expiry.</summary>
    MoveReminder,

    /// <summary>Delete the reminder: nothing is pending.</summary>
    DeleteReminder,

    /// <summary>Stop until somebody asks.</summary>
    Passivate,
}

/// <summary>A device that has been idle for long enough, all whose notifications are acknowledged.</summary>
/// <param name="IsUnstored">The journal does not know yet which notifications are acknowledged.</param>
/// <param name="IsReminderSet">Its reminder is due when something expires next; false without a reminder.</param>
internal readonly record struct IdleDevice(
    bool IsConnected, bool IsUnstored, bool IsSnapshotWorthwhile, bool Expires, bool HasReminder, bool IsReminderSet)
{
    /// <summary>One step at a time, each behind the last. Whatever comes in meanwhile ends the rest.</summary>
    //
    //   acknowledged ──► snapshot, if it is worth one ──► reminder: moved to the next expiry, or deleted ──► passivate
    //
    public PassivationStep NextStep() => this switch
    {
        { IsUnstored: true } => PassivationStep.FlushAcknowledged,
        { IsConnected: false, IsSnapshotWorthwhile: true } => PassivationStep.Snapshot,
        { Expires: true, IsReminderSet: false } => PassivationStep.MoveReminder,
        { Expires: false, HasReminder: true } => PassivationStep.DeleteReminder,
        { IsConnected: true } => PassivationStep.Stay,
        _ => PassivationStep.Passivate,
    };
}
