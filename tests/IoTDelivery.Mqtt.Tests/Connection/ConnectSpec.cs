using System.Collections.Concurrent;
using Akka.TestKit;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging.Abstractions;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>Chapters 3.1 and 3.2: CONNECT and CONNACK.</summary>
public sealed class ConnectSpec : Akka.TestKit.Xunit2.TestKit
{
    private static readonly MqttOptions Options = new() { CloseTimeout = TimeSpan.FromMilliseconds(100) };

    private readonly ConcurrentQueue<(DeviceId DeviceId, Guid ConnectionId, bool IsOnline)> _reports = new();
    private readonly TestProbe _region;

    public ConnectSpec() => _region = CreateTestProbe();

    [Theory]
    [InlineData(MqttProtocolVersion.V310)]
    [InlineData(MqttProtocolVersion.V311)]
    [InlineData(MqttProtocolVersion.V500)]
    public async Task A_device_that_proves_itself_is_let_in(MqttProtocolVersion version)
    {
        var (client, handled) = Connect(version);

        await client.SendAsync(Given.ConnectPacket(), MqttPingReqPacket.Instance); // nothing behind the CONNECT is lost
        var connAck = await client.ReceiveAsync<MqttConnAckPacket>();
        await client.ReceiveAsync<MqttPingRespPacket>();

        Assert.Equal(MqttConnectReturnCode.ConnectionAccepted, connAck.ReturnCode);
        var attach = await _region.ExpectMsgAsync<ToDevice.Attach>();
        Assert.Equal((Given.DeviceId, Given.Noon), (attach.DeviceId, attach.ConnectedAt));
        Assert.Equal([(Given.DeviceId, attach.ConnectionId, true)], _reports);

        await client.SendAsync(new MqttDisconnectPacket());
        await Soon(handled);
        Assert.Equal([(Given.DeviceId, attach.ConnectionId, true), (Given.DeviceId, attach.ConnectionId, false)], _reports);
    }

    [Theory]
    [InlineData(7, 0, 7)] // never frozen: that of its life
    [InlineData(7, 9, 9)]
    public async Task The_device_is_told_against_which_generation_of_its_row_the_login_was_proven(
        long life, long endedBy, long generation)
    {
        var row = Given.Device with { Life = life, LoginsEndedBy = endedBy };
        var (client, _) = Connect(find: _ => new ValueTask<Device?>(row));

        await client.SendAsync(Given.ConnectPacket());

        Assert.Equal(generation, (await _region.ExpectMsgAsync<ToDevice.Attach>()).Generation);
    }

    // 3.2.2.3.4 of MQTT 5: a client that wants QoS 2 would give up if it were told a maximum.
    [Fact]
    public async Task The_CONNACK_of_MQTT_5_names_what_we_lack_and_no_maximum_QoS()
    {
        var (client, _) = Connect(MqttProtocolVersion.V500);

        await client.SendAsync(Given.ConnectPacket());
        var connAck = await client.ReceiveAsync<MqttConnAckPacket>();

        Assert.Equal(MqttQualityOfServiceLevel.ExactlyOnce, connAck.MaximumQoS);
        Assert.Equal((false, false, false, true), (
            connAck.RetainAvailable, connAck.SharedSubscriptionAvailable, connAck.SubscriptionIdentifiersAvailable, connAck.WildcardSubscriptionAvailable));
        Assert.Equal((Options.TopicAliasMax, Options.ReceiveMax, (uint)Options.PacketBytesMax), (connAck.TopicAliasMaximum, connAck.ReceiveMaximum, connAck.MaximumPacketSize));
    }

    [Theory]
    [InlineData(true, 0u, true, false)]
    [InlineData(false, 0u, false, false)]
    [InlineData(true, 60u, true, true)]
    [InlineData(false, uint.MaxValue, false, true)]
    public async Task In_MQTT_5_the_session_expiry_says_whether_and_how_long_a_session_is_kept(bool cleanStart, uint expiry, bool startsClean, bool keepsSession)
    {
        var (client, _) = Connect(MqttProtocolVersion.V500);
        var connect = Given.ConnectPacket();
        (connect.CleanSession, connect.SessionExpiryInterval, connect.ReceiveMaximum) = (cleanStart, expiry, 5);

        await client.SendAsync(connect);

        var attach = await _region.ExpectMsgAsync<ToDevice.Attach>();
        Assert.Equal((startsClean, keepsSession), (attach.StartsClean, attach.KeepsSession));
        Assert.Equal(expiry == uint.MaxValue ? TimeSpan.MaxValue : TimeSpan.FromSeconds(expiry), attach.SessionExpiry);
        Assert.Equal(new WireConnection(true, 5), attach.Wire);
    }

    [Fact]
    public async Task In_3_1_1_clean_session_0_is_kept()
    {
        var (client, _) = Connect();
        var connect = Given.ConnectPacket();
        connect.CleanSession = false;

        await client.SendAsync(connect);

        var attach = await _region.ExpectMsgAsync<ToDevice.Attach>();
        Assert.Equal((false, true), (attach.StartsClean, attach.KeepsSession));
    }

    public static TheoryData<string, MqttConnectReturnCode, MqttConnectReasonCode> Refusals => new()
    {
        { "unknown device", MqttConnectReturnCode.ConnectionRefusedBadUsernameOrPassword, MqttConnectReasonCode.BadUserNameOrPassword },
        { "wrong password", MqttConnectReturnCode.ConnectionRefusedBadUsernameOrPassword, MqttConnectReasonCode.BadUserNameOrPassword },
        { "no password", MqttConnectReturnCode.ConnectionRefusedBadUsernameOrPassword, MqttConnectReasonCode.BadUserNameOrPassword },
        { "other user name", MqttConnectReturnCode.ConnectionRefusedBadUsernameOrPassword, MqttConnectReasonCode.BadUserNameOrPassword },
        { "old timestamp", MqttConnectReturnCode.ConnectionRefusedBadUsernameOrPassword, MqttConnectReasonCode.BadUserNameOrPassword },
        { "bare client id", MqttConnectReturnCode.ConnectionRefusedIdentifierRejected, MqttConnectReasonCode.ClientIdentifierNotValid },
        { "keep-alive 0", MqttConnectReturnCode.ConnectionRefusedIdentifierRejected, MqttConnectReasonCode.ClientIdentifierNotValid },
        { "keep-alive 29", MqttConnectReturnCode.ConnectionRefusedIdentifierRejected, MqttConnectReasonCode.ClientIdentifierNotValid },
        { "keep-alive 1201", MqttConnectReturnCode.ConnectionRefusedIdentifierRejected, MqttConnectReasonCode.ClientIdentifierNotValid },
        { "registry away", MqttConnectReturnCode.ConnectionRefusedServerUnavailable, MqttConnectReasonCode.ServerUnavailable },
    };

    [Theory]
    [MemberData(nameof(Refusals))]
    public async Task A_device_that_is_not_let_in_is_told_why_and_closed(string story, MqttConnectReturnCode code3, MqttConnectReasonCode code5)
    {
        foreach (var version in new[] { MqttProtocolVersion.V311, MqttProtocolVersion.V500 })
        {
            if (version == MqttProtocolVersion.V500 && story.StartsWith("keep-alive", StringComparison.Ordinal)) continue; // it is told another one
            var (client, handled) = Connect(version, story switch
            {
                "unknown device" => _ => default,
                "registry away" => _ => ValueTask.FromException<Device?>(new TimeoutException("the database is away")),
                _ => null,
            });

            await client.SendAsync(Changed(Given.ConnectPacket(), story));
            var connAck = await client.ReceiveAsync<MqttConnAckPacket>();

            Assert.Equal(code3, connAck.ReturnCode);
            if (version == MqttProtocolVersion.V500) Assert.Equal((code5, code5 != MqttConnectReasonCode.ServerUnavailable), (connAck.ReasonCode, connAck.ReasonString is { Length: > 0 }));
            Assert.Null(await client.ReceiveAsync());
            await Soon(handled);
        }

        Assert.Empty(_reports);
        await _region.ExpectNoMsgAsync(TimeSpan.FromMilliseconds(50));
    }

    // [MQTT-3.1.2-21], [MQTT-3.2.2-21]
    [Theory]
    [InlineData(0, 1200)]
    [InlineData(29, 30)]
    [InlineData(30, 0)]
    [InlineData(1200, 0)]
    [InlineData(1201, 1200)]
    public async Task An_MQTT_5_client_whose_keep_alive_is_out_of_bounds_is_told_another(ushort asked, ushort told)
    {
        var (client, _) = Connect(MqttProtocolVersion.V500);

        await client.SendAsync(Given.ConnectPacket(asked));

        var connAck = await client.ReceiveAsync<MqttConnAckPacket>();
        Assert.Equal((MqttConnectReasonCode.Success, told), (connAck.ReasonCode, connAck.ServerKeepAlive));
    }

    [Theory]
    [InlineData(false, null, false)]
    [InlineData(true, null, true)]
    [InlineData(false, true, true)]
    [InlineData(true, false, false)]
    public async Task Whether_a_device_is_subscribed_implicitly_is_said_for_all_or_for_its_product(bool all, bool? product, bool isImplicit)
    {
        var options = Options with { ImplicitSubscription = all, ImplicitSubscriptionGrace = TimeSpan.Zero, ImplicitSubscriptionOf = new() { ["another"] = !isImplicit } };
        if (product is { } own) options.ImplicitSubscriptionOf[Given.Device.ProductId] = own;
        var (client, _) = Connect(options: options);

        await client.SendAsync(Given.ConnectPacket());

        Assert.Equal(isImplicit, options.IsImplicit(Given.Device.ProductId));
        await client.ReceiveAsync<MqttConnAckPacket>();
        await _region.ExpectMsgAsync<ToDevice.Attach>();
        if (isImplicit) Assert.True((await _region.ExpectMsgAsync<ToDevice.Attach>()).Implicit);
        else await _region.ExpectNoMsgAsync(TimeSpan.FromMilliseconds(100));
    }

    [Theory]
    [InlineData(30)]
    [InlineData(1200)]
    public async Task The_bounds_of_the_keep_alive_are_inside(ushort keepAlive)
    {
        var (client, _) = Connect();

        await client.SendAsync(Given.ConnectPacket(keepAlive));

        Assert.Equal(MqttConnectReturnCode.ConnectionAccepted, (await client.ReceiveAsync<MqttConnAckPacket>()).ReturnCode);
    }

    // [MQTT-3.1.2-2]
    [Fact]
    public async Task A_level_nobody_speaks_is_answered_with_code_1()
    {
        var (client, _) = Connect();

        await client.SendAsync([0x10, 0x0C, 0x00, 0x04, (byte)'M', (byte)'Q', (byte)'T', (byte)'T', 9, 2, 0, 60, 0, 0]);

        Assert.Equal(MqttConnectReturnCode.ConnectionRefusedUnacceptableProtocolVersion, (await client.ReceiveAsync<MqttConnAckPacket>()).ReturnCode);
    }

    public static TheoryData<byte[]> NoConnects =>
    [
        "GET / HTTP/1.1\r\n\r\n"u8.ToArray(),
        [0xC0, 0x00], // PINGREQ
        [0x10, 0xFF, 0xFF, 0x7F], // a CONNECT of two megabytes
        [0x10, 0x02, 0x00, 0x00],
    ];

    // [MQTT-3.1.0-1]
    [Theory]
    [MemberData(nameof(NoConnects))]
    public async Task What_is_no_CONNECT_is_closed_without_a_word(byte[] bytes)
    {
        var (client, handled) = Connect();

        await client.SendAsync(bytes);

        Assert.Empty(await client.ReceiveBytesAsync());
        await Soon(handled);
    }

    [Fact]
    public async Task A_connection_that_says_nothing_is_closed_in_time()
    {
        var (client, handled) = Connect(options: Options with { ConnectTimeout = TimeSpan.FromMilliseconds(100) });

        Assert.Empty(await client.ReceiveBytesAsync());
        await Soon(handled);
    }

    [Fact]
    public async Task A_registry_that_does_not_answer_in_time_counts_as_away()
    {
        var never = new TaskCompletionSource<Device?>();
        var (client, _) = Connect(find: _ => new ValueTask<Device?>(never.Task), options: Options with { ConnectTimeout = TimeSpan.FromMilliseconds(200) });

        await client.SendAsync(Given.ConnectPacket());

        Assert.Equal(MqttConnectReturnCode.ConnectionRefusedServerUnavailable, (await client.ReceiveAsync<MqttConnAckPacket>()).ReturnCode);
    }

    [Fact]
    public async Task Connections_are_bounded_and_a_place_becomes_free_again()
    {
        var handler = Handler(options: Options with { ConnectionsMax = 1 });
        var (first, second, third) = (new Client(MqttProtocolVersion.V311), new Client(MqttProtocolVersion.V311), new Client(MqttProtocolVersion.V311));
        var firstHandled = handler.OnConnectedAsync(first.Connection); // has not even said CONNECT

        await Soon(handler.OnConnectedAsync(second.Connection));
        await first.HangUpAsync();
        await Soon(firstHandled);
        _ = handler.OnConnectedAsync(third.Connection);
        await third.SendAsync(Given.ConnectPacket());

        Assert.True(second.HearsNothing());
        await third.ReceiveAsync<MqttConnAckPacket>();
    }

    private (Client Client, Task Handled) Connect(
        MqttProtocolVersion version = MqttProtocolVersion.V311, FindDevice? find = null, MqttOptions? options = null)
    {
        var client = new Client(version);
        return (client, Handler(find, options).OnConnectedAsync(client.Connection));
    }

    private MqttConnectionHandler? _handler;

    private MqttConnectionHandler Handler(FindDevice? find = null, MqttOptions? options = null)
    {
        if (_handler is not null && find is null && options is null) return _handler;
        options ??= Options;
        var clock = new ManualClock();
        _connections ??= new MqttConnections(Sys, new DeviceGateway(() => _region.Ref), (_, _) => Task.FromResult<IReadOnlyList<DeviceId>>([]), options, clock, NullLogger<MqttConnections>.Instance);
        return _handler = new MqttConnectionHandler(
            _connections,
            find ?? (id => new ValueTask<Device?>(id == Given.DeviceId ? Given.Device : null)),
            (id, connection, isOnline, _) => _reports.Enqueue((id, connection, isOnline)),
            options,
            clock,
            NullLogger<MqttConnectionHandler>.Instance);
    }

    private MqttConnections? _connections;

    private static MqttConnectPacket Changed(MqttConnectPacket connect, string story)
    {
        switch (story)
        {
            case "wrong password": connect.Password = new byte[64]; break;
            case "no password": connect.Password = null; break;
            case "other user name": connect.Username = "other"; break;
            case "old timestamp": connect.ClientId = $"{Given.DeviceId}_0_1_{Given.Timestamp}"; break;
            case "bare client id": connect.ClientId = Given.DeviceId.Value; break;
            case "keep-alive 0": connect.KeepAlivePeriod = 0; break;
            case "keep-alive 29": connect.KeepAlivePeriod = 29; break;
            case "keep-alive 1201": connect.KeepAlivePeriod = 1201; break;
        }

        return connect;
    }

    private static Task Soon(Task task) => task.WaitAsync(TimeSpan.FromSeconds(10));
}
