using System.Data.Common;
using System.Globalization;
using Microsoft.Data.Sqlite;
using Npgsql;

namespace IoTDelivery.Benchmarks;

/// <summary>What was written to the tables on the way of a message, and what the database made of it.</summary>
public readonly record struct Written(double Journal, double Snapshot, double Reminder, double Backlog, double? Commits, double Bytes)
{
    public static Written operator -(Written a, Written b) => new(
        a.Journal - b.Journal, a.Snapshot - b.Snapshot, a.Reminder - b.Reminder, a.Backlog - b.Backlog, a.Commits - b.Commits, a.Bytes - b.Bytes);

    public static Written operator /(Written all, double messages) => new(
        all.Journal / messages, all.Snapshot / messages, all.Reminder / messages, all.Backlog / messages, all.Commits / messages, all.Bytes / messages);
}

/// <summary>Counts writes: rows inserted, updated and deleted, so that an update in place counts, too.</summary>
public abstract class RowCounter
{
    protected static readonly string[] Tables = ["journal", "snapshot", "reminder", "push_backlog"];

    /// <summary>Called before the first count, and not before the run that measures speed.</summary>
    public abstract Task PrepareAsync();

    /// <summary>How long after the last write a count is right.</summary>
    public abstract TimeSpan Delay { get; }

    public abstract Task<Written> CountAsync(int serverProcess);

    protected static async Task<List<double>> ReadAsync(DbConnection connection, string statement)
    {
        await connection.OpenAsync();
        await using var command = connection.CreateCommand();
        command.CommandText = statement;
        await using var reader = await command.ExecuteReaderAsync();
        var values = new List<double>();
        while (await reader.ReadAsync()) values.Add(Convert.ToDouble(reader.GetValue(0), CultureInfo.InvariantCulture));
        return values;
    }
}

/// <summary>SQLite keeps no statistics: triggers count.</summary>
public sealed class SqliteRows(string file) : RowCounter
{
    private SqliteConnection Connection => new($"Data Source={file};Default Timeout=30");

    public override TimeSpan Delay => TimeSpan.Zero;

    public override async Task PrepareAsync()
    {
        var statements = new List<string> { "create table bench_write (name text primary key, n integer not null)" };
        foreach (var table in Tables)
        {
            statements.Add($"insert into bench_write values ('{table}', 0)");
            statements.AddRange(((string[])["insert", "update", "delete"]).Select(what =>
                $"create trigger bench_{table}_{what} after {what} on {table} begin update bench_write set n = n + 1 where name = '{table}'; end"));
        }

        await using var connection = Connection;
        await ReadAsync(connection, string.Join("; ", statements));
    }

    public override async Task<Written> CountAsync(int serverProcess)
    {
        await using var connection = Connection;
        var rows = await ReadAsync(connection, $"select n from bench_write order by case name {string.Concat(Tables.Select((t, i) => $"when '{t}' then {i} "))}end");
        return new Written(rows[0], rows[1], rows[2], rows[3], null, ProcessFigures.WrittenBytes(serverProcess));
    }
}

/// <summary>PostgreSQL counts by itself; a connection reports what it did when it has been idle for ten seconds.</summary>
public sealed class PostgreSqlRows(string connectionString) : RowCounter
{
    public override TimeSpan Delay => TimeSpan.FromSeconds(11);

    public override Task PrepareAsync() => Task.CompletedTask;

    public override async Task<Written> CountAsync(int serverProcess)
    {
        await using var connection = new NpgsqlConnection(connectionString);
        var values = await ReadAsync(
            connection,
            $"""
            select n_tup_ins + n_tup_upd + n_tup_del from (select * from pg_stat_user_tables where relname in ('{string.Join("','", Tables)}')
              order by array_position(array['{string.Join("','", Tables)}'], relname::text)) t
            union all select xact_commit from pg_stat_database where datname = current_database()
            union all select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')
            """);
        return new Written(values[0], values[1], values[2], values[3], values[4], values[5]);
    }
}
