using IoTDelivery.Domain;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;
using LinqToDB.Mapping;

namespace IoTDelivery.Push;

/// <summary>
/// The notifications of receivers that are down, one row each, and the dead letters.
/// What is in here survives everything; a notification is here at most once, however often it is offered.
/// </summary>
public class PushBacklog(SqlDatabase database, PushMetrics metrics, TimeProvider clock)
{
    private const int MoveMax = 500; // rows per statement with a list of ids
    private const int MovesMax = 10; // of these in one check of an action's bounds: its sender waits for it
    private const int DevicesMax = 32; // per statement that reads device by device
    private const int RefusedMax = 16; // when nothing else is taken either, it is not the rows
    private const int ReasonMax = 1024; // characters of why a notification was given up
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
            // While a row stands here every node writes new notifications of the action to the backlog; a probe that is
            // answered removes it.
            "create table push_breaker (action_id {id} not null primary key, opened_at {bigint} not null)"),

        // A sender reads on in one device's rows without looking at the others.
        new("push", 2, "create index push_backlog_by_device on push_backlog (action_id, device_id, id)"),
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
        return await SumAsync(db.GetTable<BacklogRow>().Where(r => r.ActionId == actionId), cancel);
    }

    /// <summary>
    /// Dead letters of an action, oldest first, from behind <paramref name="afterId"/>, as many as <paramref
    /// name="bytesMax"/> allows but at least one; and how many there are in all.
    /// </summary>
    public async Task<(IReadOnlyList<DeadLetter> Items, int Count)> DeadLettersAsync(
        string actionId, long afterId, int limit, CancellationToken cancel, long bytesMax = PageBytesMax)
    {
        await using var db = database.Open();
        var all = db.GetTable<DeadLetter>().Where(l => l.ActionId == actionId);
        var next = all.Where(l => l.Id > afterId).OrderBy(l => l.Id).Take(limit);
        var (upTo, _) = Fitting(await next.Select(l => new RowSize { Id = l.Id, Bytes = l.Bytes }).ToListAsync(cancel), bytesMax);
        return (await next.Where(l => l.Id <= upTo).ToListAsync(cancel), await all.CountAsync(cancel));
    }

    /// <summary>When the receiver of an action began to count as down; null while it does not.</summary>
    public Task<long?> DownSinceAsync(string actionId, CancellationToken cancel) => OpenedAtAsync(actionId, cancel);

    /// <summary>
    /// Puts dead letters of an action back into the backlog, oldest first, behind what waits there. They keep their
    /// <c>request_id</c>; their time starts again.
    /// </summary>
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
            var (fits, _) = Fitting(await next.Select(l => new RowSize { Id = l.Id, Bytes = l.Bytes }).ToListAsync(cancel), PageBytesMax);
            var letters = await next.Where(l => l.Id <= fits).ToListAsync(cancel);
            if (letters.Count == 0) return replayed;
            var now = Now;
            var rows = letters.Select(l => new NewRow(l.ActionId, l.DeviceId, l.Number, l.Body));
            await InsertAsync(db, [.. rows], now, cancel);
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

    /// <summary>One statement, however many actions have a backlog.</summary>
    internal virtual async Task<BacklogView> ViewAsync(CancellationToken cancel)
    {
        await using var db = database.Open();
        var actions = await db.QueryToListAsync<ActionView>(
            $"""
            {database.Dialect.WithDistinct("push_backlog", "action_id")}
            select v.action_id as action_id, b.opened_at as opened_at
            from distinct_values v left join push_breaker b on b.action_id = v.action_id where v.action_id is not null
            """,
            cancel);
        if (actions.Count == 0) return BacklogView.Empty;
        var open = actions.Where(a => a.OpenedAt is not null).Select(a => a.ActionId);
        return new BacklogView(actions.Select(a => a.ActionId).ToHashSet(), open.ToHashSet());
    }

    /// <summary>
    /// Writes everything in one transaction. May be repeated when its outcome is unknown. A write that the database
    /// refuses although it answers is put aside: the others are written without it.
    /// </summary>
    internal virtual async Task<WriteResult[]> WriteAsync(
        IReadOnlyList<BacklogWrite> writes, IReadOnlyCollection<string> opened, CancellationToken cancel)
    {
        var results = new WriteResult[writes.Count];
        try
        {
            await WriteTogetherAsync(writes.ToArray(), opened, results, cancel);
        }
        catch (Exception) when (!cancel.IsCancellationRequested)
        {
            // Perhaps a race of two nodes, perhaps one row, perhaps there is no database.
            if (!await AnswersAsync(cancel)) throw;
            await WriteApartAsync(writes.ToArray(), results, cancel);
            if (opened.Count > 0) await WriteTogetherAsync(Array.Empty<BacklogWrite>(), opened, Array.Empty<WriteResult>(), cancel);
        }

        return results;
    }

    /// <summary>The oldest rows of an action behind an id, in order, without those of some devices.</summary>
    internal virtual async Task<BacklogPage> ReadAsync(
        string actionId, long afterId, IReadOnlyCollection<string> withoutDevices, int limit, CancellationToken cancel)
    {
        await using var db = database.Open();
        var all = db.GetTable<BacklogRow>().Where(r => r.ActionId == actionId);
        var newest = await all.MaxAsync(r => (long?)r.Id, cancel) ?? 0;
        var rows = all.Where(r => r.Id > afterId);
        if (withoutDevices.Count > 0) rows = rows.Where(r => !withoutDevices.Contains(r.DeviceId));
        var next = rows.OrderBy(r => r.Id).Take(limit);
        var sizes = await next.Select(r => new RowSize { Id = r.Id, Bytes = r.Bytes }).ToListAsync(cancel);
        var (upTo, isCut) = Fitting(sizes, PageBytesMax);
        var page = upTo == 0 ? [] : await next.Where(r => r.Id <= upTo).ToListAsync(cancel);
        isCut |= page.Count == limit;

        // Asked behind the page: a device's rows are written one after the other, so the older ones are there by now.
        var devices = page.Select(r => r.DeviceId).Distinct().ToArray();
        var hasOlder = afterId > 0 && devices.Length > 0
            && await all.AnyAsync(r => devices.Contains(r.DeviceId) && r.Id <= afterId, cancel);
        return new BacklogPage(page, isCut, isCut ? page[^1].Id : Math.Max(newest, afterId), hasOlder);
    }

    /// <summary>
    /// The oldest rows of an action of some devices only, in order; so many of each at most. Reads nothing of other
    /// devices.
    /// </summary>
    internal virtual async Task<BacklogPage> ReadDevicesAsync(
        string actionId, IReadOnlyCollection<string> devices, int limitEach, CancellationToken cancel)
    {
        await using var db = database.Open();
        var sizes = new List<RowSize>();
        foreach (var some in devices.Chunk(DevicesMax))
        {
            var each = Enumerable.Range(0, some.Length).Select(i =>
                $"""
                select * from (
                  select id, bytes from push_backlog where action_id = @action and device_id = @device{i}
                  order by id {database.Dialect.First(limitEach)}) t{i}
                """);
            var named = some.Select((device, i) => new DataParameter($"device{i}", device));
            DataParameter[] parameters = [new("action", actionId), .. named];
            sizes.AddRange(await db.QueryToListAsync<RowSize>(string.Join(" union all ", each), cancel, parameters));
        }

        sizes.Sort((a, b) => a.Id.CompareTo(b.Id));
        var (upTo, isCut) = Fitting(sizes, PageBytesMax);
        var rows = new List<BacklogRow>();
        foreach (var ids in sizes.Select(r => r.Id).Where(id => id <= upTo).Chunk(MoveMax))
        {
            var some = db.GetTable<BacklogRow>().Where(r => ids.Contains(r.Id)).OrderBy(r => r.Id);
            rows.AddRange(await some.ToListAsync(cancel));
        }

        return new BacklogPage(rows, isCut, upTo);
    }

    /// <summary>When the breaker of an action opened, or null.</summary>
    internal virtual async Task<long?> OpenedAtAsync(string actionId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<OpenBreaker>().Where(b => b.ActionId == actionId).Select(b => (long?)b.OpenedAt).FirstOrDefaultAsync(cancel);
    }

    /// <summary>
    /// Removes rows that were answered, moves those given up, and says how the breaker stands if that changed. Those
    /// whose dead letter the database refuses stay where they are, and are named; the others are settled without them.
    /// </summary>
    internal virtual async Task<IReadOnlyList<RefusedRow>> SettleAsync(
        string actionId,
        IReadOnlyList<(BacklogRow Row, string? GivenUp)> settled,
        bool? isOpen,
        CancellationToken cancel)
    {
        try
        {
            await SettleTogetherAsync(actionId, settled, isOpen, cancel);
            return [];
        }
        catch (Exception cause) when (SqlErrors.IsAboutData(cause))
        {
            // One of them: below.
        }

        var refused = new List<RefusedRow>();
        await SettleTogetherAsync(actionId, [], isOpen, cancel);
        foreach (var one in settled)
        {
            try
            {
                await SettleTogetherAsync(actionId, [one], isOpen: null, cancel);
            }
            catch (Exception cause) when (SqlErrors.IsAboutData(cause))
            {
                refused.Add(new RefusedRow(one.Row, cause));
            }
        }

        return refused;
    }

    private async Task SettleTogetherAsync(
        string actionId,
        IReadOnlyList<(BacklogRow Row, string? GivenUp)> settled,
        bool? isOpen,
        CancellationToken cancel)
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

    /// <summary>
    /// Moves the oldest rows to the dead letters until the rest is young enough and small enough, some thousand at a
    /// time; <paramref name="busy"/> are being sent right now and stay. Counts only what has come since <paramref
    /// name="count"/>.
    /// </summary>
    internal virtual async Task<Trimmed> TrimAsync(
        string actionId, IReadOnlyCollection<long> busy, PushOptions options, BacklogCount count,
        CancellationToken cancel)
    {
        var (tooOld, tooMany) = (0, 0);
        var stay = new HashSet<long>(busy);
        await using var db = database.Open();
        count = await CountOnAsync(db, actionId, count, cancel);
        for (var move = 0; ; move++)
        {
            var now = Now;
            var born = now - (long)options.RetryFor.TotalMilliseconds;
            var oldest = await db.GetTable<BacklogRow>().Where(r => r.ActionId == actionId)
                .OrderBy(r => r.Id).Take(MoveMax + stay.Count)
                .Select(r => new RowAge(r.Id, r.Bytes, r.CreatedAt)).ToListAsync(cancel);
            var (old, many, bytes) = (new List<RowAge>(), new List<RowAge>(), count.AllBytes);
            foreach (var row in oldest.Where(r => !stay.Contains(r.Id)).Take(MoveMax))
            {
                if (row.CreatedAt <= born) old.Add(row);
                else if (bytes > options.BacklogBytesMax) many.Add(row);
                else break;
                bytes -= row.Bytes;
            }

            var isDone = old.Count + many.Count == 0;
            if (isDone || move == MovesMax)
            {
                return new Trimmed(tooOld, tooMany, count, IsCut: !isDone) { Refused = [.. stay.Except(busy)] };
            }

            await MoveTogetherAsync(old, $"not answered within {options.RetryFor}", now, stay, cancel);
            await MoveTogetherAsync(
                many, $"backlog of the action larger than {options.BacklogBytesMax} bytes", now, stay, cancel);
            (tooOld, tooMany) = (tooOld + old.Count, tooMany + many.Count);
            foreach (var row in old.Concat(many)) count = count.Without(row.Id, row.Bytes);
        }
    }

    /// <summary>
    /// Runs database work off the thread of the actor that needs it, which SQLite would otherwise keep: its async calls
    /// are synchronous.
    /// </summary>
    internal virtual Task AsideAsync(Func<Task> work) => Task.Run(work);

    private long Now => clock.GetUtcNow().ToUnixTimeMilliseconds();

    private sealed record RowSize
    {
        [Column("id")] public required long Id { get; init; }
        [Column("bytes")] public required int Bytes { get; init; }
    }

    private sealed record RowAge(long Id, int Bytes, long CreatedAt);

    private sealed record NewRow(string ActionId, string DeviceId, long Number, byte[] Body);

    private sealed record ActionView
    {
        [Column("action_id")] public required string ActionId { get; init; }
        [Column("opened_at")] public long? OpenedAt { get; init; }
    }

    private async Task WriteTogetherAsync(
        ArraySegment<BacklogWrite> writes, IReadOnlyCollection<string> opened, ArraySegment<WriteResult> results,
        CancellationToken cancel)
    {
        var (letters, now) = (0, Now);
        var appended = new List<NewRow>();
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        var behind = await BehindAsync(db, writes, cancel);
        for (var i = 0; i < writes.Count; i++)
        {
            var (actionId, deviceId, notifications, mode, reason) = writes[i];
            var isWanted = mode != WriteMode.AppendIfBehind || behind.Contains(i + 1);
            results[i] = new WriteResult(isWanted ? WriteOutcome.Written : WriteOutcome.NothingOlder);
            if (!isWanted) continue;
            foreach (var (number, body) in notifications)
            {
                if (mode == WriteMode.GiveUp)
                {
                    letters += await GiveUpAsync(db, actionId, deviceId, number, body, now, reason, now, cancel);
                }
                else
                {
                    appended.Add(new NewRow(actionId, deviceId, number, body));
                }
            }
        }

        var rows = await InsertAsync(db, appended, now, cancel);
        foreach (var actionId in opened) await OpenAsync(db, actionId, now, cancel);
        await transaction.CommitAsync(cancel);
        if (rows > 0) metrics.RowsWritten(rows);
        if (letters > 0) metrics.DeadLetters(letters);
    }

    // In halves: one row that is refused among a thousand costs some twenty transactions.
    private async Task WriteApartAsync(
        ArraySegment<BacklogWrite> writes, ArraySegment<WriteResult> results, CancellationToken cancel)
    {
        var (waiting, refused, isTaken) = (new Stack<(int From, int Count)>(), 0, false);
        waiting.Push((0, writes.Count));
        while (waiting.TryPop(out var part))
        {
            try
            {
                var (some, theirs) = (writes.Slice(part.From, part.Count), results.Slice(part.From, part.Count));
                await WriteTogetherAsync(some, [], theirs, cancel);
                isTaken = true;
            }
            catch (Exception cause) when (!cancel.IsCancellationRequested)
            {
                if (!await AnswersAsync(cancel)) throw;
                if (part.Count > 1)
                {
                    waiting.Push((part.From + part.Count / 2, part.Count - part.Count / 2));
                    waiting.Push((part.From, part.Count / 2));
                    continue;
                }

                if (++refused >= RefusedMax && !isTaken) throw;
                results[part.From] = new WriteResult(WriteOutcome.Refused, cause);
            }
        }
    }

    private async Task<bool> AnswersAsync(CancellationToken cancel)
    {
        try
        {
            await using var db = database.Open();
            return await db.ExecuteAsync<int>("select 1", cancel) == 1;
        }
        catch (Exception) when (!cancel.IsCancellationRequested)
        {
            return false;
        }
    }

    // Places, from 1, of the writes whose device has rows already.
    private async Task<HashSet<long>> BehindAsync(
        DataConnection db, ArraySegment<BacklogWrite> writes, CancellationToken cancel)
    {
        var asked = Enumerable.Range(0, writes.Count).Where(i => writes[i].Mode == WriteMode.AppendIfBehind).ToArray();
        if (asked.Length == 0) return [];
        var devices = new SqlRows(database,
            ("action_id", Array.ConvertAll(asked, i => writes[i].ActionId)),
            ("device_id", Array.ConvertAll(asked, i => writes[i].DeviceId)));
        var places = await devices.PlacesAsync(
            db,
            """
            select place from {rows} where exists (
              select 1 from push_backlog b where b.action_id = rows.action_id and b.device_id = rows.device_id)
            """,
            cancel);
        return places.Select(place => asked[place - 1] + 1L).ToHashSet();
    }

    private static async Task<BacklogCount> CountOnAsync(
        DataConnection db, string actionId, BacklogCount count, CancellationToken cancel)
    {
        var rows = db.GetTable<BacklogRow>().Where(r => r.ActionId == actionId);
        var newest = await rows.MaxAsync(r => (long?)r.Id, cancel) ?? 0;
        var seen = rows.Where(r => r.Id > count.UpTo && r.Id <= count.NewestThen);
        var settled = count.NewestThen > count.UpTo ? await SumAsync(seen, cancel) : default;
        return count.Check(settled, await SumAsync(rows.Where(r => r.Id > count.NewestThen), cancel), newest);
    }

    private static async Task<(int Rows, long Bytes)> SumAsync(IQueryable<BacklogRow> rows, CancellationToken cancel)
    {
        var sums = await rows.GroupBy(_ => 1)
            .Select(all => new { Rows = all.Count(), Bytes = all.Sum(r => (long)r.Bytes) }).FirstOrDefaultAsync(cancel);
        return sums is null ? (0, 0) : (sums.Rows, sums.Bytes);
    }

    // Those that are refused stay, and are no longer in the list.
    private async Task MoveTogetherAsync(
        List<RowAge> rows, string reason, long now, HashSet<long> stay, CancellationToken cancel)
    {
        try
        {
            await MoveAsync(rows, reason, now, cancel);
            return;
        }
        catch (Exception cause) when (SqlErrors.IsAboutData(cause))
        {
            // One of them: each alone.
        }

        foreach (var row in rows.ToArray())
        {
            try
            {
                await MoveAsync([row], reason, now, cancel);
            }
            catch (Exception cause) when (SqlErrors.IsAboutData(cause))
            {
                stay.Add(row.Id);
                rows.Remove(row);
            }
        }
    }

    private async Task MoveAsync(List<RowAge> rows, string reason, long now, CancellationToken cancel)
    {
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        await MoveAsync(db, rows, reason, now, cancel);
        await transaction.CommitAsync(cancel);
    }

    private async Task MoveAsync(
        DataConnection db, List<RowAge> rows, string reason, long now, CancellationToken cancel)
    {
        if (rows.Count == 0) return;
        var ids = string.Join(", ", rows.Select(r => r.Id)); // numbers of ours
        var letters = await db.ExecuteAsync(
            $"""
            insert into push_dead_letter (action_id, device_id, n, body, bytes, created_at, reason, died_at)
            select r.action_id, r.device_id, r.n, r.body, r.bytes, r.created_at, @reason, @died from push_backlog r
            where r.id in ({ids})
            and not exists (
              select 1 from push_dead_letter l
              where l.action_id = r.action_id and l.device_id = r.device_id and l.n = r.n)
            order by r.id
            """,
            cancel, Reason(reason), new DataParameter("died", now));
        await db.ExecuteAsync($"delete from push_backlog where id in ({ids})", cancel);
        if (letters > 0) metrics.DeadLetters(letters);
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

    private async Task<long> NewestDeadLetterAsync(string actionId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<DeadLetter>().Where(l => l.ActionId == actionId).MaxAsync(l => (long?)l.Id, cancel) ?? 0;
    }

    // What is there already is left as it is. SQL Server knows no such clause: if another node wins the race between
    // look and insert, the unique index fails the transaction and its repetition finds the row.
    private async Task<int> InsertAsync(
        DataConnection db, IReadOnlyList<NewRow> rows, long createdAt, CancellationToken cancel)
    {
        if (rows.Count == 0) return 0;
        var isSqlServer = database.Provider == DatabaseProvider.SqlServer;
        var absent = isSqlServer
            ? """
              not exists (
                select 1 from push_backlog b
                where b.action_id = rows.action_id and b.device_id = rows.device_id and b.n = rows.n)
              """
            : "1 = 1";
        var values = new SqlRows(database,
            ("action_id", rows.Select(r => r.ActionId).ToArray()),
            ("device_id", rows.Select(r => r.DeviceId).ToArray()),
            ("n", rows.Select(r => r.Number).ToArray()), ("body", rows.Select(r => r.Body).ToArray()),
            ("bytes", rows.Select(r => r.Body.Length).ToArray()));
        return await values.ExecuteAsync(
            db,
            $$"""
            insert into push_backlog (action_id, device_id, n, body, bytes, created_at)
            select action_id, device_id, n, body, bytes, {{createdAt}} from {rows} where {{absent}} order by place
            {{(isSqlServer ? "" : "on conflict (action_id, device_id, n) do nothing")}}
            """,
            cancel);
    }

    // A consumer or a web server may have said it.
    private static DataParameter Reason(string text) => new("reason", WireText.Clean(text, ReasonMax));

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
            Reason(reason), new DataParameter("died", now));

    private static Task<int> OpenAsync(DataConnection db, string actionId, long now, CancellationToken cancel) =>
        db.ExecuteAsync(
            "insert into push_breaker (action_id, opened_at) select @action, @now where not exists (select 1 from push_breaker where action_id = @action)",
            cancel, new DataParameter("action", actionId), new DataParameter("now", now));
}
