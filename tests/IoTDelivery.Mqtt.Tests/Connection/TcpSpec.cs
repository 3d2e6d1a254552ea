using System.Collections.Concurrent;
using System.Net.Sockets;
using Akka.Actor;
using Akka.TestKit;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using MQTTnet;
using MQTTnet.Formatter;
using MQTTnet.Protocol;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>A real socket, Kestrel, and somebody else's client.</summary>
public sealed class TcpSpec : Akka.TestKit.Xunit2.TestKit, IAsyncLifetime
{
    private readonly TestProbe _region;
    private readonly TestProbe _device;
    private readonly WebApplication _host;

    public TcpSpec()
    {
        (_region, _device) = (CreateTestProbe(), CreateTestProbe());
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.Configuration.AddInMemoryCollection([new("Mqtt:Port", "0"), new("Mqtt:AttachRetryMin", "00:00:20"), new("Mqtt:AttachRetryMax", "00:00:20")]);
        builder.Services
            .AddSingleton(Sys)
            .AddSingleton(new DeviceGateway(() => _region.Ref))
            .AddSingleton<FindDevice>(id => new ValueTask<Device?>(id == Given.DeviceId ? Given.Device : null))
            .AddSingleton<ReportConnection>((_, _, _, _) => { })
            .AddSingleton<ReportSdkInfo>((_, _) => { })
            .AddMqtt(builder.Configuration);
        _host = builder.Build();
    }

    private int Port => _host.Services.GetRequiredService<MqttEndpoint>().BoundTo!.Port;

    public Task InitializeAsync() => _host.StartAsync();

    public async Task DisposeAsync() => await _host.DisposeAsync();

    [Theory]
    [InlineData(MqttProtocolVersion.V311)]
    [InlineData(MqttProtocolVersion.V500)]
    public async Task A_device_subscribes_receives_acknowledges_and_publishes(MqttProtocolVersion version)
    {
        using var client = new MqttClientFactory().CreateMqttClient();
        var received = new TaskCompletionSource<MqttApplicationMessage>();
        client.ApplicationMessageReceivedAsync += e =>
        {
            received.TrySetResult(e.ApplicationMessage);
            return Task.CompletedTask;
        };

        var connected = await client.ConnectAsync(Options(version));
        Assert.Equal(MqttClientConnectResultCode.Success, connected.ResultCode);
        var attach = await AcknowledgeAttach();

        var subscribed = await client.SubscribeAsync(Given.Down, MqttQualityOfServiceLevel.ExactlyOnce);
        Assert.Equal(MqttClientSubscribeResultCode.GrantedQoS1, subscribed.Items.Single().ResultCode);
        Assert.Equal<Subscription>([new(Given.Down, 1)], (await AcknowledgeAttach()).Subscribed);

        attach.Connection.Tell(Given.Transmit(77), _device.Ref);
        var message = await received.Task.WaitAsync(TimeSpan.FromSeconds(10));
        Assert.Equal(Given.Down, message.Topic);
        Assert.Equal(
            """{"object_device_id":"product_node-1","name":"greeting","id":"message-77","content":"hello"}""", message.ConvertPayloadToString());
        Assert.Equal(
            new ToDevice.PacketAcknowledged(Given.DeviceId, attach.ConnectionId, 77, 1, 0, Sequence: 1), await _device.ExpectMsgAsync<ToDevice.PacketAcknowledged>(TimeSpan.FromSeconds(10)));

        foreach (var qos in new[] { MqttQualityOfServiceLevel.AtMostOnce, MqttQualityOfServiceLevel.AtLeastOnce, MqttQualityOfServiceLevel.ExactlyOnce })
        {
            Assert.True((await client.PublishStringAsync(Given.Up, "up", qos)).IsSuccess);
        }

        await client.UnsubscribeAsync(Given.Down);
        Assert.Empty((await AcknowledgeAttach()).Subscriptions!.Value);

        await client.DisconnectAsync();
        Assert.Equal(attach.ConnectionId, (await _device.FishForMessageAsync<ToDevice.Detach>(_ => true, TimeSpan.FromSeconds(10))).ConnectionId);
    }

    [Fact]
    public async Task A_wrong_password_is_refused()
    {
        using var client = new MqttClientFactory().CreateMqttClient();
        var options = new MqttClientOptionsBuilder()
            .WithTcpServer("127.0.0.1", Port).WithProtocolVersion(MqttProtocolVersion.V500).WithKeepAlivePeriod(TimeSpan.FromSeconds(60))
            .WithClientId($"{Given.DeviceId}_0_0_{Given.Timestamp}").WithCredentials(Given.DeviceId.Value, "wrong").Build();

        Assert.Equal(MqttClientConnectResultCode.BadUserNameOrPassword, (await client.ConnectAsync(options)).ResultCode);
    }

    [Fact]
    public async Task A_host_that_stops_says_good_bye_to_its_devices_and_tells_their_actors_within_seconds()
    {
        using var client = new MqttClientFactory().CreateMqttClient();
        var disconnected = new TaskCompletionSource<MqttClientDisconnectReason>();
        client.DisconnectedAsync += e =>
        {
            disconnected.TrySetResult(e.Reason);
            return Task.CompletedTask;
        };
        await client.ConnectAsync(Options(MqttProtocolVersion.V500));
        await AcknowledgeAttach();

        await _host.StopAsync().WaitAsync(TimeSpan.FromSeconds(5));

        Assert.Equal(MqttClientDisconnectReason.ServerShuttingDown, await disconnected.Task.WaitAsync(TimeSpan.FromSeconds(5)));
        await _device.ExpectMsgAsync<ToDevice.Detach>();
        using var late = new TcpClient();
        await Assert.ThrowsAnyAsync<SocketException>(() => late.ConnectAsync("127.0.0.1", _boundPort));
    }

    [Fact]
    public async Task A_connection_that_is_reset_is_noticed()
    {
        using var socket = await ConnectAsync(clean: false);
        await AcknowledgeAttach();
        await socket.ReceiveAsync(new byte[64]); // CONNACK: this session goes on, so that it comes once the device has answered

        socket.Close(); // RST

        await _device.ExpectMsgAsync<ToDevice.Detach>(TimeSpan.FromSeconds(10));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_connection_that_is_reset_before_its_device_has_answered_is_noticed(bool clean)
    {
        using var socket = await ConnectAsync(clean);
        await _region.ExpectMsgAsync<ToDevice.Attach>(TimeSpan.FromSeconds(10));

        socket.Close(); // RST

        await _region.ExpectMsgAsync<ToDevice.Detach>(TimeSpan.FromSeconds(10));
    }

    private async Task<Socket> ConnectAsync(bool clean)
    {
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { LingerState = new LingerOption(true, 0) };
        await socket.ConnectAsync("127.0.0.1", Port);
        var packet = Given.ConnectPacket();
        packet.CleanSession = clean;
        var connect = new System.Buffers.ArrayBufferWriter<byte>();
        MqttFraming.Write(connect, packet, MqttProtocolVersion.V311);
        await socket.SendAsync(connect.WrittenMemory);
        return socket;
    }

    private int _boundPort;

    private MqttClientOptions Options(MqttProtocolVersion version)
    {
        _boundPort = Port;
        return new MqttClientOptionsBuilder()
            .WithTcpServer("127.0.0.1", _boundPort)
            .WithProtocolVersion(version)
            .WithKeepAlivePeriod(TimeSpan.FromSeconds(60))
            .WithCleanSession()
            .WithClientId($"{Given.DeviceId}_0_0_{Given.Timestamp}")
            .WithCredentials(Given.DeviceId.Value, DeviceLogin.Password(Given.Secret, Given.Timestamp))
            .Build();
    }

    private async Task<ToDevice.Attach> AcknowledgeAttach()
    {
        var attach = await _region.ExpectMsgAsync<ToDevice.Attach>(TimeSpan.FromSeconds(10));
        attach.Connection.Tell(new ToConnection.Attached(attach.Revision, SessionPresent: false, attach.Subscriptions ?? []), _device.Ref);
        return attach;
    }
}
