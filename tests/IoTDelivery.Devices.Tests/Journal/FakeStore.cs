using System.Threading.Channels;
using IoTDelivery.Devices.Journal;

namespace IoTDelivery.Devices.Tests.Journal;

/// <summary>A database of the test: rows by key, and a script of what goes wrong.</summary>
internal sealed class FakeStore : IJournalStore
{
    /// <summary>About the database, not about what was to be written.</summary>
    public sealed class Away(string what) : Exception(what);

    public sealed class BadData(string what) : Exception(what);

    private readonly Channel<string[]> _attempts = Channel.CreateUnbounded<string[]>();

    public Dictionary<(string Id, long Nr), (byte[] Message, string? Writer)> Rows { get; } = [];

    public List<ReminderChange> Reminders { get; } = [];

    /// <summary>Devices whose rows can never be stored: their data is wrong.</summary>
    public HashSet<string> Bad { get; } = [];

    /// <summary>Devices whose rows are locked by somebody else.</summary>
    public HashSet<string> Locked { get; } = [];

    /// <summary>Whether it is a connection of our own that was given up which locks them.</summary>
    public bool IsHeldByOwn { get; set; }

    /// <summary>What happens to the next attempts, before anything is stored and after everything is.</summary>
    public Queue<Func<Task>> Before { get; } = new();

    public Queue<Func<Task>> After { get; } = new();

    public int Resets { get; private set; }

    /// <summary>The devices of the next transaction that was tried.</summary>
    public async Task<string[]> AttemptAsync()
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(20));
        return await _attempts.Reader.ReadAsync(patience.Token);
    }

    public List<string[]> Attempts()
    {
        List<string[]> all = [];
        while (_attempts.Reader.TryRead(out var attempt)) all.Add(attempt);
        return all;
    }

    public async Task WriteAsync(IReadOnlyList<DeviceWrite> writes, WriteOutcome[] outcomes)
    {
        _attempts.Writer.TryWrite([.. writes.Select(w => w.PersistenceId)]);
        if (Before.TryDequeue(out var before)) await before();
        if (writes.FirstOrDefault(w => Bad.Contains(w.PersistenceId)) is { } bad) throw new BadData(bad.PersistenceId);
        if (writes.FirstOrDefault(w => Locked.Contains(w.PersistenceId)) is { } locked)
        {
            throw new Away(locked.PersistenceId);
        }
        for (var i = 0; i < writes.Count; i++)
        {
            outcomes[i] = writes[i].Rows.Any(r => Rows.ContainsKey((r.PersistenceId, r.SequenceNr))) ? WriteOutcome.KeyTaken : WriteOutcome.Stored;
            if (outcomes[i] != WriteOutcome.Stored) continue;
            foreach (var row in writes[i].Rows)
            {
                Rows.Add((row.PersistenceId, row.SequenceNr), (row.Message, row.Writer));
            }
            if (writes[i].Reminder is { } reminder) Reminders.Add(reminder);
        }

        if (After.TryDequeue(out var after)) await after();
    }

    public Task<IReadOnlyList<StoredRow>> FindAsync(IReadOnlyList<JournalRow> rows) => Task.FromResult<IReadOnlyList<StoredRow>>(
        [.. rows.Where(r => Rows.ContainsKey((r.PersistenceId, r.SequenceNr))).Select(r => Rows[(r.PersistenceId, r.SequenceNr)] is var (message, writer)
            ? new StoredRow(r.PersistenceId, r.SequenceNr, message, writer)
            : throw new InvalidOperationException())]);

    public Task ProbeAsync() => Before.TryDequeue(out var before) ? before() : Task.CompletedTask;

    public Task<bool> IsHeldByOwnAsync() => Task.FromResult(IsHeldByOwn);

    public bool IsOutage(Exception cause) => cause is Away;

    public ValueTask ResetAsync()
    {
        Resets++;
        return ValueTask.CompletedTask;
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
