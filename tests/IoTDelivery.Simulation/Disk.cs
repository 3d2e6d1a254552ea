using Akka.Actor;
using Akka.Persistence;
using IoTDelivery.Devices;
using IoTDelivery.Devices.Journal;
using IoTDelivery.Devices.Reminders;
using IoTDelivery.Domain;
using IoTDelivery.Push;

namespace IoTDelivery.Simulation;

/// <summary>What a statement that failed throws. Whether it was done is unknown.</summary>
internal class DiskFault(string what) : Exception(what);

/// <summary>A row with this key is there already, and nothing was done.</summary>
internal sealed class KeyTaken(string what) : DiskFault(what);

/// <summary>A row of the table of reminders.</summary>
internal sealed record StoredCall(string DeviceId, Guid Token, DateTimeOffset DueAt, DateTimeOffset StoredAt);

/// <summary>The one database of the site. It survives every node; it is slow at times, fails at times, and at times only its answer is lost.</summary>
internal sealed class Disk(World world)
{
    private readonly Dictionary<string, List<IPersistentRepresentation>> _journal = [];
    private readonly Dictionary<string, SelectedSnapshot> _snapshots = [];
    private readonly Dictionary<string, StoredCall> _calls = [];
    private readonly Dictionary<(string PersistenceId, Node Node), int> _writing = [];
    private static readonly TimeSpan StatementTimeout = TimeSpan.FromSeconds(10);

    private readonly List<Statement> _running = [];
    private DateTimeOffset _awayUntil, _slowUntil;
    private long _ids;

    /// <summary>What the journal says of each device.</summary>
    public Dictionary<string, Outbox> Outboxes { get; } = [];

    public List<BacklogRow> Backlog { get; } = [];

    public List<DeadLetter> DeadLetters { get; } = [];

    public Dictionary<string, long> Breakers { get; } = [];

    public IReadOnlyDictionary<string, StoredCall> Calls => _calls;

    /// <summary>How wrong the clock of the database's machine is.</summary>
    public TimeSpan Skew { get; set; }

    /// <summary>What a statement takes for the time.</summary>
    public DateTimeOffset Now => world.Now + Skew;

    public void GoAway(TimeSpan duration) => _awayUntil = world.Now + duration;

    public void GetSlow(TimeSpan duration) => _slowUntil = world.Now + duration;

    /// <summary>
    /// One statement or transaction of a node, on a connection of its own. Statements are done in another order than they were sent in, and answered in another order
    /// than they are done in. A node that dies meanwhile hears no answer; what it sent may still be done.
    /// </summary>
    /// <param name="isDoneLate">False if it must not be done any more once it counts as failed.</param>
    public void Do(Node node, string what, Func<Exception?> commit, Action<Exception?> answer, bool isDoneLate = true)
    {
        if (!node.IsAlive) return;
        var statement = new Statement(this, node, what, commit, answer, isDoneLate);
        if (world.Happens(Fault.StatementWaits, 0.01) && _running.Count > 0) statement.WaitFor(_running[world.Random.Next(_running.Count)]);
        else statement.Begin();
    }

    //   waiting for a lock ──► running ──► done ──► answered
    //         └── too long: failed  └── hangs: failed after its time-out, and done at last, or not
    private sealed class Statement(Disk disk, Node node, string what, Func<Exception?> commit, Action<Exception?> answer, bool isDoneLate)
    {
        private readonly World _world = node.World;
        private readonly List<Statement> _behind = [];
        private bool _isBegun, _isAnswered;

        public void WaitFor(Statement other)
        {
            other._behind.Add(this);
            _world.After(StatementTimeout, () =>
            {
                if (_isBegun) return;
                _isBegun = true;
                Answer(new DiskFault($"{what}: waited too long for a lock"));
            });
        }

        public void Begin()
        {
            if (_isBegun) return;
            _isBegun = true;
            disk._running.Add(this);
            var time = disk.Latency();
            if (_world.Happens(Fault.StatementHangs, 0.001)) time += _world.Seconds(1, 30);
            if (time > StatementTimeout) _world.After(StatementTimeout, () => Answer(new DiskFault($"{what}: no answer in time")));
            _world.After(time, Commit);
        }

        private void Commit()
        {
            disk._running.Remove(this);
            Exception? cause = null;
            if (_isAnswered && (!isDoneLate || _world.Chance(0.5)))
            {
                // Given up, and rolled back.
            }
            else if (!node.IsAlive && _world.Chance(0.5))
            {
                // Never reached the database.
            }
            else if (_world.Now < disk._awayUntil || _world.Happens(Fault.StatementFails, 0.01)) cause = new DiskFault($"{what}: failed");
            else if (isDoneLate && _world.Happens(Fault.StatementIsDoneLate, 0.002))
            {
                cause = new DiskFault($"{what}: connection lost");
                _world.After(_world.Seconds(0.05, 5), () => commit());
            }
            else if ((cause = commit()) is null && _world.Happens(Fault.StatementAnswerLost, 0.01)) cause = new DiskFault($"{what}: answer lost");

            _world.After(disk.Latency() / 2, () => Answer(cause));
            foreach (var next in _behind) next.Begin();
        }

        private void Answer(Exception? cause)
        {
            if (_isAnswered) return;
            _isAnswered = true;
            if (cause is not null && _world.IsTracing) _world.Trace($"{node} {cause.Message}");
            if (node.IsAlive) answer(cause);
        }
    }

    public Task<T> DoAsync<T>(Node node, string what, Func<T> commit)
    {
        var done = new TaskCompletionSource<T>();
        T result = default!;
        Do(
            node,
            what,
            () =>
            {
                result = commit();
                return null;
            },
            cause =>
            {
                if (cause is null) done.SetResult(result);
                else done.SetException(cause);
            });
        return done.Task;
    }

    // ---- journal

    public void Write(Node node, WriteMessages write, IActorRef journal)
    {
        var rows = write.Messages.OfType<AtomicWrite>().SelectMany(w => (IEnumerable<IPersistentRepresentation>)w.Payload).ToList();
        var (key, toldAtOnce) = ((rows[0].PersistenceId, node), world.Broken == BrokenRule.AnsweredBeforeStored);
        _writing[key] = _writing.GetValueOrDefault(key) + 1;
        if (toldAtOnce) Answer(null);
        Store();

        async void Store()
        {
            var cause = await WriteAsync(node, rows);
            if (--_writing[key] == 0) _writing.Remove(key);
            if (!toldAtOnce) Answer(cause);
        }

        void Answer(Exception? cause)
        {
            write.PersistentActor.Tell(cause is null ? WriteMessagesSuccessful.Instance : new WriteMessagesFailed(cause, 1), journal);
            foreach (var row in rows)
            {
                write.PersistentActor.Tell(
                    cause is null ? new WriteMessageSuccess(row, write.ActorInstanceId) : new WriteMessageFailure(row, cause, write.ActorInstanceId), row.Sender);
            }
        }
    }

    // What became of a commit is known, or looked up, or it counts as failed.
    private async Task<Exception?> WriteAsync(Node node, List<IPersistentRepresentation> rows)
    {
        var store = new SimulatedStore(this, node);
        try
        {
            return (await store.WriteAsync([rows]))[0] ? null : new SequenceNumberTakenException(rows[0].PersistenceId, rows[0].SequenceNr);
        }
        catch (DiskFault cause)
        {
            if (world.Broken == BrokenRule.CommitOutcomeGuessed) return null;
            if (!world.LooksUp) return cause;
            try
            {
                var found = await store.FindAsync(rows);
                return found.Count == rows.Count && found.All(f => rows.Exists(r => r.SequenceNr == f.SequenceNr && r.WriterGuid == f.WriterGuid)) ? null : cause;
            }
            catch (DiskFault)
            {
                return cause;
            }
        }
    }

    /// <summary>What is stored under the keys of these rows.</summary>
    public IReadOnlyList<IPersistentRepresentation> Find(IReadOnlyList<IPersistentRepresentation> rows) =>
        [.. rows.SelectMany(r => _journal.GetValueOrDefault(r.PersistenceId)?.FindAll(s => s.SequenceNr == r.SequenceNr) ?? [])];

    public void Replay(Node node, ReplayMessages replay)
    {
        // A restarting actor reads behind its own outstanding writes: the plugin sees to that.
        if (_writing.ContainsKey((replay.PersistenceId, node)))
        {
            world.After(TimeSpan.FromMilliseconds(20), () => Replay(node, replay));
            return;
        }

        List<IPersistentRepresentation> read = [];
        long highest = 0;
        Do(
            node,
            "replay",
            () =>
            {
                var rows = _journal.GetValueOrDefault(replay.PersistenceId) ?? [];
                read = rows.FindAll(r => r.SequenceNr >= replay.FromSequenceNr && r.SequenceNr <= replay.ToSequenceNr);
                highest = rows.Count == 0 ? 0 : rows[^1].SequenceNr;
                return null;
            },
            cause =>
            {
                if (cause is not null)
                {
                    replay.PersistentActor.Tell(new ReplayMessagesFailure(cause));
                    return;
                }

                foreach (var row in read) replay.PersistentActor.Tell(new ReplayedMessage(row), ActorRefs.NoSender);
                replay.PersistentActor.Tell(new RecoverySuccess(highest));
            });
    }

    /// <summary>Stores the rows of one device, all or none. False if one of their keys is taken.</summary>
    public bool Insert(Node node, IReadOnlyList<IPersistentRepresentation> rows)
    {
        if (!_journal.TryGetValue(rows[0].PersistenceId, out var journal)) _journal.Add(rows[0].PersistenceId, journal = []);
        foreach (var row in rows)
        {
            // The unique key (persistence id, sequence number).
            if (journal.Count > 0 && row.SequenceNr <= journal[^1].SequenceNr && world.Broken != BrokenRule.OldOwnerWrites)
            {
                world.Count("write of an old owner refused");
                return false;
            }
        }

        foreach (var row in rows)
        {
            journal.Add(row);
            var deviceId = row.PersistenceId["device-".Length..];
            var (before, events) = (Outboxes.GetValueOrDefault(deviceId, Outbox.Empty), ((DeviceEvents)row.Payload).Events);
            if (world.IsTracing) world.Trace($"{node} {deviceId} stores {row.SequenceNr}: {string.Join(", ", events.Select(Short))}");
            foreach (var @event in events) Outboxes[deviceId] = world.Promises.Stored(node, deviceId, @event, Outboxes.GetValueOrDefault(deviceId, before));
            if (((DeviceEvents)row.Payload).Reminder is { } reminder)
            {
                File(
                    node, deviceId, world.Now + Skew + TimeSpan.FromTicks(reminder.DueAt - node.Clock.GetTimestamp()), reminder.Token,
                    isWithRow: true);
            }

            world.Promises.BoundsHold(deviceId);
            world.Promises.CallIsOnFile(deviceId);
        }

        return true;
    }

    private static string Short(OutboxEvent e) => e switch
    {
        OutboxEvent.MessageAccepted a => $"accepted {a.MessageId} {a.Answer.OnTheWire()} until {a.ExpiresAt:mm:ss.fff}",
        OutboxEvent.MessageDelivered d => $"delivered {d.MessageId}",
        OutboxEvent.MessageTimedOut t => $"timeout {t.MessageId}",
        OutboxEvent.MessageFailed f => $"failed {f.MessageId} {f.Error.Code}",
        OutboxEvent.MessageDeleted d => $"deleted {d.MessageId}",
        OutboxEvent.NotificationsAcknowledged p => $"acknowledged {p.UpTo}",
        _ => e.GetType().Name,
    };

    // ---- snapshots

    public void Save(Node node, SaveSnapshot save, IActorRef to) => Do(
        node,
        "snapshot",
        () =>
        {
            var isOfLastRow = _journal[save.Metadata.PersistenceId][^1].SequenceNr == save.Metadata.SequenceNr;
            world.Promises.Snapshot(node, save.Metadata.PersistenceId["device-".Length..], (OutboxSnapshot)save.Snapshot, isOfLastRow);
            _snapshots[save.Metadata.PersistenceId] = new SelectedSnapshot(save.Metadata, save.Snapshot);
            return null;
        },
        cause => to.Tell(cause is null ? new SaveSnapshotSuccess(save.Metadata) : new SaveSnapshotFailure(save.Metadata, cause)));

    public void Load(Node node, LoadSnapshot load, IActorRef to)
    {
        SelectedSnapshot? snapshot = null;
        Do(
            node,
            "load snapshot",
            () =>
            {
                snapshot = _snapshots.GetValueOrDefault(load.PersistenceId);
                return null;
            },
            cause => to.Tell(cause is null ? new LoadSnapshotResult(snapshot, load.ToSequenceNr) : new LoadSnapshotFailed(cause)));
    }

    // ---- reminders

    public Task FileCall(Node node, string deviceId, TimeSpan dueIn, Guid token)
    {
        var askedAt = world.Now + Skew;
        return DoAsync(node, "file call", () =>
        {
            File(node, deviceId, askedAt + dueIn, token, isWithRow: false);
            world.Promises.CallIsOnFile(deviceId);
            return 0;
        });
    }

    // Of another one only ever earlier, and only a row of the journal makes it somebody else's.
    private void File(Node node, string deviceId, DateTimeOffset dueAt, Guid token, bool isWithRow)
    {
        dueAt = ToMilliseconds(dueAt);
        if (_calls.TryGetValue(deviceId, out var old) && old.Token != token)
        {
            if (old.DueAt < dueAt) dueAt = old.DueAt;
            if (!isWithRow) token = old.Token;
        }

        _calls[deviceId] = new StoredCall(deviceId, token, dueAt, world.Now);
        if (world.IsTracing) world.Trace($"{node} {deviceId} call on file for {dueAt:mm:ss.fff}");
    }

    /// <summary>Which sub-devices of a gateway have something waiting: those with a call.</summary>
    public Task<IReadOnlyList<DeviceId>> FindWaiting(Node node, DeviceId gateway) => DoAsync<IReadOnlyList<DeviceId>>(node, "find waiting", () =>
        [.. world.Addressees.Where(a => a.Gateway?.Id == gateway && _calls.ContainsKey(a.Id.Value) && world.Registry.LifeOf(a.Id) is not null).Select(a => a.Id)]);

    /// <summary>True if the application is pending something of this device.</summary>
    public bool HasPending(DeviceId deviceId) => Outboxes.GetValueOrDefault(deviceId.Value) is { Notifications.IsEmpty: false };

    public Task DeleteCall(Node node, string deviceId, Guid token) => DoAsync(node, "delete call", () =>
    {
        if (_calls.TryGetValue(deviceId, out var call) && call.Token == token) _calls.Remove(deviceId);
        if (world.IsTracing) world.Trace($"{node} {deviceId} call deleted");
        world.Promises.CallIsOnFile(deviceId);
        return 0;
    });

    public Task<IReadOnlyList<DueReminder>> TakeDueCalls(Node node, int count, TimeSpan lease) => DoAsync<IReadOnlyList<DueReminder>>(node, "take calls", () =>
    {
        var now = world.Now + Skew; // the database's
        var due = _calls.Values.Where(c => c.DueAt <= now).OrderBy(c => c.DueAt).ThenBy(c => c.DeviceId, StringComparer.Ordinal).Take(count).ToList();
        for (var i = 0; i < due.Count; i++)
        {
            due[i] = due[i] with { DueAt = ToMilliseconds(now + lease) };
            world.Promises.Rang(due[i].DeviceId, _journal.GetValueOrDefault($"device-{due[i].DeviceId}")?.Count ?? 0);
            if (world.IsTracing) world.Trace($"{node} {due[i].DeviceId} call rings");
            if (world.Broken == BrokenRule.CallDeletedByRinging) _calls.Remove(due[i].DeviceId);
            else _calls[due[i].DeviceId] = due[i];
        }

        return [.. due.Select(c => new DueReminder(c.DeviceId, c.Token, lease))];
    });

    // ---- the backlog of the push

    public bool AddRow(Node node, string actionId, string deviceId, long number, byte[] body)
    {
        if (Backlog.Exists(r => r.ActionId == actionId && r.DeviceId == deviceId && r.Number == number)) return false;
        Backlog.Add(new BacklogRow
        {
            Id = ++_ids,
            ActionId = actionId,
            DeviceId = deviceId,
            Number = number,
            Body = body,
            Bytes = body.Length,
            CreatedAt = node.Clock.GetUtcNow().ToUnixTimeMilliseconds(),
        });
        return true;
    }

    public void GiveUp(Node node, string actionId, string deviceId, long number, byte[] body, string reason)
    {
        if (DeadLetters.Exists(l => l.ActionId == actionId && l.DeviceId == deviceId && l.Number == number)) return;
        var now = node.Clock.GetUtcNow().ToUnixTimeMilliseconds();
        DeadLetters.Add(new DeadLetter
        {
            Id = ++_ids,
            ActionId = actionId,
            DeviceId = deviceId,
            Number = number,
            Body = body,
            Bytes = body.Length,
            CreatedAt = now,
            Reason = reason,
            DiedAt = now,
        });
    }

    // A column of whole milliseconds, rounded down.
    private static DateTimeOffset ToMilliseconds(DateTimeOffset time) => DateTimeOffset.FromUnixTimeMilliseconds(time.ToUnixTimeMilliseconds());

    private TimeSpan Latency()
    {
        var milliseconds = 0.2 + 3 * world.Random.NextDouble();
        if (world.Now < _slowUntil) milliseconds += 3000 * world.Random.NextDouble();
        else if (world.Happens(Fault.DiskIsSlow, 0.01)) milliseconds += 800 * world.Random.NextDouble();
        return TimeSpan.FromMilliseconds(milliseconds);
    }
}

/// <summary>
/// One connection of a node to the journal's table: stores the writes of several devices in one transaction, and looks up what became of them. Whatever throws leaves the
/// outcome unknown: some, all or none of it may be stored, or will be.
/// </summary>
internal sealed class SimulatedStore(Disk disk, Node node)
{
    /// <summary>One write per device, each as a whole or not at all. For each: true if it is stored, false if one of its keys is taken.</summary>
    public Task<bool[]> WriteAsync(IReadOnlyList<IReadOnlyList<IPersistentRepresentation>> writes) =>
        disk.DoAsync(node, "journal", () => writes.Select(rows => disk.Insert(node, rows)).ToArray());

    /// <summary>What is stored under these keys, whoever wrote it.</summary>
    public Task<IReadOnlyList<IPersistentRepresentation>> FindAsync(IReadOnlyList<IPersistentRepresentation> rows) =>
        disk.DoAsync(node, "look up", () => disk.Find(rows));
}

/// <summary>The journal plugin: hands everything to the <see cref="Disk"/> of the history that runs.</summary>
internal sealed class SimulatedJournal : UntypedActor
{
    protected override void OnReceive(object message)
    {
        if (message is WriteMessages write && Node.Of(write.PersistentActor) is { } writer) writer.World.Disk.Write(writer, write, Self);
        else if (message is ReplayMessages replay && Node.Of(replay.PersistentActor) is { } reader) reader.World.Disk.Replay(reader, replay);
    }
}

/// <summary>The snapshot plugin.</summary>
internal sealed class SimulatedSnapshots : UntypedActor
{
    protected override void OnReceive(object message)
    {
        if (Node.Of(Sender) is not { } node) return;
        if (message is SaveSnapshot save) node.World.Disk.Save(node, save, Sender);
        else if (message is LoadSnapshot load) node.World.Disk.Load(node, load, Sender);
    }
}

/// <summary>The table of reminders as one node sees it. Its rules are those of the statements in <see
/// cref="ReminderTable"/>.</summary>
internal sealed class SimulatedCalls() : ReminderTable(null!, null!, OneThread.Instance)
{
    public Node Node { get; set; } = null!;

    public override Task FileAsync(string deviceId, TimeSpan dueIn, Guid token) =>
        Node.World.Disk.FileCall(Node, deviceId, dueIn, token);

    public override Task DeleteAsync(string deviceId, Guid token) => Node.World.Disk.DeleteCall(Node, deviceId, token);

    public override Task<IReadOnlyList<DueReminder>> TakeDueAsync(int count, TimeSpan lease, CancellationToken cancel) =>
        Node.World.Disk.TakeDueCalls(Node, count, lease);
}

/// <summary>The tables of the push as one node sees them. Their rules are those of the statements in <see cref="PushBacklog"/>.</summary>
internal sealed class SimulatedBacklog(Node node, PushMetrics metrics) : PushBacklog(null!, metrics, node.Clock)
{
    private Disk Disk => node.World.Disk;

    internal override Task AsideAsync(Func<Task> work) => work();

    internal override Task<BacklogView> ViewAsync(CancellationToken cancel) => Disk.DoAsync(node, "view backlog", () =>
    {
        var hasRows = Disk.Backlog.Select(r => r.ActionId).ToHashSet();
        return new BacklogView(hasRows, Disk.Breakers.Keys.Where(hasRows.Contains).ToHashSet());
    });

    internal override Task<WriteResult[]> WriteAsync(
        IReadOnlyList<BacklogWrite> writes, IReadOnlyCollection<string> opened, CancellationToken cancel) =>
        Disk.DoAsync(node, "write backlog", () =>
        {
            var done = new WriteResult[writes.Count];
            for (var i = 0; i < writes.Count; i++)
            {
                var (actionId, deviceId, notifications, mode, reason) = writes[i];
                var isBehind = Disk.Backlog.Exists(r => r.ActionId == actionId && r.DeviceId == deviceId);
                var isWritten = mode != WriteMode.AppendIfBehind || isBehind;
                done[i] = new WriteResult(isWritten ? Push.WriteOutcome.Written : Push.WriteOutcome.NothingOlder);
                if (done[i].Outcome != Push.WriteOutcome.Written) continue;
                foreach (var (number, body) in notifications)
                {
                    if (mode == WriteMode.GiveUp) Disk.GiveUp(node, actionId, deviceId, number, body, reason);
                    else Disk.AddRow(node, actionId, deviceId, number, body);
                }
            }

            foreach (var actionId in opened) Disk.Breakers.TryAdd(actionId, node.Clock.GetUtcNow().ToUnixTimeMilliseconds());
            return done;
        });

    internal override Task<BacklogPage> ReadAsync(
        string actionId, long afterId, IReadOnlyCollection<string> withoutDevices, int limit, CancellationToken cancel) =>
        Disk.DoAsync(node, "read backlog", () =>
        {
            var behind = Disk.Backlog.Where(r => r.ActionId == actionId && r.Id > afterId);
            var rows = behind.Where(r => !withoutDevices.Contains(r.DeviceId)).Take(limit).ToList();
            var newest = Disk.Backlog.Where(r => r.ActionId == actionId).Select(r => r.Id).Append(afterId).Max();
            return new BacklogPage(rows, rows.Count == limit, rows.Count == limit ? rows[^1].Id : newest);
        });

    internal override Task<BacklogPage> ReadDevicesAsync(
        string actionId, IReadOnlyCollection<string> devices, int limitEach, CancellationToken cancel) =>
        Disk.DoAsync(node, "read backlog", () =>
        {
            var all = Disk.Backlog.Where(r => r.ActionId == actionId).ToLookup(r => r.DeviceId);
            var rows = devices.SelectMany(d => all[d].Take(limitEach)).OrderBy(r => r.Id).ToList();
            return new BacklogPage(rows, IsCut: false);
        });

    internal override Task<long?> OpenedAtAsync(string actionId, CancellationToken cancel) =>
        Disk.DoAsync(node, "read breaker", () => Disk.Breakers.TryGetValue(actionId, out var openedAt) ? openedAt : (long?)null);

    internal override Task<IReadOnlyList<RefusedRow>> SettleAsync(
        string actionId,
        IReadOnlyList<(BacklogRow Row, string? GivenUp)> settled,
        bool? isOpen,
        CancellationToken cancel) =>
        Disk.DoAsync<IReadOnlyList<RefusedRow>>(node, "settle backlog", () =>
        {
            foreach (var (row, reason) in settled)
            {
                if (reason is not null) Disk.GiveUp(node, row.ActionId, row.DeviceId, row.Number, row.Body, reason);
                Disk.Backlog.RemoveAll(r => r.Id == row.Id);
            }

            if (isOpen is true) Disk.Breakers.TryAdd(actionId, node.Clock.GetUtcNow().ToUnixTimeMilliseconds());
            if (isOpen is false) Disk.Breakers.Remove(actionId);
            return [];
        });

    internal override Task<Trimmed> TrimAsync(
        string actionId, IReadOnlyCollection<long> busy, PushOptions options, BacklogCount count,
        CancellationToken cancel) =>
        Disk.DoAsync(node, "trim backlog", () => default(Trimmed)); // nothing in a history lives for 24 hours
}
