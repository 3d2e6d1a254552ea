using Akka.Actor;

namespace IoTDelivery.Mqtt;

/// <summary>
/// Tells connections of this node when the device actor they are attached to is gone. One per node: a stage's own actor reference can watch, but does not hear
/// of an actor whose node has crashed, and that is the case that matters.
/// </summary>
internal sealed class DeviceWatch : UntypedActor
{
    /// <summary>Watch <paramref name="Device"/> for <paramref name="Connection"/>.</summary>
    public sealed record Watch(IActorRef Device, IActorRef Connection);

    /// <summary>No longer.</summary>
    public sealed record Unwatch(IActorRef Device, IActorRef Connection);

    /// <summary>What the connection hears: attach again.</summary>
    public sealed record Gone(IActorRef Device);

    // More than one connection per device only while a younger one takes over.
    private readonly Dictionary<IActorRef, List<IActorRef>> _connections = [];

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case Watch watch:
                if (!_connections.TryGetValue(watch.Device, out var watchers))
                {
                    _connections[watch.Device] = watchers = new List<IActorRef>(1);
                    Context.Watch(watch.Device);
                }

                watchers.Add(watch.Connection);
                break;
            case Unwatch unwatch when _connections.TryGetValue(unwatch.Device, out var left):
                left.Remove(unwatch.Connection);
                if (left.Count > 0) break;
                _connections.Remove(unwatch.Device);
                Context.Unwatch(unwatch.Device);
                break;
            case Terminated terminated when _connections.Remove(terminated.ActorRef, out var bereft):
                var gone = new Gone(terminated.ActorRef);
                foreach (var connection in bereft) connection.Tell(gone);
                break;
        }
    }
}
