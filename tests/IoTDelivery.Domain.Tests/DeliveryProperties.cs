using System.Collections.Immutable;
using CsCheck;
using static IoTDelivery.Domain.Tests.Given;

namespace IoTDelivery.Domain.Tests;

/// <summary>What is always true, whatever an application, a device and the clock do. A failure prints its seed; <c>CsCheck_Seed=…</c> repeats it.</summary>
public sealed class DeliveryProperties
{
    private static readonly DeliveryPolicy Small = Policy with { PendingMax = 4, InflightMax = 3, HistoryMax = 3, IdempotencyMax = 5 };

    private enum Step
    {
        Accept, AcceptOtherBody, AcceptTtl0, PubAck, Refuse, Delete, DeleteAll, Wait, Connect, ConnectV5, Resume, ResumeV5,
        Disconnect, Crash, Move, Subscribe, Pay, Retire, Register, LateRetire, LateRegister,
    }

    private static readonly Gen<(Step Step, int Which)[]> Histories =
        Gen.Select(Gen.Enum<Step>(), Gen.Int[0, 7]).Array[0, 80];

    /// <summary>A device, its wire and its journal, driven by any history; checks after each step what must always hold.</summary>
    private sealed class World
    {
        private static readonly DeviceHeader Header = new("p", null, "n", "q", null);

        public Outbox Outbox = Outbox.Empty;
        public Inflight Wire = Inflight.None;
        public DateTimeOffset Now = Noon;
        public readonly List<OutboxEvent> Journal = [];
        public readonly List<Send> OnThisConnection = [];
        public readonly Dictionary<string, string> BodyOnTheWire = [];

        // What the client of the device holds: which message it means by a packet id. A session that goes on keeps it.
        private readonly Dictionary<ushort, long> _held = [];
        private long _life = 1;
        private readonly HashSet<long> _acknowledged = [];
        private WireConnection? _connection;
        private bool _isLasting;
        private long _lastFirstSend;

        public void Take(Step step, int which)
        {
            switch (step)
            {
                case Step.Accept: Do(Accept($"m{which}", ttl: 5)); break;
                case Step.AcceptOtherBody: Do(Accept($"m{which}", "other")); break;
                case Step.AcceptTtl0: Do(Accept($"m{which}", ttl: 0)); break;
                case Step.PubAck: Acknowledge(which, refuses: false); break;
                case Step.Refuse: Acknowledge(which, refuses: true); break;
                case Step.Delete: Do(new OutboxCommand.Delete(Id($"m{which}"))); break;
                case Step.DeleteAll: Do(OutboxCommand.DeleteAll.Instance); break;
                case Step.Wait: Now = Now.AddSeconds(which * which * 7); Do(OutboxCommand.Expire.Instance); break;
                case Step.Connect: Connect(new WireConnection(false, 65535), isLasting: false, QoS1); break;
                case Step.ConnectV5: Connect(new WireConnection(true, 2 + which), isLasting: false, QoS1); break;
                case Step.Resume: Connect(new WireConnection(false, 65535), isLasting: true, QoS1); break;
                case Step.ResumeV5: Connect(new WireConnection(true, 2 + which), isLasting: true, QoS1); break;
                case Step.Disconnect: if (Wire.IsConnected) Disconnect(); break;
                case Step.Crash: Lose(isOrderly: false); break;
                case Step.Move: Lose(isOrderly: true); break;
                case Step.Subscribe: if (Wire.IsConnected) Wire.Subscribe([QoS1], [QoS1], Outbox, Now, Small); break;
                case Step.Pay: Pay(); break;
                case Step.Retire: Do(new OutboxCommand.Retire(Header, _life)); break;
                case Step.Register when Outbox.IsRetired: Do(new OutboxCommand.Register(++_life)); break;
                case Step.LateRetire when Former(which) > 0: DoInVain(new OutboxCommand.Retire(Header, Former(which))); break;
                case Step.LateRegister when Former(which) > 0: DoInVain(new OutboxCommand.Register(Former(which))); break;
            }

            Transmit();
        }

        private void Do(OutboxCommand command)
        {
            var decision = Outbox.Decide(command, Wire, Now, Small);
            Wire.Follow(Outbox, decision.Events);
            Outbox = Outbox.Apply(decision.Events, Small);
            Journal.AddRange(decision.Events);
            if (command is OutboxCommand.Retire) _held.Clear();
        }

        // The life before this one, or the one before that.
        private long Former(int which) => _life - 1 - (which / 4);

        // Of an earlier life: it changes nothing.
        private void DoInVain(OutboxCommand command)
        {
            var events = Outbox.Decide(command, Wire, Now, Small).Events;
            if (events.Count > 0) throw new InvalidOperationException($"{command} is of an earlier life: {events[0]}.");
        }

        private void Connect(WireConnection connection, bool isLasting, Subscription subscription)
        {
            if (Outbox.IsRetired) return;
            if (Wire.IsConnected) Disconnect();
            var goesOn = isLasting && Outbox.SessionAt(Now) is not null;
            if (!goesOn) _held.Clear();
            (_isLasting, _connection) = (isLasting, connection);
            Wire.Connect(connection, [subscription], Outbox, goesOn ? Outbox.Unacknowledged : NoPackets, isSameConnection: false, Small);
            Do(new OutboxCommand.KeepSession(isLasting ? new KeptSession([subscription], TimeSpan.MaxValue) : null, goesOn));
            _lastFirstSend = 0;
            OnThisConnection.Clear();
        }

        private void Disconnect()
        {
            var unacknowledged = Wire.Unacknowledged();
            Wire.Disconnect();
            Do(OutboxCommand.LoseConnection.Instance);
            Do(new OutboxCommand.LeaveSession(null, unacknowledged));
            if (!_isLasting) _held.Clear();
        }

        // The owner goes and another one reads the journal. The connection stays, if there is one, and so does what the client holds.
        private void Lose(bool isOrderly)
        {
            var wasConnected = Wire.IsConnected;
            if (isOrderly && wasConnected) Do(new OutboxCommand.NoteUnacknowledged(Wire.Unacknowledged()));
            if (isOrderly) Do(OutboxCommand.ReturnPacketIds.Instance);
            Outbox = Domain.Outbox.Empty.Apply([.. Journal], Small);
            Wire = Inflight.None;
            Do(OutboxCommand.LoseConnection.Instance);
            if (!wasConnected) return;
            Wire.Connect(_connection!, [QoS1], Outbox, Outbox.Unacknowledged, isSameConnection: true, Small);
            _lastFirstSend = 0;
            OnThisConnection.Clear();
        }

        private void Acknowledge(int which, bool refuses)
        {
            if (!Wire.IsConnected || _held.Count == 0) return;
            var id = _held.Keys.Order().ElementAt(which % _held.Count);
            _held.Remove(id, out var meant);
            if (Wire.Acknowledge(id, 1) is not { } number) return;
            Assert.True(number == meant, $"The PUBACK for message {meant} was taken for message {number}.");
            if (Outbox.FindOpen(number) is not { } open) return;
            Do(refuses ? new OutboxCommand.Refuse(open.MessageId, 0x80) : new OutboxCommand.Acknowledge(open.MessageId));
        }

        private void Pay()
        {
            if (Outbox.Notifications.IsEmpty) return;
            var number = Outbox.Notifications[Outbox.Notifications.Count / 2].Number;
            foreach (var acknowledged in Outbox.Notifications.Where(n => n.Number <= number)) Assert.True(_acknowledged.Add(acknowledged.Number), "A notification was pending again after it was acknowledged.");
            Journal.Add(new OutboxEvent.NotificationsAcknowledged(number));
            Outbox = Outbox.Apply(Journal[^1], Small);
        }

        private void Transmit()
        {
            var sends = Wire.Next(Outbox, Outbox.NextNumber - 1, Outbox.PacketIdsUpTo, Now, Small);
            if (Wire.NeedsPacketIds)
            {
                Do(OutboxCommand.ReservePacketIds.Instance);
                sends = [.. sends, .. Wire.Next(Outbox, Outbox.NextNumber - 1, Outbox.PacketIdsUpTo, Now, Small)];
            }

            Assert.False(Wire.NeedsPacketIds);
            foreach (var send in sends)
            {
                var isRepetition = OnThisConnection.Any(s => s.Message.Number == send.Message.Number);
                var known = _held.GetValueOrDefault(send.Tag, send.Message.Number);
                Assert.True(known == send.Message.Number, $"Packet id {send.Tag} of message {known} was given to {send.Message.Number}.");
                if (!send.Dup) Assert.True(!_held.ContainsKey(send.Tag), $"Packet id {send.Tag} was given out while it was in use.");
                _held[send.Tag] = send.Message.Number;
                if (!isRepetition)
                {
                    Assert.True(send.Message.Number > _lastFirstSend, "A message was overtaken.");
                    _lastFirstSend = send.Message.Number;
                }

                Assert.Contains(Outbox.Open, m => m.Number == send.Message.Number);
                OnThisConnection.Add(send);
            }

            // An ended message costs no place: with the window open, whatever waits has gone out.
            if (Wire.IsConnected && _connection!.ReceiveMaximum == 65535 && Wire.Count < Small.InflightMax) Assert.Equal(Outbox.Open.Count, Wire.Count);
        }

        public void HoldsWhatIsAlwaysTrue()
        {
            Assert.DoesNotContain(Outbox.Notifications, n => _acknowledged.Contains(n.Number));
            Assert.True(Outbox.Notifications.Select(n => n.Number).SequenceEqual(Outbox.Notifications.Select(n => n.Number).Order().Distinct()), "Numbers of what is pending are not rising.");
            Assert.Equal(Outbox.Open.Sum(m => m.Body.Bytes), Outbox.OpenBytes);
            Assert.Equal(Outbox.Ended.Sum(m => m.Body.Bytes), Outbox.EndedBytes);
            Assert.True(Outbox.Remembered.Count <= Small.IdempotencyMax);
            Assert.True(Outbox.Ended.Count <= Small.HistoryMax);
        }
    }

    private static World Live((Step Step, int Which)[] history)
    {
        var world = new World();
        foreach (var (step, which) in history)
        {
            world.Take(step, which);
            world.HoldsWhatIsAlwaysTrue();
        }

        return world;
    }

    [Fact]
    public void Every_accepted_message_ends_exactly_once_or_is_still_open() => Histories.Sample(history =>
    {
        var world = Live(history);
        var open = new List<string>();
        foreach (var @event in world.Journal)
        {
            switch (@event)
            {
                case OutboxEvent.MessageAccepted e:
                    Assert.DoesNotContain(e.MessageId.Value, open);
                    open.Add(e.MessageId.Value);
                    break;
                case OutboxEvent.MessageDelivered e: Assert.True(open.Remove(e.MessageId.Value)); break;
                case OutboxEvent.MessageTimedOut e: Assert.True(open.Remove(e.MessageId.Value)); break;
                case OutboxEvent.MessageFailed e: Assert.True(open.Remove(e.MessageId.Value)); break;
                case OutboxEvent.MessageDeleted e: Assert.True(open.Remove(e.MessageId.Value)); break;
                case OutboxEvent.Retired: open.Clear(); break; // all of them end FAILED in this one fact
            }
        }

        Assert.Equal(open.Order(), world.Outbox.Open.Select(m => m.MessageId.Value).Order());
    }, iter: 3_000);

    [Fact]
    public void Every_end_is_pending_exactly_once() => Histories.Sample(history =>
    {
        var (outbox, pending) = (Outbox.Empty, new List<Notification>());
        foreach (var @event in Live(history).Journal.Where(e => e is not OutboxEvent.NotificationsAcknowledged))
        {
            var (before, open) = (outbox.NextNotification, outbox.Open.Count);
            outbox = outbox.Apply(@event, Small);
            pending.AddRange(outbox.Notifications.Where(n => n.Number >= before));
            var ended = open - outbox.Open.Count + (@event is OutboxEvent.MessageAccepted ? 1 : 0);
            Assert.Equal(ended, outbox.Notifications.Count(n => n.Number >= before && n.Status != MessageStatus.Pending));
        }

        Assert.Equal(pending.Count, pending.Select(n => n.Number).Distinct().Count());
    }, iter: 3_000);

    [Fact]
    public void Replaying_the_journal_gives_the_same_state() => Histories.Sample(history =>
    {
        var world = Live(history);
        var replayed = Outbox.Empty.Apply([.. world.Journal], Small);

        Assert.Equal(world.Outbox.Open, replayed.Open);
        Assert.Equal(world.Outbox.Ended, replayed.Ended);
        Assert.Equal(world.Outbox.Remembered, replayed.Remembered);
        Assert.Equal(world.Outbox.Notifications, replayed.Notifications);
        Assert.Equal((world.Outbox.PacketIdsUpTo, world.Outbox.Session is null), (replayed.PacketIdsUpTo, replayed.Session is null));
        Assert.Equal(world.Outbox.Unacknowledged, replayed.Unacknowledged);
        Assert.Equal((world.Outbox.NextNumber, world.Outbox.NextNotification, world.Outbox.IsRetired), (replayed.NextNumber, replayed.NextNotification, replayed.IsRetired));
    }, iter: 3_000);

    // A snapshot in the middle, and what is stored behind it.
    [Fact]
    public void Replaying_what_lies_behind_a_snapshot_gives_the_same_state_and_changes_no_snapshot() =>
        Histories.Sample(history => SnapshotsHold(history), iter: 3_000);

    private static void SnapshotsHold((Step Step, int Which)[] history)
    {
        var journal = Live(history).Journal;
        var middle = journal.Count / 2;
        var snapshot = Outbox.Empty.Apply(journal[..middle], Small).ToSnapshot();
        var replayed = Outbox.From(snapshot).Apply(journal[middle..], Small).ToSnapshot();
        var again = Outbox.From(snapshot).Apply(journal[middle..], Small).ToSnapshot();
        var whole = Outbox.Empty.Apply(journal, Small).ToSnapshot();

        Assert.Equal(Parts(whole), Parts(replayed));
        Assert.Equal(Parts(whole), Parts(again));

        static object?[] Parts(OutboxSnapshot s) =>
        [
            s.Open.ToArray(), s.Ended.ToArray(), s.Remembered.ToArray(), s.Notifications.ToArray(), s.Session?.EndsAt, s.PacketIdsUpTo,
            s.Unacknowledged.ToArray(), s.AskedForQoS1, s.IsRetired, s.Life, s.NextNumber, s.NextNotification,
        ];
    }

    [Fact]
    public void The_same_id_never_delivers_two_bodies() => Histories.Sample(history =>
    {
        var world = new World();
        var bodies = new Dictionary<string, string>();
        foreach (var (step, which) in history)
        {
            if (step is Step.Register or Step.Retire) continue; // a new life of the device is a new device
            world.Take(step, which % 4);
            foreach (var send in world.OnThisConnection)
            {
                var id = send.Message.MessageId.Value;
                if (bodies.TryAdd(id, send.Message.Body.Content)) continue;
                if (bodies[id] == send.Message.Body.Content) continue;

                // Allowed only once the window of the first one is over: by time, or because five younger ids took its place.
                var ends = world.Journal.Count(e => e is OutboxEvent.MessageDelivered or OutboxEvent.MessageTimedOut or OutboxEvent.MessageFailed or OutboxEvent.MessageDeleted);
                Assert.True(ends > Small.IdempotencyMax, $"{id} went out with two bodies inside its window.");
            }
        }
    }, iter: 3_000);

    [Fact]
    public void A_acknowledged_notification_is_never_pending_again_and_order_and_packet_ids_hold() => Histories.Sample(history => { Live(history); }, iter: 3_000);
}
