namespace IoTDelivery.Storage;

/// <summary>Which SQL database holds everything this site must not forget. Section <c>Storage</c>.</summary>
public sealed class StorageOptions
{
    /// <summary>The name of the section in <c>appsettings.json</c>.</summary>
    public const string Section = "Storage";

    /// <summary>Default SQLite: one file, no server.</summary>
    public DatabaseProvider Provider { get; set; } = DatabaseProvider.Sqlite;

    /// <summary>ADO.NET connection string. Default for SQLite: <c>iotdelivery.db</c> in <see cref="DataFolder"/>; the others need one.</summary>
    public string? ConnectionString { get; set; }

    /// <summary>Where files of this node live: the SQLite database and the generated token. Default <c>data</c> in the directory the command was typed in.</summary>
    public string DataFolder { get; set; } = "data";

    /// <summary>
    /// Default true: the program makes its tables and brings them up to date. With false its user needs no right to: whoever owns the database runs the script in <c>deploy/sql</c>,
    /// and a start whose tables are not there, or not those of this release, ends and says which steps are missing.
    /// </summary>
    public bool CreateTables { get; set; } = true;

    /// <summary>
    /// How long what devices have to store waits for a database that stalls or is away. Until then no device stops and
    /// none is attached anew; applications are answered 503
    /// meanwhile. Default 5 min; from 10 s to an hour.
    /// </summary>
    public TimeSpan OutageMax { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>Bytes of a node that may wait to be stored. Beyond it new messages are answered 503 at once. Default
    /// 256 MB.</summary>
    public long WaitingBytesMax { get; set; } = 256 * 1024 * 1024;

    /// <summary>What is wrong with these settings, naming the setting; null if nothing is.</summary>
    public string? Problem() =>
        !Enum.IsDefined(Provider) ? $"Storage:Provider must be one of {string.Join(", ", Enum.GetNames<DatabaseProvider>())}."
        : Provider != DatabaseProvider.Sqlite && string.IsNullOrWhiteSpace(ConnectionString) ? $"Storage:ConnectionString is needed for {Provider}."
        : string.IsNullOrWhiteSpace(DataFolder) ? "Storage:DataFolder must not be empty."
        : OutageMax < TimeSpan.FromSeconds(10) || OutageMax > TimeSpan.FromHours(1) ? "Storage:OutageMax must be from 10 seconds to an hour."
        : WaitingBytesMax < 1024 * 1024 ? "Storage:WaitingBytesMax must be 1 MB (1048576) or more."
        : null;
}

/// <summary>The databases we run on.</summary>
public enum DatabaseProvider
{
    /// <summary>One file; one node only.</summary>
    Sqlite = 0,

    /// <summary>PostgreSQL 13 or newer.</summary>
    PostgreSql = 1,

    /// <summary>SQL Server 2022 or newer.</summary>
    SqlServer = 2,
}
