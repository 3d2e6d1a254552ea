namespace IoTDelivery.Storage;

/// <summary>What the three databases call the same things.</summary>
/// <param name="Now">Milliseconds since 1970 by the database's own clock.</param>
public sealed record SqlDialect(string Id, string Text, string BigInt, string Int, string Blob, string Guid, string Identity, string SkipLocked, string Now)
{
    private static readonly SqlDialect Sqlite = new(
        Id: "text", Text: "text", BigInt: "integer", Int: "integer", Blob: "blob", Guid: "text", Identity: "integer primary key autoincrement", SkipLocked: "",
        Now: "cast(unixepoch('subsec') * 1000 as integer)");

    private static readonly SqlDialect PostgreSql = new(
        Id: "varchar(256) collate \"C\"", Text: "text", BigInt: "bigint", Int: "integer", Blob: "bytea", Guid: "uuid",
        Identity: "bigint generated always as identity primary key", SkipLocked: "for update skip locked",
        Now: "cast(extract(epoch from clock_timestamp()) * 1000 as bigint)");

    // Ids compare by their bytes on every database; SQL Server would otherwise take "Dev" and "dev" for the same device.
    private static readonly SqlDialect SqlServer = new(
        Id: "varchar(256) collate Latin1_General_BIN2", Text: "nvarchar(max)", BigInt: "bigint", Int: "int", Blob: "varbinary(max)", Guid: "uniqueidentifier",
        Identity: "bigint identity primary key", SkipLocked: "with (readpast, updlock, rowlock)",
        Now: "datediff_big(millisecond, '1970-01-01', sysutcdatetime())");

    /// <summary>The dialect of a provider.</summary>
    public static SqlDialect Of(DatabaseProvider provider) => provider switch
    {
        DatabaseProvider.Sqlite => Sqlite,
        DatabaseProvider.PostgreSql => PostgreSql,
        DatabaseProvider.SqlServer => SqlServer,
        _ => throw new ArgumentOutOfRangeException(nameof(provider), provider, "Unknown database."),
    };

    /// <summary>The statement with the names in braces written out.</summary>
    public string Write(string statement) => statement
        .Replace("{id}", Id).Replace("{text}", Text).Replace("{bigint}", BigInt).Replace("{int}", Int)
        .Replace("{blob}", Blob).Replace("{guid}", Guid).Replace("{identity}", Identity);
}
