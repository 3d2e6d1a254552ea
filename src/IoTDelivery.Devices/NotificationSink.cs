using Akka.Actor;

namespace IoTDelivery.Devices;

/// <summary>Where devices of this node offer what they have pending: whoever settles notifications registers itself here. One per node.</summary>
public sealed class NotificationSink
{
    private volatile IActorRef _current = ActorRefs.Nobody;

    /// <summary>Takes <see cref="NotificationsOffered"/>, answers <see cref="ToDevice.NotificationsAcknowledged"/> to its sender. Nobody until one registers: devices offer again.</summary>
    public IActorRef Current
    {
        get => _current;
        set => _current = value;
    }
}
