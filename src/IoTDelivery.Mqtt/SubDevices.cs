using System.Collections.Immutable;
using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;

namespace IoTDelivery.Mqtt;

/// <summary>Which sub-devices of a gateway have something waiting.</summary>
public delegate Task<IReadOnlyList<DeviceId>> FindWaitingSubDevices(DeviceId gateway, CancellationToken cancel);

/// <summary>
/// The sub-devices that share one gateway's connection. Each has an outbox of its own and is attached as if it were connected; what it transmits goes out on the
/// gateway's topic under a packet id of the upper half, which the gateway itself never uses (<see cref="Inflight.TagMax"/>).
/// </summary>
//
//   gateway online, or subscribes ──► who has something waiting? ──► carried, a bounded number at a time ──► attached ──► Transmit ──► stage
//   a message for a sub-device ──Knock──► gateway's device actor ──► stage ──► carried                                       ▲
//                                                                                PUBACK ──► stage ──► Answered ─────────────┘
//
internal sealed class SubDevices : UntypedActor, IWithTimers
{
    // Nobody carried this long without a packet keeps another one waiting.
    private static readonly TimeSpan Idle = TimeSpan.FromSeconds(5);

    private readonly AcceptedConnect _connect;
    private readonly IActorRef _stage;
    private readonly MqttNode _node;
    private readonly Dictionary<DeviceId, Carried> _carried = [];
    private readonly Dictionary<IActorRef, Carried> _byActor = [];
    private readonly Queue<DeviceId> _waiting = new();
    private readonly Dictionary<ushort, Packet> _packets = [];
    private readonly CancellationTokenSource _stopped = new();
    private ImmutableArray<Subscription> _subscriptions;
    private ushort _lastId = Inflight.TagMax;
    private bool _isAsking;
    private bool _askAgain;

    public SubDevices(AcceptedConnect connect, ImmutableArray<Subscription> subscriptions, IActorRef stage, MqttNode node)
    {
        (_connect, _subscriptions, _stage, _node) = (connect, subscriptions, stage, node);
        Context.Watch(stage);
    }

    /// <summary>The gateway's subscriptions from now on, and what of them is new.</summary>
    public sealed record Subscribed(ImmutableArray<Subscription> Subscriptions, ImmutableArray<Subscription> New);

    /// <summary>The gateway answered a packet, or (QoS 0) the transport took it.</summary>
    public sealed record Answered(ushort PacketId, int QoS, byte ReasonCode);

    /// <summary>For the stage: put this on the wire for the sub-device. The tag is the packet id.</summary>
    public sealed record Transmit(DeviceId SubDevice, ToConnection.Transmit Packet);

    private sealed record Waiting(IReadOnlyList<DeviceId>? SubDevices); // null: nobody could say

    private sealed record MakeRoom
    {
        public static readonly MakeRoom Instance = new();
    }

    private sealed class Carried(DeviceId deviceId, IActorRef actor)
    {
        public DeviceId DeviceId { get; } = deviceId;
        public IActorRef Actor { get; } = actor;
        public Dictionary<ushort, ushort> PacketIds { get; } = []; // by the sub-device's own tag
        public long UsedAt { get; set; }
    }

    // Owner null: the sub-device has moved or gone, but the gateway has not answered: the id stays taken.
    private readonly record struct Packet(Carried? Owner, ushort Tag);

    public ITimerScheduler Timers { get; set; } = null!;

    protected override SupervisorStrategy SupervisorStrategy() => new OneForOneStrategy(_ => Directive.Stop);

    protected override void PreStart() => AskWhoWaits();

    protected override void PostStop() => _stopped.Cancel();

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case ToConnection.Knocked knocked:
                Carry(knocked.SubDevice)?.Forward(message);
                break;
            case Subscribed subscribed:
                _subscriptions = subscribed.Subscriptions;
                foreach (var carried in _carried.Values) carried.Actor.Tell(subscribed);
                if (!subscribed.New.IsEmpty) AskWhoWaits();
                break;
            case Answered answered when _packets.Remove(answered.PacketId, out var packet):
                if (packet.Owner is not { } owner) break;
                owner.PacketIds.Remove(packet.Tag);
                owner.UsedAt = _node.Clock.GetTimestamp();
                owner.Actor.Tell(answered with { PacketId = packet.Tag });
                break;
            case ToConnection.Transmit transmit when _byActor.TryGetValue(Sender, out var from):
                Send(from, transmit);
                break;
            case SubDevice.Moved when _byActor.TryGetValue(Sender, out var moved):
                Disown(moved);
                break;
            case Waiting waiting:
                _isAsking = false;
                foreach (var subDevice in waiting.SubDevices ?? [])
                {
                    if (!_carried.ContainsKey(subDevice)) _waiting.Enqueue(subDevice);
                }

                if (_askAgain || waiting.SubDevices is null) AskWhoWaits();
                MakeRoomForOthers();
                break;
            case MakeRoom:
                MakeRoomForOthers();
                break;
            case Terminated gone when gone.ActorRef.Equals(_stage):
                Context.Stop(Self);
                break;
            case Terminated gone when _byActor.TryGetValue(gone.ActorRef, out var ended):
                Disown(ended);
                _byActor.Remove(gone.ActorRef);
                _carried.Remove(ended.DeviceId);
                MakeRoomForOthers();
                break;
        }
    }

    // Null: there is no room now, its turn comes.
    private IActorRef? Carry(DeviceId subDevice)
    {
        if (_carried.TryGetValue(subDevice, out var known)) return known.Actor;
        if (_carried.Count >= _node.Options.SubDevicesMax && !Release(count: 1))
        {
            if (_waiting.Count < _node.Options.SubDevicesMax * 100) _waiting.Enqueue(subDevice); // more than that and the next question finds it
            Sender.Tell(OutboxReply.Done.Instance);
            Timers.StartSingleTimer("room", MakeRoom.Instance, Idle);
            return null;
        }

        var actor = Context.Watch(Context.ActorOf(Props.CreateBy(new Producer(() => new SubDevice(subDevice, _connect, _subscriptions, _node)))));
        var carried = new Carried(subDevice, actor) { UsedAt = _node.Clock.GetTimestamp() };
        _carried.Add(subDevice, carried);
        _byActor.Add(actor, carried);
        return actor;
    }

    private void MakeRoomForOthers()
    {
        if (_waiting.Count == 0) return;
        var free = _node.Options.SubDevicesMax - _carried.Count;
        if (free < _waiting.Count) Release(_waiting.Count - free);
        while (_carried.Count < _node.Options.SubDevicesMax && _waiting.TryDequeue(out var subDevice)) Carry(subDevice);
        if (_waiting.Count > 0) Timers.StartSingleTimer("room", MakeRoom.Instance, Idle);
    }

    // Lets go of those that have nothing on the wire and were not used lately. They stop, and their room is free when they have.
    private bool Release(int count)
    {
        var idle = _carried.Values.Where(c => c.PacketIds.Count == 0 && _node.Clock.GetElapsedTime(c.UsedAt) >= Idle).OrderBy(c => c.UsedAt).Take(count).ToList();
        foreach (var carried in idle)
        {
            _byActor.Remove(carried.Actor);
            _carried.Remove(carried.DeviceId);
            Context.Unwatch(carried.Actor);
            Context.Stop(carried.Actor);
        }

        return idle.Count > 0;
    }

    private void Send(Carried from, ToConnection.Transmit transmit)
    {
        from.UsedAt = _node.Clock.GetTimestamp();
        if (!from.PacketIds.TryGetValue(transmit.Tag, out var packetId))
        {
            if (_packets.Count >= ushort.MaxValue - Inflight.TagMax) return; // the gateway answers nothing; the schedule repeats it
            do _lastId = _lastId == ushort.MaxValue ? (ushort)(Inflight.TagMax + 1) : (ushort)(_lastId + 1);
            while (_packets.ContainsKey(_lastId));
            packetId = _lastId;
            from.PacketIds.Add(transmit.Tag, packetId);
            _packets.Add(packetId, new Packet(from, transmit.Tag));
        }

        _stage.Tell(new Transmit(from.DeviceId, transmit with { Tag = packetId }));
    }

    private void Disown(Carried carried)
    {
        foreach (var packetId in carried.PacketIds.Values) _packets[packetId] = default;
        carried.PacketIds.Clear();
    }

    private void AskWhoWaits()
    {
        _askAgain = _isAsking;
        if (_isAsking) return;
        _isAsking = true;
        AskAsync().PipeTo(Self);

        async Task<Waiting> AskAsync()
        {
            try
            {
                return new Waiting(await _node.FindWaitingSubDevices(_connect.DeviceId, _stopped.Token));
            }
            catch (Exception cause)
            {
                _node.Logger.SubDevicesUnknown(_connect.DeviceId, cause.Message);
                await Task.Delay(_node.Options.AttachRetryMax, _node.Clock, _stopped.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                return new Waiting(null);
            }
        }
    }

    private sealed class Producer(Func<ActorBase> produce) : IIndirectActorProducer
    {
        public Type ActorType => typeof(SubDevice);

        public ActorBase Produce() => produce();

        public void Release(ActorBase actor) { }
    }
}

/// <summary>The connection of one sub-device, as far as its device actor is concerned. One packet on the wire at a time: the gateway has many of these.</summary>
internal sealed class SubDevice : UntypedActor, IWithTimers
{
    private readonly DeviceId _deviceId;
    private readonly AcceptedConnect _connect;
    private readonly MqttNode _node;
    private readonly List<IActorRef> _askers = [];
    private ImmutableArray<Subscription> _subscriptions;
    private ImmutableArray<Subscription> _unacknowledged = [];
    private IActorRef? _device;
    private int _turn, _turnBegan, _place;
    private int _revision = 1;
    private int _attached;
    private int _attempts;

    public SubDevice(DeviceId deviceId, AcceptedConnect connect, ImmutableArray<Subscription> subscriptions, MqttNode node) =>
        (_deviceId, _connect, _subscriptions, _node) = (deviceId, connect, subscriptions, node);

    /// <summary>For <see cref="SubDevices"/>: whoever transmitted so far is gone, its tags mean nothing any more.</summary>
    public sealed record Moved
    {
        public static readonly Moved Instance = new();
    }

    private sealed record AttachAgain
    {
        public static readonly AttachAgain Instance = new();
    }

    public ITimerScheduler Timers { get; set; } = null!;

    protected override void PreStart() => Attach();

    protected override void PostStop()
    {
        Answer();
        _node.Devices.Tell(new ToDevice.Detach(_deviceId, _connect.ConnectionId), Self);
    }

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case ToConnection.Knocked when _attached == _revision:
                Sender.Tell(OutboxReply.Done.Instance);
                break;
            case ToConnection.Knocked:
                _askers.Add(Sender); // bounded by the requests the node works on at once
                break;
            case ToConnection.Attached attached when attached.Revision > _attached && attached.Revision <= _revision && attached.Revision >= _turnBegan:
                if (_device is not null && !Sender.Equals(_device))
                {
                    StartOver();
                    break;
                }

                _attached = attached.Revision;
                if (_device is null) Context.Watch(_device = Sender);
                if (_attached < _revision) break;
                (_attempts, _unacknowledged) = (0, []);
                Timers.Cancel(AttachAgain.Instance);
                Answer();
                break;
            case ToConnection.Transmit transmit when Sender.Equals(_device) && transmit.Turn == _turn:
                if (transmit.Follows(ref _place)) Context.Parent.Tell(transmit);
                else StartOver(); // one was lost between the nodes
                break;
            case ToConnection.Evicted: // connected by itself, carried by a younger connection, or deleted
                Context.Stop(Self);
                break;
            case SubDevices.Subscribed subscribed:
                _subscriptions = subscribed.Subscriptions;
                _unacknowledged = [.. _unacknowledged.Where(u => !subscribed.New.Any(n => n.TopicFilter == u.TopicFilter)), .. subscribed.New];
                _revision++;
                _attempts = 0;
                Attach();
                break;
            case SubDevices.Answered answered:
                _device?.Tell(new ToDevice.Answered(_deviceId, _connect.ConnectionId, answered.PacketId, answered.QoS, answered.ReasonCode));
                break;
            case Terminated gone when gone.ActorRef.Equals(_device):
                LoseDevice();
                Timers.StartSingleTimer(AttachAgain.Instance, AttachAgain.Instance, _node.Options.NextAttachWait(++_attempts));
                break;
            case AttachAgain:
                Attach();
                break;
        }
    }

    private void StartOver()
    {
        LoseDevice();
        Attach();
    }

    // As the stage of the gateway's own connection does.
    private void LoseDevice()
    {
        if (_device is not null) Context.Unwatch(_device);
        _device = null;
        Context.Parent.Tell(Moved.Instance);
        _turn++;
        _place = 0;
        _turnBegan = ++_revision;
        _attempts = 0;
    }

    private void Attach()
    {
        _node.Devices.Tell(
            new ToDevice.Attach(
                _deviceId, _connect.ConnectionId, _connect.ConnectedAt, new WireConnection(ForbidsRepeats: _connect.IsMqtt5, ReceiveMaximum: 1), SessionExpiry: TimeSpan.Zero,
                StartsClean: false, _revision, _subscriptions, _unacknowledged, Implicit: false, Self, Turn: _turn),
            Self);
        MqttMeters.Attaches.Add(1);
        Timers.StartSingleTimer(AttachAgain.Instance, AttachAgain.Instance, _node.Options.NextAttachWait(++_attempts));
    }

    private void Answer()
    {
        foreach (var asker in _askers) asker.Tell(OutboxReply.Done.Instance);
        _askers.Clear();
    }
}
