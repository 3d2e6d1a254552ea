using Akka.Actor;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices;

/// <summary>How far one device's notifications have come on their way to the application.</summary>
/// <param name="Sink">Who was offered them.</param>
/// <param name="Offered">The number of the newest one offered.</param>
/// <param name="Acknowledged">Every notification up to this number is settled.</param>
/// <param name="Stored">The same, as far as the journal knows: after a crash those above it are offered again.</param>
/// <param name="RetryAt">When they are offered again, by a clock that never jumps.</param>
//
//   Stored ≤ Acknowledged ≤ Offered ≤ the newest one in the journal
//
internal readonly record struct NotificationOffer(
    IActorRef Sink, long Offered, long Acknowledged, long Stored, DateTimeOffset RetryAt)
{
    /// <summary>How soon to look for a sink again while the node starts.</summary>
    private static readonly TimeSpan NoSinkRetry = TimeSpan.FromMilliseconds(200);

    /// <summary>After recovery: nothing was offered by this owner.</summary>
    public static NotificationOffer After(Outbox recovered)
    {
        var acknowledged = (recovered.Notifications.IsEmpty ? recovered.NextNotification : recovered.Notifications[0].Number) - 1;
        return new NotificationOffer(ActorRefs.Nobody, acknowledged, acknowledged, acknowledged, default);
    }

    /// <summary>True if the journal does not know yet what is acknowledged.</summary>
    public bool IsUnstored => Acknowledged > Stored;

    /// <summary>True if a notification up to this mark is not acknowledged.</summary>
    public bool IsPendingAt(JournalMark mark) => Acknowledged < mark.NextNotification - 1;

    /// <summary>Every notification up to this number is settled. Null: this says nothing new, or nothing that was offered.</summary>
    public NotificationOffer? Acknowledge(long upTo, DateTimeOffset retryAt) =>
        upTo <= Acknowledged || upTo > Offered ? null : this with { Acknowledged = upTo, RetryAt = retryAt };

    /// <summary>Nothing was acknowledged for too long: all that is not is offered again.</summary>
    public NotificationOffer Retry(DateTimeOffset now) => RetryAt <= now ? this with { Offered = Acknowledged } : this;

    /// <summary>What to offer next.</summary>
    /// <param name="stored">Nobody hears of notifications beyond it.</param>
    /// <param name="isAsStored">
    /// False while a retirement is decided and not stored: it has changed what is pending, and nothing is offered before.
    /// </param>
    /// <param name="now">Of a clock that never jumps.</param>
    public (NotificationOffer Next, IReadOnlyList<Notification> ToOffer) Next(
        Outbox outbox, JournalMark stored, bool isAsStored, IActorRef sink, DateTimeOffset now, TimeSpan retryAfter)
    {
        if (!IsPendingAt(stored)) return (this, []);
        if (sink.IsNobody()) return (this with { RetryAt = now + NoSinkRetry }, []);

        // Another sink than before has heard nothing: it is offered everything that is pending, or it would acknowledge
        // what it never saw along with what it sees.
        var next = sink.Equals(Sink) ? this : this with { Sink = sink, Offered = Acknowledged };
        var upTo = stored.NextNotification - 1;
        if (upTo <= next.Offered || next.Offered - Acknowledged >= NotificationsOffered.UnsettledMax) return (next, []);
        next = next with { RetryAt = now + retryAfter };
        if (!isAsStored) return (next, []);
        var offered = outbox.Notifications.Between(next.Offered, Math.Min(upTo, Acknowledged + NotificationsOffered.UnsettledMax));
        return (next with { Offered = offered[^1].Number }, offered);
    }
}
