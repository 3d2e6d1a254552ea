using Akka.Actor;
using IoTDelivery.Domain;

namespace IoTDelivery.Push;

/// <summary>What applications are told that no outbox owes. Whoever brings it keeps it until it is settled.</summary>
/// <param name="deviceId">In whose order it stands.</param>
/// <param name="number">The same in every repetition; no other report of this device and subject has it.</param>
internal abstract class Report(DeviceId deviceId, long number, string resource, string @event, DateTimeOffset at)
{
    public DeviceId DeviceId { get; } = deviceId;
    public long Number { get; } = number;
    public string Resource { get; } = resource;
    public string Event { get; } = @event;
    public DateTimeOffset At { get; } = at;

    /// <summary>True if nothing is lost when nobody can be told: what it says stands elsewhere. Else it is not settled then.</summary>
    public virtual bool IsKeptElsewhere => false;

    /// <summary>The device it claims to be about, if that is another one.</summary>
    public virtual DeviceId? ObjectDeviceId => null;

    /// <summary>The body of the POST; the same bytes every time.</summary>
    public abstract byte[] Write(DeviceId aboutId, DeviceHeader header, PushShape shape);
}

/// <summary>
/// The reports of this node that are not settled, in the order they came. A pusher that takes over finds here what the last one left. Whoever brings reports
/// bounds them: by the window of a connection, by a page of a table.
/// </summary>
public sealed class Reports
{
    private readonly record struct Unsettled(Report Report, TaskCompletionSource Done);

    private readonly Lock _gate = new();
    private readonly LinkedList<Unsettled> _unsettled = [];
    private readonly Dictionary<Report, LinkedListNode<Unsettled>> _places = [];
    private IActorRef _pusher = ActorRefs.Nobody;

    /// <summary>Completes when every matching action has answered 200, or has a row in the backlog or among the dead letters. While neither is possible, it waits.</summary>
    internal Task SettleAsync(Report report)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_gate)
        {
            _places.Add(report, _unsettled.AddLast(new Unsettled(report, done)));
            _pusher.Tell(report, ActorRefs.NoSender); // within the gate: the pusher hears them in the order of the list
        }

        return done.Task;
    }

    internal Report[] TakeOver(IActorRef pusher)
    {
        lock (_gate)
        {
            _pusher = pusher;
            return [.. _unsettled.Select(u => u.Report)];
        }
    }

    internal void Leave(IActorRef pusher)
    {
        lock (_gate)
        {
            if (_pusher.Equals(pusher)) _pusher = ActorRefs.Nobody;
        }
    }

    /// <param name="isTold">False if the registry did not know the device: nobody was told, and the task of whoever brought the report is cancelled.</param>
    internal void Settled(Report report, bool isTold)
    {
        lock (_gate)
        {
            if (!_places.Remove(report, out var place)) return; // an earlier pusher was quicker
            _unsettled.Remove(place);
            if (isTold) place.Value.Done.SetResult();
            else place.Value.Done.SetCanceled();
        }
    }
}
