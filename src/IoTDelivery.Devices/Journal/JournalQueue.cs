using IoTDelivery.Storage;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace IoTDelivery.Devices.Journal;

/// <summary>How the queue in front of the journal works.</summary>
internal sealed record JournalQueueOptions
{
    /// <summary>Connections that may write side by side.</summary>
    public int Writers { get; init; } = 1;

    /// <summary>
    /// While one transaction is under way another begins when a full one waits, or so long after the last one began:
    /// fewer and larger ones cost less, and one that hangs delays no other.
    /// </summary>
    public TimeSpan NextAfter { get; init; } = TimeSpan.FromMilliseconds(10);

    /// <summary>Devices in one transaction at most.</summary>
    public int BatchMax { get; init; } = 400;

    /// <summary>Bytes in one transaction at most; one write may be larger.</summary>
    public int BatchBytesMax { get; init; } = 4 * 1024 * 1024;

    /// <summary>How long a write waits for a database that stalls or is away.</summary>
    public TimeSpan OutageMax { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>The longest pause between two attempts during an outage. The first one is a twentieth of it.</summary>
    public TimeSpan RetryAfter { get; init; } = TimeSpan.FromSeconds(1);
}

/// <summary>
/// The queue in front of the journal. It knows no database: it decides what is written together, what is tried again,
/// and what has failed.
/// </summary>
//
//   write ──► the device's line ──first of it──► ready ──► transaction ──► stored
//                                                  ▲          ├── key taken ──look up──► mine: stored · else: not ours
//                                                  │          └── failed, outcome unknown
//                                                  └── again, in parts, at last alone ◄──┘
//                 alone: bad data fails at once · a row that fails while the database is well fails soon ·
//                        while nothing can be stored at all, everybody waits (OutageMax)
//
// What waits is written by whichever connection is free, together: one transaction after the other (NextAfter).
// A device has one write in the database at a time. When it fails, those behind it fail untried: a gap would make the
// device unrecoverable.
public sealed class JournalQueue : IAsyncDisposable
{
    // Twice alone, and each time the database stored something else: it is the row, not the database.
    private const int OwnFailuresMax = 2;

    // A transaction that failed is tried again in parts this many times smaller. Each try may cost a time-out, so more
    // than halves.
    private const int Parts = 8;

    private sealed class Writer(IJournalStore store)
    {
        public readonly IJournalStore Store = store;
        public readonly Queue<DeviceWrite> Again = new();
        public readonly SemaphoreSlim Signal = new(0);
        public bool IsIdle, IsWriting;
        public bool ReadyFirst;
        public int Size = int.MaxValue;
        public int FailuresInARow;
        public Task Work = Task.CompletedTask;
    }

    private readonly object _gate = new();
    private readonly Dictionary<string, DeviceWrite> _devices = []; // the first write of each
    private readonly Queue<DeviceWrite> _ready = new();
    private readonly JournalQueueOptions _options;
    private readonly JournalLoad _load;
    private readonly TimeProvider _clock;
    private readonly ILogger _logger;
    private readonly CancellationTokenSource _stop = new();
    private readonly Writer[] _writers;
    private readonly ITimer? _next;
    private int _writing; // transactions under way
    private long _begunAt, _stored;

    /// <summary>The queue of the site's database.</summary>
    public JournalQueue(SqlDatabase database, JournalLoad load, TimeProvider clock, ILogger<JournalQueue> logger)
        : this(_ => OpenStore(database, clock), OptionsOf(database), load, clock, logger)
    {
    }

    internal JournalQueue(Func<int, IJournalStore> open, JournalQueueOptions options, JournalLoad load, TimeProvider clock, ILogger? logger = null)
    {
        (_options, _load, _clock, _logger) = (options, load, clock, logger ?? NullLogger.Instance);
        _writers = [.. Enumerable.Range(0, options.Writers).Select(i => new Writer(open(i)))];
        if (options.Writers > 1)
        {
            _next = clock.CreateTimer(_ => OnNext(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        }

        foreach (var writer in _writers) writer.Work = Task.Run(() => RunAsync(writer));
    }

    /// <summary>Which life of a process this is: a row that bears it was written by this queue.</summary>
    internal string Id { get; } = Guid.NewGuid().ToString("N");

    /// <summary>Takes a write. Its task says how it ended: stored, or why not.</summary>
    internal void Enqueue(DeviceWrite write)
    {
        write.Since = _clock.GetTimestamp();
        _load.Add(write.Bytes);
        lock (_gate)
        {
            if (_stop.IsCancellationRequested)
            {
                write.Failure = new JournalUnavailableException("The journal is closed.");
            }
            else if (!_devices.TryAdd(write.PersistenceId, write))
            {
                var last = _devices[write.PersistenceId];
                while (last.Next is not null) last = last.Next;
                last.Next = write;
                return;
            }
            else
            {
                Ready(write);
                return;
            }
        }

        Complete([write]);
    }

    /// <summary>
    /// Before a device is read: what it had queued and nobody began leaves, because whoever waited for it is gone; what
    /// was begun ends first, or it would
    /// appear behind the reader's back.
    /// </summary>
    internal async Task SettleAsync(string persistenceId)
    {
        List<DeviceWrite> dropped = [];
        DeviceWrite? begun = null;
        lock (_gate)
        {
            if (!_devices.TryGetValue(persistenceId, out var first)) return;
            var cause = new JournalUnavailableException($"{persistenceId} is read anew; what it had not begun to write is forgotten.");
            for (var write = first.IsBegun ? first.Next : first; write is not null; write = write.Next)
            {
                (write.IsDropped, write.Failure) = (true, cause);
                dropped.Add(write);
            }

            if (first.IsBegun) (begun, first.Next) = (first, null);
            else _devices.Remove(persistenceId);
        }

        Complete(dropped);
        if (begun is null) return;
        await ((Task)begun.Done).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ForceYielding);
    }

    /// <summary>What is in the database ends; what waits fails.</summary>
    public async ValueTask DisposeAsync()
    {
        lock (_gate)
        {
            if (_stop.IsCancellationRequested) return;
            _stop.Cancel();
        }

        foreach (var writer in _writers)
        {
            await writer.Work.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await writer.Store.DisposeAsync();
        }

        if (_next is not null) await _next.DisposeAsync();
        List<DeviceWrite> left = [];
        lock (_gate)
        {
            foreach (var first in _devices.Values)
            {
                for (DeviceWrite? write = first; write is not null; write = write.Next)
                {
                    write.Failure = new JournalUnavailableException("The journal is closed.");
                    left.Add(write);
                }
            }

            _devices.Clear();
        }

        Complete(left);
    }

    // Held: _gate.
    private void Ready(DeviceWrite write)
    {
        _ready.Enqueue(write);
        WakeOne();
    }

    // Held: _gate.
    private void WakeOne()
    {
        if (!MayBegin() || Array.Find(_writers, static w => w.IsIdle) is not { } writer) return;
        writer.IsIdle = false;
        writer.Signal.Release();
    }

    // Held: _gate.
    private bool MayBegin() =>
        _ready.Count > 0
        && (_writing == 0 || _ready.Count >= _options.BatchMax
            || _clock.GetElapsedTime(_begunAt) >= _options.NextAfter);

    private void OnNext()
    {
        lock (_gate) WakeOne();
    }

    private async Task RunAsync(Writer writer)
    {
        var outcomes = new WriteOutcome[_options.BatchMax];
        while (!_stop.IsCancellationRequested)
        {
            var batch = Take(writer);
            if (batch is null)
            {
                await writer.Signal.WaitAsync(_stop.Token);
                continue;
            }

            if (batch.Count == 0) continue;
            var storedBefore = Interlocked.Read(ref _stored);
            try
            {
                await writer.Store.WriteAsync(batch, outcomes);
                await LookUpAsync(writer, batch, outcomes);
            }
            catch (Exception cause)
            {
                await OnFailureAsync(writer, batch, cause, storedBefore);
                continue;
            }

            (writer.FailuresInARow, writer.Size) = (0, writer.Size > _options.BatchMax / 2 ? int.MaxValue : writer.Size * 2);
            End(batch);
        }
    }

    // The next transaction's writes, ordered by device: rows of one page are written together, and two transactions
    // lock in the same order. Null: nothing waits.
    private List<DeviceWrite>? Take(Writer writer)
    {
        List<DeviceWrite> batch = [], over = [];
        lock (_gate)
        {
            if (writer.IsWriting) _writing--;
            writer.IsWriting = false;
            var mayBegin = MayBegin();
            var isAgain = writer.Again.Count > 0 && !(writer.ReadyFirst && mayBegin);
            writer.ReadyFirst = false;
            if (!isAgain && !mayBegin)
            {
                writer.IsIdle = true;
                return null;
            }

            var (from, bytes) = (isAgain ? writer.Again : _ready, 0);

            var max = Math.Min(writer.Size, _options.BatchMax);
            while (batch.Count < max && from.TryPeek(out var write))
            {
                if (write.IsDropped)
                {
                    from.Dequeue();
                    continue;
                }

                if (Expired(write) is { } cause)
                {
                    write.Failure = cause;
                    over.Add(from.Dequeue());
                    continue;
                }

                var isAlone = write.IsAlone || write.Rows.Count > 1;
                if (batch.Count > 0 && (isAlone || bytes + write.Bytes > _options.BatchBytesMax)) break;
                bytes += write.Bytes;
                write.IsBegun = true;
                batch.Add(from.Dequeue());
                if (isAlone) break;
            }

            if (batch.Count > 0) Begin(writer);
        }

        if (over.Count > 0) End(over);
        if (batch.Count > 1) batch.Sort(static (a, b) => string.CompareOrdinal(a.PersistenceId, b.PersistenceId));
        return batch;
    }

    // Held: _gate.
    private void Begin(Writer writer)
    {
        (writer.IsWriting, _begunAt) = (true, _clock.GetTimestamp());
        _writing++;
        _next?.Change(_options.NextAfter, Timeout.InfiniteTimeSpan);
        WakeOne(); // more than this one takes
    }

    private JournalUnavailableException? Expired(DeviceWrite write) =>
        !write.IsBegun && write.IsAbandoned ? new JournalUnavailableException($"The actor of {write.PersistenceId} has stopped.")
        : _clock.GetElapsedTime(write.Since) > _options.OutageMax ? new JournalUnavailableException($"The database did not store {write.PersistenceId} in {_options.OutageMax}.")
        : null;

    // A key that is taken by this very write: the commit whose answer was lost had happened.
    private async Task LookUpAsync(Writer writer, List<DeviceWrite> batch, WriteOutcome[] outcomes)
    {
        for (var i = 0; i < batch.Count; i++)
        {
            if (outcomes[i] != WriteOutcome.KeyTaken) continue;
            var write = batch[i];
            var found = await writer.Store.FindAsync(write.Rows);
            var taken = write.Rows.FirstOrDefault(row => !found.Any(f => f.Is(row)));
            if (taken is not null)
            {
                write.Failure = new SequenceNumberTakenException(taken.PersistenceId, taken.SequenceNr);
            }
        }
    }

    private async Task OnFailureAsync(Writer writer, List<DeviceWrite> batch, Exception cause, long storedBefore)
    {
        var isOutage = writer.Store.IsOutage(cause);
        if (isOutage) await ResetAsync(writer);
        foreach (var write in batch) write.Failure = null; // a look-up may have failed behind one that had not
        if (batch.Count > 1)
        {
            writer.Size = Math.Max(1, batch.Count / Parts);
            lock (_gate) foreach (var write in batch) writer.Again.Enqueue(write);
        }
        else
        {
            var alone = batch[0];
            alone.IsAlone = true;
            writer.Size = 1;
            if (isOutage && await IsDatabaseWellAsync(writer, storedBefore)) alone.OwnFailures++;
            if (!isOutage || alone.OwnFailures >= OwnFailuresMax)
            {
                alone.Failure = cause;
                _logger.WriteRefused(alone.PersistenceId, cause.GetBaseException().Message);
                End(batch);
            }
            else
            {
                writer.ReadyFirst = true;
                lock (_gate) writer.Again.Enqueue(alone);
            }
        }

        if (!isOutage) return;
        if (writer.FailuresInARow++ == 0) _logger.JournalWaits(cause.Message);
        var pause = _options.RetryAfter / 20 * (1 << Math.Min(writer.FailuresInARow, 5));
        await Task.Delay(pause < _options.RetryAfter ? pause : _options.RetryAfter, _clock, _stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    // Something was stored while this one failed, or can be now. Akka answers writes in the order they came, so behind
    // one that is tried again there is soon nobody left who has anything to store: then it must be asked. A row that is
    // locked by a connection of our own, which was given up and hangs, waits for it: that, too, is the database.
    private async Task<bool> IsDatabaseWellAsync(Writer writer, long storedBefore)
    {
        try
        {
            if (await writer.Store.IsHeldByOwnAsync()) return false;
            if (Interlocked.Read(ref _stored) <= storedBefore) await writer.Store.ProbeAsync();
            return true;
        }
        catch (Exception)
        {
            await ResetAsync(writer);
            return false;
        }
    }

    // Given up, even if that fails, too.
    private async Task ResetAsync(Writer writer)
    {
        try
        {
            await writer.Store.ResetAsync();
        }
        catch (Exception cause)
        {
            _logger.JournalWaits(cause.Message);
        }
    }

    // These are through, one way or the other: what is behind them moves up, or fails with them.
    private void End(List<DeviceWrite> writes)
    {
        List<DeviceWrite>? behind = null;
        lock (_gate)
        {
            foreach (var write in writes)
            {
                if (write.Failure is null) _stored++;
                var next = write.Next;
                if (next is null || write.Failure is not null) _devices.Remove(write.PersistenceId);
                if (next is null) continue;
                if (write.Failure is null)
                {
                    _devices[write.PersistenceId] = next;
                    Ready(next);
                    continue;
                }

                for (var untried = next; untried is not null; untried = untried.Next)
                {
                    untried.Failure = write.Failure;
                    (behind ??= []).Add(untried);
                }
            }
        }

        if (behind is not null) writes.AddRange(behind);
        Complete(writes);
    }

    // Off the writer's thread: the next transaction does not wait for those who hear of this one.
    private void Complete(List<DeviceWrite> writes)
    {
        long bytes = 0;
        foreach (var write in writes) bytes += write.Bytes;
        _load.Add(-bytes);
        if (writes.Count == 0) return;
        ThreadPool.UnsafeQueueUserWorkItem(static all => all.ForEach(static w => w.Complete()), writes, preferLocal: false);
    }

    private static JournalQueueOptions OptionsOf(SqlDatabase database) => database.Provider == DatabaseProvider.Sqlite
        ? new JournalQueueOptions { OutageMax = database.OutageMax, BatchMax = 1_000 } // SQLite has one writer
        : new JournalQueueOptions { OutageMax = database.OutageMax, BatchMax = 400, Writers = 3 };

    private static IJournalStore OpenStore(SqlDatabase database, TimeProvider clock) => database.Provider switch
    {
        DatabaseProvider.Sqlite => new SqliteJournalStore(database, clock),
        DatabaseProvider.PostgreSql => new PostgreSqlJournalStore(database, clock),
        _ => new SqlServerJournalStore(database, clock),
    };
}
