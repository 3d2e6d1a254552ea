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

    /// <summary>
    /// A device with a lasting session acknowledges when its handler is done: what it received on one connection it acknowledges on a later one that has the session.
    /// </summary>
    AckOnLaterConnection,

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

    /// <summary>The application deletes a device, and creates it again some time later.</summary>
    DeviceIsDeleted,

    /// <summary>The DELETE of a device is sent twice.</summary>
    DeletionRepeated,

    /// <summary>What tells an outbox of the deletion lies in a shard's buffer and comes once more, late.</summary>
    RetireIsLate,

    /// <summary>A notification is to be told of a device whose row is gone.</summary>
    HeaderIsGone,

    /// <summary>A gateway's connection carries sub-devices.</summary>
    GatewayCarries,

    /// <summary>The webhook answers 200, but only after 5 to 60 s, for minutes.</summary>
    WebhookIsSlowForLong,

    /// <summary>More sleeping devices than may ring at once are due at the same moment, while every webhook is slow.</summary>
    SleepersDueTogether,

    /// <summary>A statement waits for a lock until another one is done.</summary>
    StatementWaits,

    /// <summary>A statement hangs for up to 30 s; whoever asked gives up after ten, and it may be done all the same.</summary>
    StatementHangs,

    /// <summary>A statement has failed for whoever asked, and is done later.</summary>
    StatementIsDoneLate,

    /// <summary>Each machine's clock is wrong by up to 30 s, that of the database, too.</summary>
    ClocksDiffer,

    /// <summary>A machine's clock jumps by up to an hour in either direction. It is put right later.</summary>
    ClockJumps,
}

/// <summary>A rule broken on purpose, to see whether the checker finds it.</summary>
public enum BrokenRule
{
    /// <summary>None: the product as it is.</summary>
    None,

    /// <summary>The journal answers before the row is safe.</summary>
    AnsweredBeforeStored,

    /// <summary>A notification counts as acknowledged as soon as it is offered.</summary>
    AcknowledgedBeforeAnswered,

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

    /// <summary>Which of two connections is the younger one is decided by the clocks of two machines.</summary>
    ClockDecidesEviction,

    /// <summary>Packet ids start at 1 again with each owner of a device, and a late PUBACK is taken for what now has the id.</summary>
    LatePubAckTaken,

    /// <summary>The deletion of one life of a device ends another one, too.</summary>
    RetireOfAnotherLife,

    /// <summary>Two sub-devices of a gateway have the same packet id.</summary>
    SubDeviceIdShared,

    /// <summary>A ring counts as answered only when the application was told what came of it.</summary>
    SlowReceiverBlocksReminders,

    /// <summary>A commit whose answer is lost counts as done, and nobody looks.</summary>
    CommitOutcomeGuessed,
}
