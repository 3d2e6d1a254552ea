namespace IoTDelivery.Push;

/// <summary>
/// What a sender reads next. Pages go forward: each begins behind the last. What a page passes over because its device
/// is in memory, the device's lane reads itself when it has nothing else; so a backlog of one device is not looked
/// through for others again and again. Rows of several nodes are not committed in the order of their ids: now and then,
/// before the end, and when a page has a younger row of the same device, pages begin at the oldest row again.
/// One read at a time. Times are milliseconds since 1970.
/// </summary>
internal sealed class BacklogCursor
{
    private bool _mustInspect = true;
    private bool _mustTrim; // there was too much for one inspection
    private long _youngUntil; // rows younger than the first repetition are at the front of the page

    /// <summary>Id; what is older is in memory, or its lane reads it.</summary>
    public long ReadUpTo { get; private set; }

    /// <summary>True if there may be rows that no page has passed.</summary>
    public bool MayHaveMore { get; private set; } = true;

    public bool IsReading { get; private set; }

    /// <summary>
    /// True while the action and its bounds are looked at: nothing may be removed meanwhile, or it is counted wrongly.
    /// </summary>
    public bool IsInspecting { get; private set; }

    public bool MustInspect => _mustInspect;

    /// <summary>When time alone makes a page possible; null if something else has to happen.</summary>
    public long? YoungUntil(long now) => MayHaveMore && _youngUntil > now ? _youngUntil : null;

    public bool MayReadPage(long now) => MayHaveMore && now >= _youngUntil;

    public void HasMore() => MayHaveMore = true;

    /// <summary>Pages begin at the oldest row again.</summary>
    public void StartOver() => (ReadUpTo, MayHaveMore) = (0, true);

    /// <summary>Bounds are to be checked, and what was committed late is to be found.</summary>
    public void Inspect()
    {
        _mustInspect = true;
        StartOver();
    }

    public void BeginInspection() => (_mustInspect, IsInspecting, IsReading) = (false, true, true);

    /// <param name="isCut">There is more to trim: behind a page, if pages may come, else at once.</param>
    public void EndInspection(bool isCut, bool pagesMayCome)
    {
        (IsInspecting, IsReading, _mustTrim) = (false, false, isCut && pagesMayCome);
        _mustInspect |= isCut && !pagesMayCome;
    }

    public void BeginRead() => IsReading = true;

    public void BeginPage() => (IsReading, MayHaveMore) = (true, false);

    /// <summary>A page comes between two parts of a long trim.</summary>
    public void EndRead() => (IsReading, _mustInspect, _mustTrim) = (false, _mustInspect || _mustTrim, false);

    /// <summary>All of a page was taken.</summary>
    public void Passed(long upTo, bool isCut) => (ReadUpTo, MayHaveMore) = (upTo, MayHaveMore || isCut);

    /// <summary>
    /// A page was taken up to a row that is too young: the rows behind it wait too, or later ones of the same device
    /// would be taken first.
    /// </summary>
    public void StopAt(long id, long youngUntil) => (ReadUpTo, _youngUntil, MayHaveMore) = (id - 1, youngUntil, true);
}
