using IoTDelivery.Domain;
using IoTDelivery.Push;

namespace IoTDelivery.Simulation;

/// <summary>
/// The checker. It knows what docs/ARCHITECTURE.md promises, looks at what the journal, the devices and the application see, and remembers the first thing that must
/// not be.
/// </summary>
internal sealed class Promises(World world)
{
    private sealed class Message(long number, OutboxEvent.MessageAccepted accepted)
    {
        public long Number { get; } = number;
        public OutboxEvent.MessageAccepted Accepted { get; } = accepted;
        public MessageStatus? End { get; set; }
        public DateTimeOffset EndedAt { get; set; }
        public List<MessageStatus> Owed { get; } = [];
    }

    private readonly Dictionary<(string DeviceId, string MessageId), Message> _messages = [];
    private readonly Dictionary<Guid, (string DeviceId, Notification Notification)> _owed = [];
    private readonly Dictionary<(string ActionId, string DeviceId), long> _told = []; // first arrivals at the application
    private readonly HashSet<(string ActionId, Guid RequestId)> _answered = []; // by the application
    private readonly Dictionary<(string DeviceId, string Topic), long> _arrived = []; // first arrivals at the device
    private readonly HashSet<(string DeviceId, string MessageId)> _known = [];

    /// <summary>What was broken first; null if nothing was.</summary>
    public string? Violation { get; private set; }

    public int Accepted => _messages.Count;

    public bool IsEverythingTold => _owed.Values.All(o => world.Actions.All(a => _told.GetValueOrDefault((a, o.DeviceId)) >= o.Notification.Number));

    public void Break(string what)
    {
        if (Violation is not null) return;
        world.Trace($"VIOLATION: {what}");
        Violation = what;
    }

    // ---- the journal

    /// <summary>A fact is in the journal. Returns the outbox after it.</summary>
    public Outbox Stored(string deviceId, OutboxEvent @event, Outbox before)
    {
        switch (@event)
        {
            case OutboxEvent.MessageAccepted e:
                if (!_messages.TryAdd((deviceId, e.MessageId.Value), new Message(before.NextNumber, e))) Break($"{e.MessageId} was accepted twice");
                break;
            case OutboxEvent.MessageDelivered e:
                End(deviceId, e.MessageId, MessageStatus.Delivered, e.At);
                var device = world.Devices.First(d => d.Id.Value == deviceId);
                if (!device.Acknowledged.Contains(e.MessageId.Value) && !device.Taken.Contains(e.MessageId.Value)) Break($"{e.MessageId} is DELIVERED, but {deviceId} sent no PUBACK for it");
                break;
            case OutboxEvent.MessageTimedOut e:
                End(deviceId, e.MessageId, MessageStatus.TimedOut, e.At);
                break;
            case OutboxEvent.MessageFailed e:
                End(deviceId, e.MessageId, MessageStatus.Failed, e.At);
                break;
            case OutboxEvent.MessageDeleted e:
                End(deviceId, e.MessageId, MessageStatus.Failed, e.At);
                break;
            case OutboxEvent.Paid e:
                foreach (var notification in before.Owed.Where(n => n.Number <= e.UpTo)) IsSettled(deviceId, notification);
                break;
        }

        Outbox after;
        try
        {
            after = before.Apply(@event, World.Policy);
        }
        catch (InvalidOperationException cause)
        {
            Break(cause.Message);
            return before;
        }

        foreach (var notification in after.Owed.Where(n => n.Number >= before.NextNotification))
        {
            _owed.Add(StatusNotification.RequestId(DeviceId.Parse(deviceId), notification.Number), (deviceId, notification));
            _messages[(deviceId, notification.MessageId.Value)].Owed.Add(notification.Status);
        }

        return after;
    }

    /// <summary>What one device may hold.</summary>
    public void BoundsHold(string deviceId)
    {
        var after = world.Disk.Outboxes[deviceId];
        if (after.Open.Count > World.Policy.PendingMax + World.Policy.InflightMax) Break($"{deviceId} has {after.Open.Count} open messages");
        if (after.Ended.Count > World.Policy.HistoryMax) Break($"{deviceId} keeps {after.Ended.Count} ended messages in full");
        if (after.Remembered.Count > World.Policy.IdempotencyMax) Break($"{deviceId} remembers {after.Remembered.Count} ids");
    }

    /// <summary>A device with unfinished work has a call on file, due no later than the moment it must act.</summary>
    public void CallIsOnFile(string deviceId)
    {
        var outbox = world.Disk.Outboxes.GetValueOrDefault(deviceId, Outbox.Empty);
        if (outbox.Open.IsEmpty && outbox.Owed.IsEmpty) return;
        if (!world.Disk.Calls.TryGetValue(deviceId, out var call))
        {
            Break($"{deviceId} has unfinished work and no reminder: it could be forgotten");
            return;
        }

        // A call that rang is due again one lease later, whatever it was for.
        var ringing = world.Now + World.ReminderOptions.Lease;
        var recall = world.Now + World.DeviceOptions.ReminderInterval;
        var latest = outbox.NextExpiry is { } expiry && expiry > world.Now && (outbox.Owed.IsEmpty || expiry < recall) ? expiry : recall;
        if (world.HasStrayNode && latest < recall) latest = recall; // one that does not know that it was taken for dead may put the call off, once
        if (call.DueAt > (latest > ringing ? latest : ringing))
        {
            Break($"the reminder of {deviceId} is due at {call.DueAt:mm:ss.fff}, too late");
        }
    }

    private void End(string deviceId, MessageId id, MessageStatus status, DateTimeOffset at)
    {
        if (!_messages.TryGetValue((deviceId, id.Value), out var message)) Break($"{id} ended and was never accepted");
        else if (message.End is not null) Break($"{id} ended twice");
        else (message.End, message.EndedAt) = (status, at);
    }

    private void IsSettled(string deviceId, Notification notification)
    {
        var requestId = StatusNotification.RequestId(DeviceId.Parse(deviceId), notification.Number);
        foreach (var actionId in world.Actions)
        {
            var isSettled = _answered.Contains((actionId, requestId))
                || world.Disk.Backlog.Exists(r => r.ActionId == actionId && r.DeviceId == deviceId && r.Number == notification.Number)
                || world.Disk.DeadLetters.Exists(l => l.ActionId == actionId && l.DeviceId == deviceId && l.Number == notification.Number);
            if (!isSettled) Break($"notification {notification.Number} of {deviceId} is paid, but {actionId} neither answered it nor has it in the backlog");
        }
    }

    // ---- the application

    /// <summary>A POST was answered 201.</summary>
    public void Answered(DeviceId deviceId, string id, OutboxReply.Accepted reply)
    {
        if (!_messages.TryGetValue((deviceId.Value, id), out var message)) Break($"{id} was answered 201 and is not stored");
        else if (reply.Status != message.Accepted.Answer || reply.CreatedAt != message.Accepted.At) Break($"{id} was answered {reply.Status}, and not as the first time");
        _known.Add((deviceId.Value, id));
    }

    public bool IsAnswered(DeviceId deviceId, string id) => _known.Contains((deviceId.Value, id));

    /// <summary>A DELETE was answered 204.</summary>
    public void Deleted(DeviceId deviceId, string id)
    {
        if (_messages.TryGetValue((deviceId.Value, id), out var message) && message.End != MessageStatus.Failed) Break($"{id} was deleted and did not end FAILED");
    }

    /// <summary>A notification reached an action of the application.</summary>
    public void Told(string actionId, Told told)
    {
        if (!_owed.TryGetValue(told.RequestId, out var owed))
        {
            Break($"{actionId} was told {told.Status} of {told.MessageId}, which is not in the journal");
            return;
        }

        var (deviceId, notification) = owed;
        if (world.IsTracing) world.Trace($"{actionId} is told {deviceId} {notification.Number}: {told.MessageId} {told.Status}");
        if (told.MessageId != notification.MessageId.Value || told.Status != notification.Status.OnTheWire()) Break($"{actionId} was told {told.Status} of {told.MessageId} instead of {notification.Status.OnTheWire()} of {notification.MessageId}");
        var last = _told.GetValueOrDefault((actionId, deviceId));
        if (notification.Number > last + 1) Break($"{actionId} was told notification {notification.Number} of {deviceId} before {last + 1}");
        if (notification.Number > last) _told[(actionId, deviceId)] = notification.Number;
    }

    /// <summary>And it answered 200, whether that was heard or not.</summary>
    public void AnsweredTo(string actionId, Told told) => _answered.Add((actionId, told.RequestId));

    // ---- the devices

    /// <summary>A PUBLISH reached a device.</summary>
    public void Arrived(DeviceId deviceId, string topic, string id, string text)
    {
        if (!_messages.TryGetValue((deviceId.Value, id), out var message))
        {
            Break($"{deviceId} received {id}, which is not in the journal");
            return;
        }

        if (text != message.Accepted.Body.Content || topic != message.Accepted.Body.Topic) Break($"{deviceId} received '{text}' on {topic} for {id}");
        if (!_received.Add((deviceId.Value, id))) return;
        var last = _arrived.GetValueOrDefault((deviceId.Value, topic));
        if (message.Number < last) Break($"{deviceId} received {id} (number {message.Number}) for the first time after number {last}");
        _arrived[(deviceId.Value, topic)] = Math.Max(last, message.Number);
    }

    private readonly HashSet<(string DeviceId, string MessageId)> _received = [];

    // ---- the end

    /// <summary>The faults are long over: everything has come to its end, and the application knows.</summary>
    public void AtTheEnd()
    {
        foreach (var ((deviceId, id), message) in _messages)
        {
            if (message.End is not { } end) Break($"{id} of {deviceId} was accepted and has no end, {(world.Now - message.Accepted.ExpiresAt).TotalSeconds:f0} s after its ttl");
            else if (!message.Owed.SequenceEqual(message.Accepted.Answer == MessageStatus.Pending ? [MessageStatus.Pending, end] : [end])) Break($"{id} ended {end} and the application is told {string.Join(", ", message.Owed)}");
        }

        foreach (var (deviceId, outbox) in world.Disk.Outboxes)
        {
            if (!outbox.Owed.IsEmpty) Break($"{deviceId} still owes notification {outbox.Owed[0].Number}");
        }

        foreach (var (deviceId, notification) in _owed.Values)
        {
            foreach (var actionId in world.Actions)
            {
                if (_told.GetValueOrDefault((actionId, deviceId)) < notification.Number) Break($"{actionId} was never told notification {notification.Number} of {deviceId}");
            }
        }

        if (!world.Application.IsDone) Break("a POST was never answered");
        if (world.Disk.Backlog.Count > 0) Break($"{world.Disk.Backlog.Count} rows are left in the backlog");
    }
}
