using Akka.Actor;
using Akka.Cluster;
using Akka.Configuration;
using Akka.TestKit;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using Xunit;

namespace IoTDelivery.Mqtt.Tests;

/// <summary>Broadcasts in a cluster of two nodes, over the wire and through our serializer.</summary>
public sealed class BroadcastsSpec : Akka.TestKit.Xunit2.TestKit
{
    private static readonly Config Node = ConfigurationFactory.ParseString(
        """
        akka {
          loglevel = WARNING
          actor {
            provider = cluster
            serializers.iotdelivery = "IoTDelivery.Devices.Serialization.DeliverySerializer, IoTDelivery.Devices"
            serialization-bindings {
              "IoTDelivery.Devices.ToSubscribers, IoTDelivery.Devices" = iotdelivery
              "IoTDelivery.Devices.Subscribers, IoTDelivery.Devices" = iotdelivery
            }
          }
          remote.dot-netty.tcp { hostname = "127.0.0.1", port = 0 }
          cluster { gossip-interval = 100ms, leader-actions-interval = 100ms, periodic-tasks-initial-delay = 50ms }
        }
        """);

    public BroadcastsSpec()
        : base(Node)
    {
    }

    [Fact]
    public async Task A_broadcast_as_large_as_allowed_reaches_every_node_and_every_node_is_asked_who_subscribed()
    {
        using var other = ActorSystem.Create(Sys.Name, Node.WithFallback(Sys.Settings.Config));
        await Cluster.Get(Sys).JoinAsync(Cluster.Get(Sys).SelfAddress);
        await Cluster.Get(other).JoinAsync(Cluster.Get(Sys).SelfAddress);
        var heard = CreateTestProbe();
        StartHub(Sys, "lamp-1", heard);
        StartHub(other, "lamp-2", heard);
        await AwaitConditionAsync(() => Task.FromResult(Cluster.Get(Sys).State.Members.Count(m => m.Status == MemberStatus.Up) == 2), TimeSpan.FromSeconds(20));
        var broadcasts = new Broadcasts(Sys);
        var payload = new byte[96 * 1024]; // 128 KB of Base64
        Random.Shared.NextBytes(payload);

        broadcasts.Send(new ToSubscribers.Broadcast("project", null, "$oc/broadcast/news", payload));
        var subscribed = await broadcasts.FindAsync(new ToSubscribers.Find("project", null, "$oc/broadcast/news", 10), default);

        for (var node = 0; node < 2; node++)
        {
            Assert.Equal(payload, (await heard.ExpectMsgAsync<ToSubscribers.Broadcast>(TimeSpan.FromSeconds(10))).Payload.ToArray());
        }

        Assert.Equal(["lamp-1", "lamp-2"], subscribed!.Select(d => d.Value).Order());
        await other.Terminate();
    }

    private static void StartHub(ActorSystem system, string deviceId, TestProbe heard) =>
        system.ActorOf(Props.Create(() => new Hub(new Subscribers(new[] { DeviceId.Parse(deviceId) }), heard.Ref)), "mqtt-broadcasts");

    private sealed class Hub : ReceiveActor
    {
        public Hub(Subscribers subscribers, IActorRef heard)
        {
            Receive<ToSubscribers.Find>(_ => Sender.Tell(subscribers));
            Receive<ToSubscribers.Broadcast>(heard.Forward);
        }
    }
}
