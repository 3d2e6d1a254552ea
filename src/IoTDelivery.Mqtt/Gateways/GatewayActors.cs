using Akka.Actor;

namespace IoTDelivery.Mqtt;

/// <summary>Who works for a connection that is a gateway's. Most connections are not, and have none of them.</summary>
internal sealed class GatewayActors(ActorSystem system)
{
    private bool _isWrittenAwaited;

    /// <summary>Carries its sub-devices: <see cref="Mqtt.SubDevices"/>.</summary>
    public IActorRef? SubDevices { get; private set; }

    /// <summary>Talks about them: <see cref="GatewayDialogue"/>.</summary>
    public IActorRef? Dialogue { get; private set; }

    public IActorRef Carry(Func<Props> subDevices) => SubDevices ??= system.ActorOf(subDevices());

    public IActorRef Talk(Func<Props> dialogue) => Dialogue ??= system.ActorOf(dialogue());

    /// <summary>The dialogue waits until what it said is on the wire.</summary>
    public void AwaitWritten() => _isWrittenAwaited = true;

    /// <summary>All replies are on the wire.</summary>
    public void Written(IActorRef stage)
    {
        if (!_isWrittenAwaited) return;
        _isWrittenAwaited = false;
        Dialogue!.Tell(GatewayDialogue.Written.Instance, stage);
    }

    public void Stop()
    {
        if (SubDevices is not null) system.Stop(SubDevices);
        if (Dialogue is not null) system.Stop(Dialogue);
    }
}
