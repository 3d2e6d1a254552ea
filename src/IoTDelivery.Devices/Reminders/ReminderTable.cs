using IoTDelivery.Devices.Journal;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Data;

namespace IoTDelivery.Devices.Reminders;

/// <summary>A reminder that fired: the row stands, moved ahead, until the device deletes it.</summary>
/// <param name="DueIn">How long until it fires again.</param>
public readonly record struct DueReminder(string DeviceId, Guid Token, TimeSpan DueIn);

/// <summary>
/// The table of reminders: a device with unfinished work has a reminder on file, due no later than the moment it must act.
/// So a restart wakes nobody
/// who has nothing to do, and a fleet asleep costs no memory. A reminder is filed in the transaction of the row that makes
/// it necessary (<see cref="DeviceEvents.Reminder"/>);
/// here it is moved and taken off. Times are the database's: it is told what remains, and finds by its own clock what
/// is due.
/// </summary>
public class ReminderTable(SqlDatabase database, JournalQueue queue, TimeProvider clock)
{
    /// <summary>The table, step by step.</summary>
    public static readonly IReadOnlyList<Migration> Migrations =
    [
        new("devices", 1,
            "create table wake_up (device_id {id} not null primary key, due_at {bigint} not null, token {id} not null)",
            "create index wake_up_by_due on wake_up (due_at)"),
        new("devices", 3,
            "create table reminder (device_id {id} not null primary key, due_at {bigint} not null, token {id} not null)",
            "create index reminder_by_due on reminder (due_at)",
            "insert into reminder (device_id, due_at, token) select device_id, due_at, token from wake_up",
            "drop table wake_up"),
    ];

    /// <summary>
    /// Puts the device's reminder on file, in place of any it had. Done when it is stored. A reminder of another token is only
    /// ever moved earlier: a cut-off owner, which still
    /// believes what it knew, must not put off what its successor has to do.
    /// </summary>
    public virtual Task FileAsync(string deviceId, TimeSpan dueIn, Guid token) =>
        ChangeAsync(new ReminderChange(deviceId, token, clock.TimestampIn(dueIn)));

    /// <summary>Takes the device's reminder off, if it is still this one. Only the device itself does so.</summary>
    public virtual Task DeleteAsync(string deviceId, Guid token) =>
        ChangeAsync(new ReminderChange(deviceId, token, null));

    /// <summary>At most <paramref name="count"/> due reminders, earliest first, each moved one lease ahead: whoever crashes
    /// now lets them fire again.</summary>
    public virtual async Task<IReadOnlyList<DueReminder>> TakeDueAsync(int count, TimeSpan lease, CancellationToken cancel)
    {
        await using var db = database.Open();
        // asked once, or no index would find what is due
        var (dialect, now) = (database.Dialect, $"(select {database.Dialect.Now})");
        var statement = database.Provider switch
        {
            DatabaseProvider.SqlServer =>
                $"""
                with due as (select top (@count) device_id, token, due_at from reminder {dialect.SkipLocked} where due_at <= {now} order by due_at)
                update due set due_at = {dialect.Now} + @lease output inserted.device_id, inserted.token
                """,

            // Materialized: a plan that asked again for every row would find others behind those that are locked, and
            // take more than were asked for.
            DatabaseProvider.PostgreSql =>
                $"""
                with due as materialized (select device_id from reminder where due_at <= {now} order by due_at limit @count {dialect.SkipLocked})
                update reminder set due_at = {dialect.Now} + @lease from due where reminder.device_id = due.device_id returning reminder.device_id, reminder.token
                """,
            _ =>
                $"""
                update reminder set due_at = {dialect.Now} + @lease
                where device_id in (select device_id from reminder where due_at <= {now} order by due_at limit @count) returning device_id, token
                """,
        };
        var rows = await db.QueryToListAsync<Row>(
            statement, cancel, new DataParameter("lease", (long)lease.TotalMilliseconds, DataType.Int64), new DataParameter("count", count, DataType.Int32));
        return [.. rows.Select(r => new DueReminder(r.device_id, Guid.Parse(r.token), lease))];
    }

    private Task ChangeAsync(ReminderChange change)
    {
        var write = new DeviceWrite(DeviceActor.PersistenceIdOf(change.DeviceId), [], change);
        queue.Enqueue(write);
        return write.Done;
    }

    // As the columns are called.
    private sealed record Row(string device_id, string token);
}

internal static class Timestamps
{
    /// <summary>The timestamp of the moment that comes after this time.</summary>
    public static long TimestampIn(this TimeProvider clock, TimeSpan time) =>
        clock.GetTimestamp() + (long)(time.TotalSeconds * clock.TimestampFrequency);
}
