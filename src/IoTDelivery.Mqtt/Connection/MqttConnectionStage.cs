using System.Collections.Immutable;
using System.Runtime.CompilerServices;
using Akka;
using Akka.Actor;
using Akka.Streams;
using Akka.Streams.Stage;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using MQTTnet.Packets;
using MQTTnet.Protocol;

namespace IoTDelivery.Mqtt;

/// <summary>
/// The stage between one pipe and one session, and the connection's end of the talk with its device actor. It is a graph of
/// its own; its stage actor is the address devices answer to. The materialized task ends with the connection and says why.
/// </summary>
//
//                    clean start
//   CONNECT ─────────────────────────► open ◄─────────┐     run:  write what is to be written ──► read what that made
//      │ session may go on              │  ▲          │           ▲                               room for ──┐
//      ▼                 Attached       │  │ Attached │           └───────────────────────────────────────────┘
//   waiting ──────────────────────► CONNACK           │
//      │                                │             └── device gone, a gap: a new epoch (DeviceAttachment)
//      │ client gone, evicted,          ▼
//      └── shutdown, a fault ───► ending ── flushed, or cut after CloseTimeout ──► PostStop: acknowledgements, Detach
//
internal sealed class MqttConnectionStage(ConnectionContext connection, AcceptedConnect connect, MqttServices services)
    : GraphStageWithMaterializedValue<SinkShape<NotUsed>, Task<SessionEnd>>
{
    // Akka.Streams does not run a stage without ports: this one is connected to a source that has nothing to say, and nothing ever passes.
    private readonly Inlet<NotUsed> _nothing = new("nothing");

    public override SinkShape<NotUsed> Shape => new(_nothing);

    public override ILogicAndMaterializedValue<Task<SessionEnd>> CreateLogicAndMaterializedValue(Attributes inheritedAttributes)
    {
        var logic = new Logic(this, connection, connect, services);
        return new LogicAndMaterializedValue<Task<SessionEnd>>(logic, logic.Ended);
    }

    private sealed class Logic : TimerGraphStageLogic
    {
        private const int RepliesMax = 128; // answers to one read before they are written
        private const int RoundsMax = 16; // reads in one go before other connections have their turn

        private static readonly SessionEnd Gone = new("connection lost", ReasonCode: null);
        private static readonly SessionEnd NotRead = new("client does not read", ReasonCode: null);
        private static readonly SessionEnd Stopped = new("stopped", ReasonCode: null);
        private static readonly SessionEnd ShuttingDown = new("shutdown", MqttDisconnectReasonCode.ServerShuttingDown);
        private static readonly SessionEnd HandedOver = new("handed over", MqttDisconnectReasonCode.UseAnotherServer);
        private static readonly SessionEnd Silent = new("keep-alive", MqttDisconnectReasonCode.KeepAliveTimeout);
        private static readonly SessionEnd TakenOver = new("taken over", MqttDisconnectReasonCode.SessionTakenOver);
        private static readonly SessionEnd Evicted = new("deleted, frozen or secret reset", MqttDisconnectReasonCode.AdministrativeAction);
        private static readonly SessionEnd Overrun = new("outgoing queue full", MqttDisconnectReasonCode.QuotaExceeded);
        private static readonly SessionEnd TooLarge = new("packet too large", MqttDisconnectReasonCode.PacketTooLarge);
        private static readonly SessionEnd Malformed = new("malformed packet", MqttDisconnectReasonCode.MalformedPacket);
        private static readonly SessionEnd Unattached = new("device does not answer", MqttDisconnectReasonCode.ServerBusy);
        private static readonly SessionEnd Failed = new("internal error", MqttDisconnectReasonCode.UnspecifiedError);

        private static readonly TimeSpan UnreadAgain = TimeSpan.FromMilliseconds(20);

        // How long the device may leave an acknowledgement unconfirmed before it is told again.
        private static readonly TimeSpan ConfirmWithin = TimeSpan.FromSeconds(2);

        // A clean start that no device has answered for this long would erase what a younger connection may have left since.
        private static readonly TimeSpan CleanStartWithin = TimeSpan.FromSeconds(10);

        private static readonly object
            AttachTimer = new(), AcknowledgeTimer = new(), KeepAliveTimer = new(), WriteTimer = new(), CloseTimer = new(),
            ImplicitTimer = new(), DrainTimer = new();

        private readonly ConnectionContext _connection;
        private readonly AcceptedConnect _connect;
        private readonly MqttServices _services;
        private readonly long _acceptedAt;
        private readonly MqttReader _reader;
        private readonly MqttWriter _writer;
        private readonly DeviceAttachment _attachment;
        private readonly ConnectionSubscriptions _subscriptions;
        private readonly Uplinks _uplinks;
        private readonly TaskCompletionSource<SessionEnd> _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly Action _runLater;
        private MqttSession _session;
        private SessionEnd? _end;
        private readonly GatewayActors _gateway;
        private bool _runsLater;
        private CancellationTokenRegistration _shutdown;

        public Logic(MqttConnectionStage stage, ConnectionContext connection, AcceptedConnect connect, MqttServices services)
            : base(stage.Shape)
        {
            (_connection, _connect, _services, _acceptedAt) = (connection, connect, services, services.Clock.GetTimestamp());
            _reader = new MqttReader(connection.Transport.Input, services.Clock, GetAsyncCallback(OnRead));
            _writer = new MqttWriter(connection.Transport.Output, connect, services, GetAsyncCallback(OnFlushed), OnPacketDone);
            _attachment = new DeviceAttachment(connect.DeviceId, connect.ConnectionId, Options.OutgoingMax);
            _subscriptions = new ConnectionSubscriptions(connect.DeviceId);
            _uplinks = new Uplinks(
                connect.DeviceId, services.TakeUplink, Options.ReceiveMax, Options.PacketBytesMax, services.UplinkBytes, GetAsyncCallback(OnUplinksTaken));
            _session = new MqttSession(connect.DeviceId, connect.Version, Options.SubscriptionsMax, Options.ReceiveMax, Options.TopicAliasMax)
            {
                MayOutlive = connect.KeepsSession,
            };
            _gateway = new GatewayActors(services.System);
            _runLater = GetAsyncCallback(OnRunLater);
            SetHandler(stage._nothing, TotallyIgnorantInput);
        }

        public Task<SessionEnd> Ended => _ended.Task;

        private MqttOptions Options => _services.Options;

        private bool MayRead => !_subscriptions.IsFull && !_uplinks.IsFull && !_attachment.IsFull;

        public override void PreStart()
        {
            SetKeepGoing(true); // no port holds the stage open
            GetStageActor(OnMessage);

            // Kestrel asks before it cuts: the host is stopping.
            if (_connection.Features.Get<IConnectionLifetimeNotificationFeature>() is { } lifetime)
            {
                _shutdown = lifetime.ConnectionClosedRequested.Register(GetAsyncCallback(OnShutdown));
            }

            Attach();
            if (_connect.StartsClean) Accept(sessionPresent: false); // [MQTT-3.2.2-2] nothing to ask the device about
            Run();
        }

        public override void PostStop()
        {
            _shutdown.Dispose();
            _gateway.Stop();
            Listen([]);

            // Behind the acknowledgements, and as they straight to the actor: the end of this stage would overtake what the client said.
            var detach = new ToDevice.Detach(_connect.DeviceId, _connect.ConnectionId, Expiry(_end?.SessionExpiryInterval));
            if (_attachment.Device is { } device)
            {
                Unwatch(device);
                foreach (var acknowledged in _attachment.Unconfirmed()) device.Tell(acknowledged, StageActor.Ref);
                device.Tell(detach, StageActor.Ref);
            }
            else
            {
                _services.Devices.Tell(detach, StageActor.Ref);
            }

            _ended.TrySetResult(_end ?? Stopped);
        }

        // ---- what happens to it: each runs it afterwards, and none fails

        protected override void OnTimer(object timerKey) => Run(logic =>
        {
            if (timerKey == WriteTimer) logic.CheckFlush();
            else if (timerKey == CloseTimer) logic.Cut();
            else if (timerKey == DrainTimer) logic.End(HandedOver);
            else if (logic._end is not null) return;
            else if (timerKey == AttachTimer) logic.Attach();
            else if (timerKey == AcknowledgeTimer) logic.AcknowledgeAgain();
            else if (timerKey == KeepAliveTimer) logic.CheckKeepAlive();
            else if (timerKey == ImplicitTimer) logic.SubscribeImplicitly();
        });

        private void OnRead() => Run(static logic => logic._reader.OnRead());

        private void OnFlushed() => Run(static logic => logic._writer.OnFlushed());

        private void OnUplinksTaken() => Run(static logic => logic.AcknowledgeUplinks());

        private void OnRunLater() => Run(static logic => logic._runsLater = false);

        private void OnShutdown() => Run(static logic =>
        {
            if (logic._writer.IsOpen && logic._services.HandOver.NextTurn() is { } wait) logic.ScheduleOnce(DrainTimer, wait);
            else logic.End(ShuttingDown);
        });

        private void OnMessage((IActorRef Sender, object Message) heard)
        {
            try
            {
                if (_end is null && IsForNow(heard.Sender, heard.Message)) Run();
            }
            catch (Exception fault)
            {
                OnFault(fault);
            }
        }

        private void Run(Action<Logic> first)
        {
            try
            {
                first(this);
                Run();
            }
            catch (Exception fault)
            {
                OnFault(fault);
            }
        }

        // A fault of ours: it ends this connection, it is told, and it is no secret.
        private void OnFault(Exception fault)
        {
            MqttMeters.Faults.Add(1);
            _services.Logger.Faulted(fault, _connect.DeviceId, _connect.ConnectionId);
            try
            {
                End(Failed);
                Run();
            }
            catch (Exception)
            {
                Cut();
                CompleteStage();
            }
        }

        // Write what is to be written; only then read what that made room for.
        private void Run()
        {
            for (var round = 0; round < RoundsMax; round++)
            {
                if (Write() == WriteState.Pending) return; // backpressure: nothing is read until the transport has taken the bytes
                _gateway.Written(StageActor.Ref);
                if (_end is not null)
                {
                    Leave();
                    return;
                }

                if (!Read()) return;
            }

            RunLater();
        }

        private void RunLater()
        {
            if (_runsLater) return;
            _runsLater = true;
            _runLater();
        }

        // ---- reading

        /// <returns>False if there is nothing to do until bytes come.</returns>
        private bool Read()
        {
            if (_reader.IsReading || !MayRead) return false;
            switch (_reader.Read(out var result))
            {
                case ReadState.Pending:
                    return false;
                case ReadState.Gone:
                    End(Gone);
                    return true;
                default:
                    Take(result.Buffer, result.IsCompleted);
                    return true;
            }
        }

        private void Take(System.Buffers.ReadOnlySequence<byte> bytes, bool isLast)
        {
            var isIncomplete = !_writer.IsOpen; // until CONNACK what comes stays in the pipe; the read only notices that the client goes
            while (_writer.IsOpen && _end is null && _writer.Replies.Count < RepliesMax && MayRead)
            {
                var frame = MqttFraming.TryRead(ref bytes, _connect.Version, Options.PacketBytesMax, out var packet);
                if (frame == Frame.Packet)
                {
                    On(packet!);
                    continue;
                }

                isIncomplete = frame == Frame.Incomplete;
                if (frame == Frame.TooLarge) End(TooLarge);
                else if (!isIncomplete) End(Malformed);
                break;
            }

            _reader.Advance(bytes, isIncomplete);
            if (isIncomplete && isLast) End(Gone);
        }

        private void On(MqttPacket packet)
        {
            if (_uplinks.Parks(packet)) return;
            var step = _session.On(packet);
            var speaksForItself = step.Subscribed is not null
                && (_subscriptions.CoverDownTopic(_session) || _subscriptions.CoverDownTopic(step.Next));
            _session = step.Next;
            if (speaksForItself)
            {
                _subscriptions.IsImplicit = false; // also after an UNSUBSCRIBE: it has said what it wants
                CancelTimer(ImplicitTimer);
            }

            if (step.Uplink is { } uplink)
            {
                MqttMeters.Uplinks.Add(1);
                MqttMeters.UplinkBytes.Add(uplink.Payload.Length);
                OnEvents(EventsUp.Read(_connect.DeviceId, uplink.Topic, uplink.Payload));
            }

            if (step.Acknowledged is { } acknowledged)
            {
                MqttMeters.Answers.Add(1);
                _writer.Acknowledged(acknowledged.PacketId);
                Acknowledge(acknowledged.PacketId, 1, acknowledged.ReasonCode, isSkipped: false);
            }

            // A client that wants its subscriptions kept hears of them when they are kept. So does one that asks for QoS 1 where QoS 0
            // would do without asking: once it has its SUBACK, nothing goes out to it implicitly any more, whoever crashes.
            var isHeld = step.Subscribed is { } held
                && (_connect.KeepsSession || (_connect.IsImplicit && _subscriptions.AskForQoS1(held)));
            if (_uplinks.Take(step.Uplink, step.Reply) is { } reply && !isHeld) _writer.Replies.Enqueue(reply);
            if (step.Subscribed is { } subscribed) Revise(subscribed, isHeld ? step.Reply : null);
            if (step.End is { } end) End(end);
        }

        private void OnEvents(EventsUp events)
        {
            if (events.SdkInfo is { } info) _services.ReportSdkInfo(_connect.DeviceId, info);
            if (events.Gateway is { } requests)
            {
                foreach (var request in requests) Dialogue().Tell(request, StageActor.Ref);
            }

            if (events.TimeSync is not { } timeSync) return;
            var now = _services.Clock.GetUtcNow();
            _writer.Replies.Enqueue(TimeSyncResponse.To(_connect.DeviceId, timeSync, now, now));
        }

        private void AcknowledgeUplinks()
        {
            if (_end is not null) return;
            _uplinks.Acknowledge(_writer.Replies);
            if (_uplinks.Unpark() is not { } parked) return;
            _reader.Heard();
            On(parked);
        }

        private void CheckKeepAlive()
        {
            var (limit, silent) = (_connect.KeepAlive * 1.5, _reader.Silence); // [MQTT-3.1.2-24]
            if (_writer.IsFlushing || !MayRead) silent = TimeSpan.Zero; // it is we who do not listen
            if (!MayRead && _connection.ConnectionClosed.IsCancellationRequested) End(Gone); // no read that would notice
            else if (silent >= limit) End(Silent);
            else ScheduleOnce(KeepAliveTimer, limit - silent);
        }

        // ---- writing

        private WriteState Write()
        {
            var state = _writer.Write();
            if (state == WriteState.Pending && !IsTimerActive(WriteTimer)) ScheduleOnce(WriteTimer, Options.WriteTimeout);
            if (_writer.IsCut) End(Gone);
            return state;
        }

        // Not cancelled and set anew with every flush: it looks how long the present one has taken.
        private void CheckFlush()
        {
            if (!_writer.IsFlushing) return;
            var rest = Options.WriteTimeout - _writer.Flushing;
            if (rest > TimeSpan.Zero)
            {
                ScheduleOnce(WriteTimer, rest);
                return;
            }

            End(NotRead);
            Cut();
        }

        private void Cut()
        {
            _connection.Abort();
            _writer.Cut();
        }

        // ---- the device

        // Returns false if it can wait until the device has said what else it has to say: it goes into the same flush.
        private bool IsForNow(IActorRef sender, object message)
        {
            switch (message)
            {
                case ToConnection.Transmit packet:
                    return OnTransmit(sender, packet);
                case SubDevices.Transmit transmit:
                    Enqueue(transmit.SubDevice, transmit.Packet);
                    return false;
                case SubDevices.Moved moved:
                    _writer.Forget(moved.SubDevice);
                    return false;
                case ToConnection.AcknowledgementsTaken taken when sender.Equals(_attachment.Device):
                    _attachment.Taken(taken.Epoch, taken.UpTo);
                    return true;
                case ToConnection.AttachSubDevice attach:
                    if (!_writer.IsOpen) sender.Tell(OutboxReply.Done.Instance); // asked about when the session is known
                    else Carrier().Tell(attach, sender);
                    return false;
                case ToConnection.SubDevicesChanged changed:
                    if (!_writer.IsOpen) sender.Tell(OutboxReply.Done.Instance); // a gateway that comes asks
                    else Dialogue().Tell(changed, sender);
                    return false;
                case GatewayDialogue.Say say:
                    foreach (var said in say.Packets) _writer.Replies.Enqueue(said);
                    if (say.IsAwaited) _gateway.AwaitWritten();
                    return true;
                case BroadcastHub.Deliver broadcast:
                    _writer.Enqueue(broadcast.Packet);
                    RunLater();
                    return false;
                case ToConnection.Challenged challenged:
                    _attachment.Challenge = challenged.Challenge;
                    Attach();
                    return true;
                case ToConnection.Attached attached:
                    OnAttached(attached, sender);
                    return true;
                case ToConnection.Evicted evicted:
                    End(evicted.TakenOver ? TakenOver : Evicted);
                    return true;
                case DeviceWatch.Gone gone when gone.Device.Equals(_attachment.Device):
                    LoseDevice();
                    AttachLater();
                    return true;
                default:
                    return true;
            }
        }

        private bool OnTransmit(IActorRef sender, ToConnection.Transmit packet)
        {
            switch (_attachment.Receive(sender, packet))
            {
                case TransmitVerdict.Deliver:
                    Enqueue(_connect.DeviceId, packet);
                    return false;
                case TransmitVerdict.Gap:
                    StartOver();
                    return true;
                default:
                    return false;
            }
        }

        private void Enqueue(DeviceId deviceId, ToConnection.Transmit packet)
        {
            if (!_writer.Enqueue(deviceId, packet)) End(Overrun);
            RunLater();
        }

        private void OnPacketDone(ushort tag, int qos, byte reasonCode, bool isSkipped) => Acknowledge(tag, qos, reasonCode, isSkipped);

        // Straight to the actor that sent the packet: by way of its shard the end of this stage, which it watches, could overtake it,
        // and a client that acknowledges and leaves would have acknowledged nothing.
        private void Acknowledge(ushort tag, int qos, byte reasonCode, bool isSkipped)
        {
            if (tag > PacketIds.Max)
            {
                _gateway.SubDevices?.Tell(new SubDevices.Acknowledged(tag, qos, reasonCode, isSkipped), StageActor.Ref);
                return;
            }

            if (_attachment.Acknowledge(tag, qos, reasonCode, isSkipped) is { } acknowledged) _attachment.Device!.Tell(acknowledged, StageActor.Ref);
            if (!IsTimerActive(AcknowledgeTimer)) ScheduleOnce(AcknowledgeTimer, ConfirmWithin);
        }

        private void AcknowledgeAgain()
        {
            if (!_attachment.HasUnconfirmed) return;
            if (_attachment.Device is { } device)
            {
                foreach (var acknowledged in _attachment.Unconfirmed()) device.Tell(acknowledged, StageActor.Ref);
            }

            ScheduleOnce(AcknowledgeTimer, ConfirmWithin);
        }

        private void Revise(ImmutableArray<Subscription> subscribed, MqttPacket? heldReply)
        {
            _subscriptions.Add(_attachment.Revise(), subscribed, heldReply);
            Attach();
            var carried = _subscriptions.ForSubDevices(_session);
            _gateway.SubDevices?.Tell(
                new SubDevices.Subscribed(carried, _subscriptions.IsImplicit ? carried : subscribed), StageActor.Ref);
            Listen(BroadcastHub.FiltersOf(_session.Subscriptions));
        }

        private void Listen(ImmutableArray<string> filters)
        {
            if (filters.IsEmpty && !_subscriptions.IsListening) return;
            _subscriptions.IsListening = !filters.IsEmpty;
            _services.Broadcasts.Tell(new BroadcastHub.Listen(_connect, filters), StageActor.Ref);
        }

        private IActorRef Carrier() => _gateway.Carry(() =>
            Props.Create(typeof(SubDevices), _connect, _subscriptions.ForSubDevices(_session), StageActor.Ref, _services, _acceptedAt));

        private IActorRef Dialogue() => _gateway.Talk(() =>
            Props.Create(typeof(GatewayDialogue), _connect, StageActor.Ref, _services));

        private void Attach()
        {
            // Nothing confirmed yet: the device may still hold what an earlier connection left, and only it knows what that is.
            var isFirst = _attachment.Confirmed == 0;
            var age = _services.Clock.GetElapsedTime(_acceptedAt);
            if (isFirst && _connect.StartsClean && age > CleanStartWithin)
            {
                End(Unattached);
                return;
            }

            var attach = new ToDevice.Attach(
                _connect.DeviceId,
                _connect.ConnectionId,
                _connect.ConnectedAt,
                new WireConnection(ForbidsRepeats: _connect.IsMqtt5, _connect.ReceiveMaximum),
                Expiry(_connect.SessionExpiryInterval) ?? TimeSpan.MaxValue,
                StartsClean: _connect.StartsClean && isFirst,
                _attachment.Revision,
                Subscriptions: isFirst && !_connect.StartsClean ? null : _session.Subscriptions,
                Subscribed: _subscriptions.Unconfirmed(),
                _subscriptions.IsImplicit,
                StageActor.Ref,
                _attachment.Epoch,
                age,
                _attachment.Challenge,
                _connect.Generation);
            _services.Devices.Tell(attach, StageActor.Ref);
            MqttMeters.Attaches.Add(1);
            AttachLater(); // messages are silently dropped while a shard moves
        }

        private void AttachLater() => ScheduleOnce(AttachTimer, Options.NextAttachWait(++_attachment.Attempts));

        private static TimeSpan? Expiry(uint? interval) =>
            interval is not { } seconds ? null : seconds == uint.MaxValue ? TimeSpan.MaxValue : TimeSpan.FromSeconds(seconds);

        private void OnAttached(ToConnection.Attached attached, IActorRef device)
        {
            var isNew = _attachment.Device is null;
            switch (_attachment.Confirm(device, attached.Revision, out var released))
            {
                case AttachVerdict.Stale:
                    return;
                case AttachVerdict.Restart:
                    StartOver();
                    return;
            }

            if (isNew)
            {
                _services.DeviceWatch.Tell(new DeviceWatch.Watch(device, StageActor.Ref), ActorRefs.NoSender);
                foreach (var packet in released) Enqueue(_connect.DeviceId, packet);
                AcknowledgeAgain();
            }

            _subscriptions.Confirm(attached.Revision, _writer.Replies);
            if (!_writer.IsOpen)
            {
                _session = _session with { Subscriptions = attached.Subscriptions };
                Accept(attached.SessionPresent);
                Listen(BroadcastHub.FiltersOf(_session.Subscriptions));
                _reader.Wake(); // what came meanwhile lies in the pipe
            }

            if (_attachment.IsConfirmed) CancelTimer(AttachTimer);
        }

        private void StartOver()
        {
            LoseDevice();
            Attach();
        }

        private void LoseDevice()
        {
            if (_attachment.Device is { } device) Unwatch(device);
            _attachment.Lose();
            _writer.Forget(_connect.DeviceId);
        }

        private void Unwatch(IActorRef device) => _services.DeviceWatch.Tell(new DeviceWatch.Unwatch(device, StageActor.Ref), ActorRefs.NoSender);

        private void SubscribeImplicitly()
        {
            // What was said within the grace counts, also if it is not read yet: a busy node must not make a client late.
            Run();
            if (_end is not null || _subscriptions.CoverDownTopic(_session)) return;
            if (_writer.IsFlushing || _runsLater || _reader.HasUnread || !MayRead)
            {
                ScheduleOnce(ImplicitTimer, UnreadAgain);
                return;
            }

            _subscriptions.IsImplicit = true;
            Revise([], heldReply: null);
        }

        // ---- beginning and end

        private void Accept(bool sessionPresent)
        {
            _writer.IsOpen = true;
            _writer.Replies.Enqueue(ConnAck.Accept(_connect, sessionPresent, Options));
            _reader.Heard();
            ScheduleOnce(KeepAliveTimer, _connect.KeepAlive * 1.5);
            if (_connect.IsGateway) Carrier();
            if (_connect.IsImplicit) ScheduleOnce(ImplicitTimer, Options.ImplicitSubscriptionGrace);
        }

        private void End(SessionEnd end)
        {
            if (_end is not null) return;
            _end = end;
            _writer.Close();
            _subscriptions.Clear();
            if (end.ReasonCode is { } code)
            {
                // Before CONNACK there is no DISCONNECT (MQTT 5, 3.14), and MQTT 3.1.1 knows none from a server at all.
                if (!_writer.IsOpen) _writer.Replies.Enqueue(ConnAck.Refuse(MqttConnectReasonCode.ServerUnavailable, reason: null));
                else if (_connect.IsMqtt5) _writer.Replies.Enqueue(new MqttDisconnectPacket { ReasonCode = code, ReasonString = end.Why });
            }

            ScheduleOnce(CloseTimer, Options.CloseTimeout);
        }

        private void Leave()
        {
            if (_reader.IsReading) _reader.Wake(); // comes back here
            else CompleteStage();
        }
    }
}
