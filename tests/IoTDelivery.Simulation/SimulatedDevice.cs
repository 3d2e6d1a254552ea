using System.Buffers;
using System.Text;
using IoTDelivery.Domain;
using IoTDelivery.Mqtt;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;

namespace IoTDelivery.Simulation;

/// <summary>A device that comes and goes, subscribes, answers, answers late, twice or not at all. It never lies: what it answered is what it got.</summary>
internal sealed class SimulatedDevice : Addressee
{
    private static readonly TimeSpan KeepAlive = TimeSpan.FromSeconds(30);

    private readonly World _world;
    private readonly MqttProtocolVersion _version;
    private readonly uint _sessionExpiry;
    private readonly int _receiveMaximum;
    private readonly int[] _qos; // by topic
    private readonly bool _acknowledgesLater;
    private readonly SortedDictionary<ushort, string> _held = []; // what it received in this session and has not acknowledged, if it may do so on a later connection
    private Wire? _wire;
    private ushort _packetIds;
    private bool _staysAway;
    private bool _isAccepted;
    private int _connects;

    public SimulatedDevice(World world, string name)
        : base(DeviceId.Parse(name), [SystemTopics.MessagesDown(DeviceId.Parse(name)), SystemTopics.User(DeviceId.Parse(name), "a")])
    {
        _world = world;
        _version = world.Chance(0.5) ? MqttProtocolVersion.V500 : MqttProtocolVersion.V311;
        _sessionExpiry = world.Random.Next(4) switch { 0 or 1 => 0, 2 when _version == MqttProtocolVersion.V500 => (uint)world.Random.Next(5, 40), _ => uint.MaxValue };
        _receiveMaximum = _version == MqttProtocolVersion.V500 ? world.Random.Next(1, 8) : ushort.MaxValue;
        _qos = [world.Chance(0.75) ? 1 : 0, world.Chance(0.75) ? 1 : 0];
        _acknowledgesLater = world.Happens(Fault.AckOnLaterConnection, 0.6) && _sessionExpiry > 0;
    }

    /// <summary>What its connection carries, if it is a gateway.</summary>
    public IReadOnlyList<Addressee> SubDevices { get; set; } = [];

    /// <summary>The connection it opened last.</summary>
    public Wire? Youngest { get; private set; }

    private bool IsMqtt5 => _version == MqttProtocolVersion.V500;

    public void Begin() => _world.After(_world.Seconds(0, 10), ComeOnline);

    /// <summary>The faults are over: it stays away for good, or comes and stays.</summary>
    public void Calm()
    {
        _staysAway = _world.Chance(0.3);
        if (_staysAway) Leave();
        else if (_wire is null) ComeOnline();
    }

    /// <summary>Its wire breaks, if it has one.</summary>
    public void LoseWire()
    {
        if (_wire is not { } wire) return;
        if (_world.Happens(Fault.WireSilent, 0.4))
        {
            wire.Break(nodeHears: null);
            _world.After(_world.Seconds(1, 20), () => Lost(wire));
        }
        else if (_world.Happens(Fault.WireCut, 1))
        {
            wire.Break(nodeHears: _world.Seconds(0, 2));
            Lost(wire);
        }
    }

    /// <summary>The node it is connected to is gone; its kernel says so.</summary>
    public void NodeDied(Node node)
    {
        if (_wire is not { } wire || wire.Node != node) return;
        wire.Break(nodeHears: null);
        _world.After(_world.Seconds(0, 0.5), () => Lost(wire));
    }

    /// <summary>The device notices that the connection is gone.</summary>
    public void Lost(Wire wire)
    {
        if (_wire != wire) return;
        _world.Trace($"{Id} offline");
        _wire = null;
        if (!_staysAway) _world.After(_world.IsCalm ? _world.Seconds(0.1, 1) : _world.Seconds(0.1, 8), ComeOnline);
    }

    private void ComeOnline()
    {
        if (_wire is not null || _staysAway) return;
        if (!_world.Registry.Has(Id) || _world.AnyNode() is not { IsPaused: false } node) // no row: the login is refused
        {
            _world.After(TimeSpan.FromSeconds(1), ComeOnline);
            return;
        }

        _isAccepted = false;
        var id = new Guid(++_connects, (short)Id.Value[1], 0, 0, 0, 0, 0, 0, 0, 0, 0);
        var connect = new AcceptedConnect(
            Id, id, node.Clock.GetUtcNow(), _version, KeepAlive, StartsClean: _sessionExpiry == 0 || _world.Chance(0.05), _sessionExpiry, _receiveMaximum, IsGateway: SubDevices.Count > 0);
        if (connect.StartsClean) _held.Clear();
        var wire = _wire = new Wire(_world, this, node, _version, id, Youngest);
        Youngest = wire;
        _world.Wires.Add(id, wire);
        if (_world.IsTracing) _world.Trace($"{Id} connects to {node}: {_version} qos {_qos[0]}/{_qos[1]} clean {connect.StartsClean} expiry {_sessionExpiry} receive maximum {_receiveMaximum}");
        wire.Open();
        node.Serve(wire, connect);
        Ping(wire);
        _world.After(TimeSpan.FromSeconds(12), () => GiveUp(wire)); // no CONNACK
        if (!_world.IsCalm) _world.After(_world.Seconds(2, 40), () => LeaveIfTroubled(wire));
    }

    private void GiveUp(Wire wire)
    {
        if (_wire != wire || _isAccepted) return;
        wire.Break(nodeHears: TimeSpan.Zero);
        Lost(wire);
    }

    private void LeaveIfTroubled(Wire wire)
    {
        if (_wire == wire && !_world.IsCalm) Leave();
    }

    private void Leave()
    {
        if (_wire is not { } wire) return;
        if (_world.Chance(0.5)) wire.Send(new MqttDisconnectPacket());
        else wire.Break(nodeHears: _world.Seconds(0, 1));
        _world.After(TimeSpan.FromMilliseconds(50), () => wire.Break(nodeHears: TimeSpan.Zero));
        Lost(wire);
    }

    private void Ping(Wire wire) => _world.After(KeepAlive / 2, () =>
    {
        if (_wire != wire) return;
        wire.Send(MqttPingReqPacket.Instance);
        Ping(wire);
    });

    // ---- what it hears

    /// <summary>The node's transport took these bytes.</summary>
    public void Written(MqttPublishPacket publish)
    {
        if (publish.QualityOfServiceLevel == MqttQualityOfServiceLevel.AtMostOnce) Addressed(MessageOf(publish)).Taken.Add(MessageOf(publish));
    }

    // Itself, or whom it carries.
    private Addressee Addressed(string id)
    {
        var to = _world.Application.AddresseeOf(id);
        if (to != this && to.Gateway != this) _world.Promises.Break($"{Id} got {id}, which is for {to.Id}");
        return to;
    }

    public void On(MqttPacket packet, Wire wire)
    {
        if (_wire != wire) return;
        switch (packet)
        {
            case MqttConnAckPacket { ReasonCode: MqttConnectReasonCode.Success } accepted:
                _isAccepted = true;
                if (!accepted.IsSessionPresent) _held.Clear(); // a new session: its packet ids begin anew
                foreach (var (packetId, id) in _held) _world.After(_world.Seconds(0, 15), () => AnswerHeld(packetId, id, wire));
                if (!accepted.IsSessionPresent || _world.Chance(0.5)) _world.After(_world.Seconds(0, 1), () => Subscribe(wire));
                break;
            case MqttPublishPacket publish:
                OnPublish(publish, wire);
                break;
            case MqttConnAckPacket or MqttDisconnectPacket:
                wire.Break(nodeHears: TimeSpan.Zero);
                Lost(wire);
                break;
        }
    }

    private void Subscribe(Wire wire)
    {
        if (_wire != wire) return;
        var subscribe = new MqttSubscribePacket { PacketIdentifier = ++_packetIds };
        var only = _world.Chance(0.15) ? _world.Random.Next(2) : -1;
        for (var i = 0; i < Topics.Count; i++)
        {
            if (only < 0 || only == i) subscribe.TopicFilters.Add(new MqttTopicFilter { Topic = Topics[i], QualityOfServiceLevel = (MqttQualityOfServiceLevel)_qos[i] });
        }

        wire.Send(subscribe);
        if (only >= 0) _world.After(_world.Seconds(1, 8), () => Subscribe(wire));
    }

    private void OnPublish(MqttPublishPacket publish, Wire wire)
    {
        var (text, id, packetId) = (Encoding.UTF8.GetString(publish.Payload.ToArray()), MessageOf(publish), publish.PacketIdentifier);
        if (_world.IsTracing) _world.Trace($"{Id} receives {id} packet {packetId} dup {publish.Dup}");
        _world.Promises.Arrived(Addressed(id).Id, publish.Topic, id, text);
        if (publish.QualityOfServiceLevel == MqttQualityOfServiceLevel.AtMostOnce) return;

        if (wire.AnsweredAhead.GetValueOrDefault(packetId) == id && publish.Dup) return; // crossed the PUBACK of what an earlier connection brought
        if (wire.Unanswered.TryGetValue(packetId, out var carried) && carried != id) _world.Promises.Break($"{Id} got packet id {packetId} for {id} while {carried} has it");
        wire.Unanswered[packetId] = id;
        if (_acknowledgesLater && !_held.TryAdd(packetId, id) && _held[packetId] != id)
        {
            _world.Promises.Suspect($"{Id} got packet id {packetId} for {id}, and has not acknowledged {_held[packetId]}, which has it in this session");
        }

        if (wire.Unanswered.Count > _receiveMaximum) _world.Promises.Break($"{Id} got {wire.Unanswered.Count} packets at once and takes {_receiveMaximum}");
        if (_acknowledgesLater && _world.Happens(Fault.AckOnLaterConnection, 0.3)) return;
        if (_world.Happens(Fault.AckWithheld, 0.08)) return;
        var delay = _world.Happens(Fault.AckLate, 0.1) ? _world.Seconds(0.5, 8) : TimeSpan.FromMilliseconds(5 * _world.Random.NextDouble());
        _world.After(delay, () => Answer(packetId, id, wire));
    }

    private void Answer(ushort packetId, string id, Wire wire)
    {
        if (_wire != wire || wire.Unanswered.GetValueOrDefault(packetId) != id) return;
        var refuses = IsMqtt5 && _world.Happens(Fault.AckRefuses, 0.01);
        var ack = new MqttPubAckPacket { PacketIdentifier = packetId, ReasonCode = refuses ? MqttPubAckReasonCode.UnspecifiedError : MqttPubAckReasonCode.Success };
        wire.Send(ack, () => (refuses ? Addressed(id).Refused : Addressed(id).Acknowledged).Add(id));
        if (_held.GetValueOrDefault(packetId) == id) _held.Remove(packetId);
        if (_world.Broken != BrokenRule.PubAckOfAnotherPacket) wire.Unanswered.Remove(packetId);
        else _world.After(TimeSpan.FromSeconds(1), () => wire.Unanswered.Remove(packetId));
        if (!IsMqtt5 && _world.Happens(Fault.AckDoubled, 0.03)) wire.Send(ack);
    }

    private void AnswerHeld(ushort packetId, string id, Wire wire)
    {
        if (_wire != wire || _held.GetValueOrDefault(packetId) != id) return;
        if (_world.IsTracing) _world.Trace($"{Id} acknowledges {id} packet {packetId} of an earlier connection");
        _held.Remove(packetId);
        if (wire.Unanswered.GetValueOrDefault(packetId) == id) wire.Unanswered.Remove(packetId);
        wire.AnsweredAhead[packetId] = id;
        wire.Send(new MqttPubAckPacket { PacketIdentifier = packetId }, () => Addressed(id).Acknowledged.Add(id));
    }

    private static string MessageOf(MqttPublishPacket publish)
    {
        var text = Encoding.UTF8.GetString(publish.Payload.ToArray());
        return text[..text.IndexOf('|')];
    }
}
