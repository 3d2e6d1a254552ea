using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Mqtt;

/// <summary>Looks a device up; null if there is none. <see cref="Registry.Devices.FindAsync(DeviceId)"/> in the product.</summary>
public delegate ValueTask<Device?> FindDevice(DeviceId deviceId);

/// <summary>
/// Hears of connections that were let in and ended; never waits. <see cref="ConnectionLog.Report"/> in the product.
/// </summary>
public delegate void ReportConnection(DeviceId deviceId, Guid connectionId, bool isOnline, DateTimeOffset at);

/// <summary>Hears what devices say of their software; never waits. <see cref="SdkInfoLog.Report"/> in the product.</summary>
public delegate void ReportSdkInfo(DeviceId deviceId, SdkInfo info);

/// <summary>What all connections of a node share.</summary>
internal sealed record MqttServices(
    ActorSystem System,
    DeviceGateway Devices,
    FindWaitingSubDevices FindWaitingSubDevices,
    IActorRef DeviceWatch,
    MqttOptions Options,
    TimeProvider Clock,
    ILogger Logger,
    ReportSdkInfo ReportSdkInfo,
    TakeUplink TakeUplink,
    UplinkBytes UplinkBytes,
    IActorRef Broadcasts,
    HandOver HandOver,
    IGatewayRequests GatewayRequests);
