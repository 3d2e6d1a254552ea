namespace IoTDelivery.Devices.Journal;

/// <summary>What the three databases' statements about reminders share.</summary>
internal static class ReminderSql
{
    public const string Table = "reminder";

    /// <summary>
    /// A reminder that is stored with a row of the journal is its owner's from there on: the row proves it. One of another
    /// token is only ever moved earlier.
    /// </summary>
    public const string OnConflict = $"{OnMove}, token = excluded.token";

    /// <summary>
    /// Without a row whoever files it may have been cut off, and must not put off what its successor has to do: one of
    /// another token is only ever moved earlier, and stays that of its owner.
    /// </summary>
    public const string OnMove =
        $"""
        on conflict (device_id) do update set
          due_at = case when {Table}.token = excluded.token or excluded.due_at < {Table}.due_at then excluded.due_at else {Table}.due_at end
        """;

    /// <summary>Written and taken back in one transaction: nobody ever sees it, and its commit has to reach the
    /// disk.</summary>
    public static string Probe
    {
        get
        {
            var nobody = Guid.NewGuid().ToString("N");
            return $"insert into {Table} (device_id, due_at, token) values ('{nobody}', 0, '{nobody}'); delete from {Table} where device_id = '{nobody}'";
        }
    }

    /// <summary>What remains until then, in milliseconds: the only thing about time that is told to the
    /// database.</summary>
    public static long DueIn(TimeProvider clock, long dueAt) =>
        (long)clock.GetElapsedTime(clock.GetTimestamp(), dueAt).TotalMilliseconds;

    /// <summary>As text: one of the three databases has no type of its own for it.</summary>
    public static string Text(Guid token) => token.ToString("N");
}
