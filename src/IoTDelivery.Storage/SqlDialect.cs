using System.Text.RegularExpressions;

namespace IoTDelivery.Storage;

/// <summary>What the three databases call the same things.</summary>
/// <param name="SnapshotTime">How the journal's plugin keeps the time of a snapshot.</param>
/// <param name="Now">Milliseconds since 1970 by the database's own clock.</param>
/// <param name="Begin">Begins a script that counts as a whole or not at all.</param>
/// <param name="HasTable">1 if there is a table <c>@name</c>, else 0.</param>
public sealed partial record SqlDialect(
    string Id, string Text, string BigInt, string Int, string Bool, string Blob, string Guid, string Identity, string SnapshotTime, string SkipLocked, string Now, string Begin, string HasTable)
{
    // julianday: the unixepoch of older versions, which run scripts, knows no milliseconds.
    private static readonly SqlDialect Sqlite = new(
        Id: "text", Text: "text", BigInt: "integer", Int: "integer", Bool: "bit", Blob: "blob", Guid: "text", Identity: "integer primary key autoincrement", SnapshotTime: "integer", SkipLocked: "",
        Now: "cast((julianday('now') - 2440587.5) * 86400000 as integer)", Begin: "begin", HasTable: "select count(*) from sqlite_master where type = 'table' and name = @name");

    private static readonly SqlDialect PostgreSql = new(
        Id: "varchar(256) collate \"C\"", Text: "text", BigInt: "bigint", Int: "integer", Bool: "boolean", Blob: "bytea", Guid: "uuid",
        Identity: "bigint generated always as identity primary key", SnapshotTime: "bigint", SkipLocked: "for update skip locked",
        Now: "cast(extract(epoch from clock_timestamp()) * 1000 as bigint)", Begin: "begin", HasTable: "select case when to_regclass(@name) is null then 0 else 1 end");

    // Ids compare by their bytes on every database; SQL Server would otherwise take "Dev" and "dev" for the same device.
    private static readonly SqlDialect SqlServer = new(
        Id: "varchar(256) collate Latin1_General_BIN2", Text: "nvarchar(max)", BigInt: "bigint", Int: "int", Bool: "bit", Blob: "varbinary(max)", Guid: "uniqueidentifier",
        Identity: "bigint identity primary key", SnapshotTime: "datetime2", SkipLocked: "with (readpast, updlock, rowlock)",
        Now: "datediff_big(millisecond, '1970-01-01', sysutcdatetime())", Begin: "set xact_abort on; begin transaction",
        HasTable: "select case when object_id(@name) is null then 0 else 1 end");

    /// <summary>The dialect of a provider.</summary>
    public static SqlDialect Of(DatabaseProvider provider) => provider switch
    {
        DatabaseProvider.Sqlite => Sqlite,
        DatabaseProvider.PostgreSql => PostgreSql,
        DatabaseProvider.SqlServer => SqlServer,
        _ => throw new ArgumentOutOfRangeException(nameof(provider), provider, "Unknown database."),
    };

    /// <summary>What stands behind <c>order by</c> for the first so many rows.</summary>
    public string First(int count) =>
        this == SqlServer ? $"offset 0 rows fetch next {count} rows only" : $"limit {count}";

    /// <summary>
    /// What stands before a query so that it can read <c>{column}</c> from <c>distinct_values</c>: the different values
    /// of an indexed column, in one statement that goes from one
    /// value to the next in the index. There may be millions of rows for each.
    /// </summary>
    public string WithDistinct(string table, string column) => this == SqlServer
        ? $"""
           with distinct_values({column}) as (
             select min({column}) from {table}
             union all
             select following.{column} from (
               select t.{column}, row_number() over (order by t.{column}) as place
               from {table} t join distinct_values d on t.{column} > d.{column}) following
             where following.place = 1)
           """
        : $"""
           with recursive distinct_values({column}) as (
             select min({column}) from {table}
             union all
             select (select min(t.{column}) from {table} t where t.{column} > d.{column})
             from distinct_values d where d.{column} is not null)
           """;

    /// <summary>The statement with the names in braces written out. <c>{on TABLE}</c> stands behind the index that is
    /// dropped: only SQL Server wants to hear it.</summary>
    public string Write(string statement) => OnTable().Replace(statement, SkipLocked.StartsWith("with", StringComparison.Ordinal) ? " on $1" : "")
        .Replace("{id}", Id).Replace("{text}", Text).Replace("{bigint}", BigInt).Replace("{int}", Int)
        .Replace("{bool}", Bool).Replace("{blob}", Blob).Replace("{guid}", Guid).Replace("{identity}", Identity).Replace("{snapshot_time}", SnapshotTime);

    [GeneratedRegex(@" \{on (\w+)\}")]
    private static partial Regex OnTable();
}
