using Akka.Actor;
using Akka.Cluster.Sharding;
using Akka.Streams;
using Akka.Streams.Dsl;
using IoTDelivery.Devices;
using IoTDelivery.Devices.Reminders;
using IoTDelivery.Domain;
using IoTDelivery.Mqtt;
using IoTDelivery.Push;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging.Abstractions;

namespace IoTDelivery.Simulation;

/// <summary>The one actor system of the process; nodes are subtrees of it, each with a dispatcher of its own.</summary>
internal static class Site
{
    public const int Nodes = 3;

    private const string Hocon = """
        akka {
          loglevel = ERROR
          stdout-loglevel = OFF
          loggers = []
          log-dead-letters = off
          log-dead-letters-during-shutdown = off
          coordinated-shutdown.run-by-clr-shutdown-hook = off
          scheduler.implementation = "IoTDelivery.Simulation.VirtualScheduler, IoTDelivery.Simulation"
          actor.default-dispatcher = ${queueing}
          actor.internal-dispatcher = ${queueing}
          persistence {
            journal.plugin = simulated-journal
            snapshot-store.plugin = simulated-snapshots
          }
        }
        queueing.type = "IoTDelivery.Simulation.QueueingDispatcherConfigurator, IoTDelivery.Simulation"
        node-0 = ${queueing}
        node-1 = ${queueing}
        node-2 = ${queueing}
        simulated-journal {
          class = "IoTDelivery.Simulation.SimulatedJournal, IoTDelivery.Simulation"
          plugin-dispatcher = "akka.actor.default-dispatcher"
        }
        simulated-snapshots {
          class = "IoTDelivery.Simulation.SimulatedSnapshots, IoTDelivery.Simulation"
          plugin-dispatcher = "akka.actor.default-dispatcher"
        }
        """;

    static Site()
    {
        for (var i = 0; i < Nodes; i++) QueueingDispatcherConfigurator.Lanes.Add($"node-{i}", new OneThread.Lane());
        System = ActorSystem.Create("simulated", Hocon);
        Provider = ((ExtendedActorSystem)System).Provider;
        System.EventStream.Subscribe(new FunctionRef("errors", (message, _) => Failed((Akka.Event.Error)message)), typeof(Akka.Event.Error));
        OneThread.Instance.Drain();
    }

    public static ActorSystem System { get; }

    public static IActorRefProvider Provider { get; private set; } = null!;

    /// <summary>Who hears of an actor that fails.</summary>
    public static Action<Akka.Event.Error> Failed { get; set; } = _ => { };

    public static SimulatedCalls[] Calls { get; } = [.. Enumerable.Range(0, Nodes).Select(_ => new SimulatedCalls())];

    public static DeviceMetrics DeviceMetrics { get; } = new();

    public static PushMetrics PushMetrics { get; } = new();
}

/// <summary>
/// One life of a process: the real device actors, wake-up clock, pusher, drainers and MQTT stages, between simulated surroundings. A new life is a new object.
/// </summary>
internal sealed class Node : ISnapshotLog
{
    private static readonly Dictionary<string, Node> ByName = [];
    private static readonly RunnableSource Nothing = new();
    private static int _names;

    private readonly Dictionary<IActorRef, FarRef> _far = [];
    private readonly Dictionary<IActorRef, List<Action>> _whenGone = [];
    private readonly Dictionary<IActorRef, IActorRef> _payers = [];
    private readonly NotificationSink _pushers = new(), _settler = new();
    private readonly BacklogSignal _signal = new();
    private readonly SimulatedBacklog _backlog;
    private readonly SimulatedRuleBook _rules;
    private readonly SimulatedWebhook _webhook;
    private readonly ActorMaterializer _materializer;
    private readonly MqttServices _mqtt;
    private readonly List<IActorRef> _actors = [];
    private IActorRef? _drainers;

    public Node(World world, int index)
    {
        (World, Index, Name) = (world, index, $"n{index}-{_names++}");
        ByName.Add(Name, this);
        var clock = Clock = world.Clocks[index];
        WasBootedSane = clock.IsSane;
        _rules = new SimulatedRuleBook(this);
        var calls = Site.Calls[index];
        calls.Node = this;
        Region = new RegionRef(this, $"{Name}-region");
        Gateway = new DeviceGateway(() => Region);
        Fence = new Fencing(clock);
        Services = new DeviceServices(World.Policy, World.DeviceOptions, clock, calls, _settler, Fence, Site.DeviceMetrics, this);
        (_backlog, _webhook) = (new SimulatedBacklog(this, Site.PushMetrics), new SimulatedWebhook(this));

        Shard = Start(Props.Create(typeof(Shard), this));
        Start(Props.Create(typeof(ReminderService), calls, Gateway, clock, world.ReminderOptions, Fence));
        var settings = ActorMaterializerSettings.Create(Site.System).WithInputBuffer(1, 4).WithDispatcher($"node-{index}");
        _materializer = ActorMaterializer.Create(Site.System, settings, $"{Name}-mqtt");
        _mqtt = new MqttServices(
            Site.System, Gateway, (gateway, _) => world.Disk.FindWaiting(this, gateway), Start(Props.Create(typeof(DeviceWatch))), world.MqttOptions, clock,
            NullLogger.Instance, (_, _) => { }, (_, _, _) => ValueTask.CompletedTask, new UplinkBytes(world.MqttOptions.UplinkBytesMax), ActorRefs.Nobody,
            new HandOver(Site.System, world.MqttOptions), NoSubDevices.Instance);
        OneThread.Instance.Drain();
        StartPusher();
    }

    public World World { get; }

    public int Index { get; }

    public string Name { get; }

    public bool IsAlive { get; private set; } = true;

    public MachineClock Clock { get; }

    /// <summary>The clock was about right when this process began, and the process can tell that it jumped since.</summary>
    public bool WasBootedSane { get; }

    public bool IsPaused => Lane.IsPaused;

    public RegionRef Region { get; }

    public IActorRef Shard { get; }

    public Fencing Fence { get; }

    public DeviceServices Services { get; }

    public DeviceGateway Gateway { get; }

    public bool Drains => _drainers is not null;

    private IActorRef Pusher { get; set; } = ActorRefs.Nobody;

    private OneThread.Lane Lane => QueueingDispatcherConfigurator.Lanes[$"node-{Index}"];

    /// <summary>Whose process an actor lives in.</summary>
    public static Node? Of(IActorRef actor) => actor.Path.Elements is [_, var top, ..] ? ByName.GetValueOrDefault(top[..Math.Max(0, top.LastIndexOf('.'))]) : null;

    public override string ToString() => Name;

    public void Note(string persistenceId, long sequenceNr) { }

    public void Pause() => Lane.Pause();

    public void Resume() => Lane.Resume();

    /// <summary>kill -9: whatever its actors do from here on reaches nobody.</summary>
    public void Die()
    {
        IsAlive = false;
        Lane.Resume();
        foreach (var actor in _actors) Site.System.Stop(actor);
        _materializer.Shutdown();
        OneThread.Instance.Drain(isFree: true);
        ByName.Remove(Name);
    }

    // ---- what its actors see of others

    /// <summary>An actor as this node sees it.</summary>
    /// <param name="actor">As another node named it.</param>
    /// <param name="on">That node; if null, it is known whose connection it is.</param>
    public IActorRef See(IActorRef? actor, Node? on = null)
    {
        if (actor is null || actor.IsNobody() || actor is FarRef) return actor ?? ActorRefs.Nobody;
        on ??= World.OwnerOf(actor) ?? this;
        if (!_far.TryGetValue(actor, out var far)) _far.Add(actor, far = new FarRef($"{Name}-sees-{_names++}", this, on, actor));
        return far;
    }

    /// <summary>A connection of this node, so that others can be told where it lives.</summary>
    public void Know(ToDevice.Attach attach)
    {
        if (!World.Own(attach.Connection, this)) return;
        var wire = World.Wires[attach.ConnectionId];
        World.Connections.Add(attach.Connection, wire);
        if (attach.DeviceId == wire.Device.Id) WhenGone(attach.Connection, wire.ServerEnded);
        else QueueingDispatcherConfigurator.LanesByParent[attach.Connection.Path.Parent] = Lane; // of a gateway's stage, which makes it where it likes
    }

    /// <summary>
    /// Runs <paramref name="then"/> when an actor of this node has ended. Each actor has one real watcher at most: several would hear of its end in an order that no seed
    /// decides. That of a device is its shard; a connection says Detach as its last word.
    /// </summary>
    public void WhenGone(IActorRef actor, Action then)
    {
        if (!_whenGone.TryGetValue(actor, out var all)) _whenGone.Add(actor, all = []);
        all.Add(then);
    }

    /// <summary>A connection of this node says that it ends.</summary>
    public void Ends(IActorRef connection) => World.After(TimeSpan.Zero, () => Ended(connection));

    /// <summary>An actor of this node has ended.</summary>
    public void Ended(IActorRef actor)
    {
        if (IsAlive && _whenGone.Remove(actor, out var then)) then.ForEach(t => t());
    }

    /// <summary>Something the cluster tells reliably.</summary>
    public void Tell(Node other, Action what)
    {
        if (other == this) what();
        else World.Network.Send(this, other, what, isReliable: true);
    }

    /// <summary>Another node is taken for dead: so is everybody on it.</summary>
    public void Lose(Node other)
    {
        foreach (var far in _far.Values.Where(f => f.LivesOn == other).ToList()) far.Gone();
    }

    // ---- MQTT

    public void Serve(Wire wire, AcceptedConnect connect) => Nothing.Run(new MqttConnectionStage(wire, connect, _mqtt), _materializer);

    // ---- push

    public void StartPusher()
    {
        if (!IsAlive) return;
        Site.System.Stop(Pusher);
        _settler.Current = ActorRefs.Nobody;
        var services = new DispatcherServices(
            _pushers, new VolatileNotifications(), _rules, _backlog, _webhook, World.Registry.FindHeaderAsync, _signal, World.PushOptions, Site.PushMetrics,
            NullLogger<NotificationDispatcher>.Instance, Clock);
        Pusher = Start(Props.CreateBy(new Producer(() => new NotificationDispatcher(services))));
        var pusher = Pusher;
        _payers.Clear();
        _settler.Current = new FunctionRef($"{Name}-settler-{_names++}", (message, device) => Offer(pusher, (NotificationsOffered)message, device));
    }

    public void StartDrainers() => _drainers ??= Start(Props.CreateBy(new Producer(() => new BacklogSenders(
        new SenderServices(
            World.RuleActions, _backlog, _webhook, new AmqpConsumers(), World.PushOptions, Site.PushMetrics, NullLogger<BacklogSenders>.Instance,
            Clock),
        _signal))));

    private void Offer(IActorRef pusher, NotificationsOffered pending, IActorRef device)
    {
        if (World.Broken == BrokenRule.AcknowledgedBeforeAnswered) device.Tell(new ToDevice.NotificationsAcknowledged(pending.DeviceId, pending.Notifications[^1].Number));
        if (!_payers.TryGetValue(device, out var payer))
        {
            _payers.Add(device, payer = new FunctionRef($"{Name}-payer-{_names++}", (message, _) => World.Network.Send(this, this, () => device.Tell(message), mayDouble: true)));
        }

        World.Network.Send(this, this, () => pusher.Tell(pending, payer), isReliable: true); // on one node nothing is lost: the pusher relies on it
    }

    private IActorRef Start(Props props)
    {
        var actor = Site.System.ActorOf(props.WithDispatcher($"node-{Index}"), $"{Name}.{_names++}");
        _actors.Add(actor);
        return actor;
    }

    private sealed class Producer(Func<ActorBase> produce) : IIndirectActorProducer
    {
        public Type ActorType => typeof(UntypedActor);

        public ActorBase Produce() => produce();

        public void Release(ActorBase actor) { }
    }

    private sealed class RunnableSource
    {
        private readonly Source<Akka.NotUsed, Akka.NotUsed> _nothing = Source.Empty<Akka.NotUsed>();

        public void Run(MqttConnectionStage stage, ActorMaterializer materializer) => _nothing.RunWith(stage, materializer);
    }
}

/// <summary>One node's shard: makes devices when somebody talks to them, lets them sleep, and gives them away. As Akka's own, without the cluster.</summary>
internal sealed class Shard(Node node) : UntypedActor
{
    /// <summary>Its devices stop; <paramref name="Then"/> runs when this one has.</summary>
    public sealed record GiveAway(DeviceId DeviceId, Action Then);

    private readonly Dictionary<string, List<(object Message, IActorRef Sender)>> _stopping = []; // what came meanwhile
    private readonly Dictionary<string, Action> _givenAway = [];

    protected override SupervisorStrategy SupervisorStrategy() => new OneForOneStrategy(_ => Directive.Stop);

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case ToDevice toDevice:
                Deliver(toDevice.DeviceId, message, Sender);
                break;
            case Passivate passivate when !_stopping.ContainsKey(Sender.Path.Name):
                _stopping.Add(Sender.Path.Name, []);
                Sender.Tell(passivate.StopMessage);
                break;
            case GiveAway give:
                var child = Context.Child(give.DeviceId.Value);
                if (child.IsNobody())
                {
                    give.Then();
                    break;
                }

                _givenAway[give.DeviceId.Value] = give.Then;
                if (_stopping.TryAdd(give.DeviceId.Value, [])) child.Tell(DeviceActor.Stop.Instance);
                break;
            case Terminated gone:
                var name = gone.ActorRef.Path.Name;
                _stopping.Remove(name, out var waiting);
                node.Ended(gone.ActorRef);
                if (_givenAway.Remove(name, out var then)) then();
                else foreach (var (missed, sender) in waiting ?? []) Deliver(DeviceId.Parse(name), missed, sender);
                break;
        }
    }

    private void Deliver(DeviceId deviceId, object message, IActorRef sender)
    {
        if (node.Region.Homes.GetValueOrDefault(deviceId) != node) return; // sent by somebody who has not heard of the move
        if (_stopping.TryGetValue(deviceId.Value, out var waiting))
        {
            if (!_givenAway.ContainsKey(deviceId.Value)) waiting.Add((message, sender));
            return;
        }

        var device = Context.Child(deviceId.Value);
        if (device.IsNobody())
        {
            device = Context.Watch(Context.ActorOf(Props.Create(typeof(DeviceActor), deviceId.Value, node.Services).WithDispatcher($"node-{node.Index}"), deviceId.Value));
        }

        device.Tell(message, sender);
    }
}
