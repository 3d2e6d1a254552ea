using Microsoft.Extensions.Logging;

namespace IoTDelivery.Batch;

/// <summary>Every log line of this box, with its number.</summary>
internal static partial class Log
{
    [LoggerMessage(7001, LogLevel.Warning, "The database does not answer; batch tasks wait ({Reason}).")]
    public static partial void DatabaseAway(this ILogger logger, string reason);

    [LoggerMessage(7002, LogLevel.Error, "Batch tasks cannot be worked on; starting again.")]
    public static partial void Failed(this ILogger logger, Exception cause);

    [LoggerMessage(7003, LogLevel.Information, "Batch task {TaskId} ended: {Status}.")]
    public static partial void Ended(this ILogger logger, string taskId, BatchStatus status);

    [LoggerMessage(7004, LogLevel.Debug, "Target {Target} of batch task {TaskId} did not answer; it is asked again.")]
    public static partial void NoAnswer(this ILogger logger, string taskId, string target);
}
