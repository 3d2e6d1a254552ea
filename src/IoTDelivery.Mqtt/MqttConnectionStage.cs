using System.Collections.Immutable;
using System.IO.Pipelines;
using System.Runtime.CompilerServices;
using Akka;
using Akka.Actor;
using Akka.Streams;
using Akka.Streams.Stage;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.Extensions.Logging;
using MQTTnet.Exceptions;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;

namespace IoTDelivery.Mqtt;

/// <summary>What a CONNECT settled.</summary>
/// <param name="ConnectionId">Unique among all connections ever.</param>
/// <param name="KeepAlive">One and a half times this without a byte ends the connection.</param>
/// <param name="StartsClean">Clean session, or MQTT 5 clean start.</param>
/// <param name="SessionExpiryInterval">Seconds the session outlives the connection (MQTT 5, 3.1.2.11.2); for ever at <see cref="uint.MaxValue"/>, as with clean session 0.</param>
/// <param name="ReceiveMaximum">Unacknowledged packets the client takes.</param>
/// <param name="PacketBytesMax">Largest packet the client takes (MQTT 5, 3.1.2.11.4).</param>
/// <param name="IsGateway">Sub-devices share this connection.</param>
/// <param name="ProjectId">Whose device it is: broadcasts are for one project.</param>
/// <param name="AppId">Its resource space, if it has one.</param>
/// <param name="IsKeepAliveOurs">The client asked for another one and is told [MQTT-3.1.2-21].</param>
/// <param name="IsImplicit">Its product's devices may count as subscribed without asking.</param>
public sealed record AcceptedConnect(
    DeviceId DeviceId,
    Guid ConnectionId,
    DateTimeOffset ConnectedAt,
    MqttProtocolVersion Version,
    TimeSpan KeepAlive,
    bool StartsClean,
    uint SessionExpiryInterval,
    int ReceiveMaximum = ushort.MaxValue,
    uint PacketBytesMax = uint.MaxValue,
    bool IsGateway = false,
    string ProjectId = "",
    string? AppId = null,
    bool IsKeepAliveOurs = false,
    bool IsImplicit = false)
{
    public bool KeepsSession => SessionExpiryInterval > 0;


    public bool IsMqtt5 => Version == MqttProtocolVersion.V500;
}

/// <summary>What all connections of a node share.</summary>
internal sealed record MqttNode(
    ActorSystem System, DeviceGateway Devices, FindWaitingSubDevices FindWaitingSubDevices, IActorRef DeviceWatch, MqttOptions Options, TimeProvider Clock, ILogger Logger,
    ReportSdkInfo ReportSdkInfo, TakeUplink TakeUplink, UplinkBytes UplinkBytes, IActorRef Broadcasts, HandOver HandOver);

/// <summary>
/// The stage between one pipe and one session, and the connection's end of the talk with its device actor. It is a graph of its own; its stage actor is the
/// address devices answer to. The materialized task ends with the connection and says why.
/// </summary>
//
//                    clean start                                    every change of the subscriptions is a new revision,
//   CONNECT ─────────────────────────► open ◄─────────┐             told again until it is acknowledged:
//      │ session may go on              │  ▲          │
//      ▼                 Attached       │  │ Attached │               Attach(n) ──► … Attach(n) ──► Attached(n) ──► silence
//   waiting ──────────────────────► CONNACK           │                   ▲                             │
//      │                                │             │                   └── n+1 ── device actor gone ─┘
//      │ client gone, evicted,          ▼             │
//      └── shutdown ──────────────► ending ── flushed, or cut after CloseTimeout ──► PostStop: Detach
//
internal sealed class MqttConnectionStage(ConnectionContext connection, AcceptedConnect connect, MqttNode node)
    : GraphStageWithMaterializedValue<SinkShape<NotUsed>, Task<SessionEnd>>
{
    // Akka.Streams does not run a stage without ports: this one is connected to a source that has nothing to say, and nothing ever passes.
    private readonly Inlet<NotUsed> _nothing = new("nothing");

    public override SinkShape<NotUsed> Shape => new(_nothing);

    public override ILogicAndMaterializedValue<Task<SessionEnd>> CreateLogicAndMaterializedValue(Attributes inheritedAttributes)
    {
        var logic = new Logic(this, connection, connect, node);
        return new LogicAndMaterializedValue<Task<SessionEnd>>(logic, logic.Ended);
    }

    private sealed class Logic : TimerGraphStageLogic
    {
        private const int FlushBytes = 64 * 1024; // encoded in one go; more waits for the transport
        private const int RepliesMax = 128; // answers to one read before they are written
        private const int ChangesMax = 16; // SUBSCRIBEs the device has not acknowledged before reading stops
        private const int BroadcastsMax = 16; // waiting for the transport; a slow reader misses the next one
        private const int TurnsMax = 16; // reads in one go before other connections have their turn
        private const byte PacketTooLarge = (byte)MqttDisconnectReasonCode.PacketTooLarge;
        private const byte PayloadFormatInvalid = (byte)MqttDisconnectReasonCode.PayloadFormatInvalid;

        private static readonly SessionEnd Gone = new("connection lost", Say: null);
        private static readonly SessionEnd NotRead = new("client does not read", Say: null);
        private static readonly SessionEnd Stopped = new("stopped", Say: null);
        private static readonly SessionEnd ShuttingDown = new("shutdown", MqttDisconnectReasonCode.ServerShuttingDown);
        private static readonly SessionEnd HandedOver = new("handed over", MqttDisconnectReasonCode.UseAnotherServer);
        private static readonly SessionEnd Silent = new("keep-alive", MqttDisconnectReasonCode.KeepAliveTimeout);
        private static readonly SessionEnd TakenOver = new("taken over", MqttDisconnectReasonCode.SessionTakenOver);
        private static readonly SessionEnd LetGo = new("deleted, frozen or secret reset", MqttDisconnectReasonCode.AdministrativeAction);
        private static readonly SessionEnd Overrun = new("outgoing queue full", MqttDisconnectReasonCode.QuotaExceeded);
        private static readonly SessionEnd TooLarge = new("packet too large", MqttDisconnectReasonCode.PacketTooLarge);
        private static readonly SessionEnd Malformed = new("malformed packet", MqttDisconnectReasonCode.MalformedPacket);

        private static readonly TimeSpan Unread = TimeSpan.FromMilliseconds(20);

        private static readonly object AttachTimer = new(), KeepAliveTimer = new(), WriteTimer = new(), CloseTimer = new(), ImplicitTimer = new(), HandOverTimer = new();

        // Subscriptions changed; the device has not said yet that it knows.
        private readonly record struct Change(int Revision, ImmutableArray<Subscription> Subscribed, MqttPacket? HeldReply);

        private readonly ConnectionContext _connection;
        private readonly string _downTopic;
        private readonly AcceptedConnect _connect;
        private readonly MqttNode _node;
        private readonly PipeReader _input;
        private readonly PipeWriter _output;
        private readonly TaskCompletionSource<SessionEnd> _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly Queue<MqttPacket> _replies = new();
        private readonly Queue<(DeviceId DeviceId, ToConnection.Transmit Packet)> _outgoing = new();
        private readonly HashSet<ushort> _unanswered = []; // packet ids, for an MQTT 5 client that said how many it takes
        private IActorRef? _subDevices;
        private readonly Queue<MqttPublishPacket> _broadcasts = new();
        private bool _isListening; // the node's hub knows of broadcast filters of this connection
        private ushort _lastTag; // a device that moves goes on behind it: PUBACKs for its predecessor's packets may still come
        private readonly Queue<Change> _changes = new();
        private readonly List<ushort> _inFlush = []; // QoS 0 tags among the bytes the transport has not taken yet
        private readonly Action _onRead, _onFlushed, _run;
        private readonly Uplinks _uplinks;

        private MqttSession _session;
        private SessionEnd? _end;
        private IActorRef? _device;
        private readonly List<(IActorRef Device, ToConnection.Transmit Packet)> _early = []; // from whoever has not told yet that it is attached
        private int _turn; // how often it was lost
        private int _place; // of the last packet in this turn
        private int _turnBegan; // with this revision: what was said before is nobody's word any more
        private int _revision = 1; // the first Attach says that the connection is there
        private int _attached; // the newest revision the device knows
        private int _attempts;
        private bool _isAccepted; // CONNACK is said
        private bool _isImplicit;
        private bool _isSoon; // _run is on its way
        private CancellationTokenRegistration _shutdown;

        private ValueTaskAwaiter<ReadResult> _read;
        private bool _isReading, _hasRead;
        private long _receivedAt;

        private ValueTaskAwaiter<FlushResult> _flush;
        private bool _isFlushing, _isCut;
        private int _unflushed;
        private long _flushingSince;

        public Logic(MqttConnectionStage stage, ConnectionContext connection, AcceptedConnect connect, MqttNode node)
            : base(stage.Shape)
        {
            (_connection, _connect, _node, _downTopic) = (connection, connect, node, SystemTopics.MessagesDown(connect.DeviceId));
            (_input, _output) = (connection.Transport.Input, connection.Transport.Output);
            _session = new MqttSession(connect.DeviceId, connect.Version, node.Options.SubscriptionsMax, node.Options.ReceiveMax, node.Options.TopicAliasMax)
            {
                MayOutlive = connect.KeepsSession,
            };
            _onRead = GetAsyncCallback(OnRead);
            _onFlushed = GetAsyncCallback(OnFlushed);
            _run = GetAsyncCallback(OnSoon);
            _uplinks = new Uplinks(connect.DeviceId, node.TakeUplink, Options.ReceiveMax, Options.PacketBytesMax, node.UplinkBytes, GetAsyncCallback(OnUplinksTaken));
            SetHandler(stage._nothing, TotallyIgnorantInput);
        }

        public Task<SessionEnd> Ended => _ended.Task;

        private MqttOptions Options => _node.Options;

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
            if (_device is not null) _node.DeviceWatch.Tell(new DeviceWatch.Unwatch(_device, StageActor.Ref), ActorRefs.NoSender);
            if (_subDevices is not null) _node.System.Stop(_subDevices);
            Listen([]);

            // Straight to the actor, as an answer: the end of this stage would overtake what the client said of its session.
            var detach = new ToDevice.Detach(_connect.DeviceId, _connect.ConnectionId, SessionExpiry(_end?.SessionExpiryInterval));
            if (_end?.SessionExpiryInterval is not null && _device is not null) _device.Tell(detach, StageActor.Ref);
            else _node.Devices.Tell(detach, StageActor.Ref);
            _ended.TrySetResult(_end ?? Stopped);
        }

        protected override void OnTimer(object timerKey)
        {
            if (timerKey == AttachTimer && _end is null) Attach();
            else if (timerKey == KeepAliveTimer && _end is null) CheckKeepAlive();
            else if (timerKey == ImplicitTimer && _end is null) SubscribeImplicitly();
            else if (timerKey == HandOverTimer) End(HandedOver);
            else if (timerKey == WriteTimer) CheckFlush();
            else if (timerKey == CloseTimer) Cut();
            Run();
        }

        private void OnRead()
        {
            (_isReading, _hasRead) = (false, true);
            Run();
        }

        private void OnFlushed()
        {
            _isFlushing = false;
            Flushed();
            Run();
        }

        private void OnUplinksTaken()
        {
            if (_end is null)
            {
                _uplinks.Acknowledge(_replies);
                if (_uplinks.Unpark() is { } parked)
                {
                    _receivedAt = _node.Clock.GetTimestamp();
                    On(parked);
                }
            }

            Run();
        }

        private void OnSoon()
        {
            _isSoon = false;
            Run();
        }

        private void OnShutdown()
        {
            if (_isAccepted && _node.HandOver.NextTurn() is { } wait) ScheduleOnce(HandOverTimer, wait);
            else End(ShuttingDown);
            Run();
        }

        // Write what is to be written; only then read what that made room for.
        private void Run()
        {
            for (var turn = 0; turn < TurnsMax; turn++)
            {
                if (!Write()) return; // backpressure: nothing is read until the transport has taken the bytes
                if (_end is not null)
                {
                    Leave();
                    return;
                }

                if (!Read()) return;
            }

            Soon();
        }

        private void Soon()
        {
            if (_isSoon) return;
            _isSoon = true;
            _run();
        }

        // ---- reading

        /// <returns>False if there is nothing to do until bytes come.</returns>
        private bool Read()
        {
            if (_isReading || _changes.Count >= ChangesMax || _uplinks.IsFull) return false;
            if (!_hasRead)
            {
                _read = _input.ReadAsync().GetAwaiter();
                if (!_read.IsCompleted)
                {
                    _isReading = true;
                    _read.UnsafeOnCompleted(_onRead);
                    return false;
                }
            }

            _hasRead = false;
            if (TryGetResult(out var result)) Take(result);
            else End(Gone);
            return true;
        }

        private bool TryGetResult(out ReadResult result)
        {
            try
            {
                result = _read.GetResult();
                return true;
            }
            catch (Exception) // reset, aborted: whatever the transport calls it, the client is gone
            {
                result = default;
                return false;
            }
        }

        private void Take(ReadResult result)
        {
            var bytes = result.Buffer;

            // Any byte counts, not only whole packets as in [MQTT-3.1.2-24]: a megabyte may take its time on a thin line.
            if (!bytes.IsEmpty) _receivedAt = _node.Clock.GetTimestamp();

            var isIncomplete = !_isAccepted; // until CONNACK what comes stays in the pipe; the read only notices that the client goes
            while (_isAccepted && _end is null && _replies.Count < RepliesMax && _changes.Count < ChangesMax && !_uplinks.IsFull)
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

            _input.AdvanceTo(bytes.Start, isIncomplete ? bytes.End : bytes.Start);
            if (isIncomplete && result.IsCompleted) End(Gone);
        }

        private void On(MqttPacket packet)
        {
            if (_uplinks.Parks(packet)) return;
            var step = _session.On(packet);
            var speaksForItself = step.Subscribed is not null && (_session.IsSubscribed(_downTopic) || step.Next.IsSubscribed(_downTopic));
            _session = step.Next;
            if (speaksForItself)
            {
                _isImplicit = false; // also after an UNSUBSCRIBE: it has said what it wants
                CancelTimer(ImplicitTimer);
            }

            if (step.Uplink is { } uplink)
            {
                MqttMeters.Uplinks.Add(1);
                MqttMeters.UplinkBytes.Add(uplink.Payload.Length);
                OnEvents(EventsUp.Read(_connect.DeviceId, uplink.Topic, uplink.Payload));
            }

            if (step.Answer is { } answer)
            {
                MqttMeters.Answers.Add(1);
                Answered(answer.PacketId, 1, answer.ReasonCode);
            }

            // A client that wants its subscriptions kept hears of them when they are kept. So does one that asks for QoS 1 where QoS 0 would do without asking:
            // once it has its SUBACK, nothing goes out to it implicitly any more, whoever crashes.
            var isHeld = step.Subscribed is { } held && (_connect.KeepsSession || (_connect.IsImplicit && held.Any(s => s.QoS == 1 && s.Matches(_downTopic))));
            if (_uplinks.Take(step.Uplink, step.Reply) is { } reply && !isHeld) _replies.Enqueue(reply);
            if (step.Subscribed is { } subscribed) Revise(subscribed, isHeld ? step.Reply : null);
            if (step.End is { } end) End(end);
        }

        private void OnEvents(EventsUp events)
        {
            if (events.SdkInfo is { } info) _node.ReportSdkInfo(_connect.DeviceId, info);
            if (events.TimeSync is not { } request) return;
            var now = _node.Clock.GetUtcNow();
            _replies.Enqueue(TimeSyncResponse.To(_connect.DeviceId, request, now, now));
        }

        private void CheckKeepAlive()
        {
            var (limit, silent) = (_connect.KeepAlive * 1.5, _node.Clock.GetElapsedTime(_receivedAt)); // [MQTT-3.1.2-24]
            if (_isFlushing || _changes.Count >= ChangesMax || _uplinks.IsFull) silent = TimeSpan.Zero; // it is we who do not listen
            if (_uplinks.IsFull && _connection.ConnectionClosed.IsCancellationRequested) End(Gone); // no read that would notice
            else if (silent >= limit) End(Silent);
            else ScheduleOnce(KeepAliveTimer, limit - silent);
        }

        // ---- writing

        /// <returns>False while the transport does not take bytes.</returns>
        private bool Write()
        {
            while (!_isFlushing)
            {
                if (_isCut) return true;
                Encode();
                if (_unflushed == 0) return true;

                _unflushed = 0;
                _flush = _output.FlushAsync().GetAwaiter();
                if (_flush.IsCompleted)
                {
                    Flushed();
                    continue;
                }

                (_isFlushing, _flushingSince) = (true, _node.Clock.GetTimestamp());
                _flush.UnsafeOnCompleted(_onFlushed);
                if (!IsTimerActive(WriteTimer)) ScheduleOnce(WriteTimer, Options.WriteTimeout);
            }

            return false;
        }

        // All that is queued goes into one flush, up to a size.
        private void Encode()
        {
            while (_unflushed < FlushBytes && _replies.TryDequeue(out var reply)) _unflushed += Encode(reply);
            while (_unflushed < FlushBytes && MayTransmit() && _outgoing.TryDequeue(out var next)) Encode(next.DeviceId, next.Packet);
            while (_unflushed < FlushBytes && _broadcasts.TryDequeue(out var broadcast)) EncodeBroadcast(broadcast);
        }

        // [MQTT-3.1.2-25] What is larger than the client takes is not sent; [MQTT-3.14.2-3] a reason that would make it so is left out.
        private int Encode(MqttPacket reply)
        {
            var bytes = MqttFraming.Write(_output, reply, _connect.Version, _connect.PacketBytesMax);
            if (bytes > 0 || reply is not MqttDisconnectPacket { ReasonString: not null } disconnect) return bytes;
            disconnect.ReasonString = null;
            return MqttFraming.Write(_output, disconnect, _connect.Version, _connect.PacketBytesMax);
        }

        private void EncodeBroadcast(MqttPublishPacket broadcast)
        {
            var bytes = MqttFraming.Write(_output, broadcast, _connect.Version, _connect.PacketBytesMax);
            _unflushed += bytes;
            (bytes > 0 ? MqttMeters.Broadcasts : MqttMeters.BroadcastsMissed).Add(1);
        }

        // [MQTT-3.2.0-1] Nothing before CONNACK: a device that knows the session sends at once, and what it says of the session may wait for its write.
        // [MQTT-3.3.4-9] The device actors of a gateway and its sub-devices each keep to the window, but not together.
        private bool MayTransmit() => _isAccepted && (_unanswered.Count < _connect.ReceiveMaximum || (_outgoing.TryPeek(out var next) && next.Packet.QoS == 0));

        private void Encode(DeviceId deviceId, ToConnection.Transmit transmit)
        {
            try
            {
                var packet = DownPayload.Publish(deviceId, transmit, _connect.IsMqtt5, _node.Clock.GetUtcNow());
                var bytes = MqttFraming.Write(_output, packet, _connect.Version, _connect.PacketBytesMax);
                if (bytes == 0)
                {
                    Unsendable(transmit, PacketTooLarge, "it is larger than the client takes"); // [MQTT-3.1.2-24]
                    return;
                }

                _unflushed += bytes;
                if (transmit.QoS == 0) _inFlush.Add(transmit.Tag);
                if (transmit.Tag <= Inflight.TagMax && IsAhead(transmit.Tag)) _lastTag = transmit.Tag;
                if (transmit.QoS > 0 && _connect.IsMqtt5) _unanswered.Add(transmit.Tag);
                MqttMeters.Transmits.Add(1);
            }
            catch (Exception cause) when (cause is FormatException or MqttProtocolViolationException)
            {
                Unsendable(transmit, PayloadFormatInvalid, cause.Message);
            }
        }

        // Of a device's own packet ids, which go round: a repetition is behind, what a resumed session begins with is ahead.
        private bool IsAhead(ushort tag) => _lastTag == 0 || (tag - _lastTag + Inflight.TagMax) % Inflight.TagMax < Inflight.TagMax / 2;

        // Trying again would not help: the message ends as if the device had refused it.
        private void Unsendable(ToConnection.Transmit transmit, byte code, string why)
        {
            MqttMeters.Unsendable.Add(1);
            _node.Logger.Unsendable(transmit.MessageId, _connect.DeviceId, why);
            Answered(transmit.Tag, transmit.QoS, code);
        }

        private void Flushed()
        {
            var isTaken = false;
            try
            {
                isTaken = _flush.GetResult() is { IsCompleted: false, IsCanceled: false };
            }
            catch (Exception)
            {
                // Reset or aborted: not taken.
            }

            if (isTaken)
            {
                foreach (var tag in _inFlush) Answered(tag, 0, 0);
            }
            else
            {
                _isCut = true;
                End(Gone);
            }

            _inFlush.Clear();
        }

        // Not cancelled and set anew with every flush: it looks how long the present one has taken.
        private void CheckFlush()
        {
            if (!_isFlushing) return;
            var rest = Options.WriteTimeout - _node.Clock.GetElapsedTime(_flushingSince);
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
            _isCut = true;
            _connection.Abort();
            _output.CancelPendingFlush();
        }

        // ---- the device

        private void OnMessage((IActorRef Sender, object Message) heard)
        {
            if (_end is not null) return;
            switch (heard.Message)
            {
                case ToConnection.Transmit late when late.Turn != _turn:
                    return;
                case ToConnection.Transmit early when _device is null:
                    if (_early.Count < Options.OutgoingMax) _early.Add((heard.Sender, early)); // its Attached comes later, or again; order is kept
                    return;
                case ToConnection.Transmit when !heard.Sender.Equals(_device):
                    return; // of an owner that has lost the device
                case ToConnection.Transmit next when !next.Follows(ref _place):
                    StartOver(); // one was lost between the nodes: this one would arrive before it
                    break;
                case ToConnection.Transmit transmit:
                    Enqueue(_connect.DeviceId, transmit);
                    Soon(); // what else the device has said by then goes into the same flush
                    return;
                case SubDevices.Transmit transmit:
                    Enqueue(transmit.SubDevice, transmit.Packet);
                    Soon();
                    return;
                case ToConnection.Knocked knocked:
                    if (!_isAccepted) heard.Sender.Tell(OutboxReply.Done.Instance); // asked about when the session is known
                    else Gateway().Tell(knocked, heard.Sender);
                    return;
                case BroadcastHub.Deliver broadcast:
                    if (_broadcasts.Count >= BroadcastsMax) MqttMeters.BroadcastsMissed.Add(1);
                    else _broadcasts.Enqueue(broadcast.Packet);
                    Soon();
                    return;
                case ToConnection.Attached attached:
                    OnAttached(attached, heard.Sender);
                    break;
                case ToConnection.Evicted evicted:
                    End(evicted.TakenOver ? TakenOver : LetGo);
                    break;
                case DeviceWatch.Gone gone when gone.Device.Equals(_device):
                    OnDeviceGone();
                    break;
            }

            Run();
        }

        private void Enqueue(DeviceId deviceId, ToConnection.Transmit transmit)
        {
            if (transmit.Dup && IsQueued(transmit.Tag)) return; // a slow client does not get faster by repetitions
            if (_outgoing.Count >= Options.OutgoingMax) End(Overrun);
            else _outgoing.Enqueue((deviceId, transmit));
        }

        private bool IsQueued(ushort tag)
        {
            foreach (var (_, packet) in _outgoing)
            {
                if (packet.Tag == tag) return true;
            }

            return false;
        }

        // Straight to the actor that sent the packet: by way of its shard the end of this stage, which it watches, could overtake the answer, and a client
        // that acknowledges and leaves would have acknowledged nothing.
        private void Answered(ushort tag, int qos, byte reasonCode)
        {
            _unanswered.Remove(tag);
            if (tag > Inflight.TagMax)
            {
                _subDevices?.Tell(new SubDevices.Answered(tag, qos, reasonCode), StageActor.Ref);
                return;
            }

            var answered = new ToDevice.Answered(_connect.DeviceId, _connect.ConnectionId, tag, qos, reasonCode);
            _device?.Tell(answered, StageActor.Ref); // lost: whoever has it now numbers its packets anew, and sends again what is not acknowledged
        }

        private void Revise(ImmutableArray<Subscription> subscribed, MqttPacket? heldReply)
        {
            _changes.Enqueue(new Change(++_revision, subscribed, heldReply));
            _attempts = 0;
            Attach();
            _subDevices?.Tell(new SubDevices.Subscribed(CarriedSubscriptions(), _isImplicit ? CarriedSubscriptions() : subscribed), StageActor.Ref);
            Listen(BroadcastHub.FiltersOf(_session.Subscriptions));
        }

        private void Listen(ImmutableArray<string> filters)
        {
            if (filters.IsEmpty && !_isListening) return; // most devices never do
            _isListening = !filters.IsEmpty;
            _node.Broadcasts.Tell(new BroadcastHub.Listen(_connect, filters), StageActor.Ref);
        }

        private IActorRef Gateway() => _subDevices ??= _node.System.ActorOf(
            Props.Create(typeof(SubDevices), _connect, CarriedSubscriptions(), StageActor.Ref, _node));

        // What goes to sub-devices goes out on the gateway's topics: its implicit subscription covers them.
        private ImmutableArray<Subscription> CarriedSubscriptions() =>
            _isImplicit && !_session.IsSubscribed(SystemTopics.MessagesDown(_connect.DeviceId))
                ? _session.Subscriptions.Add(new Subscription(SystemTopics.AllSystem(_connect.DeviceId), 0))
                : _session.Subscriptions;

        private void Attach()
        {
            // Nothing acknowledged yet: the device may still hold what an earlier connection left, and only it knows what that is.
            var isFirst = _attached == 0;
            var attach = new ToDevice.Attach(
                _connect.DeviceId,
                _connect.ConnectionId,
                _connect.ConnectedAt,
                new WireConnection(ForbidsRepeats: _connect.IsMqtt5, _connect.ReceiveMaximum),
                SessionExpiry(_connect.SessionExpiryInterval) ?? TimeSpan.MaxValue,
                StartsClean: _connect.StartsClean && isFirst,
                _revision,
                Subscriptions: isFirst && !_connect.StartsClean ? null : _session.Subscriptions,
                Subscribed: Unacknowledged(),
                _isImplicit,
                StageActor.Ref,
                _lastTag,
                _turn);
            _node.Devices.Tell(attach, StageActor.Ref);
            MqttMeters.Attaches.Add(1);
            ScheduleOnce(AttachTimer, Options.NextAttachWait(++_attempts)); // messages are silently dropped while a shard moves
        }

        private static TimeSpan? SessionExpiry(uint? interval) =>
            interval is not { } seconds ? null : seconds == uint.MaxValue ? TimeSpan.MaxValue : TimeSpan.FromSeconds(seconds);

        // A revision that was never acknowledged may never have arrived: what it subscribed is said again.
        private ImmutableArray<Subscription> Unacknowledged()
        {
            if (_changes.Count == 0) return [];
            if (_changes.Count == 1) return _changes.Peek().Subscribed;

            var union = new Dictionary<string, Subscription>();
            foreach (var change in _changes)
            {
                foreach (var subscription in change.Subscribed) union[subscription.TopicFilter] = subscription;
            }

            return [.. union.Values];
        }

        private void OnAttached(ToConnection.Attached attached, IActorRef device)
        {
            if (attached.Revision <= _attached || attached.Revision > _revision || attached.Revision < _turnBegan) return; // said twice, or before it was lost
            if (_device is not null && !device.Equals(_device))
            {
                StartOver(); // two of them: whoever has it starts over
                return;
            }

            if (_device is null)
            {
                WatchDevice(device);
                foreach (var (from, packet) in _early)
                {
                    if (!from.Equals(device)) continue;
                    if (!packet.Follows(ref _place))
                    {
                        StartOver();
                        return;
                    }

                    Enqueue(_connect.DeviceId, packet);
                }

                _early.Clear();
                if (_end is not null) return;
            }

            _attached = attached.Revision;
            while (_changes.TryPeek(out var change) && change.Revision <= _attached)
            {
                _changes.Dequeue();
                if (change.HeldReply is { } reply) _replies.Enqueue(reply);
            }

            if (!_isAccepted)
            {
                _session = _session with { Subscriptions = attached.Subscriptions };
                Accept(attached.SessionPresent);
                Listen(BroadcastHub.FiltersOf(_session.Subscriptions));
                _input.CancelPendingRead(); // what came meanwhile lies in the pipe
            }

            if (_attached < _revision) return;
            _attempts = 0;
            CancelTimer(AttachTimer);
        }

        private void WatchDevice(IActorRef device)
        {
            _device = device;
            _node.DeviceWatch.Tell(new DeviceWatch.Watch(device, StageActor.Ref), ActorRefs.NoSender);
        }

        private void StartOver()
        {
            LoseDevice();
            Attach();
        }

        private void OnDeviceGone()
        {
            LoseDevice();
            ScheduleOnce(AttachTimer, Options.NextAttachWait(++_attempts));
        }

        private void LoseDevice()
        {
            if (_device is not null) _node.DeviceWatch.Tell(new DeviceWatch.Unwatch(_device, StageActor.Ref), ActorRefs.NoSender);
            _device = null;
            _turn++;
            _place = 0;
            _turnBegan = ++_revision;
            _attempts = 0;
            _early.Clear();

            // The next one knows nothing of these packets and sends what it owes itself, maybe under the same tags: an answer meant for the old one would be taken for its own.
            for (var left = _outgoing.Count; left > 0; left--)
            {
                var next = _outgoing.Dequeue();
                if (next.Packet.Tag > Inflight.TagMax) _outgoing.Enqueue(next);
            }

            _inFlush.RemoveAll(tag => tag <= Inflight.TagMax);
        }

        private void SubscribeImplicitly()
        {
            // What was said within the grace counts, also if it is not read yet: a busy node must not make a client late.
            Run();
            if (_end is not null || _session.IsSubscribed(_downTopic)) return;
            if (_isFlushing || _isSoon || _hasRead || _changes.Count >= ChangesMax || (_isReading && _read.IsCompleted))
            {
                ScheduleOnce(ImplicitTimer, Unread);
                return;
            }

            _isImplicit = true;
            Revise([], heldReply: null);
        }

        // ---- beginning and end

        private void Accept(bool sessionPresent)
        {
            _isAccepted = true;
            _replies.Enqueue(Acknowledge(_connect, sessionPresent, Options));
            _receivedAt = _node.Clock.GetTimestamp();
            ScheduleOnce(KeepAliveTimer, _connect.KeepAlive * 1.5);
            if (_connect.IsGateway) Gateway();
            if (_connect.IsImplicit) ScheduleOnce(ImplicitTimer, Options.ImplicitSubscriptionGrace);
        }

        private void End(SessionEnd end)
        {
            if (_end is not null) return;
            _end = end;
            _outgoing.Clear();
            _broadcasts.Clear();
            _changes.Clear();
            if (end.Say is { } code)
            {
                // Before CONNACK there is no DISCONNECT (MQTT 5, 3.14), and MQTT 3.1.1 knows none from a server at all.
                if (!_isAccepted) _replies.Enqueue(Refuse(MqttConnectReasonCode.ServerUnavailable, reason: null));
                else if (_connect.IsMqtt5) _replies.Enqueue(new MqttDisconnectPacket { ReasonCode = code, ReasonString = end.Why });
            }

            ScheduleOnce(CloseTimer, Options.CloseTimeout);
        }

        private void Leave()
        {
            if (_isReading) _input.CancelPendingRead(); // comes back here
            else CompleteStage();
        }
    }

    /// <summary>
    /// The CONNACK of this server. No Maximum QoS: a client that means to subscribe with QoS 2 would give up instead of taking 1. It says that nothing is
    /// retained, but a RETAIN flag or a will that comes all the same is passed over: closing would help nobody.
    /// </summary>
    internal static MqttConnAckPacket Acknowledge(AcceptedConnect connect, bool sessionPresent, MqttOptions options) => new()
    {
        ReasonCode = MqttConnectReasonCode.Success,
        ReturnCode = MqttConnectReturnCode.ConnectionAccepted,
        IsSessionPresent = sessionPresent,
        MaximumQoS = MqttQualityOfServiceLevel.ExactlyOnce, // the codec leaves it out then
        WildcardSubscriptionAvailable = true, // and this; what is not available it says
        ReceiveMaximum = (ushort)options.ReceiveMax,
        MaximumPacketSize = (uint)options.PacketBytesMax,
        TopicAliasMaximum = (ushort)options.TopicAliasMax,
        ServerKeepAlive = connect.IsKeepAliveOurs ? (ushort)connect.KeepAlive.TotalSeconds : (ushort)0, // [MQTT-3.2.2-21]
    };

    /// <summary>A CONNACK that says no, and nothing more but perhaps why.</summary>
    internal static MqttConnAckPacket Refuse(MqttConnectReasonCode code, string? reason) => new()
    {
        ReasonCode = code,
        ReturnCode = MqttConnectReasonCodeConverter.ToConnectReturnCode(code),
        ReasonString = reason,
        MaximumQoS = MqttQualityOfServiceLevel.ExactlyOnce,
        RetainAvailable = true,
        SharedSubscriptionAvailable = true,
        SubscriptionIdentifiersAvailable = true,
        WildcardSubscriptionAvailable = true,
    };
}
