using Akka.Actor;
using IoTDelivery.Domain;
using IoTDelivery.Push;

namespace IoTDelivery.Simulation;

/// <summary>
/// The checker. It knows what docs/ARCHITECTURE.md promises, looks at what the journal, the devices and the application see, and remembers the first thing that must
/// not be.
/// </summary>
internal sealed class Promises(World world)
{
    private static readonly string RefusedCode = ErrorInfo.RefusedByDevice(0x80).Code;

    private sealed class Message(long number, OutboxEvent.MessageAccepted accepted)
    {
        public long Number { get; } = number;
        public int Life { get; init; }
        public DateTimeOffset StoredAt { get; init; }
        public bool IsWellTimed { get; init; } = true; // by a clock that had not jumped
        public OutboxEvent.MessageAccepted Accepted { get; } = accepted;
        public MessageStatus? End { get; set; }
        public DateTimeOffset EndedAt { get; set; }
        public List<MessageStatus> Notifications { get; } = [];
    }

    private readonly Dictionary<(string DeviceId, string MessageId), Message> _messages = [];
    private readonly List<(string DeviceId, Message Message)> _former = []; // of earlier lives of a device, whose id was accepted again in a later one
    private readonly Dictionary<Guid, (string DeviceId, Notification Notification)> _pending = [];
    private readonly Dictionary<(string ActionId, string DeviceId), long> _told = []; // first arrivals at the application
    private readonly HashSet<(string ActionId, Guid RequestId)> _answered = []; // by the application
    private readonly Dictionary<(string DeviceId, string Topic), long> _arrived = []; // first arrivals at the device
    private readonly HashSet<(string DeviceId, string MessageId)> _known = [];
    private readonly Dictionary<string, int> _lives = []; // as the journal tells them
    private readonly Dictionary<string, (DateTimeOffset Since, int Rows, int Times)> _rung = [];

    /// <summary>What was broken first; null if nothing was.</summary>
    public string? Violation { get; private set; }

    public int Accepted => _messages.Count + _former.Count;

    public bool IsEverythingTold => _pending.Values.All(o => world.Actions.All(a => _told.GetValueOrDefault((a, o.DeviceId)) >= o.Notification.Number));

    public void Break(string what)
    {
        if (Violation is not null) return;
        world.Trace($"VIOLATION: {what}");
        Violation = what;
    }

    /// <summary>What must not be, and becomes the violation unless something worse comes of it.</summary>
    public void Suspect(string what)
    {
        if (_suspicion is null) world.Trace($"SUSPICION: {what}");
        _suspicion ??= what;
    }

    private string? _suspicion;

    // ---- the journal

    /// <summary>A fact is in the journal. Returns the outbox after it.</summary>
    public Outbox Stored(Node node, string deviceId, OutboxEvent @event, Outbox before)
    {
        var device = world.AddresseeOf(DeviceId.Parse(deviceId));
        switch (@event)
        {
            case OutboxEvent.MessageAccepted e:
                Accept(deviceId, new Message(before.NextNumber, e) { IsWellTimed = IsWellTimed(node, e.At), Life = Life(deviceId), StoredAt = world.Now });
                break;
            case OutboxEvent.Registered:
                _lives[deviceId] = Life(deviceId) + 1;
                break;
            case OutboxEvent.Retired e:
                Retire(deviceId, e, before);
                break;
            case OutboxEvent.MessageDelivered e:
                End(deviceId, e.MessageId, MessageStatus.Delivered, e.At);
                if (!device.Acknowledged.Contains(e.MessageId.Value) && !device.Taken.Contains(e.MessageId.Value)) Break($"{e.MessageId} is DELIVERED, but {deviceId} sent no PUBACK for it");
                break;
            case OutboxEvent.MessageTimedOut e:
                End(deviceId, e.MessageId, MessageStatus.TimedOut, e.At);
                NotTooEarly(node, deviceId, e.MessageId);
                break;
            case OutboxEvent.MessageFailed e:
                End(deviceId, e.MessageId, MessageStatus.Failed, e.At);
                if (e.Error.Code != RefusedCode || device.Refused.Contains(e.MessageId.Value)) break;
                Break($"{e.MessageId} ended FAILED as refused, but {deviceId} refused another one");
                break;
            case OutboxEvent.MessageDeleted e:
                End(deviceId, e.MessageId, MessageStatus.Failed, e.At);
                break;
            case OutboxEvent.NotificationsAcknowledged e:
                foreach (var notification in before.Notifications.Where(n => n.Number <= e.UpTo)) IsSettled(deviceId, notification);
                break;
        }

        Outbox after;
        var firstNew = before.NextNotification;
        try
        {
            after = before.Apply(@event, World.Policy);
        }
        catch (Exception cause) when (cause is InvalidOperationException or ArgumentException)
        {
            Break(cause.Message);
            return before;
        }

        foreach (var notification in after.Notifications.Where(n => n.Number >= firstNew))
        {
            _pending.Add(StatusNotification.RequestId(DeviceId.Parse(deviceId), notification.Number), (deviceId, notification));
            _messages[(deviceId, notification.MessageId.Value)].Notifications.Add(notification.Status);
        }

        return after;
    }

    /// <summary>A snapshot is stored. It may know of acknowledged notifications that are in no row yet, and never will be: whoever starts from it takes them for stored.</summary>
    public void Snapshot(Node node, string deviceId, OutboxSnapshot snapshot, bool isOfLastRow)
    {
        var outbox = world.Disk.Outboxes[deviceId];
        if (isOfLastRow && !IsSame(snapshot, outbox)) Break($"the snapshot of {deviceId} is not of what is stored");
        var acknowledged = snapshot.Notifications.IsEmpty ? snapshot.NextNotification - 1 : snapshot.Notifications[0].Number - 1;
        if (!outbox.Notifications.IsEmpty && outbox.Notifications[0].Number <= acknowledged) world.Disk.Outboxes[deviceId] = Stored(node, deviceId, new OutboxEvent.NotificationsAcknowledged(acknowledged), outbox);
    }

    private static bool IsSame(OutboxSnapshot snapshot, Outbox outbox) =>
        (snapshot.NextNumber, snapshot.NextNotification, snapshot.PacketIdsUpTo, snapshot.IsRetired, snapshot.Life)
        == (outbox.NextNumber, outbox.NextNotification, outbox.PacketIdsUpTo, outbox.IsRetired, outbox.Life)
        && snapshot.Open.Select(m => m.Number).SequenceEqual(outbox.Open.Select(m => m.Number))
        && snapshot.Remembered.SequenceEqual(outbox.Remembered);

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
        if (outbox.Open.IsEmpty && outbox.Notifications.IsEmpty) return;
        if (!world.Disk.Calls.TryGetValue(deviceId, out var call))
        {
            Break($"{deviceId} has unfinished work and no reminder: it could be forgotten");
            return;
        }

        if (call.DueAt - world.Disk.Skew > Latest() + world.ClockSlack) Break($"the reminder of {deviceId} is due at {call.DueAt:mm:ss.fff}, too late");

        DateTimeOffset Latest()
        {
            // A call that rang is due again one lease later, whatever it was for.
            var ringing = world.Now + World.Lease;
            var recall = world.Now + World.DeviceOptions.ReminderInterval;
            var latest = outbox.NextExpiry is { } expiry && expiry > world.Now && (outbox.Notifications.IsEmpty || expiry < recall) ? expiry : recall;
            if (world.HasStrayNode && latest < recall) latest = recall; // one that does not know that it was taken for dead may put the call off, once
            return latest > ringing ? latest : ringing;
        }
    }

    /// <summary>The faults are over, and a call that is due rings, whatever other devices and their applications do.</summary>
    public void NobodyIsLate()
    {
        foreach (var call in world.Disk.Calls.Values)
        {
            var due = call.DueAt - world.Disk.Skew;
            if (due < call.StoredAt) due = call.StoredAt; // by a statement that was done late
            var late = world.Now - due;
            if (late > TimeSpan.FromSeconds(5) + world.ClockSlack) Break($"the reminder of {call.DeviceId} is due since {late.TotalSeconds:f1} s, and nobody rings");
        }
    }

    /// <summary>A call rings. That a device is woken and has nothing to do may happen; again and again it may not.</summary>
    public void Rang(string deviceId, int rows)
    {
        var rung = _rung.GetValueOrDefault(deviceId);
        if (rung.Rows != rows || world.Now - rung.Since > World.Lease) rung = (world.Now, rows, 0);
        _rung[deviceId] = rung = rung with { Times = rung.Times + 1 };
        if (rung.Times > 4) Break($"{deviceId} is rung in circles: {rung.Times} times within a lease, and nothing came of it");
    }

    // The ttl is calendar time, and clocks may be wrong by their skew, or by a minute that nobody can notice; a jump must not end it.
    private void NotTooEarly(Node node, string deviceId, MessageId id)
    {
        if (!_messages.TryGetValue((deviceId, id.Value), out var message) || !message.IsWellTimed || !node.WasBootedSane) return;
        var left = message.Accepted.ExpiresAt - (world.Now + node.Clock.Skew);
        if (left > TimeSpan.FromSeconds(62)) Break($"{id} timed out {left.TotalSeconds:f0} s before its time, because a clock had jumped");
    }

    // Between deciding and storing lies as much as a statement may take.
    private bool IsWellTimed(Node node, DateTimeOffset at) => (at - world.Now - node.Clock.Skew).Duration() < TimeSpan.FromSeconds(100);

    /// <summary>
    /// A connection is told that a younger one took over. CONNECTs within a second and what a message may take between two nodes count as simultaneous.
    /// </summary>
    public void TakenOver(IActorRef connection)
    {
        if (!world.Connections.TryGetValue(connection, out var wire) || wire.Device.Youngest != wire || wire.SinceFormer < TimeSpan.FromSeconds(2.6)) return;
        Break($"the youngest connection of {wire.Device.Id} was closed for an older one");
    }

    private int Life(string deviceId) => _lives.GetValueOrDefault(deviceId);

    private void Accept(string deviceId, Message message)
    {
        var key = (deviceId, message.Accepted.MessageId.Value);
        if (_messages.TryGetValue(key, out var former))
        {
            if (former.Life == message.Life) Break($"{message.Accepted.MessageId} was accepted twice");
            else _former.Add((deviceId, former));
        }

        _messages[key] = message;
    }

    private void Retire(string deviceId, OutboxEvent.Retired e, Outbox before)
    {
        var (life, lives) = (SimulatedRegistry.LifeIn(e.Header), world.Registry.LifeOf(DeviceId.Parse(deviceId)));
        if (world.Registry.Has(DeviceId.Parse(deviceId)) && lives != life) Break($"life {lives} of {deviceId} was ended by the deletion of life {life}");
        foreach (var open in before.Open) End(deviceId, open.MessageId, MessageStatus.Failed, e.At);
    }

    /// <summary>A device exists again.</summary>
    public void Created(DeviceId deviceId)
    {
        if (world.Disk.Outboxes.GetValueOrDefault(deviceId.Value) is { IsRetired: true }) Break($"{deviceId} exists, and its outbox is retired");
    }

    /// <summary>A device does not exist any more.</summary>
    public void Removed(DeviceId deviceId, DateTimeOffset markedAt)
    {
        foreach (var open in world.Disk.Outboxes.GetValueOrDefault(deviceId.Value, Outbox.Empty).Open)
        {
            if (_messages[(deviceId.Value, open.MessageId.Value)].StoredAt < markedAt) Break($"{deviceId} is deleted, and {open.MessageId} is open");
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
            if (!isSettled) Break($"notification {notification.Number} of {deviceId} is acknowledged, but {actionId} neither answered it nor has it in the backlog");
        }
    }

    // ---- the application

    /// <summary>A POST was answered 201.</summary>
    public void Answered(DeviceId deviceId, string id, OutboxReply.Accepted reply)
    {
        if (!_messages.TryGetValue((deviceId.Value, id), out var message)) Break($"{id} was answered 201 and is not stored");
        else if (_former.Exists(f => f.DeviceId == deviceId.Value && f.Message.Accepted.MessageId.Value == id)) return; // of which life, only the answer knows
        else if (reply.Status != message.Accepted.Answer || reply.CreatedAt != message.Accepted.At) Break($"{id} was answered {reply.Status}, and not as the first time");
        _known.Add((deviceId.Value, id));
    }

    public bool IsAnswered(DeviceId deviceId, string id) => _known.Contains((deviceId.Value, id));

    /// <summary>A DELETE was answered 204.</summary>
    public void Deleted(DeviceId deviceId, string id)
    {
        if (_former.Exists(f => f.DeviceId == deviceId.Value && f.Message.Accepted.MessageId.Value == id)) return;
        if (_messages.TryGetValue((deviceId.Value, id), out var message) && message.End != MessageStatus.Failed) Break($"{id} was deleted and did not end FAILED");
    }

    /// <summary>A notification reached an action of the application.</summary>
    public void Told(string actionId, Told told)
    {
        if (!_pending.TryGetValue(told.RequestId, out var pending))
        {
            Break($"{actionId} was told {told.Status} of {told.MessageId}, which is not in the journal");
            return;
        }

        var (deviceId, notification) = pending;
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
        if (_suspicion is not null) Break(_suspicion);
        foreach (var (deviceId, message) in _messages.Select(m => (m.Key.DeviceId, m.Value)).Concat(_former))
        {
            var id = message.Accepted.MessageId;
            if (message.End is null && message.Accepted.ExpiresAt > world.Now && !message.IsWellTimed) continue; // a clock said so
            if (message.End is not { } end) Break($"{id} of {deviceId} was accepted and has no end, {(world.Now - message.Accepted.ExpiresAt).TotalSeconds:f0} s after its ttl");
            else if (!message.Notifications.SequenceEqual(message.Accepted.Answer == MessageStatus.Pending ? [MessageStatus.Pending, end] : [end])) Break($"{id} ended {end} and the application is told {string.Join(", ", message.Notifications)}");
        }

        foreach (var (deviceId, outbox) in world.Disk.Outboxes)
        {
            if (outbox.IsRetired && world.Registry.Has(DeviceId.Parse(deviceId))) Break($"{deviceId} exists, and its outbox is retired");
            if (!outbox.Notifications.IsEmpty) Break($"{deviceId} still has notification {outbox.Notifications[0].Number}");
        }

        foreach (var (deviceId, notification) in _pending.Values)
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
