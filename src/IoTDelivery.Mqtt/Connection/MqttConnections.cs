using Akka;
using Akka.Actor;
using Akka.Streams;
using Akka.Streams.Dsl;
using IoTDelivery.Devices;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Mqtt;

/// <summary>The logged-in connections of this node: one graph each, one materializer for all.</summary>
public sealed class MqttConnections
{
    private static readonly Source<NotUsed, NotUsed> Nothing = Source.Empty<NotUsed>();

    private readonly MqttServices _services;
    private readonly ActorMaterializer _materializer;

    /// <param name="takeUplink">Where what devices publish goes; without one it is acknowledged and not kept.</param>
    /// <param name="gatewayRequests">Does what gateways ask; without one they have no sub-devices and get none.</param>
    public MqttConnections(
        ActorSystem system, DeviceGateway devices, FindWaitingSubDevices waiting, MqttOptions options, TimeProvider clock, ILogger<MqttConnections> logger,
        ReportSdkInfo? reportSdkInfo = null, TakeUplink? takeUplink = null, IGatewayRequests? gatewayRequests = null)
    {
        var watch = system.ActorOf(Props.Create(typeof(DeviceWatch)), "mqtt-device-watch");
        var broadcasts = system.ActorOf(Props.Create(typeof(BroadcastHub)), BroadcastHub.Name);
        _services = new MqttServices(
            system, devices, waiting, watch, options, clock, logger, reportSdkInfo ?? ((_, _) => { }), takeUplink ?? ((_, _, _) => ValueTask.CompletedTask),
            new UplinkBytes(options.UplinkBytesMax),
            broadcasts,
            new HandOver(system, options),
            gatewayRequests ?? NoSubDevices.Instance);

        // The stage has no ports: buffers between stages would only cost memory, connection by connection.
        var settings = ActorMaterializerSettings.Create(system).WithInputBuffer(initialSize: 1, maxSize: 4);
        _materializer = ActorMaterializer.Create(system, settings, "mqtt");
    }

    /// <summary>Serves one connection until it ends, and says why it did. The pipes are the caller's to complete.</summary>
    public Task<SessionEnd> RunAsync(ConnectionContext connection, AcceptedConnect connect) =>
        Nothing.RunWith(new MqttConnectionStage(connection, connect, _services), _materializer);
}
