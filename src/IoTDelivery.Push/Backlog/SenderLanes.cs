namespace IoTDelivery.Push;

/// <summary>
/// What a sender has in memory: one lane per device. A page never contains devices that are in memory, and a lane goes
/// only after its rows are removed; so rows of one device are read in order, once. Times are milliseconds since 1970.
/// </summary>
internal sealed class SenderLanes
{
    private readonly Dictionary<string, SenderLane> _lanes = [];
    private readonly Queue<SenderLane> _ready = new();
    private List<Completed> _completed = [];
    private List<Completed>? _removing;

    /// <summary>How many rows are being sent.</summary>
    public int Sending { get; private set; }

    public int Ready => _ready.Count;

    public bool IsEmpty => _lanes.Count == 0 && Sending == 0;

    public bool HasCompleted => _completed.Count > 0;

    public bool IsRemoving => _removing is not null;

    public IReadOnlyCollection<string> Devices => _lanes.Keys;

    /// <summary>Rows that are here and in the table.</summary>
    public IEnumerable<BacklogRow> Rows => _lanes.Values
        .SelectMany(l => l.Sending is { } row ? l.Rows.Append(row) : l.Rows)
        .Concat(_completed.Select(d => d.Row)).Concat((_removing ?? []).Select(d => d.Row));

    /// <summary>Devices whose oldest row failed, or whose lane has to read on; their rows are not in memory.</summary>
    public IEnumerable<SenderLane> Blocked => _lanes.Values.Where(l => l.RetryAt is not null && l.Unremoved == 0);

    /// <summary>When the first of them is due.</summary>
    public long? NextRetry => _lanes.Values.Min(l => l.RetryAt);

    public bool TryTakeReady(out SenderLane lane) => _ready.TryDequeue(out lane!);

    public void MakeReady(SenderLane lane) => _ready.Enqueue(lane);

    public bool Has(string deviceId) => _lanes.ContainsKey(deviceId);

    /// <summary>A row of a page, to be sent behind what its device has here.</summary>
    public void Add(BacklogRow row)
    {
        if (!_lanes.TryGetValue(row.DeviceId, out var lane)) _ready.Enqueue(lane = Open(row.DeviceId));
        lane.Rows.Enqueue(row);
    }

    /// <summary>The row that decides whether a receiver is back.</summary>
    public SenderLane Probe(BacklogRow row)
    {
        var lane = _lanes.GetValueOrDefault(row.DeviceId) ?? Open(row.DeviceId);
        lane.RetryAt = null;
        lane.Rows.Enqueue(row);
        return lane;
    }

    /// <summary>A page is about to pass over the devices that are here.</summary>
    public void PassOver()
    {
        foreach (var lane in _lanes.Values) lane.MayHaveMore = true;
    }

    public void Begin(SenderLane lane, BacklogRow row)
    {
        lane.Sending = row;
        Sending++;
    }

    /// <summary>A row failed: it is read again, with those behind it.</summary>
    public void Fail(SenderLane lane, long now, PushOptions options, TimeSpan? retryAfter)
    {
        End(lane);
        RetryLater(lane, now, options, retryAfter);
    }

    private static void RetryLater(SenderLane lane, long now, PushOptions options, TimeSpan? retryAfter)
    {
        lane.Rows.Clear();
        var delay = RetryDelay.Of(++lane.Attempts, options.RetryFirst, options.RetryMax);
        if (retryAfter > delay) delay = retryAfter < options.RetryAfterMax ? retryAfter.Value : options.RetryAfterMax;
        lane.RetryAt = now + (long)delay.TotalMilliseconds;
    }

    /// <summary>A row was answered, or refused for good; it has to be removed.</summary>
    public void Complete(SenderLane lane, BacklogRow row, string? givenUp)
    {
        End(lane);
        lane.Attempts = 0;
        lane.Unremoved++;
        _completed.Add(new Completed(lane, row, givenUp));

        // Else the breaker opened meanwhile, and it was forgotten.
        if (lane.Rows.TryPeek(out var head) && head.Id == row.Id) lane.Rows.Dequeue();
        if (lane.Rows.Count > 0) _ready.Enqueue(lane);
    }

    /// <summary>What is removed from the table now.</summary>
    public List<Completed> BeginRemoving()
    {
        (_removing, _completed) = (_completed, []);
        return _removing;
    }

    /// <summary>
    /// It is removed, except the rows of these ids: they are read again later, with those behind them. True if a lane
    /// went with it.
    /// </summary>
    public bool EndRemoving(long now, IReadOnlySet<long> refused, PushOptions options)
    {
        var (removed, hasClosed) = (_removing!, false);
        _removing = null;
        foreach (var (lane, row, _) in removed)
        {
            lane.Unremoved--;
            if (refused.Contains(row.Id)) RetryLater(lane, now, options, retryAfter: null);
            hasClosed |= TryClose(lane, now);
        }

        return hasClosed;
    }

    /// <summary>
    /// True if the lane had nothing any more and is gone; one that was passed over reads its own rows first.
    /// </summary>
    public bool TryClose(SenderLane lane, long now)
    {
        if (!lane.IsEmpty) return false;
        if (!lane.MayHaveMore) return _lanes.Remove(lane.DeviceId);
        lane.RetryAt = now;
        return false;
    }

    /// <summary>Nothing stays in memory but what is being sent or removed, and when what failed is due.</summary>
    public void Forget(long now)
    {
        _ready.Clear();
        foreach (var lane in _lanes.Values.ToArray())
        {
            lane.Rows.Clear();
            lane.MayHaveMore = false;
            TryClose(lane, now);
        }
    }

    /// <summary>What failed is tried again: perhaps it only failed because the receiver was down.</summary>
    public void RetryAll(long now)
    {
        foreach (var lane in _lanes.Values.Where(l => l.RetryAt is not null)) lane.RetryAt = now;
    }

    private SenderLane Open(string deviceId)
    {
        var lane = new SenderLane(deviceId);
        _lanes.Add(deviceId, lane);
        return lane;
    }

    private void End(SenderLane lane)
    {
        Sending--;
        lane.Sending = null;
    }

    /// <param name="GivenUp">Why it becomes a dead letter; null if it was answered.</param>
    internal readonly record struct Completed(SenderLane Lane, BacklogRow Row, string? GivenUp);
}

/// <summary>The rows of one device, in order.</summary>
internal sealed class SenderLane(string deviceId)
{
    public string DeviceId { get; } = deviceId;

    public Queue<BacklogRow> Rows { get; } = new();

    public BacklogRow? Sending { get; set; }

    /// <summary>Settled rows that are still in the table.</summary>
    public int Unremoved { get; set; }

    /// <summary>Failures of its oldest row since the last answer.</summary>
    public int Attempts { get; set; }

    /// <summary>When its rows are read again; null while they are here.</summary>
    public long? RetryAt { get; set; }

    /// <summary>True if rows may be in the table that pages have passed over.</summary>
    public bool MayHaveMore { get; set; }

    public bool IsEmpty => Sending is null && Unremoved == 0 && RetryAt is null && Rows.Count == 0;
}
