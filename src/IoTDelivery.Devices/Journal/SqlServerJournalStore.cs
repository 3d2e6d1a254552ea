using System.Data;
using System.Text.Json;
using IoTDelivery.Storage;
using Microsoft.Data.SqlClient;

namespace IoTDelivery.Devices.Journal;

/// <summary>One batch of statements per transaction, everything in one JSON parameter each for rows and reminders, so
/// that there is one plan for any number of them.</summary>
internal sealed class SqlServerJournalStore(SqlDatabase database, TimeProvider clock) : IJournalStore
{
    private const string Id = "varchar(256) collate Latin1_General_BIN2";

    private sealed record RowJson(long c, string p, long n, byte[] m, string f, int i, string w);

    private sealed record ReminderJson(string d, long? a, string t, string p);

    // not exists instead of a key violation, which would undo everybody's rows. Two nodes may still meet between look
    // and insert: then it is tried again, and seen.
    private readonly string _text =
        $"""
        set xact_abort on; set nocount on;
        declare @stored table (persistence_id {Id} not null, sequence_number bigint not null);
        begin transaction;
        insert into journal (created, deleted, persistence_id, sequence_number, message, manifest, identifier, writer_uuid)
        output inserted.persistence_id, inserted.sequence_number into @stored
        select r.c, 0, r.p, r.n, r.m, r.f, r.i, r.w
        from openjson(@rows) with (c bigint, p {Id}, n bigint, m varbinary(max), f nvarchar(max), i int, w nvarchar(max)) r
        where not exists (select 1 from journal j where j.persistence_id = r.p and j.sequence_number = r.n);
        if @expected >= 0 and (select count(*) from @stored) < @expected
        begin
          rollback transaction; delete from @stored;
        end
        else
        begin
          if @reminders <> N'[]'
          begin
            merge {ReminderSql.Table} with (holdlock) as old
            using (
              select r.d as device_id, {database.Dialect.Now} + r.a as due_at, r.t as token, r.p as persistence_id
              from openjson(@reminders) with (d {Id}, a bigint, t {Id}, p {Id}) r
              where r.a is not null and (r.p = '' or exists (select 1 from @stored s where s.persistence_id = r.p))) as mine
            on old.device_id = mine.device_id
            when matched then update set
              due_at = case when old.token = mine.token or mine.due_at < old.due_at then mine.due_at else old.due_at end,
              token = case when mine.persistence_id = '' then old.token else mine.token end
            when not matched then insert (device_id, due_at, token) values (mine.device_id, mine.due_at, mine.token);
            delete w from {ReminderSql.Table} w
            join openjson(@reminders) with (d {Id}, a bigint, t {Id}) r on r.d = w.device_id and r.t = w.token where r.a is null;
          end;
          commit transaction;
        end;
        select persistence_id from @stored;
        """;

    private SqlConnection? _connection;

    public async Task WriteAsync(IReadOnlyList<DeviceWrite> writes, WriteOutcome[] outcomes)
    {
        await OpenAsync();
        var isSeveral = writes is [{ Rows.Count: > 1 }];
        var rows = writes.SelectMany(w => w.Rows).Select(r => new RowJson(r.Created, r.PersistenceId, r.SequenceNr, r.Message, r.Manifest, r.SerializerId, r.Writer));
        var reminders = writes.Where(w => w.Reminder is not null).Select(w => (w, r: w.Reminder!.Value)).Select(x => new ReminderJson(
            x.r.DeviceId, x.r.DueAt is { } at ? ReminderSql.DueIn(clock, at) : null, ReminderSql.Text(x.r.Token), x.w.Rows.Count == 0 ? "" : x.w.PersistenceId));
        await using var command = Command(_text);
        command.Parameters.Add(new SqlParameter("@rows", SqlDbType.NVarChar, -1) { Value = JsonSerializer.Serialize(rows) });
        command.Parameters.Add(new SqlParameter("@reminders", SqlDbType.NVarChar, -1) { Value = JsonSerializer.Serialize(reminders) });
        command.Parameters.Add(new SqlParameter("@expected", SqlDbType.Int) { Value = isSeveral ? writes[0].Rows.Count : -1 });

        HashSet<string> stored = [];
        await using (var reader = await command.ExecuteReaderAsync())
        {
            while (await reader.ReadAsync()) stored.Add(reader.GetString(0));
        }

        for (var i = 0; i < writes.Count; i++)
        {
            outcomes[i] = writes[i].Rows.Count == 0 || stored.Contains(writes[i].PersistenceId) ? WriteOutcome.Stored : WriteOutcome.KeyTaken;
        }
    }

    public async Task<IReadOnlyList<StoredRow>> FindAsync(IReadOnlyList<JournalRow> rows)
    {
        await OpenAsync();
        await using var find = Command(
            $"""
            select j.persistence_id, j.sequence_number, j.message, j.writer_uuid
            from openjson(@rows) with (p {Id}, n bigint) r join journal j on j.persistence_id = r.p and j.sequence_number = r.n
            """);
        find.Parameters.Add(new SqlParameter("@rows", SqlDbType.NVarChar, -1) { Value = JsonSerializer.Serialize(rows.Select(r => new { p = r.PersistenceId, n = r.SequenceNr })) });
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
        await using var probe = Command($"set xact_abort on; begin transaction; {ReminderSql.Probe}; commit transaction");
        await probe.ExecuteNonQueryAsync();
    }

    public bool IsOutage(Exception cause) => !SqlErrors.IsAboutData(cause);

    public ValueTask ResetAsync()
    {
        (var connection, _connection) = (_connection, null);
        return connection?.DisposeAsync() ?? ValueTask.CompletedTask;
    }

    public ValueTask DisposeAsync() => ResetAsync();

    private async Task OpenAsync()
    {
        if (_connection is not null) return;
        var builder = new SqlConnectionStringBuilder(database.ConnectionString) { Pooling = false, ConnectTimeout = 5, Enlist = false };
        var connection = new SqlConnection(builder.ToString());
        await connection.OpenAsync();
        await using (var session = new SqlCommand("set lock_timeout 1000", connection)) await session.ExecuteNonQueryAsync();
        _connection = connection;
    }

    private SqlCommand Command(string text) => new(text, _connection) { CommandTimeout = 5 };
}
