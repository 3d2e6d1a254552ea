using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>Rules and backlog as they were read together.</summary>
/// <param name="From">When reading began; monotonic.</param>
internal sealed record Look(TimeSpan From, RuleSnapshot Rules, BacklogView Backlog)
{
    public bool IsOpen(string actionId) => Backlog.IsOpen.Contains(actionId);
}

/// <summary>
/// Notifications that wait for a look that is young enough to match them. A look serves for a while: changes of rules
/// are answered only when no older one is used any more (<see cref="RuleBook.MaxAge"/>), what this node wrote since is
/// known here, and a device that comes from another node takes longer than that, after what was settled there was
/// written down. A new look begins before the last one is too old.
/// </summary>
internal sealed class MatchQueue
{
    private readonly Queue<PendingNotification> _waiting = new();
    private Look? _look;
    private bool _isLooking;
    private bool _isUsed; // since the last look began

    public void Add(PendingNotification notification)
    {
        _waiting.Enqueue(notification);
        _isUsed = true;
    }

    /// <summary>The next notification that the last look can match.</summary>
    public bool TryNext(out PendingNotification notification, out Look look)
    {
        look = _look!;
        if (!_waiting.TryPeek(out notification!) || _look is null) return false;
        if (notification.ArrivedAt - _look.From > RuleBook.MaxAge) return false;
        _waiting.Dequeue();
        return true;
    }

    /// <summary>True if a look has to begin now; it does with that.</summary>
    public bool TryBeginLook(TimeSpan now)
    {
        if (_isLooking || (_waiting.Count == 0 && !_isUsed)) return false;
        if (_look is { } last && now - last.From < RuleBook.MaxAge / 2) return false;
        (_isLooking, _isUsed) = (true, false);
        return true;
    }

    public void EndLook(Look look) => (_look, _isLooking) = (look, false);
}
