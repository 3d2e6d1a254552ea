using System.Collections.Immutable;
using IoTDelivery.Devices.Reminders;

namespace IoTDelivery.Devices.Journal;

/// <summary>One row of the journal as it will be stored.</summary>
/// <param name="Created">In ticks of UTC, as the package writes it.</param>
/// <param name="Writer">Which life of a process wrote it.</param>
internal sealed record JournalRow(string PersistenceId, long SequenceNr, byte[] Message, string Manifest, int SerializerId, long Created, string Writer);

/// <summary>What is to become of a device's reminder.</summary>
/// <param name="DueAt">When it is due, as a timestamp of the clock that never jumps; null to delete it, if it is still
/// this one.</param>
internal readonly record struct ReminderChange(string DeviceId, Guid Token, long? DueAt);

/// <summary>What one device stores at once: rows of the journal, a change of its reminder, or both. It is stored as a
/// whole or not at all.</summary>
internal class DeviceWrite(string persistenceId, IReadOnlyList<JournalRow> rows, ReminderChange? reminder)
{
    // A row is more than its message: key, manifest, and what the objects themselves take.
    private const int RowOverhead = 200;

    // Continuations run where it is completed: the queue does that off its own thread.
    private readonly TaskCompletionSource<IImmutableList<Exception>> _done = new();

    public string PersistenceId { get; } = persistenceId;

    public IReadOnlyList<JournalRow> Rows { get; } = rows;

    public ReminderChange? Reminder { get; } = reminder;

    public int Bytes { get; } = Size(rows);

    /// <summary>Null as its result: nothing is ever rejected, what cannot be stored fails.</summary>
    public Task<IImmutableList<Exception>> Done => _done.Task;

    /// <summary>True if nobody waits for it any more; asked as long as it was not begun.</summary>
    public virtual bool IsAbandoned => false;

    // ---- the queue's own notes

    internal DeviceWrite? Next { get; set; } // the device's next one
    internal long Since { get; set; }
    internal bool IsBegun { get; set; }
    internal bool IsDropped { get; set; }
    internal bool IsAlone { get; set; }
    internal int OwnFailures { get; set; }
    internal Exception? Failure { get; set; }

    internal void Complete()
    {
        if (Failure is null) _done.TrySetResult(null!);
        else _done.TrySetException(Failure);
    }

    private static int Size(IReadOnlyList<JournalRow> rows)
    {
        var bytes = RowOverhead;
        for (var i = 0; i < rows.Count; i++) bytes += rows[i].Message.Length + RowOverhead;
        return bytes;
    }
}
