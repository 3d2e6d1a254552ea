using System.Collections.Immutable;
using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using MQTTnet.Packets;
using MQTTnet.Protocol;

namespace IoTDelivery.Mqtt;

/// <summary>One per node: knows which of its connections subscribed which topics below <c>$oc/broadcast/</c>, and hands a broadcast to each of them once.</summary>
internal sealed class BroadcastHub : UntypedActor
{
    /// <summary>Where it lives on every node, below <c>/user</c>.</summary>
    public const string Name = "mqtt-broadcasts";

    /// <summary>From a connection: these are its broadcast filters now; none when it ends.</summary>
    public sealed record Listen(AcceptedConnect Connect, ImmutableArray<string> Filters);

    /// <summary>To a connection: put this on the wire if there is room. The packet is the same object for all of them.</summary>
    public sealed record Deliver(MqttPublishPacket Packet);

    private readonly Dictionary<IActorRef, Listen> _listeners = [];
    private readonly Dictionary<string, HashSet<IActorRef>> _byFilter = [];

    /// <summary>Those of the filters that are for broadcasts.</summary>
    public static ImmutableArray<string> FiltersOf(ImmutableArray<Subscription> subscriptions)
    {
        var filters = ImmutableArray<string>.Empty;
        foreach (var subscription in subscriptions)
        {
            if (MqttTopics.IsBroadcast(subscription.TopicFilter)) filters = filters.Add(subscription.TopicFilter);
        }

        return filters;
    }

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case Listen listen:
                On(listen);
                break;
            case ToSubscribers.Broadcast broadcast:
                // At QoS 0: the contract names none, and what is to be repeated until it is acknowledged is sent with a ttl, as messages.
                var deliver = new Deliver(new MqttPublishPacket
                {
                    Topic = broadcast.Topic,
                    QualityOfServiceLevel = MqttQualityOfServiceLevel.AtMostOnce,
                    PayloadSegment = broadcast.Payload.ToArray(),
                });
                foreach (var connection in Subscribed(broadcast)) connection.Tell(deliver);
                break;
            case ToSubscribers.Find find:
                Sender.Tell(new Subscribers([.. Subscribed(find).Select(c => _listeners[c].Connect.DeviceId).Distinct().Take(find.Max)]));
                break;
            default:
                Unhandled(message);
                break;
        }
    }

    private void On(Listen listen)
    {
        if (_listeners.Remove(Sender, out var before))
        {
            foreach (var filter in before.Filters)
            {
                _byFilter[filter].Remove(Sender);
                if (_byFilter[filter].Count == 0) _byFilter.Remove(filter);
            }
        }

        if (listen.Filters.IsEmpty) return;
        _listeners.Add(Sender, listen);
        foreach (var filter in listen.Filters)
        {
            if (!_byFilter.TryGetValue(filter, out var connections)) _byFilter.Add(filter, connections = []);
            connections.Add(Sender);
        }
    }

    // Once each, however many of its filters match.
    private HashSet<IActorRef> Subscribed(ToSubscribers to)
    {
        var connections = new HashSet<IActorRef>();
        foreach (var (filter, subscribed) in _byFilter)
        {
            if (TopicFilters.Matches(filter, to.Topic)) connections.UnionWith(subscribed);
        }

        connections.RemoveWhere(c => _listeners[c].Connect is var connect && (connect.ProjectId != to.ProjectId || (to.AppId is not null && connect.AppId != to.AppId)));
        return connections;
    }
}
