using IoTDelivery.Domain;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Mqtt;

/// <summary>Every log line of this box, with its number.</summary>
internal static partial class Log
{
    [LoggerMessage(3001, LogLevel.Debug, "Device {DeviceId} is connected from {RemoteEndPoint}, connection {ConnectionId}.")]
    public static partial void Connected(this ILogger logger, DeviceId deviceId, string? remoteEndPoint, Guid connectionId);

    [LoggerMessage(3002, LogLevel.Debug, "Connection {ConnectionId} of device {DeviceId} ended: {Reason}.")]
    public static partial void Ended(this ILogger logger, DeviceId deviceId, Guid connectionId, string reason);

    [LoggerMessage(3003, LogLevel.Information, "A connection from {RemoteEndPoint} with client id '{ClientId}' was refused: {Reason}.")]
    public static partial void Refused(this ILogger logger, string? remoteEndPoint, string? clientId, string reason);

    [LoggerMessage(3009, LogLevel.Information,
        "A connection from {RemoteEndPoint} to {LocalEndPoint}, where proxies connect, was refused: {Problem}.")]
    public static partial void NotFromProxy(
        this ILogger logger, string? remoteEndPoint, string? localEndPoint, string problem);

    [LoggerMessage(3004, LogLevel.Warning, "Device {DeviceId} is not let in: the registry does not answer ({Reason}).")]
    public static partial void RegistryUnavailable(this ILogger logger, DeviceId deviceId, string reason); // no stack: there are thousands of these

    [LoggerMessage(3005, LogLevel.Warning, "This node holds {Count} connections (Mqtt:ConnectionsMax): one more from {RemoteEndPoint} was closed.")]
    public static partial void Full(this ILogger logger, int count, string? remoteEndPoint);

    [LoggerMessage(3006, LogLevel.Warning, "Message {MessageId} cannot be sent to device {DeviceId}: {Reason}.")]
    public static partial void Unsendable(this ILogger logger, MessageId messageId, DeviceId deviceId, string reason);

    [LoggerMessage(3007, LogLevel.Warning, "Which sub-devices of gateway {DeviceId} have something waiting cannot be read ({Reason}); asking again.")]
    public static partial void SubDevicesUnknown(this ILogger logger, DeviceId deviceId, string reason);

    [LoggerMessage(3030, LogLevel.Warning,
        "The list of sub-devices of gateway {DeviceId} cannot be read ({Reason}); asking again.")]
    public static partial void SubDeviceListUnknown(this ILogger logger, DeviceId deviceId, string reason);

    [LoggerMessage(3031, LogLevel.Error,
        "A request of gateway {DeviceId} about a sub-device failed; the gateway is told.")]
    public static partial void SubDeviceRequestFailed(this ILogger logger, Exception cause, DeviceId deviceId);

    [LoggerMessage(3008, LogLevel.Error, "Connection {ConnectionId} of device {DeviceId} ends by an internal error.")]
    public static partial void Faulted(this ILogger logger, Exception fault, DeviceId deviceId, Guid connectionId);

    [LoggerMessage(3021, LogLevel.Information,
        "New connections are shown the certificate with serial number {SerialNumber}, valid to {ValidTo:u}.")]
    public static partial void CertificateRenewed(this ILogger logger, string serialNumber, DateTime validTo);

    [LoggerMessage(3022, LogLevel.Information,
        "The certificate with serial number {SerialNumber}, valid to {ValidTo:u}, stays in use: its files have not "
        + "changed.")]
    public static partial void CertificateUnchanged(this ILogger logger, string serialNumber, DateTime validTo);

    [LoggerMessage(3023, LogLevel.Error,
        "The certificate with serial number {SerialNumber}, valid to {ValidTo:u}, stays in use: its files cannot "
        + "serve. {Problem}")]
    public static partial void CertificateRefused(
        this ILogger logger, string serialNumber, DateTime validTo, string problem);
}
