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

    /// <summary>Store that this owner is the one: what a former owner's row may still bring then fails.</summary>
    Fence,

    /// <summary>Set the reminder to the next expiry.</summary>
    MoveReminder,

    /// <summary>Delete the reminder: nothing is pending.</summary>
    DeleteReminder,

    /// <summary>Stop until somebody asks.</summary>
    Passivate,
}

/// <summary>A device that has been idle for long enough, all whose notifications are acknowledged.</summary>
/// <param name="IsUnstored">The journal does not know yet which notifications are acknowledged.</param>
/// <param name="HasStored">
/// This owner has stored a row. Until then a row of a former one may still be on its way: a statement that was given up, the
/// last one of a node that died. It counts on the reminder that is on file, so nobody puts that off.
/// </param>
/// <param name="IsReminderSet">Its reminder is due when something expires next; false without a reminder.</param>
internal readonly record struct IdleDevice(
    bool IsConnected,
    bool IsUnstored,
    bool IsSnapshotWorthwhile,
    bool HasStored,
    bool Expires,
    bool HasReminder,
    bool IsReminderSet)
{
    /// <summary>One step at a time, each behind the last. Whatever comes in meanwhile ends the rest.</summary>
    //
    //   acknowledged ──► snapshot, if it is worth one ──► fenced ──► reminder: moved to the next expiry, or deleted ──► passivate
    //
    public PassivationStep NextStep() => this switch
    {
        { IsUnstored: true } => PassivationStep.FlushAcknowledged,
        { IsConnected: false, IsSnapshotWorthwhile: true } => PassivationStep.Snapshot,
        { Expires: true, IsReminderSet: false, HasStored: false } => PassivationStep.Fence,
        { Expires: false, HasReminder: true, HasStored: false } => PassivationStep.Fence,
        { Expires: true, IsReminderSet: false } => PassivationStep.MoveReminder,
        { Expires: false, HasReminder: true } => PassivationStep.DeleteReminder,
        { IsConnected: true } => PassivationStep.Stay,
        _ => PassivationStep.Passivate,
    };
}
