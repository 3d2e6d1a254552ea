using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>What a lane does next.</summary>
internal enum LaneStep
{
    /// <summary>Nothing is left.</summary>
    Close,

    /// <summary>All of it becomes rows.</summary>
    Append,

    /// <summary>All of it becomes rows if older ones of the device are there.</summary>
    AppendIfBehind,

    /// <summary>Its first one is POSTed when a slot is free.</summary>
    AwaitSlot,
}

/// <summary>What a lane is doing.</summary>
internal enum LaneState
{
    Idle,
    Queued,
    Sending,
    Writing,

    /// <summary>The database refused its first one: it waits alone.</summary>
    Aside,
}

/// <summary>
/// What the receiver of one action still has to get of this node: one lane per device. A lane does one thing at a time,
/// so the order of a device is the order of its lane. Lanes do not wait for each other, except for the receiver's
/// slots. Times are monotonic.
/// </summary>
internal sealed class ReceiverLanes(string actionId, PushOptions options)
{
    private readonly Dictionary<DeviceId, Lane> _lanes = [];
    private readonly Queue<Lane> _queued = new();
    private TimeSpan _openedAt = TimeSpan.MinValue;
    private TimeSpan _rowsWrittenAt = TimeSpan.MinValue;
    private int _count;
    private int _sending;

    public string ActionId { get; } = actionId;

    /// <summary>Where it is POSTed to; null if consumers fetch it from a queue.</summary>
    public HttpForwarding? To { get; set; }

    /// <summary>The shape it reads.</summary>
    public PushShape Shape { get; set; } = options.Shape;

    public Breaker Breaker { get; private set; }

    /// <summary>True while the receiver counts as down, for this node or another.</summary>
    public bool IsOpen { get; private set; }

    /// <summary>Nothing is here that has to be remembered.</summary>
    public bool IsIdle => _lanes.Count == 0 && Breaker == default && !IsOpen && _rowsWrittenAt == TimeSpan.MinValue;

    // What is for a queue always becomes a row: consumers fetch it from there.
    private bool GoesToBacklog => To is null || IsOpen || _count - _sending > options.WaitingMax;

    /// <summary>What a look found out about the receiver.</summary>
    public void Look(TimeSpan from, bool isOpen)
    {
        if (_rowsWrittenAt < from) _rowsWrittenAt = TimeSpan.MinValue; // the look knows
        if (_openedAt >= from) return; // opened after this look began: it does not know yet
        if (IsOpen && !isOpen) Breaker = default;
        IsOpen = isOpen;
    }

    /// <summary>The lane of a device, new if there was none.</summary>
    /// <param name="hasRows">Whether a look that began then saw rows of the action.</param>
    /// <param name="isRowless">Whether it is known that none of them is this device's.</param>
    public Lane LaneOf(DeviceId deviceId, TimeSpan lookedFrom, bool hasRows, bool isRowless)
    {
        if (_lanes.TryGetValue(deviceId, out var lane)) return lane;

        // A row this node wrote after the look began is not in it.
        var mayHaveOlderRows = (hasRows || _rowsWrittenAt >= lookedFrom) && !isRowless;
        _lanes.Add(deviceId, lane = new Lane(this, deviceId) { MayHaveOlderRows = mayHaveOlderRows });
        return lane;
    }

    /// <summary>True if the lane has to take its next step now.</summary>
    public bool Add(Lane lane, PendingNotification notification)
    {
        lane.Notifications.Enqueue(notification);
        _count++;
        return lane.State == LaneState.Idle || (lane.State == LaneState.Queued && GoesToBacklog);
    }

    /// <summary>What a lane that does nothing should do.</summary>
    public LaneStep Next(Lane lane, TimeSpan now) =>
        lane.Notifications.Count == 0 ? LaneStep.Close
        : GoesToBacklog || WaitsTooLong(lane, now) ? LaneStep.Append
        : lane.MayHaveOlderRows ? LaneStep.AppendIfBehind
        : LaneStep.AwaitSlot;

    public void Close(Lane lane)
    {
        _lanes.Remove(lane.DeviceId);
        lane.State = LaneState.Idle;
    }

    /// <summary>At the end of the queue, also after an answer: a busy device must not keep the slots.</summary>
    public void AwaitSlot(Lane lane)
    {
        lane.State = LaneState.Queued;
        _queued.Enqueue(lane);
    }

    /// <summary>
    /// The next lane for a free slot: <see cref="LaneStep.AwaitSlot"/> if it may send, <see cref="LaneStep.Append"/> if
    /// it has waited too long.
    /// </summary>
    public bool TryTakeSlot(TimeSpan now, out Lane lane, out LaneStep step)
    {
        step = LaneStep.Close;
        lane = null!;
        while (_sending < options.ConcurrencyPerReceiver && _queued.TryDequeue(out lane!))
        {
            if (lane.State != LaneState.Queued) continue; // went to the backlog instead
            step = WaitsTooLong(lane, now) ? LaneStep.Append : LaneStep.AwaitSlot;
            if (step == LaneStep.AwaitSlot)
            {
                lane.State = LaneState.Sending;
                _sending++;
            }

            return true;
        }

        return false;
    }

    /// <summary>A POST is over.</summary>
    public void FreeSlot() => _sending--;

    /// <summary>The first notification of a lane is settled.</summary>
    public PendingNotification CompleteHead(Lane lane)
    {
        _count--;
        return lane.Notifications.Dequeue();
    }

    public void Answered() => Breaker = Breaker.Answered();

    /// <summary>
    /// Counts a failure. True if the breaker opened with it: then the lanes that wait for a slot go to the backlog.
    /// </summary>
    public bool Failed(long nowMilliseconds, out IReadOnlyList<Lane> waiting)
    {
        waiting = [];
        Breaker = Breaker.Failed(nowMilliseconds, options);
        if (!Breaker.IsOpen || IsOpen) return false;
        (IsOpen, _openedAt) = (true, TimeSpan.MaxValue); // until it is written
        waiting = [.. _queued.Where(l => l.State == LaneState.Queued)];
        _queued.Clear();
        return true;
    }

    /// <summary>That the breaker is open has been written.</summary>
    public void OpenedAt(TimeSpan now) => _openedAt = now;

    /// <summary>Rows of the action have been written by this node.</summary>
    public void RowsWrittenAt(TimeSpan now) => _rowsWrittenAt = now;

    /// <summary>Another node may have written rows of the device.</summary>
    public void LookAgain(DeviceId deviceId)
    {
        if (_lanes.TryGetValue(deviceId, out var lane)) lane.MayHaveOlderRows = true;
    }

    private bool WaitsTooLong(Lane lane, TimeSpan now) => now - lane.Notifications.Peek().ArrivedAt > options.WaitMax;
}

/// <summary>What one receiver still has to get of one device, in order.</summary>
internal sealed class Lane(ReceiverLanes receiver, DeviceId deviceId)
{
    public ReceiverLanes Receiver { get; } = receiver;

    public DeviceId DeviceId { get; } = deviceId;

    public Queue<PendingNotification> Notifications { get; } = new();

    public LaneState State { get; set; }

    /// <summary>True while rows of the device may lie in the backlog of the action.</summary>
    public bool MayHaveOlderRows { get; set; }

    /// <summary>How often the database refused something of it.</summary>
    public int Refusals { get; set; }
}
