using Akka.Actor;
using Akka.Dispatch.SysMsg;
using IoTDelivery.Devices;
using IoTDelivery.Domain;

namespace IoTDelivery.Simulation;

/// <summary>An address without an actor behind it.</summary>
internal abstract class BareRef(string name) : MinimalActorRef
{
    private static readonly ActorPath Root = new RootActorPath(Address.AllSystems) / "simulated";

    public override ActorPath Path { get; } = Root / name;

    public override IActorRefProvider Provider => Site.Provider;
}

/// <summary>Hands what it is told to a function.</summary>
internal sealed class FunctionRef(string name, Action<object, IActorRef> hear) : BareRef(name)
{
    protected override void TellInternal(object message, IActorRef sender) => hear(message, sender);
}

/// <summary>
/// An actor as a node sees it: what it is told travels over the simulated network, unless it lives on the same node. Whoever watches it hears of the actor's end
/// when that arrives, or when the other node is taken for dead.
/// </summary>
internal sealed class FarRef(string name, Node seenFrom, Node livesOn, IActorRef target) : BareRef(name)
{
    private readonly List<IInternalActorRef> _watchers = [];
    private bool _isGone;

    public Node LivesOn => livesOn;

    public override void SendSystemMessage(ISystemMessage message)
    {
        switch (message)
        {
            case Watch watch when _isGone:
                Notify(watch.Watcher);
                break;
            case Watch watch:
                if (_watchers.Count == 0) livesOn.WhenGone(target, () => livesOn.Tell(seenFrom, Gone));
                _watchers.Add(watch.Watcher);
                break;
            case Unwatch unwatch:
                _watchers.RemoveAll(w => w.Equals(unwatch.Watcher));
                break;
        }
    }

    /// <summary>It is gone, or its node is.</summary>
    public void Gone()
    {
        if (_isGone) return;
        _isGone = true;
        foreach (var watcher in _watchers) Notify(watcher);
        _watchers.Clear();
    }

    protected override void TellInternal(object message, IActorRef sender)
    {
        if (message is ToDevice.Detach) seenFrom.Ends(sender);
        if (_isGone) return;
        if (seenFrom.World.Broken == BrokenRule.SlowReceiverBlocksReminders && message is ReminderHandled handled && seenFrom.World.Disk.HasPending(handled.DeviceId))
        {
            seenFrom.World.After(TimeSpan.FromMilliseconds(100), () => Tell(message, sender));
            return;
        }

        if (message is ToConnection.Evicted { TakenOver: true }) seenFrom.World.Promises.TakenOver(target);
        if (seenFrom == livesOn) Arrive();
        else seenFrom.World.Network.Send(seenFrom, livesOn, Arrive);

        void Arrive() => seenFrom.World.Arrived(message, () => target.Tell(Travelling(Renumbered(message, sender), livesOn), livesOn.See(sender, seenFrom)));
    }

    /// <summary>References inside a message change with the place they are seen from.</summary>
    public static object Travelling(object message, Node to) => message switch
    {
        ToDevice.Attach attach => attach with { Connection = to.See(attach.Connection) },
        ToConnection.Transmit transmit when to.World.Broken is BrokenRule.LossUnnoticed or BrokenRule.OrderBrokenOnRepetition => transmit with { Sequence = 0 },
        _ => message,
    };

    private object Renumbered(object message, IActorRef sender) => message switch
    {
        _ when seenFrom.World.Broken != BrokenRule.LatePubAckTaken => message,
        ToConnection.Transmit transmit => seenFrom.World.Misnumbering.Down(sender, transmit),
        ToDevice.PacketAcknowledged answered => seenFrom.World.Misnumbering.Up(target, answered),
        _ => message,
    };

    private void Notify(IInternalActorRef watcher) => watcher.SendSystemMessage(new DeathWatchNotification(this, existenceConfirmed: true, addressTerminated: false));
}

/// <summary>
/// The shard region of one node: knows where devices live as far as this node has heard, keeps what comes while one moves, and loses some of it, as the real one may.
/// </summary>
internal sealed class RegionRef(Node node, string name) : BareRef(name)
{
    private readonly Dictionary<DeviceId, List<(object Message, IActorRef Sender)>> _waiting = [];

    /// <summary>Device to node; null while it moves.</summary>
    public Dictionary<DeviceId, Node?> Homes { get; } = [];

    public void Learn(DeviceId deviceId, Node? home)
    {
        Homes[deviceId] = home;
        if (home is null || !_waiting.Remove(deviceId, out var waiting)) return;
        foreach (var (message, sender) in waiting) Deliver(deviceId, message, sender);
    }

    protected override void TellInternal(object message, IActorRef sender)
    {
        if (!node.IsAlive || message is not ToDevice toDevice) return;
        if (message is ToDevice.Detach) node.Ends(sender);
        if (message is ToDevice.Attach attach)
        {
            node.Know(attach);
            if (node.World.Broken == BrokenRule.ClockDecidesEviction) message = Misdated(attach);
        }

        Deliver(toDevice.DeviceId, message, sender);
        if (message is ToDevice.Command { Ask: OutboxCommand.Retire retire } && node.World.Happens(Fault.RetireIsLate, 0.3)) DeliverLate(toDevice.DeviceId, retire, sender);
    }

    // The ask before this one: it waited in the buffer of a shard.
    private void DeliverLate(DeviceId deviceId, OutboxCommand.Retire retire, IActorRef sender) => node.World.After(node.World.Seconds(0.5, 25), () =>
    {
        if (!node.IsAlive) return;
        if (node.World.Broken == BrokenRule.RetireOfAnotherLife) retire = node.World.Registry.Disguised(deviceId, retire);
        Deliver(deviceId, new ToDevice.Command(deviceId, retire), sender);
    });

    // As if the moment of the CONNECT were told by a clock: those of the machines are 20 s apart.
    private ToDevice.Attach Misdated(ToDevice.Attach attach) => attach with { Age = attach.Age - (node.Index - 1) * TimeSpan.FromSeconds(20) };

    private void Deliver(DeviceId deviceId, object message, IActorRef sender)
    {
        if (Homes.GetValueOrDefault(deviceId) is not { } home)
        {
            if (!_waiting.TryGetValue(deviceId, out var waiting)) _waiting.Add(deviceId, waiting = []);
            if (!node.World.Happens(Fault.MessageLost, 0.1)) waiting.Add((message, sender));
        }
        else if (home == node)
        {
            node.Shard.Tell(FarRef.Travelling(message, node), node.See(sender, node));
        }
        else
        {
            var repeats = message is ToDevice.Attach or ToDevice.PacketAcknowledged or ToDevice.Reminder or ToDevice.Detach;
            node.World.Network.Send(node, home, () => home.Shard.Tell(FarRef.Travelling(message, home), home.See(sender, node)), mayDouble: repeats);
        }
    }
}

/// <summary>
/// What passes between nodes: in order from one to another, late at times, and lost at times, as in a shard that moves. While a node is cut off it waits in TCP's
/// buffers, and goes with the node.
/// </summary>
internal sealed class Network(World world)
{
    private readonly Dictionary<(Node, Node), DateTimeOffset> _last = [];
    private readonly List<(Node From, Node To, Action Deliver)> _held = [];

    /// <summary>Nothing passes between this node and the others.</summary>
    public Node? CutOff { get; private set; }

    public void Cut(Node node) => CutOff = node;

    /// <summary>It is reachable again, or gone.</summary>
    public void Heal()
    {
        CutOff = null;
        var held = _held.ToList();
        _held.Clear();
        foreach (var (from, to, deliver) in held) Send(from, to, deliver, isReliable: true);
    }

    public void Send(Node from, Node to, Action deliver, bool mayDouble = false, bool isReliable = false)
    {
        if (!from.IsAlive || !to.IsAlive) return;
        if (!isReliable && world.Happens(Fault.MessageLost, 0.01)) return;
        var delay = TimeSpan.FromMilliseconds(0.1 + world.Random.NextDouble());
        if (world.Happens(Fault.MessageDelayed, 0.02)) delay += TimeSpan.FromMilliseconds(1500 * world.Random.NextDouble());
        var at = world.Now + delay;
        if (_last.TryGetValue((from, to), out var last) && at <= last) at = last.AddTicks(1);
        _last[(from, to)] = at;
        world.After(at - world.Now, Arrive);
        if (mayDouble && world.Happens(Fault.MessageDoubled, 0.02)) world.After(at - world.Now + TimeSpan.FromMilliseconds(400 * world.Random.NextDouble()), Arrive);

        void Arrive()
        {
            if (!to.IsAlive || (from != to && !from.IsAlive)) return;
            if (from != to && (CutOff == from || CutOff == to)) _held.Add((from, to, deliver));
            else deliver();
        }
    }
}
