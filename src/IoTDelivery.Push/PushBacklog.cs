using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;
using LinqToDB.Mapping;

namespace IoTDelivery.Push;

/// <summary>A notification that waits for its receiver.</summary>
[Table("push_backlog")]
public sealed record BacklogRow
{
    [Column("id"), PrimaryKey, Identity] public long Id { get; init; }
    [Column("action_id")] public required string ActionId { get; init; }
    [Column("device_id")] public required string DeviceId { get; init; }

    /// <summary>The notification's number among those of its device.</summary>
    [Column("n")] public required long Number { get; init; }
    [Column("body")] public required byte[] Body { get; init; }
    [Column("bytes")] public required int Bytes { get; init; }

    /// <summary>Milliseconds since 1970, UTC, like the other times.</summary>
    [Column("created_at")] public required long CreatedAt { get; init; }
}

/// <summary>A notification that was given up.</summary>
[Table("push_dead_letter")]
public sealed record DeadLetter
{
    [Column("id"), PrimaryKey, Identity] public long Id { get; init; }
    [Column("action_id")] public required string ActionId { get; init; }
    [Column("device_id")] public required string DeviceId { get; init; }
    [Column("n")] public required long Number { get; init; }
    [Column("body")] public required byte[] Body { get; init; }
    [Column("bytes")] public required int Bytes { get; init; }
    [Column("created_at")] public required long CreatedAt { get; init; }

    /// <summary>What the receiver answered, or which bound it fell out of.</summary>
    [Column("reason")] public required string Reason { get; init; }
    [Column("died_at")] public required long DiedAt { get; init; }
}

[Table("push_breaker")]
internal sealed record OpenBreaker
{
    [Column("action_id"), PrimaryKey] public required string ActionId { get; init; }
    [Column("opened_at")] public required long OpenedAt { get; init; }
}

/// <summary>Which actions have a backlog, and which of these have an open breaker.</summary>
internal sealed record BacklogView(IReadOnlySet<string> HasRows, IReadOnlySet<string> IsOpen)
{
    public static readonly BacklogView Empty = new(new HashSet<string>(), new HashSet<string>());
}

/// <summary>Rows of an action, in order.</summary>
/// <param name="IsCut">There may be more.</param>
internal sealed record BacklogPage(IReadOnlyList<BacklogRow> Rows, bool IsCut);

/// <summary>How a notification goes to the tables.</summary>
internal enum WriteMode
{
    /// <summary>Becomes a row.</summary>
    Append,

    /// <summary>Becomes a row if older ones of the same device are there; else nothing is written.</summary>
    AppendIfBehind,

    /// <summary>Becomes a dead letter.</summary>
    GiveUp,
}

/// <summary>Notifications of one device for one action, oldest first; written all or not at all.</summary>
internal sealed record BacklogWrite(string ActionId, string DeviceId, IReadOnlyList<(long Number, byte[] Body)> Notifications, WriteMode Mode, string Reason = "");

/// <summary>
/// The notifications of receivers that are down, one row each, and the dead letters.
/// What is in here survives everything; a notification is here at most once, however often it is offered.
/// </summary>
public class PushBacklog(SqlDatabase database, PushMetrics metrics, TimeProvider clock)
{
    private const int MoveMax = 500; // rows per statement with a list of ids
    private const long PageBytesMax = 8 * 1024 * 1024; // bodies in memory at once: one may have more than a megabyte

    /// <summary>The tables, step by step.</summary>
    public static readonly IReadOnlyList<Migration> Migrations =
    [
        new("push", 1,
            """
            create table push_backlog (
              id {identity}, action_id {id} not null, device_id {id} not null, n {bigint} not null, body {blob} not null, bytes {int} not null, created_at {bigint} not null)
            """,
            "create index push_backlog_in_order on push_backlog (action_id, id, bytes)", // bytes: the sum of an action is read from the index alone
            "create unique index push_backlog_once on push_backlog (action_id, device_id, n)",
            """
            create table push_dead_letter (
              id {identity}, action_id {id} not null, device_id {id} not null, n {bigint} not null, body {blob} not null, bytes {int} not null, created_at {bigint} not null,
              reason {text} not null, died_at {bigint} not null)
            """,
            "create unique index push_dead_letter_once on push_dead_letter (action_id, device_id, n)",
            "create index push_dead_letter_in_order on push_dead_letter (action_id, id)",
            // While a row stands here every node writes new notifications of the action to the backlog; a probe that is answered removes it.
            "create table push_breaker (action_id {id} not null primary key, opened_at {bigint} not null)"),
    ];

    /// <summary>Drops everything an action has here, after the action itself is gone.</summary>
    /// <returns>How many notifications that were.</returns>
    public virtual async Task<(int Rows, int DeadLetters)> DropActionAsync(string actionId, CancellationToken cancel)
    {
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        var rows = await db.GetTable<BacklogRow>().Where(r => r.ActionId == actionId).DeleteAsync(cancel);
        var letters = await db.GetTable<DeadLetter>().Where(l => l.ActionId == actionId).DeleteAsync(cancel);
        await db.GetTable<OpenBreaker>().Where(b => b.ActionId == actionId).DeleteAsync(cancel);
        await transaction.CommitAsync(cancel);
        return (rows, letters);
    }

    /// <summary>How many notifications of an action wait, and how many bytes they are.</summary>
    public async Task<(int Rows, long Bytes)> CountAsync(string actionId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await CountAsync(db, actionId, cancel);
    }

    /// <summary>
    /// Dead letters of an action, oldest first, from behind <paramref name="afterId"/>, as many as <paramref name="bytesMax"/> allows but at least one;
    /// and how many there are in all.
    /// </summary>
    public async Task<(IReadOnlyList<DeadLetter> Items, int Count)> DeadLettersAsync(
        string actionId, long afterId, int limit, CancellationToken cancel, long bytesMax = PageBytesMax)
    {
        await using var db = database.Open();
        var all = db.GetTable<DeadLetter>().Where(l => l.ActionId == actionId);
        var next = all.Where(l => l.Id > afterId).OrderBy(l => l.Id).Take(limit);
        var (upTo, _) = Fitting(await next.Select(l => new RowSize(l.Id, l.Bytes)).ToListAsync(cancel), bytesMax);
        return (await next.Where(l => l.Id <= upTo).ToListAsync(cancel), await all.CountAsync(cancel));
    }

    /// <summary>When the receiver of an action began to count as down; null while it does not.</summary>
    public Task<long?> DownSinceAsync(string actionId, CancellationToken cancel) => OpenedAtAsync(actionId, cancel);

    /// <summary>Puts dead letters of an action back into the backlog, oldest first, behind what waits there. They keep their <c>request_id</c>; their time starts again.</summary>
    /// <returns>How many.</returns>
    public async Task<int> ReplayAsync(string actionId, CancellationToken cancel)
    {
        var replayed = 0;
        var upTo = await NewestDeadLetterAsync(actionId, cancel); // what dies again meanwhile is not replayed again
        while (true)
        {
            await using var db = database.Open();
            await using var transaction = await db.BeginTransactionAsync(cancel);
            var next = db.GetTable<DeadLetter>().Where(l => l.ActionId == actionId && l.Id <= upTo).OrderBy(l => l.Id).Take(MoveMax);
            var (fits, _) = Fitting(await next.Select(l => new RowSize(l.Id, l.Bytes)).ToListAsync(cancel), PageBytesMax);
            var letters = await next.Where(l => l.Id <= fits).ToListAsync(cancel);
            if (letters.Count == 0) return replayed;
            var now = Now;
            foreach (var letter in letters) await InsertAsync(db, letter.ActionId, letter.DeviceId, letter.Number, letter.Body, now, cancel);
            var ids = letters.Select(l => l.Id).ToArray();
            await db.GetTable<DeadLetter>().Where(l => ids.Contains(l.Id)).DeleteAsync(cancel);
            await transaction.CommitAsync(cancel);
            replayed += letters.Count;
        }
    }

    /// <summary>Forgets dead letters of an action up to an id: the only way they leave without being sent.</summary>
    /// <returns>How many.</returns>
    public async Task<int> ForgetDeadLettersAsync(string actionId, long upToId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<DeadLetter>().Where(l => l.ActionId == actionId && l.Id <= upToId).DeleteAsync(cancel);
    }

    /// <summary>One indexed read while nobody has a backlog; a few per action that has one.</summary>
    internal virtual async Task<BacklogView> ViewAsync(CancellationToken cancel)
    {
        await using var db = database.Open();
        var last = await db.GetTable<BacklogRow>().MinAsync(r => (string?)r.ActionId, cancel);
        if (last is null) return BacklogView.Empty;
        var hasRows = new HashSet<string>();
        while (last is not null) // from one action to the next in the index, not over the rows: there may be millions
        {
            hasRows.Add(last);
            var from = last;
            last = await db.GetTable<BacklogRow>().Where(r => r.ActionId.CompareTo(from) > 0).MinAsync(r => (string?)r.ActionId, cancel);
        }

        var open = await db.GetTable<OpenBreaker>().Select(b => b.ActionId).ToListAsync(cancel);
        return new BacklogView(hasRows, open.Where(hasRows.Contains).ToHashSet());
    }

    /// <summary>Writes everything in one transaction. May be repeated when its outcome is unknown.</summary>
    /// <returns>For each write: false if it was <see cref="WriteMode.AppendIfBehind"/> and nothing of the device waits.</returns>
    internal virtual async Task<bool[]> WriteAsync(IReadOnlyList<BacklogWrite> writes, IReadOnlyCollection<string> opened, CancellationToken cancel)
    {
        var done = new bool[writes.Count];
        var (rows, letters) = (0, 0);
        var now = Now;
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        for (var i = 0; i < writes.Count; i++)
        {
            var (actionId, deviceId, notifications, mode, reason) = writes[i];
            done[i] = mode != WriteMode.AppendIfBehind || await db.GetTable<BacklogRow>().AnyAsync(r => r.ActionId == actionId && r.DeviceId == deviceId, cancel);
            if (!done[i]) continue;
            foreach (var (number, body) in notifications)
            {
                if (mode == WriteMode.GiveUp) letters += await GiveUpAsync(db, actionId, deviceId, number, body, now, reason, now, cancel);
                else rows += await InsertAsync(db, actionId, deviceId, number, body, now, cancel);
            }
        }

        foreach (var actionId in opened) await OpenAsync(db, actionId, now, cancel);
        await transaction.CommitAsync(cancel);
        if (rows > 0) metrics.RowsWritten(rows);
        if (letters > 0) metrics.DeadLetters(letters);
        return done;
    }

    /// <summary>The oldest rows of an action, in order, without those of some devices.</summary>
    internal virtual async Task<BacklogPage> ReadAsync(string actionId, IReadOnlyCollection<string> withoutDevices, int limit, CancellationToken cancel)
    {
        await using var db = database.Open();
        var rows = db.GetTable<BacklogRow>().Where(r => r.ActionId == actionId);
        if (withoutDevices.Count > 0) rows = rows.Where(r => !withoutDevices.Contains(r.DeviceId));
        return await PageAsync(rows, limit, cancel);
    }

    /// <summary>The oldest rows of an action, in order, of some devices only.</summary>
    internal virtual async Task<BacklogPage> ReadDevicesAsync(string actionId, IReadOnlyCollection<string> devices, int limit, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await PageAsync(db.GetTable<BacklogRow>().Where(r => r.ActionId == actionId && devices.Contains(r.DeviceId)), limit, cancel);
    }

    /// <summary>When the breaker of an action opened, or null.</summary>
    internal virtual async Task<long?> OpenedAtAsync(string actionId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<OpenBreaker>().Where(b => b.ActionId == actionId).Select(b => (long?)b.OpenedAt).FirstOrDefaultAsync(cancel);
    }

    /// <summary>Removes rows that were answered, moves those given up, and says how the breaker stands if that changed.</summary>
    internal virtual async Task SettleAsync(string actionId, IReadOnlyList<(BacklogRow Row, string? GivenUp)> settled, bool? isOpen, CancellationToken cancel)
    {
        var letters = 0;
        var now = Now;
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        foreach (var (row, reason) in settled)
        {
            if (reason is not null) letters += await GiveUpAsync(db, row.ActionId, row.DeviceId, row.Number, row.Body, row.CreatedAt, reason, now, cancel);
        }

        foreach (var ids in settled.Select(s => s.Row.Id).Chunk(MoveMax)) await db.GetTable<BacklogRow>().Where(r => ids.Contains(r.Id)).DeleteAsync(cancel);
        if (isOpen is true) await OpenAsync(db, actionId, now, cancel);
        if (isOpen is false) await db.GetTable<OpenBreaker>().Where(b => b.ActionId == actionId).DeleteAsync(cancel);
        await transaction.CommitAsync(cancel);
        if (letters > 0) metrics.DeadLetters(letters);
    }

    /// <summary>Moves the oldest rows to the dead letters until the rest is young enough and small enough; <paramref name="busy"/> are being sent right now and stay.</summary>
    internal virtual async Task<(int TooOld, int TooMany, int Left)> TrimAsync(string actionId, IReadOnlyCollection<long> busy, PushOptions options, CancellationToken cancel)
    {
        var (tooOld, tooMany) = (0, 0);
        await using var db = database.Open();
        while (true)
        {
            var (rows, bytes) = await CountAsync(db, actionId, cancel);
            var now = Now;
            var born = now - (long)options.RetryFor.TotalMilliseconds;
            var (oldest, _) = await PageAsync(db.GetTable<BacklogRow>().Where(r => r.ActionId == actionId && !busy.Contains(r.Id)), MoveMax, cancel);
            var moved = new List<(BacklogRow, string?)>();
            foreach (var row in oldest)
            {
                if (row.CreatedAt <= born)
                {
                    moved.Add((row, $"not answered within {options.RetryFor}"));
                    tooOld++;
                }
                else if (bytes > options.BacklogBytesMax)
                {
                    moved.Add((row, $"backlog of the action larger than {options.BacklogBytesMax} bytes"));
                    tooMany++;
                }
                else
                {
                    break;
                }

                bytes -= row.Bytes;
            }

            if (moved.Count == 0) return (tooOld, tooMany, rows);
            await SettleAsync(actionId, moved, isOpen: null, cancel);
        }
    }

    /// <summary>Runs database work off the thread of the actor that needs it, which SQLite would otherwise keep: its async calls are synchronous.</summary>
    internal virtual Task AsideAsync(Func<Task> work) => Task.Run(work);

    private long Now => clock.GetUtcNow().ToUnixTimeMilliseconds();

    private sealed record RowSize(long Id, int Bytes);

    private static async Task<BacklogPage> PageAsync(IQueryable<BacklogRow> rows, int limit, CancellationToken cancel)
    {
        var next = rows.OrderBy(r => r.Id).Take(limit);
        var (upTo, isCut) = Fitting(await next.Select(r => new RowSize(r.Id, r.Bytes)).ToListAsync(cancel), PageBytesMax);
        var page = upTo == 0 ? [] : await next.Where(r => r.Id <= upTo).ToListAsync(cancel);
        return new BacklogPage(page, isCut || page.Count == limit);
    }

    // Sizes first, bodies then.
    private static (long UpTo, bool IsCut) Fitting(List<RowSize> rows, long bytesMax)
    {
        var (upTo, bytes) = (0L, 0L);
        foreach (var row in rows)
        {
            bytes += row.Bytes;
            if (upTo > 0 && bytes > bytesMax) return (upTo, true);
            upTo = row.Id;
        }

        return (upTo, false);
    }

    private static async Task<(int Rows, long Bytes)> CountAsync(DataConnection db, string actionId, CancellationToken cancel)
    {
        var sums = await db.GetTable<BacklogRow>().Where(r => r.ActionId == actionId).GroupBy(_ => 1)
            .Select(all => new { Rows = all.Count(), Bytes = all.Sum(r => (long)r.Bytes) }).FirstOrDefaultAsync(cancel);
        return sums is null ? (0, 0) : (sums.Rows, sums.Bytes);
    }

    private async Task<long> NewestDeadLetterAsync(string actionId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<DeadLetter>().Where(l => l.ActionId == actionId).MaxAsync(l => (long?)l.Id, cancel) ?? 0;
    }

    // Insert-if-absent in words all three databases know. If another node wins the race between the look and the insert, the unique index fails the
    // transaction and its repetition finds the row.
    private static Task<int> InsertAsync(DataConnection db, string actionId, string deviceId, long number, byte[] body, long createdAt, CancellationToken cancel) =>
        db.ExecuteAsync(
            """
            insert into push_backlog (action_id, device_id, n, body, bytes, created_at) select @action, @device, @n, @body, @bytes, @created
            where not exists (select 1 from push_backlog where action_id = @action and device_id = @device and n = @n)
            """,
            cancel, new DataParameter("action", actionId), new DataParameter("device", deviceId), new DataParameter("n", number),
            new DataParameter("body", body), new DataParameter("bytes", body.Length), new DataParameter("created", createdAt));

    private static Task<int> GiveUpAsync(
        DataConnection db, string actionId, string deviceId, long number, byte[] body, long createdAt, string reason, long now, CancellationToken cancel) =>
        db.ExecuteAsync(
            """
            insert into push_dead_letter (action_id, device_id, n, body, bytes, created_at, reason, died_at)
            select @action, @device, @n, @body, @bytes, @created, @reason, @died
            where not exists (select 1 from push_dead_letter where action_id = @action and device_id = @device and n = @n)
            """,
            cancel, new DataParameter("action", actionId), new DataParameter("device", deviceId), new DataParameter("n", number),
            new DataParameter("body", body), new DataParameter("bytes", body.Length), new DataParameter("created", createdAt),
            new DataParameter("reason", reason), new DataParameter("died", now));

    private static Task<int> OpenAsync(DataConnection db, string actionId, long now, CancellationToken cancel) =>
        db.ExecuteAsync(
            "insert into push_breaker (action_id, opened_at) select @action, @now where not exists (select 1 from push_breaker where action_id = @action)",
            cancel, new DataParameter("action", actionId), new DataParameter("now", now));
}
