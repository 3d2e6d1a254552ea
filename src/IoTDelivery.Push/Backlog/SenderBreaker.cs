namespace IoTDelivery.Push;

/// <summary>
/// The breaker of a sender, and how it gets into the table, where the dispatchers of all nodes read it. Times are
/// milliseconds since 1970.
/// </summary>
internal sealed class SenderBreaker(PushOptions options)
{
    private Breaker _breaker;
    private bool? _toWrite;
    private bool _isWriting;

    /// <summary>How often it has changed here: a page that was begun before brings the outdated one.</summary>
    public int Changes { get; private set; }

    public bool IsOpen => _breaker.IsOpen;

    public long? ProbeAt => _breaker.ProbeAt;

    /// <summary>True if the table does not say yet what stands here.</summary>
    public bool IsAhead => _toWrite is not null || _isWriting;

    public bool MustWrite => _toWrite is not null;

    public bool MayProbe(long now) => _breaker.MayProbe(now);

    /// <summary>A page says since when it is open. True if it opened with that.</summary>
    public bool Read(long? openedAt, int changesThen, long now)
    {
        if (openedAt is not { } at || IsOpen || changesThen != Changes) return false;
        _breaker = Breaker.OpenSince(at, now, options);
        return true;
    }

    /// <summary>The receiver answered.</summary>
    public void Answered() => _breaker = _breaker.Answered();

    /// <summary>The receiver failed. True if it opened with that.</summary>
    public bool Failed(long now)
    {
        var wasOpen = IsOpen;
        _breaker = _breaker.Failed(now, options);
        if (wasOpen || !IsOpen) return false;
        Changes++;
        _toWrite = true;
        return true;
    }

    public void Close()
    {
        _breaker = default;
        Changes++;
        _toWrite = false;
    }

    /// <summary>What to write; null if nothing has changed.</summary>
    public bool? BeginWrite()
    {
        var write = _toWrite;
        (_isWriting, _toWrite) = (write is not null, null);
        return write;
    }

    public void EndWrite() => _isWriting = false;
}
