using System.Data.Common;
using System.Runtime.CompilerServices;
using LinqToDB;
using LinqToDB.Data;
using Microsoft.Data.Sqlite;

namespace IoTDelivery.Storage;

/// <summary>The site's database: the only place that knows which of the three it is.</summary>
public sealed class SqlDatabase
{
    private readonly bool _createsTables;

    /// <exception cref="ArgumentException">A setting is missing or wrong; the message names it.</exception>
    public SqlDatabase(StorageOptions options)
    {
        if (options.Problem() is { } problem) throw new ArgumentException(problem);
        Provider = options.Provider;
        Dialect = SqlDialect.Of(Provider);
        DataFolder = Path.GetFullPath(options.DataFolder);
        (OutageMax, WaitingBytesMax) = (options.OutageMax, options.WaitingBytesMax);
        _createsTables = options.CreateTables;
        ConnectionString = Provider == DatabaseProvider.Sqlite ? SqliteConnectionString(options) : options.ConnectionString!;
        Options = new DataOptions().UseConnectionString(PluginProviderName, ConnectionString); // by name: the journal's plugin reads it from here
        if (Provider == DatabaseProvider.Sqlite) Options = Options.UseAfterConnectionOpened(AfterOpen, AfterOpenAsync);
    }

    /// <summary>Which database it is.</summary>
    public DatabaseProvider Provider { get; }

    /// <summary>What it calls its types.</summary>
    public SqlDialect Dialect { get; }

    /// <summary>Where it is reached.</summary>
    public string ConnectionString { get; }

    /// <summary>Where this node keeps its files, absolute.</summary>
    public string DataFolder { get; }

    /// <summary>How long what is to be stored waits for a database that is away.</summary>
    public TimeSpan OutageMax { get; }

    /// <summary>Bytes of this node that may wait to be stored.</summary>
    public long WaitingBytesMax { get; }

    /// <summary>How linq2db, and the journal's plugin with it, opens a connection.</summary>
    public DataOptions Options { get; }

    /// <summary>What the plugin calls this database. SQL Server always with the year: plain <c>SqlServer</c> means the dialect of 2012.</summary>
    public string PluginProviderName => Provider switch
    {
        DatabaseProvider.Sqlite => ProviderName.SQLiteMS,
        DatabaseProvider.PostgreSql => ProviderName.PostgreSQL15,
        _ => ProviderName.SqlServer2022,
    };

    /// <summary>Where the database is, without anything secret.</summary>
    public string Where
    {
        get
        {
            if (Provider == DatabaseProvider.Sqlite) return $"SQLite at {new SqliteConnectionStringBuilder(ConnectionString).DataSource}";
            var parts = new DbConnectionStringBuilder { ConnectionString = ConnectionString };
            return $"{Provider} at {Part("Host", "Server", "Data Source")}{(Part("Port") is { Length: > 0 } port ? ":" + port : "")}, database {Part("Database", "Initial Catalog")}";

            string Part(params string[] names) => names.Select(n => parts.TryGetValue(n, out var v) ? v.ToString() ?? "" : "").FirstOrDefault(v => v.Length > 0) ?? "";
        }
    }

    /// <summary>A connection, to be disposed. Opens with the first statement.</summary>
    public DataConnection Open() => new(Options);

    /// <summary>Brings the tables of every box to the newest version, or only looks whether they are where the program may not. Safe to run on several nodes at once.</summary>
    /// <exception cref="InvalidOperationException">The database was written by a newer release, or tables are missing that the program may not create.</exception>
    public async Task MigrateAsync(IEnumerable<Migration> migrations, CancellationToken cancel = default)
    {
        if (Provider == DatabaseProvider.Sqlite)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(new SqliteConnectionStringBuilder(ConnectionString).DataSource)!);
        }

        await using var db = Open();

        // Once: both live in the file. Small pages, because a row of the journal dirties a page of its key's index: 60 devices
        // per commit, 10.8 KB per message with pages of 4 KB and 6.0 with 1 KB. A file that is there keeps its size.
        if (Provider == DatabaseProvider.Sqlite) await db.ExecuteAsync("pragma page_size = 1024; pragma journal_mode = wal", cancel);

        if (!_createsTables)
        {
            await SqlSchema.CheckAsync(this, db, [.. migrations], cancel);
            return;
        }

        await using var transaction = await db.BeginTransactionAsync(cancel);
        await LockSchemaAsync(db, cancel);
        foreach (var box in migrations.GroupBy(m => m.Box))
        {
            var stored = await db.ExecuteAsync<int?>("select max(version) from schema_version where box = @box", new DataParameter("box", box.Key)) ?? 0;
            SqlSchema.RefuseNewer(this, box.Key, stored, box.Max(m => m.Version));
            foreach (var migration in box.Where(m => m.Version > stored).OrderBy(m => m.Version))
            {
                var isThere = migration.UnlessTable is { } table && await db.ExecuteAsync<int>(Dialect.HasTable, cancel, new DataParameter("name", table)) > 0;
                foreach (var statement in isThere ? [] : migration.Statements) await db.ExecuteAsync(Dialect.Write(statement), cancel);
                await db.ExecuteAsync("insert into schema_version (box, version, applied_at) values (@box, @version, @at)", cancel,
                    new DataParameter("box", box.Key), new DataParameter("version", migration.Version),
                    new DataParameter("at", DateTimeOffset.UtcNow.ToUnixTimeMilliseconds()));
            }
        }

        await transaction.CommitAsync(cancel);
    }

    // Two nodes of a new release may start together: the second waits here and then finds everything done.
    private async Task LockSchemaAsync(DataConnection db, CancellationToken cancel)
    {
        const string columns = SqlSchema.VersionColumns;
        switch (Provider)
        {
            case DatabaseProvider.Sqlite: // BEGIN IMMEDIATE has already locked the file
                await db.ExecuteAsync(Dialect.Write($"create table if not exists schema_version ({columns})"), cancel);
                break;
            case DatabaseProvider.PostgreSql:
                await db.ExecuteAsync("select pg_advisory_xact_lock(4053)", cancel);
                await db.ExecuteAsync(Dialect.Write($"create table if not exists schema_version ({columns})"), cancel);
                break;
            default:
                await db.ExecuteAsync("exec sp_getapplock @Resource = 'iotdelivery.schema', @LockMode = 'Exclusive', @LockTimeout = 60000", cancel);
                await db.ExecuteAsync(Dialect.Write($"if object_id('schema_version') is null create table schema_version ({columns})"), cancel);
                break;
        }
    }

    private static string SqliteConnectionString(StorageOptions options)
    {
        var builder = new SqliteConnectionStringBuilder(options.ConnectionString ?? "");
        if (builder.DataSource.Length == 0) builder.DataSource = Path.Combine(options.DataFolder, "iotdelivery.db");
        builder.DataSource = Path.GetFullPath(builder.DataSource);
        return builder.ToString();
    }

    // synchronous = full: in WAL mode a commit is on the disk before it returns. "201 means stored" needs it, and it costs nothing measurable here.
    // Checkpoints in steps of 32 MB instead of 4: a page that was written many times is copied once. Whoever commits
    // makes them, so every connection says so.
    private const string SqlitePragmas = "pragma synchronous = full; pragma busy_timeout = 10000; pragma wal_autocheckpoint = 32000";

    /// <summary>
    /// The same for the connection that writes the journal. It does not wait ten seconds for a lock: what it has to
    /// write waits in front of it. It keeps 32 MB of pages, so
    /// that an insert reads nothing.
    /// </summary>
    public const string SqliteWriterPragmas = $"{SqlitePragmas}; pragma busy_timeout = 2500; pragma cache_size = -32768";

    // A pooled connection keeps its pragmas: they are set once per handle, not once per statement.
    private static readonly ConditionalWeakTable<object, object> Prepared = [];

    private static void AfterOpen(DbConnection connection)
    {
        var handle = ((SqliteConnection)connection).Handle!;
        if (!Prepared.TryAdd(handle, Prepared)) return;
        using var command = connection.CreateCommand();
        command.CommandText = SqlitePragmas;
        command.ExecuteNonQuery();
    }

    // SQLite's async calls are synchronous. Without a real await here the journal's writer never lets a batch form, and does 2,100 events/s instead of 16,800.
    private static async Task AfterOpenAsync(DbConnection connection, CancellationToken cancel)
    {
        await Task.Yield();
        AfterOpen(connection);
    }
}
