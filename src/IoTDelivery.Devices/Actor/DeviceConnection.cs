using System.Collections.Immutable;
using Akka.Actor;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices;

/// <summary>
/// The device's end of the talk with its connection: who is attached, who evicts whom, which subscriptions count, what goes
/// out and what is acknowledged. The other end is the connection's DeviceAttachment.
/// </summary>
//
//   Attach ──► of a login that counts no more: evicted
//          ──► older than the one attached, whose age is certain: evicted
//          ──► older than one whose age is not: both are challenged, and an attached one that is silent is taken for gone
//          ──► younger: challenged once, if another is attached ──► attached, the other one evicted
//          ──► the same one, of a later epoch: its packets start over
//          ──► the same one, of a later revision: its subscriptions change
//
internal sealed class DeviceConnection
{
    // ConnectedAt: by the device's steady clock. While the age is not certain it may have been earlier: the Attach may have
    // lain in a buffer, as while the device recovered.
    private sealed record Attached(
        Guid Id,
        long? Generation,
        int Epoch,
        int Revision,
        bool SessionPresent,
        ImmutableArray<Subscription> Subscriptions,
        IActorRef Ref)
    {
        public required DateTimeOffset ConnectedAt { get; set; }
        public required bool IsAgeCertain { get; set; }
        public int Transmitted { get; set; }      // sequence number of the last packet of the epoch
        public int Acknowledged { get; set; }     // sequence number of the last acknowledgement taken
        public int AcknowledgedTold { get; set; } // of which the connection knows
    }

    // A CONNECT that is older than another by less than this counts as younger when it arrives later.
    private static readonly TimeSpan AgeTolerance = TimeSpan.FromSeconds(1);

    // An attached connection that has not met so many challenges, for so long each, is taken for gone. One may be lost.
    private const int ChallengesMax = 3;
    private static readonly TimeSpan AnswersWithin = TimeSpan.FromSeconds(1);

    private const int EvictedMax = 4;
    private const int AcknowledgedUntoldMax = 64;

    private readonly DeviceId _deviceId;
    private readonly string _downTopic;
    private readonly DeviceServices _services;
    private readonly DeviceClock _clock;
    private readonly JournalWriter _journal;
    private readonly Inflight _wire;
    private readonly ICanWatch _watcher;
    private readonly Queue<Guid> _evicted = []; // the last connections that were evicted: they never come back
    private Attached? _attached;
    private ToConnection.SubDeviceIdsReserved? _granted; // the last answer to a gateway's connection
    private Guid _grantedTo;
    private (Guid ConnectionId, int Value) _challenge; // of the connection that would evict another
    private (Guid ConnectionId, int Value) _defence; // of the attached one that another would evict
    private (int Times, DateTimeOffset LastAt) _defended; // how often it was told

    public DeviceConnection(
        DeviceId deviceId, DeviceServices services, DeviceClock clock, JournalWriter journal, Inflight wire, ICanWatch watcher)
    {
        (_deviceId, _downTopic) = (deviceId, SystemTopics.MessagesDown(deviceId));
        (_services, _clock, _journal, _wire, _watcher) = (services, clock, journal, wire, watcher);
    }

    /// <summary>Who is attached; null while nobody is.</summary>
    public IActorRef? Ref => _attached?.Ref;

    /// <summary>True while a connection is attached.</summary>
    public bool IsAttached => _attached is not null;

    /// <summary>When something is to be sent again; null if nothing is.</summary>
    public DateTimeOffset? NextSendAt => _wire.NextAt;

    /// <summary>True if this is the connection that is attached.</summary>
    public bool Is(Guid connectionId) => _attached?.Id == connectionId;

    /// <summary>A connection says that the device is its, or that its subscriptions have changed.</summary>
    public void OnAttach(ToDevice.Attach attach)
    {
        if (_journal.Ahead.IsRetired || attach.Generation < _journal.Ahead.Generation)
        {
            attach.Connection.Tell(ToConnection.Evicted.ByOperator);
            return;
        }

        var connectedAt = _clock.Steady - attach.Age;
        if (!Is(attach.ConnectionId))
        {
            // A sub-device that its gateway's connection let go may come back on it, but not past another one.
            var wasEvicted = _evicted.Contains(attach.ConnectionId) && (IsAttached || attach.StartsClean);
            var isOlder = connectedAt < _attached?.ConnectedAt - AgeTolerance;
            if (wasEvicted || (isOlder && _attached!.IsAgeCertain))
            {
                attach.Connection.Tell(ToConnection.Evicted.ByYounger); // a late re-attach of the older one
                return;
            }

            if (IsAttached && !HasMetChallenge(attach)) return;
            if (isOlder && !IsSilent(_attached!)) return; // it attaches again, and then more is known
            Evict(ToConnection.Evicted.ByYounger);
        }
        else
        {
            LearnAge(attach, connectedAt);
        }

        var goesOn = true;
        if (_attached?.Epoch < attach.Epoch)
        {
            // It lost this device, and ignored what was sent since.
            goesOn = Connect(attach, _attached.ConnectedAt, _wire.Unacknowledged());
        }
        else if (_attached is null) goesOn = Connect(attach, connectedAt, _journal.Ahead.Unacknowledged);
        else if (attach.Revision > _attached.Revision) Subscribe(attach);

        var attached = _attached!;
        var reply = new ToConnection.Attached(attached.Revision, attached.SessionPresent, attached.Subscriptions);

        // Subscribed, too: what was subscribed and unsubscribed again before we heard of either was asked for all the same.
        if (attached.Subscriptions.Concat(attach.Subscribed).Any(s => s.QoS == 1 && s.Matches(_downTopic)))
        {
            _journal.Decide(OutboxCommand.NoteQoS1.Instance);
        }

        var session = attach.KeepsSession ? new KeptSession(attached.Subscriptions, attach.SessionExpiry) : null;
        _journal.Decide(new OutboxCommand.KeepSession(session, goesOn), attach.Connection, reply);
    }

    /// <summary>The attached connection is gone. <paramref name="sessionExpiry"/> is what its client said last.</summary>
    public void OnGone(TimeSpan? sessionExpiry = null)
    {
        if (_attached is not { } attached) return;
        _watcher.Unwatch(attached.Ref);
        _attached = null;
        var unacknowledged = _wire.Unacknowledged();
        _wire.Disconnect();
        _journal.Decide(OutboxCommand.LoseConnection.Instance);
        _journal.Decide(new OutboxCommand.LeaveSession(sessionExpiry, unacknowledged));
    }

    /// <summary>The attached connection has lost the device, and hears why.</summary>
    public void Evict(ToConnection.Evicted why)
    {
        if (_attached is not { } attached) return;
        attached.Ref.Tell(why);
        if (_evicted.Count == EvictedMax) _evicted.Dequeue();
        _evicted.Enqueue(attached.Id);
        OnGone();
    }

    /// <summary>
    /// The device was frozen, or has a new secret: logins of an earlier generation count no more. What is not known, of
    /// the login or of the freeze, counts as earlier.
    /// </summary>
    public void EndLogins(long? generation, IActorRef replyTo)
    {
        var goesOn = _attached?.Generation >= generation;
        if (!goesOn) Evict(ToConnection.Evicted.ByOperator);
        if (generation is { } known) _journal.Decide(new OutboxCommand.EndLogins(known), replyTo);
        else _journal.Reply(replyTo, OutboxReply.Done.Instance);
    }

    /// <summary>The client, or the transport at QoS 0, acknowledged a packet.</summary>
    public void OnAcknowledged(ToDevice.PacketAcknowledged acknowledged)
    {
        if (_attached is not { } attached || !Is(acknowledged.ConnectionId) || acknowledged.Epoch != attached.Epoch) return;
        var isNext = acknowledged.Sequence == attached.Acknowledged + 1;
        if (isNext) attached.Acknowledged++;
        if (acknowledged.IsRepeated || attached.Acknowledged - attached.AcknowledgedTold >= AcknowledgedUntoldMax)
        {
            attached.AcknowledgedTold = attached.Acknowledged;
            attached.Ref.Tell(new ToConnection.AcknowledgementsTaken(attached.Epoch, attached.Acknowledged));
        }

        if (!isNext) return; // taken already; or one before it was lost: it is repeated, and this one behind it
        if (acknowledged.IsSkipped)
        {
            _wire.Skip(acknowledged.Tag);
            return;
        }

        var number = _wire.Acknowledge(acknowledged.Tag, acknowledged.QoS);
        if (number is null || _journal.Ahead.FindOpen(number.Value) is not { } message)
        {
            _services.Metrics.LateAck();
            return;
        }

        _journal.Decide(acknowledged.ReasonCode < 0x80
            ? new OutboxCommand.Acknowledge(message.MessageId)
            : new OutboxCommand.Refuse(message.MessageId, acknowledged.ReasonCode));
    }

    /// <summary>The connection of a gateway needs packet ids for its sub-devices.</summary>
    public void OnReserveSubDeviceIds(ToDevice.ReserveSubDeviceIds reserve, IActorRef sender)
    {
        if (_granted?.Request == reserve.Request && _grantedTo == reserve.ConnectionId)
        {
            _journal.Reply(sender, _granted);
            return;
        }

        var from = _journal.Ahead.SubDeviceIdsUpTo;
        _grantedTo = reserve.ConnectionId;
        _granted = new ToConnection.SubDeviceIdsReserved(reserve.Request, from, from + PacketIds.ReservedAhead);
        _journal.Decide(OutboxCommand.ReserveSubDeviceIds.Instance, sender, _granted);
    }

    /// <summary>What goes out now goes out.</summary>
    public void Transmit()
    {
        if (_attached is not { } attached) return;
        var stored = _journal.Stored;
        var sends = _wire.Next(
            _journal.Ahead, stored.NextNumber - 1, stored.PacketIdsUpTo, _clock.Steady, _services.Policy, _journal.EndsUnsent);
        if (_wire.NeedsPacketIds) _journal.Decide(OutboxCommand.ReservePacketIds.Instance);
        if (sends.Count == 0) return;
        var now = _clock.IsBelieved ? _clock.Now : (DateTimeOffset?)null; // what is left of a ttl is not known then
        attached.AcknowledgedTold = attached.Acknowledged;
        foreach (var send in sends)
        {
            attached.Ref.Tell(new ToConnection.Transmit(
                send.Message.MessageId,
                send.Message.Body,
                send.Tag,
                send.QoS,
                send.Dup,
                send.Message.ExpiresAt - now,
                attached.Epoch,
                ++attached.Transmitted,
                attached.Acknowledged));
        }
    }

    /// <summary>The actor moves away under its connection: the next owner must know the packet ids that are on the wire.</summary>
    public void OnStopping()
    {
        if (IsAttached) _journal.Decide(new OutboxCommand.NoteUnacknowledged(_wire.Unacknowledged()));
    }

    // An Attach may have lain in a buffer while a younger connection came: then its age says less than it should. One that
    // is to evict another connection is asked to come again at once.
    private bool HasMetChallenge(ToDevice.Attach attach)
    {
        if (HasMet(_challenge, attach)) return true;
        if (_challenge.ConnectionId != attach.ConnectionId)
        {
            _challenge = (attach.ConnectionId, Random.Shared.Next(1, int.MaxValue));
        }

        attach.Connection.Tell(new ToConnection.Challenged(_challenge.Value));
        return false;
    }

    private static bool HasMet((Guid ConnectionId, int Value) challenge, ToDevice.Attach attach) =>
        challenge.ConnectionId == attach.ConnectionId && challenge.Value == attach.Challenge;

    // The attached connection is asked for its age. True if it has had time to answer, and has not.
    private bool IsSilent(Attached attached)
    {
        if (_defence.ConnectionId != attached.Id)
        {
            _defence = (attached.Id, Random.Shared.Next(1, int.MaxValue));
            _defended = default;
        }

        if (_clock.Steady - _defended.LastAt < AnswersWithin) return false;
        if (_defended.Times == ChallengesMax) return true;
        _defended = (_defended.Times + 1, _clock.Steady);
        attached.Ref.Tell(new ToConnection.Challenged(_defence.Value));
        return false;
    }

    // What the attached connection says of its age is at most too little.
    private void LearnAge(ToDevice.Attach attach, DateTimeOffset connectedAt)
    {
        if (connectedAt < _attached!.ConnectedAt) _attached.ConnectedAt = connectedAt;
        if (HasMet(_defence, attach)) _attached.IsAgeCertain = true;
    }

    // Returns whether packet ids that were sent before still mean something to the client.
    private bool Connect(
        ToDevice.Attach attach, DateTimeOffset connectedAt, ImmutableSortedDictionary<long, ushort> unacknowledged)
    {
        var remembered = attach.StartsClean ? null : _journal.Ahead.SessionAt(_clock.Now)?.Subscriptions; // [MQTT-3.1.2-5]
        var subscriptions = attach.Subscriptions ?? Replaced(remembered ?? [], attach.Subscribed);
        var isCertain = _attached?.IsAgeCertain ?? HasMet(_challenge, attach);
        _attached = new Attached(
            attach.ConnectionId,
            attach.Generation,
            attach.Epoch,
            attach.Revision,
            remembered is not null,
            subscriptions,
            attach.Connection)
        {
            ConnectedAt = connectedAt,
            IsAgeCertain = isCertain,
        };
        _watcher.Watch(attach.Connection);
        var goesOn = remembered is not null || attach.IsReattach;
        if (!goesOn) unacknowledged = unacknowledged.Clear();
        _wire.Connect(
            attach.Wire,
            Effective(attach, subscriptions),
            _journal.Ahead,
            unacknowledged,
            attach.IsReattach,
            _services.Policy);
        return goesOn;
    }

    // [MQTT-3.8.4-3] A SUBSCRIBE replaces the subscription of the same filter.
    private static ImmutableArray<Subscription> Replaced(ImmutableArray<Subscription> kept, ImmutableArray<Subscription> by) =>
        [.. kept.Where(k => !by.Any(b => b.TopicFilter == k.TopicFilter)), .. by];

    private void Subscribe(ToDevice.Attach attach)
    {
        var subscriptions = attach.Subscriptions ?? _attached!.Subscriptions;
        var effective = Effective(attach, subscriptions);
        var subscribed = attach.Implicit ? [.. attach.Subscribed, .. effective.Except(subscriptions)] : attach.Subscribed;
        _attached = _attached! with { Revision = attach.Revision, Subscriptions = subscriptions };
        _wire.Subscribe(effective, subscribed, _journal.Ahead, _clock.Steady, _services.Policy);
    }

    // The implicit subscription counts where nothing else matches, and never for a device that once asked for QoS 1.
    private ImmutableArray<Subscription> Effective(ToDevice.Attach attach, ImmutableArray<Subscription> subscriptions) =>
        attach.Implicit && !_journal.Ahead.AskedForQoS1 && !subscriptions.Any(s => s.Matches(_downTopic))
            ? subscriptions.Add(new Subscription(SystemTopics.AllSystem(_deviceId), 0))
            : subscriptions;
}
