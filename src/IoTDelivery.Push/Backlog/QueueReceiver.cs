using Akka.Actor;
using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>A queue: consumers fetch, and what counts is their credit.</summary>
internal sealed class QueueReceiver(AmqpForwarding queue, AmqpConsumers consumers) : IReceiver
{
    private readonly AmqpForwarding _queue = queue;

    public bool CountsFailures => false;

    public TimeSpan FirstRetryAfter => TimeSpan.Zero;

    public bool HasRoom(int sending) => sending < BacklogSender.PageSize && consumers.HasRoom(_queue);

    public Task<PushResult>? TrySend(BacklogRow row, CancellationToken stop) => consumers.TryGive(_queue, row);

    public bool IsSameAs(IReceiver? other) => other is QueueReceiver that && that._queue == _queue;

    public void Watch(IActorRef sender) => consumers.Watch(_queue, sender);

    public void Unwatch(IActorRef sender) => consumers.Unwatch(_queue, sender);
}
