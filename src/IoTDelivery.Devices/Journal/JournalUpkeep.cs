using System.Threading.Channels;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;
using LinqToDB.Mapping;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Devices.Journal;

/// <summary>
/// Deletes the events and snapshots that a newer snapshot has made superfluous, by age and in small batches, never per message.
/// The row a snapshot was taken at stays, so the highest row of a device is never deleted: recovery takes its numbering from it.
/// </summary>
public sealed class JournalUpkeep(SqlDatabase database, DeviceOptions options, TimeProvider clock, ILogger<JournalUpkeep> logger) : BackgroundService, ISnapshotLog
{
    private const int BatchMax = 200;

    /// <summary>Snapshots that were taken and whose older events are not deleted yet.</summary>
    public static readonly IReadOnlyList<Migration> Migrations =
    [
        new("devices", 2,
            "create table snapshot_log (persistence_id {id} not null, sequence_nr {bigint} not null, taken_at {bigint} not null, primary key (persistence_id, sequence_nr))",
            "create index snapshot_log_by_time on snapshot_log (taken_at)"),
    ];

    private readonly Channel<Row> _notes = Channel.CreateBounded<Row>(new BoundedChannelOptions(10_000) { FullMode = BoundedChannelFullMode.DropOldest });

    public void Note(string persistenceId, long sequenceNr) =>
        _notes.Writer.TryWrite(new Row { PersistenceId = persistenceId, SequenceNr = sequenceNr, TakenAt = clock.GetUtcNow().ToUnixTimeMilliseconds() });

    /// <summary>One round: writes down what was noted, deletes what is old enough. Returns the rows of the journal it deleted.</summary>
    public async Task<int> RunAsync(CancellationToken cancel)
    {
        await using var db = database.Open();
        await WriteNotesAsync(db, cancel);

        var (deleted, cutoff) = (0, (clock.GetUtcNow() - options.UpkeepAge).ToUnixTimeMilliseconds());
        while (true)
        {
            var old = await db.GetTable<Row>().Where(r => r.TakenAt <= cutoff).OrderBy(r => r.TakenAt).Take(BatchMax).ToListAsync(cancel);
            foreach (var snapshot in old)
            {
                deleted += await db.ExecuteAsync(
                    "delete from journal where persistence_id = @id and sequence_number < @nr", cancel,
                    new DataParameter("id", snapshot.PersistenceId), new DataParameter("nr", snapshot.SequenceNr));
                await db.ExecuteAsync(
                    "delete from snapshot where persistence_id = @id and sequence_number < @nr", cancel,
                    new DataParameter("id", snapshot.PersistenceId), new DataParameter("nr", snapshot.SequenceNr));
                await db.GetTable<Row>().Where(r => r.PersistenceId == snapshot.PersistenceId && r.SequenceNr <= snapshot.SequenceNr).DeleteAsync(cancel);
            }

            if (old.Count < BatchMax) return deleted;
        }
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(options.UpkeepInterval, clock);
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                if (!await timer.WaitForNextTickAsync(stoppingToken)) return;
                await RunAsync(stoppingToken);
            }
            catch (OperationCanceledException)
            {
                return;
            }
            catch (Exception cause)
            {
                logger.LogWarning(cause, "Journal upkeep failed; it tries again in {Interval}.", options.UpkeepInterval);
            }
        }
    }

    private async Task WriteNotesAsync(DataConnection db, CancellationToken cancel)
    {
        while (_notes.Reader.TryPeek(out var note))
        {
            var known = await db.GetTable<Row>().AnyAsync(r => r.PersistenceId == note.PersistenceId && r.SequenceNr == note.SequenceNr, cancel);
            if (!known) await db.InsertAsync(note, token: cancel);
            _notes.Reader.TryRead(out _);
        }
    }

    [Table("snapshot_log")]
    private sealed record Row
    {
        [Column("persistence_id"), PrimaryKey(0)] public string PersistenceId { get; init; } = "";
        [Column("sequence_nr"), PrimaryKey(1)] public long SequenceNr { get; init; }
        [Column("taken_at")] public long TakenAt { get; init; }
    }
}
