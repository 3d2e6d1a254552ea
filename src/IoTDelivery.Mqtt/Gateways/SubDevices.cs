using System.Collections.Immutable;
using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;

namespace IoTDelivery.Mqtt;

/// <summary>Which sub-devices of a gateway have something waiting.</summary>
public delegate Task<IReadOnlyList<DeviceId>> FindWaitingSubDevices(DeviceId gateway, CancellationToken cancel);

/// <summary>
/// The sub-devices that share one gateway's connection. Each has an outbox of its own and is attached as if it were
/// connected; what it transmits goes out on the gateway's topic under a packet id of the upper half, which the gateway itself
/// never uses (<see cref="SubDevicePackets"/>).
/// </summary>
//
//   gateway online, or subscribes ──► who has something waiting? ──► carried, a bounded number at a time ──► attached ──► Transmit ──► stage
//   a message for a sub-device ──AttachSubDevice──► gateway's device actor ──► stage ──► carried                                       ▲
//                                                                                PUBACK ──► stage ──► Acknowledged ─────────┘
//
internal sealed class SubDevices : UntypedActor, IWithTimers
{
    // Nobody carried this long without a packet keeps another one waiting.
    private static readonly TimeSpan Idle = TimeSpan.FromSeconds(5);

    private readonly AcceptedConnect _connect;
    private readonly IActorRef _stage;
    private readonly MqttServices _services;
    private readonly long _acceptedAt;
    private readonly Dictionary<DeviceId, CarriedSubDevice> _carried = [];
    private readonly Dictionary<IActorRef, CarriedSubDevice> _byActor = [];
    private readonly WaitingSubDevices _waiting;
    private readonly SubDevicePackets _packets = new();
    private readonly CancellationTokenSource _stopped = new();
    private ImmutableArray<Subscription> _subscriptions;
    private bool _isAsking;
    private bool _askAgain;
    private int _idRequest;

    public SubDevices(AcceptedConnect connect, ImmutableArray<Subscription> subscriptions, IActorRef stage, MqttServices services, long acceptedAt)
    {
        (_connect, _subscriptions, _stage, _services, _acceptedAt) = (connect, subscriptions, stage, services, acceptedAt);
        _waiting = new WaitingSubDevices(100 * services.Options.SubDevicesMax);
        Context.Watch(stage);
    }

    /// <summary>The gateway's subscriptions from now on, and what of them is new.</summary>
    public sealed record Subscribed(ImmutableArray<Subscription> Subscriptions, ImmutableArray<Subscription> New);

    /// <summary>The gateway acknowledged a packet, or (QoS 0) the transport took it, or it was skipped.</summary>
    public sealed record Acknowledged(ushort PacketId, int QoS, byte ReasonCode, bool IsSkipped);

    /// <summary>For the stage: put this on the wire for the sub-device. The tag is the packet id.</summary>
    public sealed record Transmit(DeviceId SubDevice, ToConnection.Transmit Packet);

    /// <summary>The sub-device has another owner: packets of it that still wait are not sent.</summary>
    public sealed record Moved(DeviceId SubDevice);

    private sealed record Waiting(IReadOnlyList<DeviceId>? SubDevices); // null: nobody could say

    private sealed record MakeRoom
    {
        public static readonly MakeRoom Instance = new();
    }

    private sealed record AskForIds
    {
        public static readonly AskForIds Instance = new();
    }

    public ITimerScheduler Timers { get; set; } = null!;

    protected override SupervisorStrategy SupervisorStrategy() => new OneForOneStrategy(_ => Directive.Stop);

    protected override void PreStart() => AskWhoWaits();

    protected override void PostStop()
    {
        _stopped.Cancel();
        if (_packets.ToReturn() is var (used, reserved)) _services.Devices.Tell(new ToDevice.ReturnSubDeviceIds(_connect.DeviceId, used, reserved), Self);
    }

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case ToConnection.AttachSubDevice attach:
                Carry(attach.SubDevice)?.Forward(message);
                break;
            case Subscribed subscribed:
                _subscriptions = subscribed.Subscriptions;
                foreach (var carried in _carried.Values) carried.Actor.Tell(subscribed);
                if (!subscribed.New.IsEmpty) AskWhoWaits();
                break;
            case Acknowledged acknowledged when _packets.Take(acknowledged.PacketId) is var (owner, tag):
                owner.UsedAt = _services.Clock.GetTimestamp();
                owner.Actor.Tell(acknowledged with { PacketId = tag });
                break;
            case ToConnection.Transmit transmit when _byActor.TryGetValue(Sender, out var from):
                from.UsedAt = _services.Clock.GetTimestamp();
                _packets.Enqueue(from, transmit);
                Send();
                break;
            case SubDevice.Moved when _byActor.TryGetValue(Sender, out var moved):
                _packets.Disown(moved);
                _stage.Tell(new Moved(moved.DeviceId));
                break;
            case ToConnection.SubDeviceIdsReserved reserved when reserved.Request == _idRequest && Timers.IsTimerActive(AskForIds.Instance):
                Timers.Cancel(AskForIds.Instance);
                _packets.Reserve(reserved.From, reserved.UpTo);
                Send();
                break;
            case AskForIds:
                AskForMoreIds();
                break;
            case Waiting waiting:
                _isAsking = false;
                foreach (var subDevice in waiting.SubDevices ?? [])
                {
                    if (!_carried.ContainsKey(subDevice)) _waiting.Add(subDevice);
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
                LetGo(ended);
                MakeRoomForOthers();
                break;
        }
    }

    // Null: there is no room now, its turn comes.
    private IActorRef? Carry(DeviceId subDevice)
    {
        if (_carried.TryGetValue(subDevice, out var known)) return known.Actor;
        if (_carried.Count >= _services.Options.SubDevicesMax && !Release(count: 1))
        {
            _waiting.Add(subDevice); // of more than fit the next question finds the rest
            Sender.Tell(OutboxReply.Done.Instance);
            Timers.StartSingleTimer("room", MakeRoom.Instance, Idle);
            return null;
        }

        var actor = Context.Watch(Context.ActorOf(Props.CreateBy(new Producer(() => new SubDevice(subDevice, _connect, _subscriptions, _services, _acceptedAt)))));
        var carried = new CarriedSubDevice(subDevice, actor) { UsedAt = _services.Clock.GetTimestamp() };
        _carried.Add(subDevice, carried);
        _byActor.Add(actor, carried);
        return actor;
    }

    private void MakeRoomForOthers()
    {
        if (_waiting.Count == 0) return;
        var free = _services.Options.SubDevicesMax - _carried.Count;
        if (free < _waiting.Count) Release(_waiting.Count - free);
        while (_carried.Count < _services.Options.SubDevicesMax && _waiting.Next() is { } subDevice) Carry(subDevice);
        if (_waiting.Count > 0) Timers.StartSingleTimer("room", MakeRoom.Instance, Idle);
    }

    // Lets go of those that were not used lately: their rounds are over, and what is unacknowledged waits for the next time they are
    // carried. They stop, and their room is free when they have.
    private bool Release(int count)
    {
        var idle = _carried.Values.Where(c => _services.Clock.GetElapsedTime(c.UsedAt) >= Idle).OrderBy(c => c.UsedAt).Take(count).ToList();
        foreach (var carried in idle)
        {
            LetGo(carried);
            Context.Unwatch(carried.Actor);
            Context.Stop(carried.Actor);
        }

        return idle.Count > 0;
    }

    private void LetGo(CarriedSubDevice carried)
    {
        _packets.Disown(carried);
        _byActor.Remove(carried.Actor);
        _carried.Remove(carried.DeviceId);
    }

    private void Send()
    {
        while (_packets.Next() is var (owner, packet)) _stage.Tell(new Transmit(owner.DeviceId, packet));
        if (_packets.NeedsIds && !Timers.IsTimerActive(AskForIds.Instance))
        {
            _idRequest++;
            AskForMoreIds();
        }
    }

    // Repeated until it is answered: messages are silently dropped while a shard moves.
    private void AskForMoreIds()
    {
        _services.Devices.Tell(new ToDevice.ReserveSubDeviceIds(_connect.DeviceId, _connect.ConnectionId, _idRequest), Self);
        Timers.StartSingleTimer(AskForIds.Instance, AskForIds.Instance, _services.Options.NextAttachWait(3));
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
                return new Waiting(await _services.FindWaitingSubDevices(_connect.DeviceId, _stopped.Token));
            }
            catch (Exception cause)
            {
                _services.Logger.SubDevicesUnknown(_connect.DeviceId, cause.Message);
                await Task.Delay(_services.Options.AttachRetryMax, _services.Clock, _stopped.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
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
