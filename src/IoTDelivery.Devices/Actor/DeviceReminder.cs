using Akka.Actor;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices;

/// <summary>A reminder in the table.</summary>
internal sealed record FiledReminder(Guid Token, DateTimeOffset DueAt);

/// <summary>
/// What one device knows of its reminder in the table: a device with unfinished work has one there, due no later than the
/// moment it must act. Times are the wall clock's.
/// </summary>
//
//   with a row ──► filed ──its time comes──► in doubt ──► filed anew, while something is pending
//                    │ ▲
//                    │ └── moved to the next expiry, when the device falls asleep
//                    └──── deleted, when nothing is pending
//
internal sealed class DeviceReminder(TimeSpan interval)
{
    private readonly Guid _token = Guid.NewGuid();
    private FiledReminder? _ofRow; // stored with the row that is being written
    private bool _mayHaveFired;       // it fired: when it is due now is not known
    private bool _hasOnlyFired;    // all we know of it is that it fired
    private IActorRef? _firedBy;

    /// <summary>What we know to be in the table.</summary>
    public FiledReminder? Filed { get; private set; }

    /// <summary>True while it is being changed.</summary>
    public bool IsChanging { get; private set; }

    /// <summary>When it fires next; null if it is not known to.</summary>
    public DateTimeOffset? DueAt => Filed is { DueAt: var at } && at < DateTimeOffset.MaxValue ? at : null;

    /// <summary>When the reminder must be due at the latest after this mark; null if nothing is pending.</summary>
    public DateTimeOffset? NeededBy(JournalMark mark, bool isNotificationPending, DateTimeOffset now)
    {
        var latest = now + interval;
        var expiry = mark.NextExpiry <= now ? latest : mark.NextExpiry; // what is due already is being done
        return isNotificationPending && !(expiry < latest) ? latest : expiry;
    }

    /// <summary>The reminder to be stored along with a row that needs one by this time; null if one is due early enough.</summary>
    public FiledReminder? WithRow(DateTimeOffset? needed, DateTimeOffset now) =>
        _ofRow = needed is { } by && !IsDueBy(by, now) ? New(by, now) : null;

    /// <summary>The row is stored, and the reminder with it. What fired is done with.</summary>
    public void OnRowStored(DeviceId deviceId)
    {
        if (_ofRow is not null) Know(_ofRow);
        ReplyHandled(deviceId);
    }

    /// <summary>It fired and the device has just recovered for it: all it knows of the reminder is this.</summary>
    public void OnFired(Guid token, DateTimeOffset dueAt, IActorRef by)
    {
        Know(new FiledReminder(token, dueAt));
        (_hasOnlyFired, _firedBy) = (true, by);
    }

    /// <summary>True if it is of another owner of the device.</summary>
    public bool IsForeign(Guid token) => token != _token && token != Filed?.Token;

    /// <summary>
    /// It fired while the device was awake, or long ago: it can have been deleted since, or filed anew. It is tidied up one
    /// day, but nothing relies on it.
    /// </summary>
    public void Distrust(Guid token)
    {
        Know(new FiledReminder(token, DateTimeOffset.MaxValue));
        _mayHaveFired = true;
    }

    /// <summary>The device does something else than what its reminder was for.</summary>
    public void OnActivity()
    {
        if (_hasOnlyFired && Filed is not null) Distrust(Filed.Token);
    }

    /// <summary>Replies to who fired it.</summary>
    public void ReplyHandled(DeviceId deviceId)
    {
        _firedBy?.Tell(new ReminderHandled(deviceId));
        _firedBy = null;
    }

    /// <summary>True if the one that is known may have fired, whether we heard of it or not.</summary>
    public bool MayHaveFired(DateTimeOffset now) => Filed is not null && (_mayHaveFired || Filed.DueAt <= now);

    /// <summary>
    /// The reminder to be filed anew in place of one that may have fired; null if nothing is pending.
    /// </summary>
    public FiledReminder? Renew(DateTimeOffset? needed, DateTimeOffset now)
    {
        if (needed is null && !_mayHaveFired) Distrust(Filed!.Token);
        _mayHaveFired = false;
        return needed is { } by ? New(by, now) : null;
    }

    /// <summary>
    /// True if it needs no change for a device that falls asleep and expires something then. What is due and does not end
    /// yet, because the wall clock is not believed, is looked at when it fires again.
    /// </summary>
    public bool IsSetFor(DateTimeOffset expiry, DateTimeOffset now, bool isBelieved) => Filed is { } filed
        && (expiry > now && isBelieved
            ? filed.DueAt == expiry
            : filed.DueAt > now && filed.DueAt <= now + CalendarClock.DoubtedFor);

    /// <summary>
    /// The reminder of a device that falls asleep. How far away an expiry is by a wall clock that is not believed nobody
    /// knows: then it fires when the clock is believed again.
    /// </summary>
    public FiledReminder MovedTo(DateTimeOffset expiry, DateTimeOffset now, bool isBelieved)
    {
        var dueAt = expiry > now ? expiry : now + interval;
        var again = now + CalendarClock.DoubtedFor;
        return new FiledReminder(Filed?.Token ?? _token, isBelieved || dueAt < again ? dueAt : again);
    }

    /// <summary>It is being changed: <see cref="OnChanged"/> follows.</summary>
    public void OnChanging() => IsChanging = true;

    /// <summary>It is changed; null: deleted.</summary>
    public void OnChanged(FiledReminder? reminder)
    {
        IsChanging = false;
        Know(reminder);
    }

    private void Know(FiledReminder? reminder) => (Filed, _mayHaveFired, _hasOnlyFired) = (reminder, false, false);

    private bool IsDueBy(DateTimeOffset needed, DateTimeOffset now) =>
        Filed is not null && Filed.DueAt > now && Filed.DueAt <= needed;

    private FiledReminder New(DateTimeOffset needed, DateTimeOffset now)
    {
        var latest = now + interval;
        return new FiledReminder(_token, needed < latest ? needed : latest);
    }
}
