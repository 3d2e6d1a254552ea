namespace IoTDelivery.Push;

/// <summary>One lane's part of a transaction.</summary>
internal readonly record struct LaneWrite(Lane Lane, int Count, BacklogWrite Write);

/// <summary>
/// What has to be written to the backlog. One transaction at a time: what comes meanwhile goes with the next one, so a
/// receiver that is down costs few commits however many devices it has.
/// </summary>
internal sealed class RowWrites
{
    private const int RowsMax = 1000;
    private const long BytesMax = 8 * 1024 * 1024; // what a device published may have a megabyte

    private readonly Queue<LaneWrite> _waiting = new();
    private List<ReceiverLanes> _opened = [];
    private bool _isWriting;

    public void Add(Lane lane, WriteMode mode, string reason)
    {
        // After a refusal one by one: what is before the one that the database refuses is written.
        var isOne = mode == WriteMode.GiveUp || lane.Refusals > 0;
        PendingNotification[] notifications = isOne ? [lane.Notifications.Peek()] : [.. lane.Notifications];
        lane.State = LaneState.Writing;
        var write = new BacklogWrite(
            lane.Receiver.ActionId, lane.DeviceId.Value,
            Array.ConvertAll(notifications, n => (n.Number, n.Body(lane.Receiver.Shape))), mode,
            reason);
        _waiting.Enqueue(new LaneWrite(lane, notifications.Length, write));
    }

    public void Open(ReceiverLanes receiver) => _opened.Add(receiver);

    /// <summary>The next transaction, if none is under way and there is something to write.</summary>
    public bool TryBegin(out List<LaneWrite> batch, out List<ReceiverLanes> opened)
    {
        (batch, opened) = ([], []);
        if (_isWriting || (_waiting.Count == 0 && _opened.Count == 0)) return false;
        _isWriting = true;
        var (rows, bytes) = (0, 0L);
        while (rows < RowsMax && bytes < BytesMax && _waiting.TryDequeue(out var write))
        {
            batch.Add(write);
            rows += write.Count;
            bytes += write.Write.Notifications.Sum(n => (long)n.Body.Length);
        }

        (opened, _opened) = (_opened, []);
        return true;
    }

    public void End() => _isWriting = false;
}
