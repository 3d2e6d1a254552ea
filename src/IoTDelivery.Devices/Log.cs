using Microsoft.Extensions.Logging;

namespace IoTDelivery.Devices;

/// <summary>Every log line of this box that is not an actor's, with its number.</summary>
internal static partial class Log
{
    [LoggerMessage(2001, LogLevel.Warning, "Another cluster is alive on this database: {Others}. This node does not form a second one; it asks its seed nodes to let it in.")]
    public static partial void DoesNotForm(this ILogger logger, string others);

    [LoggerMessage(2002, LogLevel.Warning, "Not a member yet: none of the seed nodes {Seeds} has let this node in.")]
    public static partial void WaitsForSeeds(this ILogger logger, string seeds);

    [LoggerMessage(2003, LogLevel.Error, "Node {Address} is a member of cluster {Older} on the same database, which is older than this node's {Mine}: this node ends, to join it when it is started again.")]
    public static partial void GivesWay(this ILogger logger, string address, Guid older, Guid mine);

    [LoggerMessage(2004, LogLevel.Error, "The other nodes have downed this one, or it was cut off with the smaller part: it ends, to join again when it is started again.")]
    public static partial void WasDowned(this ILogger logger);

    [LoggerMessage(2005, LogLevel.Warning, "The heartbeat of this node fails. It goes on; this is said once a minute.")]
    public static partial void HeartbeatFails(this ILogger logger, Exception cause);

    [LoggerMessage(2006, LogLevel.Warning, "The journal cannot be written, what devices have to store waits: {Why}")]
    public static partial void JournalWaits(this ILogger logger, string why);

    [LoggerMessage(2007, LogLevel.Error,
        "What {PersistenceId} has to store the database refuses, and takes the others': {Why}")]
    public static partial void WriteRefused(this ILogger logger, string persistenceId, string why);
}
