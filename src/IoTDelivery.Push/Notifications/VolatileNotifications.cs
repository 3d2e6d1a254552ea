using Akka.Actor;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>
/// A notification that is not in any outbox (device message, presence). Its source keeps it until it is settled.
/// </summary>
/// <param name="deviceId">In whose order it stands.</param>
/// <param name="number">The same in every repetition; no other one of this device and subject has it.</param>
internal abstract class VolatileNotification(
    DeviceId deviceId, long number, string resource, string @event, DateTimeOffset at)
{
    public DeviceId DeviceId { get; } = deviceId;
    public long Number { get; } = number;
    public string Resource { get; } = resource;
    public string Event { get; } = @event;
    public DateTimeOffset At { get; } = at;

    /// <summary>
    /// True if nothing is lost when nobody can be told: what it says stands elsewhere. Else it is not settled then.
    /// </summary>
    public virtual bool IsKeptElsewhere => false;

    /// <summary>The device it claims to be about, if that is another one.</summary>
    public virtual DeviceId? ObjectDeviceId => null;

    /// <summary>The body of the POST; the same bytes every time.</summary>
    public abstract byte[] Write(DeviceId aboutId, DeviceHeader header, PushShape shape);
}

/// <summary>
/// The volatile notifications of this node that are not settled, in the order they came. A dispatcher that takes over
/// finds here what the last one left. Their sources bound them: by the window of a connection, by a page of a table.
/// </summary>
public sealed class VolatileNotifications
{
    private readonly record struct Unsettled(VolatileNotification Notification, TaskCompletionSource Done);

    private readonly Lock _gate = new();
    private readonly LinkedList<Unsettled> _unsettled = [];
    private readonly Dictionary<VolatileNotification, LinkedListNode<Unsettled>> _places = [];
    private IActorRef _dispatcher = ActorRefs.Nobody;

    /// <summary>
    /// Completes when every matching action has answered 200, or has a row in the backlog or among the dead letters.
    /// While neither is possible, it waits.
    /// </summary>
    internal Task SettleAsync(VolatileNotification notification)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_gate)
        {
            _places.Add(notification, _unsettled.AddLast(new Unsettled(notification, done)));

            // Within the gate: the dispatcher hears them in the order of the list.
            _dispatcher.Tell(notification, ActorRefs.NoSender);
        }

        return done.Task;
    }

    internal VolatileNotification[] TakeOver(IActorRef dispatcher)
    {
        lock (_gate)
        {
            _dispatcher = dispatcher;
            return [.. _unsettled.Select(u => u.Notification)];
        }
    }

    internal void Leave(IActorRef dispatcher)
    {
        lock (_gate)
        {
            if (_dispatcher.Equals(dispatcher)) _dispatcher = ActorRefs.Nobody;
        }
    }

    /// <param name="isTold">False if the registry did not know the device: nobody was told, and the task of its source
    /// is cancelled.</param>
    internal void Settled(VolatileNotification notification, bool isTold)
    {
        lock (_gate)
        {
            if (!_places.Remove(notification, out var place)) return; // an earlier dispatcher was quicker
            _unsettled.Remove(place);
            if (isTold) place.Value.Done.SetResult();
            else place.Value.Done.SetCanceled();
        }
    }
}
