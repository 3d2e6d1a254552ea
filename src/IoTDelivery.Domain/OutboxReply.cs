namespace IoTDelivery.Domain;

/// <summary>What an outbox answers, once everything it says is in the journal.</summary>
public abstract record OutboxReply
{
    /// <summary>The message is ours. A repeated POST gets the same answer again.</summary>
    public sealed record Accepted(MessageId MessageId, MessageStatus Status, DateTimeOffset CreatedAt) : OutboxReply;

    /// <summary>Done, nothing more to say.</summary>
    public sealed record Done : OutboxReply
    {
        public static readonly Done Instance = new();
    }

    /// <summary>The answer to a question. <see cref="More"/>: older ones are left, ask again below the last one.</summary>
    public sealed record Messages(IReadOnlyList<KnownMessage> Items, bool More = false) : OutboxReply;

    /// <summary>Not done; nothing has changed.</summary>
    public sealed record Refused(RefusalReason Reason) : OutboxReply;

    private OutboxReply() { }
}

/// <summary>Why an outbox did not do what it was asked.</summary>
public enum RefusalReason
{
    /// <summary>The <c>message_id</c> is taken by a message with another body.</summary>
    IdConflict = 1,

    /// <summary>The device is connected and subscribed, and its waiting queue is full; or it has more notifications to tell than it may (<see cref="DeliveryPolicy.NotificationsMax"/>).</summary>
    TooMuchAtOnce = 2,

    /// <summary>The device was deleted.</summary>
    NoSuchDevice = 3,

    /// <summary>No message of this id.</summary>
    NoSuchMessage = 4,

    /// <summary>Only a message that still waits can be deleted.</summary>
    NotWaiting = 5,

    /// <summary>The journal or the cluster did not answer: the outcome is unknown, ask again with the same id.</summary>
    Unavailable = 6,
}

/// <summary>The first answer to a command and the facts that go with it.</summary>
public readonly record struct Decision(OutboxReply Reply, IReadOnlyList<OutboxEvent> Events)
{
    /// <summary>Nothing to store.</summary>
    public static Decision Answer(OutboxReply reply) => new(reply, []);

    /// <summary>Nothing to store, nothing to say.</summary>
    public static readonly Decision Nothing = Answer(OutboxReply.Done.Instance);

    /// <summary>No, and why.</summary>
    public static Decision Refuse(RefusalReason reason) => Answer(new OutboxReply.Refused(reason));

    /// <summary>Facts, and no other answer than that they are stored.</summary>
    public static Decision Of(params IReadOnlyList<OutboxEvent> events) => new(OutboxReply.Done.Instance, events);
}
