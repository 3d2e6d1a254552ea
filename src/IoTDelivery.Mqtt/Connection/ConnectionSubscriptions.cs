using System.Collections.Immutable;
using IoTDelivery.Domain;
using MQTTnet.Packets;

namespace IoTDelivery.Mqtt;

/// <summary>
/// The changes of one connection's subscriptions that its device has not confirmed, and what counts as subscribed without
/// asking.
/// </summary>
internal sealed class ConnectionSubscriptions(DeviceId deviceId)
{
    private const int ChangesMax = 16; // SUBSCRIBEs the device has not confirmed before reading stops

    private readonly record struct Change(int Revision, ImmutableArray<Subscription> Subscribed, MqttPacket? HeldReply);

    private readonly Queue<Change> _changes = new();
    private readonly string _downTopic = SystemTopics.MessagesDown(deviceId);

    /// <summary>True if down topics count as subscribed at QoS 0.</summary>
    public bool IsImplicit { get; set; }

    /// <summary>True once the hub of this node knows of broadcast filters of this connection; most never have any.</summary>
    public bool IsListening { get; set; }

    /// <summary>True if nothing may be read until the device has confirmed something.</summary>
    public bool IsFull => _changes.Count >= ChangesMax;

    /// <summary>What was subscribed and is not confirmed: it may never have arrived, and is said again.</summary>
    public ImmutableArray<Subscription> Unconfirmed()
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

    /// <summary>A change with its revision. <paramref name="heldReply"/> is said when the device has confirmed it.</summary>
    public void Add(int revision, ImmutableArray<Subscription> subscribed, MqttPacket? heldReply) =>
        _changes.Enqueue(new Change(revision, subscribed, heldReply));

    /// <summary>The device knows everything up to this revision.</summary>
    public void Confirm(int revision, Queue<MqttPacket> replies)
    {
        while (_changes.TryPeek(out var change) && change.Revision <= revision)
        {
            _changes.Dequeue();
            if (change.HeldReply is { } reply) replies.Enqueue(reply);
        }
    }

    public void Clear() => _changes.Clear();

    /// <summary>True if the client has subscribed its own down topic.</summary>
    public bool CoverDownTopic(MqttSession session) => session.IsSubscribed(_downTopic);

    /// <summary>True if one of these asks for the down topic at QoS 1.</summary>
    public bool AskForQoS1(ImmutableArray<Subscription> subscribed) => subscribed.Any(s => s.QoS == 1 && s.Matches(_downTopic));

    /// <summary>
    /// What goes to sub-devices goes out on the gateway's topics: its implicit subscription covers them.
    /// </summary>
    public ImmutableArray<Subscription> ForSubDevices(MqttSession session) => IsImplicit && !CoverDownTopic(session)
        ? session.Subscriptions.Add(new Subscription(SystemTopics.AllSystem(deviceId), 0))
        : session.Subscriptions;
}
