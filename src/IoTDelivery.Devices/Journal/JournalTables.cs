using IoTDelivery.Storage;

namespace IoTDelivery.Devices.Journal;

/// <summary>
/// The tables of the journal's plugin, made with everybody else's and not by the plugin when the first device wakes: a site may have to make them itself,
/// and ids must compare by their bytes, which the plugin leaves to what the database was created with. JournalTablesSpec compares them with the plugin's own.
/// </summary>
public static class JournalTables
{
    public static readonly IReadOnlyList<Migration> Migrations =
    [
        new("journal", 1,
            """
            create table journal (
              ordering {identity}, created {bigint} not null, deleted {bool} not null, persistence_id {id} not null, sequence_number {bigint} not null,
              message {blob} not null, tags {text}, manifest {text}, identifier {int}, writer_uuid {text})
            """,
            "create unique index journal_uq on journal (persistence_id, sequence_number)", // the fence: two owners of a device cannot both write
            "create index journal_created_idx on journal (created)",
            "create index journal_sequence_number_idx on journal (sequence_number)")
        { UnlessTable = "journal" },
        new("journal", 2,
            """
            create table snapshot (
              persistence_id {id} not null, sequence_number {bigint} not null, created {snapshot_time} not null, snapshot {blob}, manifest {text}, serializer_id {int},
              primary key (persistence_id, sequence_number))
            """,
            "create index snapshot_created_idx on snapshot (created)",
            "create index snapshot_sequence_number_idx on snapshot (sequence_number)")
        { UnlessTable = "snapshot" },

        // They serve no query, neither ours nor the package's (replay and snapshots go by the device, the query by
        // ordering), and cost a page per row each.
        new("journal", 3,
            "drop index if exists journal_created_idx {on journal}",
            "drop index if exists journal_sequence_number_idx {on journal}",
            "drop index if exists snapshot_created_idx {on snapshot}",
            "drop index if exists snapshot_sequence_number_idx {on snapshot}"),
    ];
}
