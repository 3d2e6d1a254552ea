using LinqToDB.Mapping;

namespace IoTDelivery.Push;

/// <summary>A row that the database would not settle.</summary>
internal readonly record struct RefusedRow(BacklogRow Row, Exception Cause);

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
/// <param name="UpTo">Up to which id the action was looked through.</param>
/// <param name="HasOlder">Before the page is an older row of one of its devices: it was committed after pages had
/// passed its id.</param>
internal sealed record BacklogPage(IReadOnlyList<BacklogRow> Rows, bool IsCut, long UpTo = 0, bool HasOlder = false);

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
internal sealed record BacklogWrite(
    string ActionId, string DeviceId, IReadOnlyList<(long Number, byte[] Body)> Notifications, WriteMode Mode,
    string Reason = "");

/// <summary>What became of a <see cref="BacklogWrite"/>.</summary>
/// <param name="Refused">Why the database does not take it, although it answers; null if it does.</param>
internal readonly record struct WriteResult(WriteOutcome Outcome, Exception? Refused = null);

/// <summary>What became of a <see cref="BacklogWrite"/>.</summary>
internal enum WriteOutcome
{
    /// <summary>It stands in the tables.</summary>
    Written,

    /// <summary>It was <see cref="WriteMode.AppendIfBehind"/>, and nothing of the device waits.</summary>
    NothingOlder,

    /// <summary>The database takes others, but not this one.</summary>
    Refused,
}

/// <summary>
/// How much an action has in the backlog, kept by the one who removes its rows, so that not all of them are counted
/// each time. Rows come with growing ids, but those of several nodes are committed in any order: only ids that were
/// there one check ago are counted for good, the rest is counted again.
/// </summary>
/// <param name="UpTo">Up to this id <see cref="Rows"/> and <see cref="Bytes"/> are counted for good.</param>
/// <param name="NewestThen">The newest id of the last check.</param>
internal readonly record struct BacklogCount(
    long UpTo, long NewestThen, int Rows, long Bytes, int RowsBehind, long BytesBehind)
{
    public int AllRows => Rows + RowsBehind;

    public long AllBytes => Bytes + BytesBehind;

    /// <summary>
    /// After a check found so much from <see cref="UpTo"/> to <see cref="NewestThen"/>, and so much behind it.
    /// </summary>
    public BacklogCount Check((int Rows, long Bytes) settled, (int Rows, long Bytes) behind, long newest) =>
        new(
            NewestThen, Math.Max(newest, NewestThen), Rows + settled.Rows, Bytes + settled.Bytes, behind.Rows,
            behind.Bytes);

    /// <summary>After a row was removed.</summary>
    public BacklogCount Without(long id, int bytes) => id <= UpTo
        ? this with { Rows = Rows - 1, Bytes = Bytes - bytes }
        : this with { RowsBehind = RowsBehind - 1, BytesBehind = BytesBehind - bytes };
}

/// <summary>What a check of an action's bounds did.</summary>
/// <param name="IsCut">There is more to move.</param>
internal readonly record struct Trimmed(int TooOld, int TooMany, BacklogCount Count, bool IsCut)
{
    /// <summary>Ids of rows whose dead letter the database refused: they stay. Null for none.</summary>
    public IReadOnlyCollection<long>? Refused { get; init; }
}
