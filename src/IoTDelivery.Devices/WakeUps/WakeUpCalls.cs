using System.Threading.Channels;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;
using LinqToDB.Mapping;

namespace IoTDelivery.Devices.WakeUps;

/// <summary>A call that rang: the row stands, moved one lease ahead, until the device deletes it.</summary>
public readonly record struct Ring(string DeviceId, Guid Token, DateTimeOffset DueAt);

/// <summary>
/// The table of wake-up calls: a device with unfinished work has a call on file, due no later than the moment it must act. So a restart wakes nobody
/// who has nothing to do, and a fleet asleep costs no memory. Writes of many devices go out as one statement.
/// </summary>
public class WakeUpCalls : IAsyncDisposable
{
    /// <summary>The table, step by step.</summary>
    public static readonly IReadOnlyList<Migration> Migrations =
    [
        new("devices", 1,
            "create table wake_up (device_id {id} not null primary key, due_at {bigint} not null, token {id} not null)",
            "create index wake_up_by_due on wake_up (due_at)"),
    ];

    private const int BatchMax = 500;

    private sealed record Write(string DeviceId, Guid Token, long? DueAt, TaskCompletionSource Done);

    private readonly Channel<Write> _writes = Channel.CreateBounded<Write>(10_000);
    private readonly SqlDatabase _database;
    private readonly Task _writer;

    public WakeUpCalls(SqlDatabase database)
    {
        _database = database;
        _writer = Task.Run(WriteAsync);
    }

    /// <summary>
    /// Puts the device's call on file, in place of any it had. Done when it is stored. A call of another token is only ever moved earlier: a cut-off owner, which still
    /// believes what it knew, must not put off what its successor has to do.
    /// </summary>
    public virtual Task FileAsync(string deviceId, DateTimeOffset dueAt, Guid token) => EnqueueAsync(deviceId, token, dueAt.ToUnixTimeMilliseconds());

    /// <summary>Takes the device's call off, if it is still this one. Only the device itself does so.</summary>
    public virtual Task DeleteAsync(string deviceId, Guid token) => EnqueueAsync(deviceId, token, null);

    /// <summary>At most <paramref name="count"/> due calls, earliest first, each moved one lease ahead: whoever crashes now lets them ring again.</summary>
    public virtual async Task<IReadOnlyList<Ring>> TakeDueAsync(DateTimeOffset now, int count, TimeSpan lease, CancellationToken cancel)
    {
        await using var db = _database.Open();
        var statement = _database.Provider == DatabaseProvider.SqlServer
            ? $"""
              with due as (select top (@count) device_id, token, due_at from wake_up {_database.Dialect.SkipLocked} where due_at <= @now order by due_at)
              update due set due_at = @lease output inserted.device_id, inserted.token, inserted.due_at
              """
            : $"""
              update wake_up set due_at = @lease
              where device_id in (select device_id from wake_up where due_at <= @now order by due_at limit @count {_database.Dialect.SkipLocked})
              returning device_id, token, due_at
              """;
        var rows = await db.QueryToListAsync<Row>(
            statement,
            cancel,
            new DataParameter("now", now.ToUnixTimeMilliseconds(), DataType.Int64),
            new DataParameter("lease", (now + lease).ToUnixTimeMilliseconds(), DataType.Int64),
            new DataParameter("count", count, DataType.Int32));
        return [.. rows.Select(r => new Ring(r.DeviceId, Guid.Parse(r.Token), DateTimeOffset.FromUnixTimeMilliseconds(r.DueAt)))];
    }

    public async ValueTask DisposeAsync()
    {
        _writes.Writer.TryComplete();
        await _writer;
        GC.SuppressFinalize(this);
    }

    private async Task EnqueueAsync(string deviceId, Guid token, long? dueAt)
    {
        var write = new Write(deviceId, token, dueAt, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
        await _writes.Writer.WriteAsync(write);
        await write.Done.Task;
    }

    private async Task WriteAsync()
    {
        var batch = new List<Write>(BatchMax);
        while (await _writes.Reader.WaitToReadAsync())
        {
            batch.Clear();
            while (batch.Count < BatchMax && _writes.Reader.TryRead(out var write)) batch.Add(write);
            try
            {
                await using var db = _database.Open();
                await using var transaction = await db.BeginTransactionAsync();
                var filed = batch.Where(w => w.DueAt is not null).GroupBy(w => w.DeviceId).Select(g => g.Last()).ToList();
                if (filed.Count > 0) await FileAsync(db, filed);
                var (ids, tokens) = (batch.Where(w => w.DueAt is null).Select(w => w.DeviceId).ToArray(), batch.Where(w => w.DueAt is null).Select(w => Text(w.Token)).ToArray());

                // A token belongs to one device only, so the two lists cannot match a call of somebody else.
                if (ids.Length > 0) await db.GetTable<Row>().Where(r => ids.Contains(r.DeviceId) && tokens.Contains(r.Token)).DeleteAsync();
                await transaction.CommitAsync();
                foreach (var write in batch) write.Done.SetResult();
            }
            catch (Exception cause)
            {
                foreach (var write in batch) write.Done.TrySetException(cause);
            }
        }
    }

    private async Task FileAsync(DataConnection db, List<Write> calls)
    {
        if (_database.Provider == DatabaseProvider.SqlServer)
        {
            await db.GetTable<Row>().Merge()
                .Using(calls.Select(c => new Row { DeviceId = c.DeviceId, DueAt = c.DueAt!.Value, Token = Text(c.Token) }))
                .OnTargetKey()
                .UpdateWhenMatched((old, mine) => new Row { DueAt = old.Token == mine.Token || mine.DueAt < old.DueAt ? mine.DueAt : old.DueAt, Token = mine.Token })
                .InsertWhenNotMatched().MergeAsync();
            return;
        }

        var values = string.Join(", ", calls.Select((_, i) => $"(@d{i}, @a{i}, @t{i})"));
        var parameters = calls.SelectMany((c, i) => new[]
        {
            new DataParameter($"d{i}", c.DeviceId, DataType.VarChar),
            new DataParameter($"a{i}", c.DueAt!.Value, DataType.Int64),
            new DataParameter($"t{i}", Text(c.Token), DataType.VarChar),
        });
        await db.ExecuteAsync(
            $"""
            insert into wake_up (device_id, due_at, token) values {values} on conflict (device_id) do update set
              due_at = case when wake_up.token = excluded.token or excluded.due_at < wake_up.due_at then excluded.due_at else wake_up.due_at end, token = excluded.token
            """,
            [.. parameters]);
    }

    // As text: one of the three databases has no type of its own for it.
    private static string Text(Guid token) => token.ToString("N");

    [Table("wake_up")]
    private sealed record Row
    {
        [Column("device_id"), PrimaryKey] public string DeviceId { get; init; } = "";
        [Column("due_at")] public long DueAt { get; init; }
        [Column("token")] public string Token { get; init; } = "";
    }
}
