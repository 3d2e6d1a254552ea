using System.Diagnostics.Metrics;
using Akka.Actor;
using IoTDelivery.Devices;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>Chapters 3.1.2.10 (keep alive), 3.14 (DISCONNECT) and 4.13 (errors): how connections end.</summary>
public sealed class EndSpec : StageSpec
{
    [Fact]
    public async Task A_younger_connection_takes_over()
    {
        var running = await Open(Given.Connect(MqttProtocolVersion.V500));

        running.Stage.Tell(ToConnection.Evicted.ByYounger);

        Assert.Equal(MqttDisconnectReasonCode.SessionTakenOver, (await running.Client.ReceiveAsync<MqttDisconnectPacket>()).ReasonCode);
        Assert.Equal("taken over", (await Soon(running.Ended)).Why);
    }

    [Fact]
    public async Task A_3_1_1_client_that_is_taken_over_is_just_closed()
    {
        var running = await Open();

        running.Stage.Tell(ToConnection.Evicted.ByYounger);

        Assert.Equal("taken over", (await Soon(running.Ended)).Why);
        Assert.True(running.Client.HearsNothing());
    }

    [Fact]
    public async Task A_deleted_device_is_told_so()
    {
        var running = await Open(Given.Connect(MqttProtocolVersion.V500));

        running.Stage.Tell(ToConnection.Evicted.ByOperator);

        Assert.Equal(MqttDisconnectReasonCode.AdministrativeAction, (await running.Client.ReceiveAsync<MqttDisconnectPacket>()).ReasonCode);
    }

    [Fact]
    public async Task What_was_sent_before_the_eviction_still_arrives()
    {
        var running = await Open(Given.Connect(MqttProtocolVersion.V500));

        await running.Client.SendAsync(MqttPingReqPacket.Instance);
        await running.Client.ReceiveAsync<MqttPingRespPacket>();
        await running.Client.SendAsync(Given.ConnectPacket()); // [MQTT-3.1.0-2]

        Assert.Equal(MqttDisconnectReasonCode.ProtocolError, (await running.Client.ReceiveAsync<MqttDisconnectPacket>()).ReasonCode);
        await Device.ExpectMsgAsync<ToDevice.Detach>();
    }

    [Fact]
    public async Task An_evicted_client_that_does_not_read_is_cut()
    {
        var running = await Open(Given.Connect(MqttProtocolVersion.V500), Options with { CloseTimeout = TimeSpan.FromMilliseconds(200) }, window: 1);
        running.Stage.Tell(Given.Transmit(1), Device.Ref);
        await Region.ExpectNoMsgAsync(Silence);

        running.Stage.Tell(ToConnection.Evicted.ByYounger);

        Assert.Equal("taken over", (await Soon(running.Ended)).Why);
    }

    [Fact]
    public async Task A_host_that_stops_says_so()
    {
        var running = await Open(Given.Connect(MqttProtocolVersion.V500));

        running.Client.RequestClose();

        Assert.Equal(MqttDisconnectReasonCode.ServerShuttingDown, (await running.Client.ReceiveAsync<MqttDisconnectPacket>()).ReasonCode);
        await Device.ExpectMsgAsync<ToDevice.Detach>();
        Assert.Equal("shutdown", (await Soon(running.Ended)).Why);
    }

    [Fact]
    public async Task A_client_that_waits_for_its_session_while_the_host_stops_is_refused()
    {
        var running = Run(Given.Connect(MqttProtocolVersion.V500, startsClean: false, keepsSession: true));
        await Region.ExpectMsgAsync<ToDevice.Attach>();

        running.Client.RequestClose();

        Assert.Equal(MqttConnectReasonCode.ServerUnavailable, (await running.Client.ReceiveAsync<MqttConnAckPacket>()).ReasonCode);
        await Soon(running.Ended);
    }

    // [MQTT-3.1.2-24] of 3.1.1
    [Fact]
    public async Task A_client_that_is_silent_for_one_and_a_half_keep_alives_is_closed()
    {
        var started = TimeProvider.System.GetTimestamp();
        var running = await Open(Given.Connect(MqttProtocolVersion.V500, keepAlive: TimeSpan.FromMilliseconds(400)));

        Assert.Equal(MqttDisconnectReasonCode.KeepAliveTimeout, (await running.Client.ReceiveAsync<MqttDisconnectPacket>()).ReasonCode);

        Assert.True(TimeProvider.System.GetElapsedTime(started) >= TimeSpan.FromMilliseconds(590));
        Assert.Equal("keep-alive", (await Soon(running.Ended)).Why);
    }

    [Fact]
    public async Task A_client_that_pings_stays_until_it_stops()
    {
        var clock = new ManualClock();
        var running = await Open(Given.Connect(keepAlive: TimeSpan.FromMilliseconds(200)), clock: clock);

        using var looks = new PeriodicTimer(TimeSpan.FromMilliseconds(100)); // time for the stage to look at the clock
        for (var i = 0; i < 8 && await looks.WaitForNextTickAsync(); i++)
        {
            clock.Advance(TimeSpan.FromMilliseconds(299));
            await running.Client.SendAsync(MqttPingReqPacket.Instance);
            await running.Client.ReceiveAsync<MqttPingRespPacket>();
        }

        clock.Advance(TimeSpan.FromMilliseconds(300));
        Assert.Equal("keep-alive", (await Soon(running.Ended)).Why);
    }

    [Fact]
    public async Task Garbage_is_answered_with_malformed_packet_in_MQTT_5()
    {
        var running = await Open(Given.Connect(MqttProtocolVersion.V500));

        await running.Client.SendAsync([0x30, 0x02, 0x00, 0x09]);

        Assert.Equal(MqttDisconnectReasonCode.MalformedPacket, (await running.Client.ReceiveAsync<MqttDisconnectPacket>()).ReasonCode);
        await Device.ExpectMsgAsync<ToDevice.Detach>();
    }

    [Fact]
    public async Task An_oversized_packet_ends_the_connection_before_it_has_come()
    {
        var running = await Open(Given.Connect(MqttProtocolVersion.V500));

        await running.Client.SendAsync([0x30, 0xFF, 0xFF, 0xFF, 0x7F]);

        Assert.Equal(MqttDisconnectReasonCode.PacketTooLarge, (await running.Client.ReceiveAsync<MqttDisconnectPacket>()).ReasonCode);
    }

    [Fact]
    public async Task A_packet_of_a_megabyte_is_taken_and_counted()
    {
        var counted = 0L;
        using var meters = new MeterListener
        {
            InstrumentPublished = (instrument, listener) =>
            {
                if (instrument is { Name: "mqtt.uplink.bytes", Meter.Name: MqttMeters.Name }) listener.EnableMeasurementEvents(instrument);
            },
        };
        meters.SetMeasurementEventCallback<long>((_, bytes, _, _) => Interlocked.Add(ref counted, bytes));
        meters.Start();
        var running = await Open();
        var publish = Given.Publish(Given.Up, 1);
        publish.PayloadSegment = new byte[1024 * 1024];

        await running.Client.SendAsync(publish);

        await running.Client.ReceiveAsync<MqttPubAckPacket>();
        Assert.True(counted >= 1024 * 1024);
    }

    [Fact]
    public async Task A_client_that_hangs_up_in_the_middle_of_a_packet_is_gone()
    {
        var running = await Open();

        await running.Client.SendAsync([0x30, 0x20, 0x00]);
        await running.Client.HangUpAsync();

        Assert.Equal("connection lost", (await Soon(running.Ended)).Why);
    }

    [Fact]
    public async Task Ten_thousand_pings_in_one_go_are_all_answered()
    {
        var running = await Open(window: 1024);

        var sent = running.Client.SendAsync([.. Enumerable.Repeat(MqttPingReqPacket.Instance, 10_000)]);
        for (var i = 0; i < 10_000; i++) await running.Client.ReceiveAsync<MqttPingRespPacket>();

        await sent;
    }
}
