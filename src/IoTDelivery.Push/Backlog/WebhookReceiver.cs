using Akka.Actor;
using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>A webhook: has so many slots, and a breaker.</summary>
internal sealed class WebhookReceiver(HttpForwarding to, Webhook webhook, PushOptions options) : IReceiver
{
    public bool CountsFailures => true;

    public TimeSpan FirstRetryAfter => options.RetryFirst;

    public bool HasRoom(int sending) => sending < options.ConcurrencyPerReceiver;

    public Task<PushResult>? TrySend(BacklogRow row, CancellationToken stop) => webhook.PostAsync(to, row.Body, stop);

    public bool IsSameAs(IReceiver? other) => other is WebhookReceiver; // a changed address is used for what waits

    public void Watch(IActorRef sender) { }

    public void Unwatch(IActorRef sender) { }
}
