using Akka.Actor;
using IoTDelivery.Domain;

namespace IoTDelivery.Push;

/// <summary>
/// The notifications of one device that are here and not settled, in order: which were offered, which are settled, what
/// has to be offered again. A device offers another dispatcher everything unacknowledged, oldest first, and only then what is
/// new: so the first number offered is the lowest outstanding one.
/// </summary>
internal sealed class DeviceNotifications(DeviceId deviceId)
{
    private readonly Queue<PendingNotification> _unresolved = new();
    private Queue<PendingNotification> _pending = new();
    private TimeSpan? _unknownSince; // when the registry first knew nothing of the device since something was settled
    private bool _isOffered;

    public DeviceId DeviceId { get; } = deviceId;

    /// <summary>Where the device lives and wants to hear how far its notifications are settled.</summary>
    public IActorRef Device { get; private set; } = ActorRefs.Nobody;

    /// <summary>Who is watched because something has to be offered again.</summary>
    public IActorRef? Watched { get; set; }

    public long OfferedUpTo { get; private set; }

    public long SettledUpTo { get; private set; }

    /// <summary>
    /// True while something that was offered was not taken: nothing behind it may be taken before it.
    /// </summary>
    public bool IsIncomplete { get; private set; }

    /// <summary>True while a header of this device is being read.</summary>
    public bool IsReadingHeader { get; set; }

    /// <summary>True while it stands in the dispatcher's list of devices with something settled.</summary>
    public bool IsTouched { get; set; }

    public int Count => _pending.Count;

    public bool IsForgettable => _pending.Count == 0 && !IsIncomplete;

    /// <summary>Without a header that the dispatcher can use.</summary>
    public IReadOnlyCollection<PendingNotification> Unresolved => _unresolved;

    /// <summary>
    /// The device, or another one than before under its id, offers some; as many are taken as there is room for.
    /// </summary>
    public Offer Take(IActorRef device, IReadOnlyList<Notification> offered, int room, TimeSpan now)
    {
        var first = offered[0].Number;
        if (!_isOffered) (_isOffered, SettledUpTo, OfferedUpTo) = (true, first - 1, first - 1);
        var hasMoved = !device.Equals(Device);

        // It was somewhere else meanwhile, or started again, and offers everything it knows to be unacknowledged: what is
        // before that was settled there.
        if (hasMoved && first > OfferedUpTo + 1) OfferedUpTo = first - 1;
        Device = device;
        var offer = new Offer(0, MustLookAgain: hasMoved && _pending.Count > 0, MustAcknowledge: first <= SettledUpTo);

        // An offer in between was lost; settling this one would settle that one too.
        if (first > OfferedUpTo + 1) return offer;

        foreach (var notification in offered)
        {
            if (notification.Header is { } header) Retire(notification.Number, header);
            if (notification.Number <= OfferedUpTo) continue; // being settled
            if (offer.Taken == room)
            {
                IsIncomplete = true;
                return offer;
            }

            OfferedUpTo = notification.Number;
            Add(new PendingNotification(this, notification, now));
            offer = offer with { Taken = offer.Taken + 1 };
        }

        IsIncomplete = false;
        return offer;
    }

    public void Add(PendingNotification notification)
    {
        _pending.Enqueue(notification);
        _unresolved.Enqueue(notification);
    }

    /// <summary>
    /// A header counts for what was offered before it was read, and for nothing later: by then the device may be
    /// another one of the same id.
    /// </summary>
    public void Resolve(int count, DeviceHeader? header)
    {
        foreach (var notification in _unresolved.Take(count)) notification.Resolve(header);
    }

    /// <summary>
    /// The next one that has been resolved; null if there is none, or it and all behind it were dropped.
    /// </summary>
    public PendingNotification? NextResolved(TimeSpan now, out int dropped)
    {
        dropped = 0;
        if (!_unresolved.TryDequeue(out var next)) return null;
        if (next.Header is not null || next.Volatile is not null || IsUnknown(next.ArrivedAt))
        {
            next.ArrivedAt = now;
            return next;
        }

        dropped = DropFrom(next);
        _unknownSince ??= now;
        return null;
    }

    /// <summary>What is settled and has nothing unsettled before it.</summary>
    public bool TryComplete(out PendingNotification notification)
    {
        if (!_pending.TryPeek(out notification!) || notification.Unsettled > 0) return false;
        _pending.Dequeue();
        if (notification.Volatile is null) (SettledUpTo, _unknownSince) = (notification.Number, null);
        return true;
    }

    /// <summary>The device's actor is gone; its next one offers everything unacknowledged.</summary>
    public void DeviceGone() => (Watched, IsIncomplete) = (null, false);

    // A device offers again after Devices:OfferAgainAfter. An offer that comes this long after a drop was made behind
    // it, and behind the deletion of the device's row, which stores the header with everything that is pending. No header
    // even then: the device was never in the registry.
    private bool IsUnknown(TimeSpan offeredAt) =>
        _unknownSince is { } since && offeredAt - since >= TimeSpan.FromSeconds(10);

    // A device that is deleted gives all its pending notifications its header. A notification that comes with one tells whose
    // everything before it was.
    private void Retire(long upTo, DeviceHeader header)
    {
        foreach (var notification in _pending.Where(n => n.Number <= upTo)) notification.Retire(header);
    }

    // The registry does not know the device, and the offer is older than that answer: the device may have been deleted
    // in between. Then its outbox has the header by now. What is before it goes on; it has been resolved already.
    private int DropFrom(PendingNotification first)
    {
        var kept = _pending.Where(n => n.Number < first.Number).ToArray();
        var dropped = _pending.Count - kept.Length;
        _pending = new Queue<PendingNotification>(kept);
        _unresolved.Clear();
        (OfferedUpTo, IsIncomplete) = (first.Number - 1, true);
        return dropped;
    }

    /// <summary>What became of an offer.</summary>
    /// <param name="MustLookAgain">Another node may have written rows for the device since its lanes here
    /// began.</param>
    /// <param name="MustAcknowledge">The device has not heard how far it is settled.</param>
    internal readonly record struct Offer(int Taken, bool MustLookAgain, bool MustAcknowledge);
}
