using System.Net;
using IoTDelivery.EndToEnd.Harness;
using MQTTnet.Formatter;

namespace IoTDelivery.EndToEnd;

/// <summary>The manual's schedule with short intervals; the real ones run once, in <see cref="RealIntervalsSpec"/>.</summary>
public sealed class ShortSchedule() : Site("--Delivery:RepeatInterval=00:00:00.300", "--Delivery:RoundInterval=00:00:01.500", "--Delivery:TtlUnit=00:00:00.200")
{
    public static readonly TimeSpan RepeatInterval = TimeSpan.FromSeconds(0.3), RoundInterval = TimeSpan.FromSeconds(1.5);
}

/// <summary>The page "Message Delivery Usage" of the manual, sentence by sentence.</summary>
public sealed class ManualSpec(ShortSchedule site) : IClassFixture<ShortSchedule>
{
    private static readonly Func<Received, Task<bool>> Never = _ => Task.FromResult(false);

    // A timer of a busy machine is late, and so is the reader of the socket; neither is ever early by more than the reader was late before.
    private static readonly TimeSpan Early = TimeSpan.FromSeconds(0.2), Late = TimeSpan.FromSeconds(2);

    // ---- the device is away

    [Fact]
    public async Task A_message_for_a_device_that_is_away_is_cached_and_its_status_is_PENDING_and_pushed()
    {
        var lamp = await site.NewDeviceAsync();

        var sent = await SendAsync(lamp, "away");

        Assert.Equal("PENDING", sent.MessageStatus);
        await site.ToldAsync("away", "PENDING");
        Assert.Equal("PENDING", await site.StatusAsync(lamp, "away"));
    }

    [Fact]
    public async Task When_the_device_goes_online_and_subscribes_the_cached_message_is_delivered_and_DELIVERED_is_pushed()
    {
        var lamp = await site.NewDeviceAsync();
        await SendAsync(lamp, "cached");
        await site.ToldAsync("cached", "PENDING");

        await using var device = await Device.ConnectAsync(site.Node.MqttPort, lamp);
        await device.SubscribeAsync();

        var received = await device.NextAsync();
        Assert.Equal(("cached", "content of cached", Device.DownTopic(lamp), 1, false), (received.Id, received.Content, received.Topic, received.QoS, received.Dup));
        await site.ToldAsync("cached", "DELIVERED");
        Assert.Equal(["PENDING", "DELIVERED"], site.Receiver.StatusesOf("cached"));
        Assert.Equal("DELIVERED", await site.StatusAsync(lamp, "cached"));
    }

    [Fact]
    public async Task A_device_that_is_online_and_has_not_subscribed_gets_its_message_when_it_subscribes()
    {
        var lamp = await site.NewDeviceAsync();
        await using var device = await Device.ConnectAsync(site.Node.MqttPort, lamp);

        Assert.Equal("PENDING", (await SendAsync(lamp, "unsubscribed")).MessageStatus);
        await site.ToldAsync("unsubscribed", "PENDING");
        Assert.Equal(0, device.Waiting);

        await device.SubscribeAsync();
        Assert.Equal("unsubscribed", (await device.NextAsync()).Id);
        await site.ToldAsync("unsubscribed", "DELIVERED");
    }

    [Fact]
    public async Task Cached_messages_are_delivered_first_in_first_out()
    {
        var lamp = await site.NewDeviceAsync();
        for (var i = 0; i < 20; i++) await SendAsync(lamp, $"fifo_{i:00}");

        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp);

        for (var i = 0; i < 20; i++) Assert.Equal($"fifo_{i:00}", (await device.NextAsync()).Id);
    }

    // ---- the device is online and subscribed

    [Fact]
    public async Task A_message_at_QoS_1_for_a_device_that_is_online_is_answered_DELIVERED_before_its_PUBACK_and_pushed_after_it()
    {
        var lamp = await site.NewDeviceAsync();
        var answered = new TaskCompletionSource();
        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp, acknowledge: async _ =>
        {
            await answered.Task;
            return true;
        });

        var sent = await SendAsync(lamp, "before_puback");
        Assert.Equal("DELIVERED", sent.MessageStatus);
        await device.NextAsync();
        Assert.Empty(site.Receiver.StatusesOf("before_puback"));

        answered.SetResult();
        await site.ToldAsync("before_puback", "DELIVERED");
        Assert.Equal(["DELIVERED"], site.Receiver.StatusesOf("before_puback"));
    }

    [Theory]
    [InlineData(MqttProtocolVersion.V311)]
    [InlineData(MqttProtocolVersion.V500)]
    public async Task A_message_at_QoS_0_for_a_device_that_is_online_is_DELIVERED(MqttProtocolVersion version)
    {
        var (lamp, id) = (await site.NewDeviceAsync(), $"qos0_{version}");
        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp, qos: 0, version);

        Assert.Equal("DELIVERED", (await SendAsync(lamp, id)).MessageStatus);

        Assert.Equal((id, 0), (await device.NextAsync()) is var got ? (got.Id, got.QoS) : default);
        await site.ToldAsync(id, "DELIVERED");
        Assert.Equal(["DELIVERED"], site.Receiver.StatusesOf(id));
    }

    // ---- no PUBACK

    [Fact]
    public async Task Without_a_PUBACK_the_message_is_sent_three_times_more_one_repeat_interval_apart_with_DUP_and_the_same_packet_id()
    {
        var lamp = await site.NewDeviceAsync();
        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp, acknowledge: Never);

        Assert.Equal("DELIVERED", (await SendAsync(lamp, "repeated", ttl: 15)).MessageStatus);
        await site.ToldAsync("repeated", "TIMEOUT"); // 3 s: by now a fourth repetition would have come

        var copies = await AllAsync(device);
        Assert.Equal([false, true, true, true], copies.Select(c => c.Dup));
        Assert.All(copies, c => Assert.Equal(("repeated", copies[0].PacketId), (c.Id, c.PacketId)));
        AssertApart(ShortSchedule.RepeatInterval, copies);
    }

    [Fact]
    public async Task Without_a_PUBACK_an_MQTT_5_device_gets_fresh_packets_with_the_same_message_id()
    {
        var lamp = await site.NewDeviceAsync();
        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp, version: MqttProtocolVersion.V500, acknowledge: Never);

        Assert.Equal("DELIVERED", (await SendAsync(lamp, "repeated_v5", ttl: 15)).MessageStatus);
        await site.ToldAsync("repeated_v5", "TIMEOUT");

        var copies = await AllAsync(device);
        Assert.Equal([false, false, false, false], copies.Select(c => c.Dup)); // [MQTT-4.4.0-1] forbids to send a packet again
        Assert.All(copies, c => Assert.Equal("repeated_v5", c.Id));
        Assert.Equal(4, copies.DistinctBy(c => c.PacketId).Count());
        AssertApart(ShortSchedule.RepeatInterval, copies);
    }

    [Fact]
    public async Task When_the_device_subscribes_again_there_are_five_rounds_one_round_interval_apart_each_with_its_repetitions()
    {
        var lamp = await site.NewDeviceAsync();
        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp, acknowledge: Never);
        await SendAsync(lamp, "resubscribed", ttl: 60);
        for (var i = 0; i < 4; i++) await device.NextAsync();

        await device.SubscribeAsync();
        await site.ToldAsync("resubscribed", "TIMEOUT"); // 12 s: by now a sixth round would have begun

        AssertFiveRounds(await AllAsync(device));
    }

    [Fact]
    public async Task When_the_device_comes_back_there_are_five_rounds_one_round_interval_apart_each_with_its_repetitions()
    {
        var lamp = await site.NewDeviceAsync();
        await using (var first = await Device.OnlineAsync(site.Node.MqttPort, lamp, acknowledge: Never))
        {
            await SendAsync(lamp, "reconnected", ttl: 60);
            await first.NextAsync();
        }

        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp, acknowledge: Never);
        await site.ToldAsync("reconnected", "TIMEOUT");

        AssertFiveRounds(await AllAsync(device));
    }

    [Fact]
    public async Task A_session_that_is_kept_gets_its_rounds_without_a_SUBSCRIBE_and_goes_on_with_its_packet_id()
    {
        var lamp = await site.NewDeviceAsync();
        Received before;
        await using (var first = await Device.ConnectAsync(site.Node.MqttPort, lamp, clean: false, acknowledge: Never))
        {
            await first.SubscribeAsync();
            await SendAsync(lamp, "kept", ttl: 60);
            before = await first.NextAsync();
        }

        await using var device = await Device.ConnectAsync(site.Node.MqttPort, lamp, clean: false, acknowledge: Never);
        await site.ToldAsync("kept", "TIMEOUT");

        var copies = await AllAsync(device);
        AssertFiveRounds(copies);
        Assert.All(copies, c => Assert.Equal((before.PacketId, true), (c.PacketId, c.Dup)));
    }

    [Fact]
    public async Task A_PUBACK_that_comes_late_makes_the_message_DELIVERED_after_all()
    {
        var lamp = await site.NewDeviceAsync();
        var (copies, late) = (0, new TaskCompletionSource());
        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp, acknowledge: async _ =>
        {
            if (++copies < 4) return false;
            await late.Task;
            return true;
        });
        await SendAsync(lamp, "late");
        for (var i = 0; i < 4; i++) await device.NextAsync();
        Assert.Empty(site.Receiver.StatusesOf("late"));

        late.SetResult(); // after the last repetition, when nothing is to be sent any more
        await site.ToldAsync("late", "DELIVERED");
        Assert.Equal("DELIVERED", await site.StatusAsync(lamp, "late"));
    }

    [Fact]
    public async Task A_device_that_acknowledges_and_leaves_in_one_breath_has_acknowledged()
    {
        for (var i = 0; i < 50; i++)
        {
            var (lamp, id) = (await site.NewDeviceAsync(), $"breath_{i}");
            await SendAsync(lamp, id);
            using (var device = await RawMqtt.LoggedInAsync(site.Node.MqttPort, lamp))
            {
                await device.SendAsync(RawMqtt.Subscribe(Device.DownTopic(lamp), 1));
                RawPacket? packet;
                do packet = await device.NextAsync();
                while (packet is { Type: not RawMqtt.Publish });
                await device.SendAsync((byte[])[.. RawMqtt.Acknowledge(packet!.PublishId()), 0xE0, 0]);
                Assert.Empty(await device.ClosedAsync());
            }

            await site.ToldAsync(id, "DELIVERED", TimeSpan.FromSeconds(10));
        }
    }

    // ---- the ends

    [Fact]
    public async Task A_message_that_never_went_out_ends_TIMEOUT_when_its_ttl_is_over()
    {
        var lamp = await site.NewDeviceAsync();

        Assert.Equal("PENDING", (await SendAsync(lamp, "never_out", ttl: 5)).MessageStatus);

        await site.ToldAsync("never_out", "TIMEOUT");
        Assert.Equal(["PENDING", "TIMEOUT"], site.Receiver.StatusesOf("never_out"));
        Assert.Equal("TIMEOUT", await site.StatusAsync(lamp, "never_out"));

        // It is over: the device that comes now gets the next message and not this one.
        await SendAsync(lamp, "after_never_out");
        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp);
        Assert.Equal("after_never_out", (await device.NextAsync()).Id);
    }

    [Fact]
    public async Task A_message_that_was_sent_and_never_acknowledged_ends_TIMEOUT_when_its_ttl_is_over()
    {
        var lamp = await site.NewDeviceAsync();
        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp, acknowledge: Never);

        Assert.Equal("DELIVERED", (await SendAsync(lamp, "never_acked", ttl: 10)).MessageStatus);
        await device.NextAsync();
        Assert.Equal("DELIVERED", await site.StatusAsync(lamp, "never_acked")); // what the 201 said stands until the end

        await site.ToldAsync("never_acked", "TIMEOUT");
        Assert.Equal(["TIMEOUT"], site.Receiver.StatusesOf("never_acked"));
        Assert.Equal("TIMEOUT", await site.StatusAsync(lamp, "never_acked"));
    }

    [Fact]
    public async Task A_message_with_ttl_0_for_a_device_that_is_away_is_FAILED_at_once_and_says_that_the_device_is_not_online()
    {
        var lamp = await site.NewDeviceAsync();

        Assert.Equal("FAILED", (await SendAsync(lamp, "at_once", ttl: 0)).MessageStatus);

        var push = await site.ToldAsync("at_once", "FAILED");
        Assert.Equal("IOTDA.014016", ErrorCode(push));
        Assert.Equal(["FAILED"], site.Receiver.StatusesOf("at_once"));
        var shown = await site.ShowAsync(lamp, "at_once");
        Assert.Equal(("FAILED", "IOTDA.014016"), (shown.GetProperty("status").GetString(), shown.GetProperty("error_info").GetProperty("error_code").GetString()));
    }

    [Fact]
    public async Task The_twenty_first_message_displaces_the_oldest_which_ends_FAILED()
    {
        var lamp = await site.NewDeviceAsync();
        for (var i = 1; i <= 21; i++) Assert.Equal("PENDING", (await SendAsync(lamp, $"cache_{i:00}")).MessageStatus);

        var push = await site.ToldAsync("cache_01", "FAILED");
        Assert.Equal("DELIVERY.000001", ErrorCode(push));

        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp);
        for (var i = 2; i <= 21; i++) Assert.Equal($"cache_{i:00}", (await device.NextAsync()).Id);
        await site.ToldAsync("cache_21", "DELIVERED");
        for (var i = 2; i <= 21; i++) Assert.Equal(["PENDING", "DELIVERED"], site.Receiver.StatusesOf($"cache_{i:00}"));
        Assert.Equal(["PENDING", "FAILED"], site.Receiver.StatusesOf("cache_01"));
    }

    private async Task<Answer> SendAsync(string lamp, string id, int? ttl = null) =>
        Api.Expect(HttpStatusCode.Created, await site.Api.SendMessageAsync(lamp, $"content of {id}", id, ttl));

    private static string? ErrorCode(Harness.Push push) => push.Body.GetProperty("notify_data").GetProperty("error_info").GetProperty("error_code").GetString();

    private static async Task<List<Received>> AllAsync(Device device)
    {
        var all = new List<Received>();
        while (device.Waiting > 0) all.Add(await device.NextAsync());
        return all;
    }

    private static void AssertFiveRounds(List<Received> copies)
    {
        var rounds = copies.Chunk(4).ToList();
        Assert.Equal([4, 4, 4, 4, 4], rounds.Select(r => r.Length));
        AssertApart(ShortSchedule.RoundInterval, [.. rounds.Select(r => r[0])]);
        Assert.All(rounds, r => AssertApart(ShortSchedule.RepeatInterval, r));
    }

    private static void AssertApart(TimeSpan interval, IReadOnlyList<Received> copies)
    {
        var gaps = copies.Zip(copies.Skip(1), (a, b) => b.At - a.At).ToList();
        Assert.All(gaps, gap => Assert.InRange(gap, interval - Early, interval + Late));
        Assert.True(copies[^1].At - copies[0].At >= (interval * gaps.Count) - Early, $"{gaps.Count} intervals of {interval} took {copies[^1].At - copies[0].At}.");
    }
}
