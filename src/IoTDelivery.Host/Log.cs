using System.Net;
using IoTDelivery.Domain;

namespace IoTDelivery.Host;

/// <summary>Every log line of this box, with its number.</summary>
internal static partial class Log
{
    [LoggerMessage(6001, LogLevel.Warning, "A login from {Source} failed.")]
    public static partial void LoginFailed(this ILogger logger, IPAddress source);

    [LoggerMessage(6002, LogLevel.Error, "Request {RequestId} (the caller's id: {CallerRequestId}) failed: {Method} {Path}")]
    public static partial void RequestFailed(this ILogger logger, Exception cause, string requestId, string callerRequestId, string method, string path);

    [LoggerMessage(6003, LogLevel.Warning, "Request {RequestId} was answered 503, the database does not answer: {Reason}")]
    public static partial void DatabaseAway(this ILogger logger, string requestId, string reason);

    [LoggerMessage(6004, LogLevel.Warning, "Unfinished creations and deletions of devices cannot be resumed yet.")]
    public static partial void DoesNotResume(this ILogger logger, Exception cause);

    [LoggerMessage(6005, LogLevel.Warning, "Gateway {Gateway} is not told now which sub-devices it has: {Reason}")]
    public static partial void GatewayNotTold(this ILogger logger, DeviceId gateway, string reason);
}
