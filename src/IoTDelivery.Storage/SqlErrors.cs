using System.Data.Common;
using Microsoft.Data.SqlClient;
using Microsoft.Data.Sqlite;
using Npgsql;

namespace IoTDelivery.Storage;

/// <summary>What an error of a database is about: the data it was given, or the database itself.</summary>
public static class SqlErrors
{
    // SQL Server: data that does not fit its column (conversion, overflow, truncation, a null too many) or breaks a rule
    // (unique, foreign key, check).
    private static readonly int[] SqlServerData = [245, 515, 547, 2601, 2627, 2628, 8114, 8115, 8152, 13609];

    /// <summary>
    /// True if the database works and refuses this data: a text it cannot store, a value that does not fit, a broken rule.
    /// Trying again is in vain, and other rows are not concerned.
    /// </summary>
    public static bool IsAboutData(Exception exception) => exception switch
    {
        // Classes of SQLSTATE: data (22), constraint (23), a statement that is wrong (42), a limit that is passed (54).
        PostgresException { SqlState: ['2', '2' or '3', ..] or ['4', '2', ..] or ['5', '4', ..] } => true,
        SqliteException { SqliteErrorCode: 18 or 19 or 20 } => true, // too big, constraint, mismatch
        SqlException sql => SqlServerData.Contains(sql.Number),
        { InnerException: { } inner } => IsAboutData(inner),
        _ => false,
    };

    /// <summary>True if the database was not reached or did not answer: what was asked may be done or not.</summary>
    public static bool IsUnavailable(Exception exception) => !IsAboutData(exception)
        && (exception is DbException or TimeoutException or System.Net.Sockets.SocketException or IOException
            || (exception is AggregateException aggregate && aggregate.InnerExceptions.All(IsUnavailable))
            || (exception.InnerException is { } inner && IsUnavailable(inner)));

    /// <summary>True for either: not a fault of the program.</summary>
    public static bool IsOfDatabase(Exception exception) => IsAboutData(exception) || IsUnavailable(exception);
}
