using Akka.Actor;
using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>
/// Who reads which queue on this node, between the drainers, which have rows, and the links, which have credit. Rows are handed out only where the drainers
/// live: one owner in the cluster, so no two consumers have the same row.
/// </summary>
public sealed class AmqpConsumers
{
    private readonly Lock _gate = new();
    private readonly Dictionary<AmqpForwarding, Queue> _queues = [];
    private bool _isServedHere;

    private sealed class Queue
    {
        public List<AmqpConsumer> Consumers { get; } = [];
        public List<IActorRef> Drainers { get; } = [];
        public int Next { get; set; }
        public bool IsEmpty => Consumers.Count + Drainers.Count == 0;
    }

    /// <summary>The drainers live on this node from now on.</summary>
    internal void Open()
    {
        lock (_gate) _isServedHere = true;
    }

    /// <summary>They no longer do: consumers have to go where they live now.</summary>
    internal void Close()
    {
        AmqpConsumer[] consumers;
        lock (_gate)
        {
            _isServedHere = false;
            consumers = [.. _queues.Values.SelectMany(q => q.Consumers)];
        }

        foreach (var consumer in consumers) consumer.Detach("The queues are served by another node now: connect again.");
    }

    /// <summary>False if the drainers live on another node.</summary>
    internal bool TryJoin(AmqpForwarding queue, AmqpConsumer consumer)
    {
        lock (_gate)
        {
            if (!_isServedHere) return false;
            Of(queue).Consumers.Add(consumer);
            return true;
        }
    }

    internal void Leave(AmqpForwarding queue, AmqpConsumer consumer)
    {
        lock (_gate)
        {
            if (!_queues.TryGetValue(queue, out var of)) return;
            of.Consumers.Remove(consumer);
            if (of.IsEmpty) _queues.Remove(queue);
        }
    }

    /// <summary>From now on the drainer hears <see cref="BacklogSender.Room"/> when a consumer has credit.</summary>
    internal void Watch(AmqpForwarding queue, IActorRef drainer)
    {
        lock (_gate) Of(queue).Drainers.Add(drainer);
    }

    internal void Unwatch(AmqpForwarding queue, IActorRef drainer)
    {
        lock (_gate)
        {
            if (!_queues.TryGetValue(queue, out var of)) return;
            of.Drainers.Remove(drainer);
            if (of.IsEmpty) _queues.Remove(queue);
        }
    }

    /// <summary>A consumer of the queue has got credit.</summary>
    internal void TellRoom(AmqpForwarding queue)
    {
        lock (_gate)
        {
            if (!_queues.TryGetValue(queue, out var of)) return;
            foreach (var drainer in of.Drainers) drainer.Tell(BacklogSender.Room.Instance, ActorRefs.NoSender);
        }
    }

    /// <summary>What consumers have not settled in time is offered to others.</summary>
    /// <returns>How many deliveries.</returns>
    internal int TakeBack(TimeSpan settleTimeout)
    {
        AmqpConsumer[] consumers;
        lock (_gate) consumers = [.. _queues.Values.SelectMany(q => q.Consumers)];
        return consumers.Sum(c => c.TakeBack(settleTimeout));
    }

    /// <summary>True if a consumer has credit.</summary>
    internal bool HasRoom(AmqpForwarding queue)
    {
        lock (_gate) return _queues.TryGetValue(queue, out var of) && of.Consumers.Exists(c => c.HasCredit);
    }

    /// <summary>Hands a row to a consumer, to each in turn; null if nobody has credit. The result says how it was settled, or that the connection was lost.</summary>
    internal Task<PushResult>? TryGive(AmqpForwarding queue, BacklogRow row)
    {
        AmqpConsumer[] inTurn;
        lock (_gate)
        {
            if (!_queues.TryGetValue(queue, out var of) || of.Consumers.Count == 0) return null;
            var first = of.Next++ % of.Consumers.Count;
            inTurn = [.. of.Consumers[first..], .. of.Consumers[..first]];
        }

        foreach (var consumer in inTurn)
        {
            if (consumer.TryGive(row) is { } settled) return settled;
        }

        return null;
    }

    private Queue Of(AmqpForwarding queue)
    {
        if (!_queues.TryGetValue(queue, out var of)) _queues.Add(queue, of = new Queue());
        return of;
    }
}
