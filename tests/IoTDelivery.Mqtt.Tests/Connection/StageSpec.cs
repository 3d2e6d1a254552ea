using Akka.Actor;
using Akka.TestKit;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using Microsoft.Extensions.Logging.Abstractions;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>A stage between a client in memory and a probe that stands for the shard region.</summary>
public abstract class StageSpec : Akka.TestKit.Xunit2.TestKit
{
    /// <summary>Which sub-devices have something waiting.</summary>
    private protected Func<DeviceId, IReadOnlyList<DeviceId>> WaitingOf { get; set; } = _ => [];

    private protected static readonly TimeSpan Silence = TimeSpan.FromMilliseconds(300);

    private protected TestProbe Region { get; }

    private protected TestProbe Device { get; set; }

    private protected ReportSdkInfo? ReportSdkInfo { get; set; }
    /// <summary>Null: what devices publish is taken at once.</summary>
    private protected TakeUplink? TakeUplink { get; init; }

    private protected StageSpec()
        : base("akka.loglevel = WARNING\nakka.log-dead-letters = off")
    {
        Region = CreateTestProbe();
        Device = CreateTestProbe();
        Region.SetAutoPilot(new Gateway(this));
        Region.IgnoreMessages(m => m is ToDevice.ReserveSubDeviceIds or ToDevice.ReturnSubDeviceIds);
    }

    /// <summary>Position of the first packet id that the next connection of a gateway gets for its sub-devices.</summary>
    private protected long SubDeviceIdsFrom { get; set; }

    /// <summary>What connections of gateways gave back.</summary>
    private protected System.Collections.Concurrent.BlockingCollection<ToDevice.ReturnSubDeviceIds> Returned { get; } = [];

    // Reserves packet ids for sub-devices, as the gateway's device does.
    private sealed class Gateway(StageSpec spec) : AutoPilot
    {
        public override AutoPilot Run(IActorRef sender, object message)
        {
            if (message is ToDevice.ReturnSubDeviceIds back) spec.Returned.Add(back);
            if (message is ToDevice.ReserveSubDeviceIds reserve)
            {
                sender.Tell(new ToConnection.SubDeviceIdsReserved(reserve.Request, spec.SubDeviceIdsFrom, spec.SubDeviceIdsFrom + PacketIds.ReservedAhead));
                spec.SubDeviceIdsFrom += PacketIds.ReservedAhead;
            }

            return this;
        }
    }

    private MqttConnections? _connections;

    /// <summary>Does what gateways ask; null for a site without sub-devices.</summary>
    private protected IGatewayRequests? GatewayRequests { get; init; }

    private protected static MqttOptions Options { get; } = new() { AttachRetryMin = TimeSpan.FromSeconds(20), AttachRetryMax = TimeSpan.FromSeconds(20) };

    private protected Running Run(AcceptedConnect? connect = null, MqttOptions? options = null, long window = 64 * 1024, TimeProvider? clock = null)
    {
        connect ??= Given.Connect();
        _connections ??= new MqttConnections(
            Sys, new DeviceGateway(() => Region.Ref), (gateway, _) => Task.FromResult(WaitingOf(gateway)), options ?? Options, clock ?? TimeProvider.System, NullLogger<MqttConnections>.Instance,
            ReportSdkInfo, TakeUplink, GatewayRequests);
        var client = new Client(connect.Version, window);
        return new Running(connect, client, _connections.RunAsync(client.Connection, connect));
    }

    /// <summary>A clean session that is attached and has read its CONNACK.</summary>
    private protected async Task<Running> Open(AcceptedConnect? connect = null, MqttOptions? options = null, long window = 64 * 1024, TimeProvider? clock = null)
    {
        var running = Run(connect, options, window, clock);
        running.Stage = (await AttachAsync()).Connection;
        await running.Client.ReceiveAsync<MqttConnAckPacket>();
        return running;
    }

    /// <summary>Expects an Attach and acknowledges it.</summary>
    private protected async Task<ToDevice.Attach> AttachAsync(bool sessionPresent = false, params Subscription[] remembered)
    {
        var attach = await Region.ExpectMsgAsync<ToDevice.Attach>();
        Acknowledge(attach, sessionPresent, remembered);
        return attach;
    }

    private protected void Acknowledge(ToDevice.Attach attach, bool sessionPresent = false, params Subscription[] remembered) =>
        attach.Connection.Tell(new ToConnection.Attached(attach.Revision, sessionPresent, [.. attach.Subscriptions ?? [], .. remembered]), Device.Ref);

    /// <summary>
    /// The connection has heard what its device said: when what comes behind that is out. What the client sends takes
    /// another way, and could be sooner.
    /// </summary>
    private protected async Task HeardAsync(Running running)
    {
        running.Stage.Tell(Given.Transmit(1), Device.Ref);
        await running.Client.ReceiveAsync<MqttPublishPacket>();
    }

    private protected static Task<T> Soon<T>(Task<T> task) => task.WaitAsync(TimeSpan.FromSeconds(10));

    private protected sealed record Running(AcceptedConnect Connect, Client Client, Task<SessionEnd> Ended)
    {
        public IActorRef Stage { get; set; } = ActorRefs.Nobody;
    }
}
