using IoTDelivery.Domain;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push;

internal static partial class Log
{
    [LoggerMessage(5001, LogLevel.Warning, "The database does not answer; notifications wait.")]
    public static partial void DatabaseAway(this ILogger logger, Exception cause);

    [LoggerMessage(5002, LogLevel.Warning, "Device {DeviceId} has notification {Number}, but the registry does not know it: nobody is told.")]
    public static partial void UnknownDevice(this ILogger logger, DeviceId deviceId, long number);

    [LoggerMessage(5012, LogLevel.Warning,
        "The registry does not know device {DeviceId}: its offer from notification {Number} on is dropped "
        + "until the device makes it again.")]
    public static partial void OfferDropped(this ILogger logger, DeviceId deviceId, long number);

    [LoggerMessage(5013, LogLevel.Warning,
        "The database refuses notification {Number} of device {DeviceId} for action {ActionId}, and answers: it is "
        + "tried again alone.")]
    public static partial void RowRefused(
        this ILogger logger, DeviceId deviceId, long number, string actionId, Exception cause);

    [LoggerMessage(5014, LogLevel.Error,
        "Notification {Number} of device {DeviceId} is given up for action {ActionId}, and the database refuses its "
        + "dead letter: it stays in the backlog and is tried again. The others go on.")]
    public static partial void LetterRefused(
        this ILogger logger, string deviceId, long number, string actionId, Exception cause);

    [LoggerMessage(5015, LogLevel.Error,
        "The backlog of action {ActionId} is over its bounds, and the database refuses the dead letters of rows {Ids}: "
        + "they stay. The others go on.")]
    public static partial void LettersRefused(this ILogger logger, string actionId, string ids);

    [LoggerMessage(5003, LogLevel.Debug, "Notification {Number} of device {DeviceId} failed at action {ActionId}: {Reason}. It is repeated.")]
    public static partial void PushFailed(this ILogger logger, string actionId, string deviceId, long number, string reason);

    [LoggerMessage(5004, LogLevel.Warning, "Action {ActionId} refused notification {Number} of device {DeviceId}: {Reason}. It is a dead letter now.")]
    public static partial void Refused(this ILogger logger, string actionId, string deviceId, long number, string reason);

    [LoggerMessage(5005, LogLevel.Warning, "The receiver of action {ActionId} is down ({Reason}): its notifications wait in the backlog.")]
    public static partial void BreakerOpened(this ILogger logger, string actionId, string reason);

    [LoggerMessage(5006, LogLevel.Information, "The receiver of action {ActionId} is back: its backlog goes out.")]
    public static partial void BreakerClosed(this ILogger logger, string actionId);

    [LoggerMessage(5007, LogLevel.Warning, "The backlog of action {ActionId} is over its bounds: {TooOld} notifications too old, {TooMany} beyond its bytes. They are dead letters now.")]
    public static partial void Trimmed(this ILogger logger, string actionId, int tooOld, int tooMany);

    [LoggerMessage(5009, LogLevel.Information, "Node {Incarnation} is gone: {Devices} devices it held are offline.")]
    public static partial void ConnectionsEnded(this ILogger logger, string incarnation, int devices);

    [LoggerMessage(5010, LogLevel.Warning, "An AMQP consumer from {RemoteEndPoint} was refused ({User}): {Problem}.")]
    public static partial void AmqpRefused(this ILogger logger, string? remoteEndPoint, string user, string problem);

    [LoggerMessage(5030, LogLevel.Warning, "{Count} deliveries that AMQP consumers have not settled within {Time} were taken back.")]
    public static partial void AmqpTakenBack(this ILogger logger, int count, TimeSpan time);

    [LoggerMessage(5011, LogLevel.Information, "An AMQP connection of access key {AccessKey} was ended: {Why}")]
    public static partial void AmqpEnded(this ILogger logger, string accessKey, string why);

    [LoggerMessage(5008, LogLevel.Information, "Action {ActionId} is deleted: {Rows} waiting notifications and {DeadLetters} dead letters were dropped with it.")]
    public static partial void Dropped(this ILogger logger, string actionId, int rows, int deadLetters);
}
