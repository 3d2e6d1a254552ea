using Akka.Actor;
using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>Where the rows of an action go, as its sender sees it.</summary>
internal interface IReceiver
{
    /// <summary>
    /// False while a breaker must not open: credit says who wants something, so failures count for nothing.
    /// </summary>
    bool CountsFailures { get; }

    /// <summary>
    /// How long after its creation a row is sent first. A row of a webhook is written when a POST has failed; one of a
    /// queue has not failed yet.
    /// </summary>
    TimeSpan FirstRetryAfter { get; }

    /// <summary>False if nothing can be sent now, when so many are being sent.</summary>
    bool HasRoom(int sending);

    /// <summary>Sends a row; null if the room was taken meanwhile.</summary>
    Task<PushResult>? TrySend(BacklogRow row, CancellationToken stop);

    /// <summary>True if what waits for the other may go on here.</summary>
    bool IsSameAs(IReceiver? other);

    /// <summary>The sender hears <see cref="BacklogSender.Room"/> from now on.</summary>
    void Watch(IActorRef sender);

    void Unwatch(IActorRef sender);

    /// <summary>Where an action sends to now; null if it is gone, or of a channel that has no backlog.</summary>
    static IReceiver? Of(RuleAction? action, SenderServices services)
    {
        if (action is null) return null;
        if (HttpForwarding.Of(action) is { } to) return new WebhookReceiver(to, services.Webhook, services.Options);
        return AmqpForwarding.Of(action) is { } queue ? new QueueReceiver(queue, services.Consumers) : null;
    }
}
