namespace IoTDelivery.Devices.Journal;

/// <summary>What became of one write in a transaction that was committed.</summary>
internal enum WriteOutcome
{
    /// <summary>All its rows and its reminder are stored.</summary>
    Stored = 0,

    /// <summary>Nothing of it is stored: a row with its key is there already. Whose it is says <see
    /// cref="IJournalStore.FindAsync"/>.</summary>
    KeyTaken = 1,
}

/// <summary>
/// The statements behind the <see cref="JournalQueue"/>: one connection to the database, used by one caller at a time.
/// It opens with the first statement, and every
/// statement ends within a few seconds, by a time-out if need be.
/// </summary>
internal interface IJournalStore : IAsyncDisposable
{
    /// <summary>
    /// Stores the writes in one transaction, each as a whole or not at all. There is one write per device, ordered by
    /// the device; one with several rows comes alone.
    /// </summary>
    /// <param name="outcomes">What became of each, by position. Counts only if nothing is thrown.</param>
    /// <exception cref="Exception">An outage: nothing is known, some, all or none of the writes may be stored. Anything
    /// else: nothing is stored.</exception>
    Task WriteAsync(IReadOnlyList<DeviceWrite> writes, WriteOutcome[] outcomes);

    /// <summary>What is stored under these keys.</summary>
    Task<IReadOnlyList<StoredRow>> FindAsync(IReadOnlyList<JournalRow> rows);

    /// <summary>Commits something that changes nothing: whether the database stores at all.</summary>
    Task ProbeAsync();

    /// <summary>
    /// Whether a connection that was given up is still at what it was doing: what it locks there is locked by ourselves.
    /// </summary>
    Task<bool> IsHeldByOwnAsync() => Task.FromResult(false);

    /// <summary>True if the exception is about the database or the way to it, false if it is about what was to be
    /// written.</summary>
    bool IsOutage(Exception cause);

    /// <summary>Gives up the connection, with whatever it was doing; the next statement opens another one.</summary>
    ValueTask ResetAsync();
}

/// <summary>A row of the journal that is there already.</summary>
internal sealed record StoredRow(string PersistenceId, long SequenceNr, byte[] Message, string? Writer)
{
    /// <summary>True if it is this very row, and not another owner's under the same key.</summary>
    public bool Is(JournalRow row) =>
        PersistenceId == row.PersistenceId && SequenceNr == row.SequenceNr && Writer == row.Writer
        && Message.AsSpan().SequenceEqual(row.Message);
}
