namespace IoTDelivery.Benchmarks.Load;

/// <summary>What is known of one message; times are ticks of <see cref="System.Diagnostics.Stopwatch"/>, 0 for not yet.</summary>
public struct Entry
{
    public long Due;
    public long Answered;
    public long Published;
    public long Delivered;
    public Guid RequestId;
    public bool IsAccepted;
}

/// <summary>Every message of a run, and what must not happen to any of them.</summary>
public sealed class Ledger
{
    private Entry[] _entries = new Entry[1 << 16];

    public long Count { get; private set; }

    /// <summary>POSTs that were not answered 201.</summary>
    public long Refused { get; set; }

    /// <summary>PUBLISH packets for a message the device already had.</summary>
    public long PublishedAgain { get; set; }

    /// <summary>DELIVERED told again under the same request_id: allowed, it is at least once.</summary>
    public long ToldAgain { get; set; }

    /// <summary>DELIVERED told again under another request_id: a receiver cannot drop it.</summary>
    public long ToldTwice { get; set; }

    /// <summary>Notifications with another status.</summary>
    public long OtherStatuses { get; set; }

    public ref Entry this[long number] => ref _entries[number];

    public long Add(long due)
    {
        if (Count == _entries.Length) Array.Resize(ref _entries, _entries.Length * 2);
        _entries[Count].Due = due;
        return Count++;
    }

    /// <summary>Accepted from number <paramref name="from"/> on.</summary>
    public long Accepted(long from = 0) => CountOf(from, e => e.IsAccepted);

    /// <summary>Accepted and never told DELIVERED.</summary>
    public long Missing(long from = 0) => CountOf(from, e => e.IsAccepted && e.Delivered == 0);

    private long CountOf(long from, Func<Entry, bool> what)
    {
        var count = 0L;
        for (var number = from; number < Count; number++)
        {
            if (what(_entries[number])) count++;
        }

        return count;
    }
}
