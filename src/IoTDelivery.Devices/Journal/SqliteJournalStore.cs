using IoTDelivery.Storage;
using Microsoft.Data.Sqlite;

namespace IoTDelivery.Devices.Journal;

/// <summary>One transaction, one prepared insert per row. SQLite undoes a failed statement by itself, so the others of
/// the transaction stay.</summary>
internal sealed class SqliteJournalStore(SqlDatabase database, TimeProvider clock) : IJournalStore
{
    // SQLITE_CONSTRAINT with its two kinds for a key that is taken.
    private const int PrimaryKeyTaken = 1555, UniqueKeyTaken = 2067;

    private sealed record Statements(
        SqliteCommand Begin, SqliteCommand Commit, SqliteCommand Rollback, SqliteCommand Insert, SqliteCommand File, SqliteCommand Move,
        SqliteCommand Delete, SqliteCommand Find);

    private SqliteConnection? _connection;
    private Statements? _sql;

    public async Task WriteAsync(IReadOnlyList<DeviceWrite> writes, WriteOutcome[] outcomes)
    {
        await Task.Yield(); // from here on it is synchronous, whatever it is called
        var sql = Open();
        sql.Begin.ExecuteNonQuery();
        try
        {
            for (var i = 0; i < writes.Count; i++) outcomes[i] = Write(sql, writes[i]);
            if (writes.Count > 1 || outcomes[0] == WriteOutcome.Stored) sql.Commit.ExecuteNonQuery();
            else sql.Rollback.ExecuteNonQuery();
        }
        catch (Exception cause) when (!IsOutage(cause))
        {
            sql.Rollback.ExecuteNonQuery();
            throw;
        }
    }

    public async Task<IReadOnlyList<StoredRow>> FindAsync(IReadOnlyList<JournalRow> rows)
    {
        await Task.Yield();
        var find = Open().Find;
        List<StoredRow> found = [];
        foreach (var row in rows)
        {
            (find.Parameters[0].Value, find.Parameters[1].Value) = (row.PersistenceId, row.SequenceNr);
            using var reader = find.ExecuteReader();
            if (reader.Read())
            {
                found.Add(new StoredRow(row.PersistenceId, row.SequenceNr, reader.GetFieldValue<byte[]>(0), reader.IsDBNull(1) ? null : reader.GetString(1)));
            }
        }

        return found;
    }

    public async Task ProbeAsync()
    {
        await Task.Yield();
        var sql = Open();
        var nobody = new ReminderChange(Guid.NewGuid().ToString("N"), Guid.NewGuid(), clock.GetTimestamp());
        sql.Begin.ExecuteNonQuery();
        Change(sql, nobody, isWithRow: false);
        Change(sql, nobody with { DueAt = null }, isWithRow: false);
        sql.Commit.ExecuteNonQuery();
    }

    // TOOBIG, CONSTRAINT and MISMATCH are about what was to be written.
    public bool IsOutage(Exception cause) => !SqlErrors.IsAboutData(cause);

    public ValueTask ResetAsync()
    {
        (var connection, _connection, _sql) = (_connection, null, null);
        return connection?.DisposeAsync() ?? ValueTask.CompletedTask;
    }

    public ValueTask DisposeAsync() => ResetAsync();

    private WriteOutcome Write(Statements sql, DeviceWrite write)
    {
        try
        {
            var insert = sql.Insert.Parameters;
            foreach (var row in write.Rows)
            {
                (insert[0].Value, insert[1].Value, insert[2].Value) = (row.Created, row.PersistenceId, row.SequenceNr);
                (insert[3].Value, insert[4].Value, insert[5].Value, insert[6].Value) = (row.Message, row.Manifest, row.SerializerId, row.Writer);
                sql.Insert.ExecuteNonQuery();
            }
        }
        catch (SqliteException taken) when (taken.SqliteExtendedErrorCode is PrimaryKeyTaken or UniqueKeyTaken)
        {
            return WriteOutcome.KeyTaken;
        }

        if (write.Reminder is { } reminder) Change(sql, reminder, isWithRow: write.Rows.Count > 0);
        return WriteOutcome.Stored;
    }

    private void Change(Statements sql, ReminderChange reminder, bool isWithRow)
    {
        if (reminder.DueAt is { } dueAt)
        {
            var file = isWithRow ? sql.File : sql.Move;
            (file.Parameters[0].Value, file.Parameters[1].Value) = (reminder.DeviceId, ReminderSql.DueIn(clock, dueAt));
            file.Parameters[2].Value = ReminderSql.Text(reminder.Token);
            file.ExecuteNonQuery();
        }
        else
        {
            (sql.Delete.Parameters[0].Value, sql.Delete.Parameters[1].Value) = (reminder.DeviceId, ReminderSql.Text(reminder.Token));
            sql.Delete.ExecuteNonQuery();
        }
    }

    private Statements Open()
    {
        if (_sql is not null) return _sql;

        // A connection of its own: the pool's would keep the statements of others prepared, and give this one to them.
        var builder = new SqliteConnectionStringBuilder(database.ConnectionString) { Pooling = false, DefaultTimeout = 3 };
        _connection = new SqliteConnection(builder.ToString());
        _connection.Open();
        Command(SqlDatabase.SqliteWriterPragmas).ExecuteNonQuery();
        var file = $"insert into {ReminderSql.Table} (device_id, due_at, token) values (@id, {database.Dialect.Now} + @due, @token)";
        return _sql = new Statements(
            Command("begin immediate"),
            Command("commit"),
            Command("rollback"),
            Command(
                """
                insert into journal (created, deleted, persistence_id, sequence_number, message, manifest, identifier, writer_uuid)
                values (@created, 0, @id, @nr, @message, @manifest, @identifier, @writer)
                """,
                "created", "id", "nr", "message", "manifest", "identifier", "writer"),
            Command($"{file} {ReminderSql.OnConflict}", "id", "due", "token"),
            Command($"{file} {ReminderSql.OnMove}", "id", "due", "token"),
            Command($"delete from {ReminderSql.Table} where device_id = @id and token = @token", "id", "token"),
            Command("select message, writer_uuid from journal where persistence_id = @id and sequence_number = @nr", "id", "nr"));
    }

    private SqliteCommand Command(string text, params string[] parameters)
    {
        var command = _connection!.CreateCommand();
        command.CommandText = text;
        foreach (var name in parameters) command.Parameters.Add(new SqliteParameter { ParameterName = "@" + name });
        return command;
    }
}
