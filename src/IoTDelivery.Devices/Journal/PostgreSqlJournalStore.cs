using System.Data;
using System.Data.Common;
using IoTDelivery.Storage;
using Npgsql;
using NpgsqlTypes;

namespace IoTDelivery.Devices.Journal;

/// <summary>
/// One statement per transaction: all rows as arrays, a taken key fails no other row. It tells how many rows it stored,
/// and if some are missing they are looked for. The statement that also changes reminders is another one, because few
/// transactions have any.
/// </summary>
internal sealed class PostgreSqlJournalStore(SqlDatabase database, TimeProvider clock) : IJournalStore
{
    private const string Insert =
        """
        insert into journal (created, deleted, persistence_id, sequence_number, message, manifest, identifier, writer_uuid)
        select created, false, persistence_id, sequence_number, message, manifest, identifier, writer
        from unnest($1, $2, $3, $4, $5, $6, $7) as r(created, persistence_id, sequence_number, message, manifest, identifier, writer)
        on conflict do nothing
        """;

    // A lock that somebody else holds is that row's trouble only, so it is given up before the statement is.
    private const string Session = "set statement_timeout = 4000; set lock_timeout = 1000; set idle_in_transaction_session_timeout = 10000";

    private static readonly NpgsqlDbType[] RowTypes =
    [
        NpgsqlDbType.Bigint, NpgsqlDbType.Text, NpgsqlDbType.Bigint, NpgsqlDbType.Bytea, NpgsqlDbType.Text, NpgsqlDbType.Integer, NpgsqlDbType.Text,
    ];

    private static readonly NpgsqlDbType[] ReminderTypes =
        [NpgsqlDbType.Text, NpgsqlDbType.Bigint, NpgsqlDbType.Text, NpgsqlDbType.Text, NpgsqlDbType.Text, NpgsqlDbType.Text];

    private readonly string _withReminders =
        $"""
        with stored as ({Insert} returning persistence_id),
        remind as (
          select r.device_id, {database.Dialect.Now} + r.due_in as due_at, r.token, r.persistence_id
          from unnest($8, $9, $10, $11) as r(device_id, due_in, token, persistence_id)),
        filed as (
          insert into {ReminderSql.Table} (device_id, due_at, token) select r.device_id, r.due_at, r.token from remind r
          where exists (select 1 from stored s where s.persistence_id = r.persistence_id) {ReminderSql.OnConflict}),
        moved as (
          insert into {ReminderSql.Table} (device_id, due_at, token) select r.device_id, r.due_at, r.token from remind r
          where r.persistence_id = '' {ReminderSql.OnMove}),
        deleted as (delete from {ReminderSql.Table} w using unnest($12, $13) as d(device_id, token) where w.device_id = d.device_id and w.token = d.token)
        select count(*) from stored
        """;

    private readonly HashSet<int> _givenUp = []; // processes of the server that may still be at a statement of ours
    private int _process;
    private NpgsqlConnection? _connection;
    private NpgsqlCommand? _insert, _insertAndRemind;

    public async Task WriteAsync(IReadOnlyList<DeviceWrite> writes, WriteOutcome[] outcomes)
    {
        await OpenAsync();
        if (writes is [{ Rows.Count: > 1 } several])
        {
            // All of them or none: what is stored of an incomplete one is undone.
            await using var transaction = await _connection!.BeginTransactionAsync();
            var isWhole = await ExecuteAsync(writes, transaction) == several.Rows.Count;
            outcomes[0] = isWhole ? WriteOutcome.Stored : WriteOutcome.KeyTaken;
            if (isWhole) await transaction.CommitAsync();
            else await transaction.RollbackAsync();
            return;
        }

        var areAll = await ExecuteAsync(writes, null) == writes.Sum(w => w.Rows.Count);
        for (var i = 0; i < writes.Count; i++)
        {
            outcomes[i] = areAll || await AreStoredAsync(writes[i].Rows) ? WriteOutcome.Stored : WriteOutcome.KeyTaken;
        }
    }

    public async Task<IReadOnlyList<StoredRow>> FindAsync(IReadOnlyList<JournalRow> rows)
    {
        await OpenAsync();
        await using var find = new NpgsqlCommand(
            "select persistence_id, sequence_number, message, writer_uuid from journal where persistence_id = $1 and sequence_number = any($2)", _connection)
        {
            Parameters =
            {
                new NpgsqlParameter { Value = rows[0].PersistenceId, NpgsqlDbType = NpgsqlDbType.Text },
                new NpgsqlParameter { Value = rows.Select(r => r.SequenceNr).ToArray(), NpgsqlDbType = NpgsqlDbType.Array | NpgsqlDbType.Bigint },
            },
        };
        List<StoredRow> found = [];
        await using var reader = await find.ExecuteReaderAsync();
        while (await reader.ReadAsync())
        {
            var writer = await reader.IsDBNullAsync(3) ? null : reader.GetString(3);
            found.Add(new StoredRow(reader.GetString(0), reader.GetInt64(1), reader.GetFieldValue<byte[]>(2), writer));
        }

        return found;
    }

    public async Task ProbeAsync()
    {
        await OpenAsync();
        // Several statements of one command are one transaction. The first takes the lock that an insert takes: while the
        // whole journal is locked, nobody's row can be stored.
        await using var probe = new NpgsqlCommand($"delete from journal where false; {ReminderSql.Probe}", _connection);
        await probe.ExecuteNonQueryAsync();
    }

    public async Task<bool> IsHeldByOwnAsync()
    {
        if (_givenUp.Count == 0) return false;
        await OpenAsync();
        await using var alive = new NpgsqlCommand(
            "select pid from pg_stat_activity where pid = any($1) and state <> 'idle'", _connection)
        {
            Parameters = { new NpgsqlParameter { Value = _givenUp.ToArray(), NpgsqlDbType = NpgsqlDbType.Array | NpgsqlDbType.Integer } },
        };
        var left = new HashSet<int>();
        await using (var reader = await alive.ExecuteReaderAsync())
        {
            while (await reader.ReadAsync()) left.Add(reader.GetInt32(0));
        }

        _givenUp.IntersectWith(left);
        return left.Count > 0;
    }

    public bool IsOutage(Exception cause) => SqlErrors.IsUnavailable(cause);

    public ValueTask ResetAsync()
    {
        if (_connection is not null && _process != 0) _givenUp.Add(_process);
        _process = 0;
        (var connection, _connection, _insert, _insertAndRemind) = (_connection, null, null, null);
        return connection?.DisposeAsync() ?? ValueTask.CompletedTask;
    }

    public ValueTask DisposeAsync() => ResetAsync();

    private async Task<bool> AreStoredAsync(IReadOnlyList<JournalRow> rows)
    {
        if (rows.Count == 0) return true;
        var found = await FindAsync(rows);
        return rows.All(row => found.Any(f => f.Is(row)));
    }

    // Returns how many rows were stored.
    private async Task<long> ExecuteAsync(IReadOnlyList<DeviceWrite> writes, NpgsqlTransaction? transaction)
    {
        var reminds = writes.Any(w => w.Reminder is not null);
        var command = reminds ? _insertAndRemind! : _insert!;
        command.Transaction = transaction;
        SetRows(command, writes);
        if (reminds) SetReminders(command, writes);

        return reminds ? (long)(await command.ExecuteScalarAsync())! : await command.ExecuteNonQueryAsync();
    }

    private static void SetRows(NpgsqlCommand command, IReadOnlyList<DeviceWrite> writes)
    {
        var count = 0;
        foreach (var write in writes) count += write.Rows.Count;
        var (created, ids, numbers, messages) = (new long[count], new string[count], new long[count], new byte[count][]);
        var (manifests, identifiers, writers, at) = (new string[count], new int[count], new string[count], 0);
        foreach (var write in writes)
        {
            foreach (var row in write.Rows)
            {
                (created[at], ids[at], numbers[at], messages[at]) = (row.Created, row.PersistenceId, row.SequenceNr, row.Message);
                (manifests[at], identifiers[at], writers[at]) = (row.Manifest, row.SerializerId, row.Writer);
                at++;
            }
        }

        object[] values = [created, ids, numbers, messages, manifests, identifiers, writers];
        for (var i = 0; i < values.Length; i++) command.Parameters[i].Value = values[i];
    }

    private void SetReminders(NpgsqlCommand command, IReadOnlyList<DeviceWrite> writes)
    {
        var filed = writes.Where(w => w.Reminder is { DueAt: not null }).OrderBy(w => w.Reminder!.Value.DeviceId, StringComparer.Ordinal).ToList();
        var deleted = writes.Where(w => w.Reminder is { DueAt: null }).OrderBy(w => w.Reminder!.Value.DeviceId, StringComparer.Ordinal).ToList();
        object[] values =
        [
            filed.Select(w => w.Reminder!.Value.DeviceId).ToArray(), filed.Select(w => ReminderSql.DueIn(clock, w.Reminder!.Value.DueAt!.Value)).ToArray(),
            filed.Select(w => ReminderSql.Text(w.Reminder!.Value.Token)).ToArray(), filed.Select(w => w.Rows.Count == 0 ? "" : w.PersistenceId).ToArray(),
            deleted.Select(w => w.Reminder!.Value.DeviceId).ToArray(), deleted.Select(w => ReminderSql.Text(w.Reminder!.Value.Token)).ToArray(),
        ];
        for (var i = 0; i < values.Length; i++) command.Parameters[RowTypes.Length + i].Value = values[i];
    }

    private async Task OpenAsync()
    {
        if (_insert is not null) return;
        var builder = new NpgsqlConnectionStringBuilder(database.ConnectionString) { Pooling = false, CommandTimeout = 5, Enlist = false };
        if (builder.Timeout is 0 or > 5) builder.Timeout = 5;
        _connection = new NpgsqlConnection(builder.ToString());
        await _connection.OpenAsync();
        _process = _connection.ProcessID;
        await using (var session = new NpgsqlCommand(Session, _connection)) await session.ExecuteNonQueryAsync();
        var insertAndRemind = await PrepareAsync(_withReminders, [.. RowTypes, .. ReminderTypes]);
        (_insertAndRemind, _insert) = (insertAndRemind, await PrepareAsync(Insert, RowTypes));
    }

    private async Task<NpgsqlCommand> PrepareAsync(string text, NpgsqlDbType[] types)
    {
        var command = new NpgsqlCommand(text, _connection);
        foreach (var type in types)
        {
            command.Parameters.Add(new NpgsqlParameter { NpgsqlDbType = NpgsqlDbType.Array | type });
        }
        await command.PrepareAsync();
        return command;
    }
}
