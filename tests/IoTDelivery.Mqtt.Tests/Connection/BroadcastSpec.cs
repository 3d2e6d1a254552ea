using System.Buffers;
using System.Diagnostics.Metrics;
using System.Text;
using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using MQTTnet.Packets;
using MQTTnet.Protocol;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>Broadcasts reach who subscribed their topic, and nobody waits for them.</summary>
public sealed class BroadcastSpec : StageSpec
{
    private const string News = "$oc/broadcast/news";

    private static AcceptedConnect Connect => Given.Connect() with { ProjectId = "project", AppId = "app" };

    [Fact]
    public async Task A_subscriber_gets_a_broadcast_once_at_QoS_0_byte_by_byte_however_many_of_its_filters_match()
    {
        var running = await Open(Connect);
        await SubscribeAsync(running, (News, 1), ("$oc/broadcast/#", 1));

        Send("one");
        Send("two");

        var first = await running.Client.ReceiveAsync<MqttPublishPacket>();
        Assert.Equal((News, MqttQualityOfServiceLevel.AtMostOnce, "one"), (first.Topic, first.QualityOfServiceLevel, Text(first)));
        Assert.Equal("two", Text(await running.Client.ReceiveAsync<MqttPublishPacket>()));
        await Device.ExpectNoMsgAsync(Silence); // the device has nothing to do with it
    }

    [Theory]
    [InlineData("another project", "project-2", null, News)]
    [InlineData("another resource space", "project", "app-2", News)]
    [InlineData("another topic", "project", null, "$oc/broadcast/old")]
    public async Task Who_is_not_meant_hears_nothing(string why, string project, string? app, string topic)
    {
        var running = await Open(Connect);
        await SubscribeAsync(running, (News, 0), (Given.Down, 0));

        Hub.Tell(new ToSubscribers.Broadcast(project, app, topic, "for others"u8.ToArray()));
        Hub.Tell(new ToSubscribers.Broadcast("project", "app", News, "for us"u8.ToArray()));

        Assert.True(Text(await running.Client.ReceiveAsync<MqttPublishPacket>()) == "for us", why);
    }

    [Fact]
    public async Task Who_unsubscribed_or_left_is_no_subscriber_any_more()
    {
        var running = await Open(Connect);
        await SubscribeAsync(running, (News, 0), (Given.Down, 0));
        Assert.Equal([Given.DeviceId], await FindAsync());

        await running.Client.SendAsync(Given.Unsubscribe(News));
        await AttachAsync();
        await running.Client.ReceiveAsync<MqttUnsubAckPacket>();
        Assert.Empty(await FindAsync());

        await SubscribeAsync(running, (News, 0));
        Assert.Equal([Given.DeviceId], await FindAsync());
        await running.Client.HangUpAsync();
        await Soon(running.Ended);
        await AwaitConditionAsync(async () => (await FindAsync()).Count == 0);
    }

    [Fact]
    public async Task A_session_that_goes_on_brings_its_broadcast_topics_along()
    {
        var running = Run(Given.Connect(startsClean: false, keepsSession: true) with { ProjectId = "project" });
        await AttachAsync(sessionPresent: true, new Subscription(News, 1));
        await running.Client.ReceiveAsync<MqttConnAckPacket>();

        Send("welcome back");

        Assert.Equal("welcome back", Text(await running.Client.ReceiveAsync<MqttPublishPacket>()));
    }

    [Fact]
    public async Task A_slow_reader_misses_broadcasts_which_is_counted_and_gets_its_own_messages_first()
    {
        var missed = 0L;
        using var listener = new MeterListener { InstrumentPublished = (instrument, l) => { if (instrument.Name == "mqtt.broadcasts.missed") l.EnableMeasurementEvents(instrument); } };
        listener.SetMeasurementEventCallback<long>((_, n, _, _) => Interlocked.Add(ref missed, n));
        listener.Start();
        var running = await Open(Connect, window: 1);
        await SubscribeAsync(running, (News, 0));
        running.Stage.Tell(Given.Transmit(1), Device.Ref); // fills the transport
        await Region.ExpectNoMsgAsync(Silence);

        for (var i = 0; i < 50; i++) Send($"news {i}");
        await AwaitConditionAsync(() => Task.FromResult(Interlocked.Read(ref missed) == 34)); // sixteen wait
        running.Stage.Tell(Given.Transmit(2), Device.Ref);
        await Region.ExpectNoMsgAsync(Silence);

        Assert.Equal(1, (await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier);
        Assert.Equal(2, (await running.Client.ReceiveAsync<MqttPublishPacket>()).PacketIdentifier);
        for (var i = 0; i < 16; i++) Assert.Equal($"news {i}", Text(await running.Client.ReceiveAsync<MqttPublishPacket>()));
        Send("later");
        Assert.Equal("later", Text(await running.Client.ReceiveAsync<MqttPublishPacket>()));
    }

    [Fact]
    public async Task A_broadcast_larger_than_the_client_takes_is_missed_and_the_connection_goes_on()
    {
        var running = await Open(Connect with { Version = MQTTnet.Formatter.MqttProtocolVersion.V500, PacketBytesMax = 100 });
        await SubscribeAsync(running, (News, 0));

        Send(new string('x', 200));
        Send("small");

        Assert.Equal("small", Text(await running.Client.ReceiveAsync<MqttPublishPacket>()));
    }

    private ActorSelection Hub => Sys.ActorSelection("/user/mqtt-broadcasts");

    private void Send(string text) => Hub.Tell(new ToSubscribers.Broadcast("project", null, News, Encoding.UTF8.GetBytes(text)));

    private async Task<IReadOnlyList<DeviceId>> FindAsync() =>
        (await Hub.Ask<Subscribers>(new ToSubscribers.Find("project", null, News, 10), TimeSpan.FromSeconds(5))).DeviceIds;

    private async Task SubscribeAsync(Running running, params (string TopicFilter, int QoS)[] filters)
    {
        await running.Client.SendAsync(Given.Subscribe(filters));
        await AttachAsync();
        await running.Client.ReceiveAsync<MqttSubAckPacket>();
    }

    private static string Text(MqttPublishPacket packet) => Encoding.UTF8.GetString(packet.Payload);
}
