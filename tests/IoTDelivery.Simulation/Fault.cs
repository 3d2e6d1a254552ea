namespace IoTDelivery.Simulation;

/// <summary>What goes wrong in a history.</summary>
public enum Fault
{
    /// <summary>A node is gone: memory lost, journal kept.</summary>
    NodeCrashes,

    /// <summary>Every node is gone at once.</summary>
    AllNodesCrash,

    /// <summary>A node stands still, is taken for dead, and goes on where it was.</summary>
    NodePauses,

    /// <summary>A node reaches the database, devices and applications, but not the other nodes.</summary>
    NodeIsCutOff,

    /// <summary>A device's home moves to another node.</summary>
    HomeMoves,

    /// <summary>The actor that settles notifications fails and another takes its place.</summary>
    PusherFails,

    /// <summary>An actor message between nodes (or an offer, a payment) does not arrive.</summary>
    MessageLost,

    /// <summary>An actor message arrives twice.</summary>
    MessageDoubled,

    /// <summary>An actor message comes late, and so do those behind it.</summary>
    MessageDelayed,

    /// <summary>A statement of the database fails and changes nothing.</summary>
    StatementFails,

    /// <summary>A statement of the database is done, but its answer is lost.</summary>
    StatementAnswerLost,

    /// <summary>The database takes seconds.</summary>
    DiskIsSlow,

    /// <summary>Every statement fails for a while.</summary>
    DatabaseIsAway,

    /// <summary>The connection between device and node breaks; what is under way is lost.</summary>
    WireCut,

    /// <summary>Nothing passes between device and node, and nobody is told.</summary>
    WireSilent,

    /// <summary>The device does not answer a PUBLISH.</summary>
    AckWithheld,

    /// <summary>The device answers a PUBLISH twice.</summary>
    AckDoubled,

    /// <summary>The device answers a PUBLISH late.</summary>
    AckLate,

    /// <summary>The device answers with a reason code of 0x80 or more.</summary>
    AckRefuses,

    /// <summary>The application's webhook is not reached.</summary>
    WebhookFails,

    /// <summary>The webhook is reached and its answer is lost.</summary>
    WebhookAnswerLost,

    /// <summary>The webhook takes seconds.</summary>
    WebhookIsSlow,

    /// <summary>The webhook refuses a notification for good.</summary>
    WebhookRefuses,

    /// <summary>The webhook is down for a while.</summary>
    WebhookIsDown,

    /// <summary>The application does not hear the answer to a POST or asks twice.</summary>
    PostRepeated,
}

/// <summary>A rule broken on purpose, to see whether the checker finds it.</summary>
public enum BrokenRule
{
    /// <summary>None: the product as it is.</summary>
    None,

    /// <summary>The journal answers before the row is safe.</summary>
    AnsweredBeforeStored,

    /// <summary>A notification counts as paid as soon as it is offered.</summary>
    PaidBeforeAnswered,

    /// <summary>Packets sent in one go reach the device in the wrong order.</summary>
    OrderBrokenOnRepetition,

    /// <summary>A packet that is lost between two nodes is not missed.</summary>
    LossUnnoticed,

    /// <summary>A PUBACK is taken for another packet id.</summary>
    PubAckOfAnotherPacket,

    /// <summary>The journal has no unique key: what an old owner writes is taken, too.</summary>
    OldOwnerWrites,

    /// <summary>Ringing removes the reminder, instead of the device.</summary>
    CallDeletedByRinging,
}
