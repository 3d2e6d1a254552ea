using Akka.Actor;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices;

/// <summary>How far the journal has come, or will have come with an entry: what may be told of a state that is ahead of it.</summary>
internal readonly record struct JournalMark(
    long NextNumber, long NextNotification, long PacketIdsUpTo, DateTimeOffset? NextExpiry, int Retirements);

/// <summary>
/// What one device has decided and how far the journal is behind: decides against the state with everything decided so
/// far, makes rows of what came in while the last row was written, and replies once the journal has them.
/// </summary>
//
//   command ──Decide──► waiting ──NextRow──► writing ──OnStored──► replies
//              │           ▲
//              └── Ahead ──┘  the snapshot is taken down when it is worth one, and taken once the journal has come up to it
//
internal sealed class JournalWriter(string persistenceId, DeviceServices services, Inflight wire, DeviceClock clock)
{
    // Something decided and not stored yet, with the mark after it and who waits for it.
    private readonly record struct Entry(
        IReadOnlyList<OutboxEvent> Events, JournalMark After, IActorRef? ReplyTo, object? Reply);

    private enum Work
    {
        None,
        Row,
        Snapshot,
    }

    private readonly Queue<Entry> _waiting = [];
    private readonly List<Entry> _writing = [];
    private int _retirements; // decided by this owner
    private OutboxSnapshot? _snapshot; // of the state that is stored once _beforeSnapshot more entries are
    private int _beforeSnapshot;
    private int _rowsSinceSnapshot;
    private long _recoveredUpTo; // sequence number
    private Work _atWork;

    /// <summary>
    /// What the journal will have once everything decided is stored. It never goes back: when a write fails, the actor
    /// ends, and another one begins with what is stored.
    /// </summary>
    public Outbox Ahead { get; private set; } = Outbox.Empty;

    /// <summary>What the journal has.</summary>
    public JournalMark Stored { get; private set; }

    /// <summary>True while something not stored yet ends a message that was not sent: nothing may overtake it.</summary>
    public bool EndsUnsent { get; private set; }

    /// <summary>False while a retirement is decided and not stored.</summary>
    public bool IsRetirementStored => Stored.Retirements == _retirements;

    /// <summary>Entries that no row holds yet.</summary>
    public int Waiting => _waiting.Count;

    /// <summary>True while a row or a snapshot is being written.</summary>
    public bool IsBusy => _atWork != Work.None;

    /// <summary>True once this owner has stored a row: no row of a former owner comes behind it.</summary>
    public bool HasStored { get; private set; }

    /// <summary>True if nothing is ahead of the journal.</summary>
    public bool IsUpToDate => _waiting.Count == 0 && _atWork != Work.Row;

    /// <summary>True if a snapshot is worth its write now that nothing else happens.</summary>
    public bool IsSnapshotWorthwhile => _rowsSinceSnapshot >= services.Options.SnapshotEvery / 10;

    // ---- recovery: the same Apply as in life

    /// <summary>The state that was written down with this sequence number.</summary>
    public void Recover(OutboxSnapshot snapshot, long sequenceNr) =>
        (Ahead, _recoveredUpTo) = (Outbox.From(snapshot), sequenceNr);

    /// <summary>One row.</summary>
    /// <exception cref="InvalidOperationException">It is not the next one.</exception>
    public void Recover(DeviceEvents row, long sequenceNr)
    {
        if (sequenceNr != _recoveredUpTo + 1)
        {
            throw new InvalidOperationException(
                $"The journal of {persistenceId} has a gap: after {_recoveredUpTo} comes {sequenceNr}. " +
                "Events are missing; nothing is guessed.");
        }

        _recoveredUpTo = sequenceNr;
        Ahead.Apply(row.Events, services.Policy);
        _rowsSinceSnapshot++;
    }

    /// <summary>That was all.</summary>
    /// <exception cref="InvalidOperationException">The journal has given out more sequence numbers.</exception>
    public void OnRecovered(long lastSequenceNr)
    {
        if (lastSequenceNr != _recoveredUpTo)
        {
            throw new InvalidOperationException(
                $"The journal of {persistenceId} ends at {_recoveredUpTo}, but number {lastSequenceNr} was given out. " +
                "Events are missing; nothing is guessed.");
        }

        Stored = MarkAhead();
    }

    // ---- life

    /// <summary>Decides, and replies once what was decided is stored: <paramref name="reply"/>, or what the rule says.</summary>
    public void Decide(OutboxCommand command, IActorRef? replyTo = null, object? reply = null)
    {
        var decision = Ahead.Decide(command, wire, clock.Now, services.Policy);
        if (decision.Events.Count > 0)
        {
            EndsUnsent |= wire.EndsUnsent(Ahead, decision.Events);
            wire.Follow(Ahead, decision.Events);
            Ahead.Apply(decision.Events, services.Policy);
            if (command is OutboxCommand.Retire) _retirements++;
            services.Load.Add(SizeOf(decision.Events));
            _waiting.Enqueue(new Entry(decision.Events, MarkAhead(), replyTo, reply ?? decision.Reply));
        }
        else if (replyTo is not null)
        {
            Reply(replyTo, reply ?? decision.Reply);
        }
    }

    /// <summary>Replies. What is not stored yet may be part of it, so it waits for all that was decided before it.</summary>
    public void Reply(IActorRef to, object reply)
    {
        if (IsUpToDate) to.Tell(reply);
        else _waiting.Enqueue(new Entry([], MarkAhead(), to, reply));
    }

    /// <summary>Replies that wait for nothing any more go out.</summary>
    public void ReplyWhatIsStored()
    {
        while (_waiting.TryPeek(out var reply) && reply.Events.Count == 0)
        {
            reply.ReplyTo?.Tell(reply.Reply);
            Dequeue();
        }
    }

    /// <summary>
    /// The next row: all that waits, up to a size. Null if there is nothing to write. <see cref="OnStored"/> must follow, or
    /// <see cref="ReplyUnavailable"/>.
    /// </summary>
    /// <param name="acknowledged">What goes along as its first event; null if there is no such thing.</param>
    /// <param name="mayBeAlone">True if that is worth a row of its own.</param>
    public IReadOnlyList<OutboxEvent>? NextRow(OutboxEvent.NotificationsAcknowledged? acknowledged, bool mayBeAlone)
    {
        if (_waiting.Count == 0 && !(mayBeAlone && acknowledged is not null)) return null;

        // Taken down now, stored when the journal has come up to it: the state itself is always ahead.
        if (_snapshot is null && _rowsSinceSnapshot + 1 >= services.Options.SnapshotEvery)
        {
            (_snapshot, _beforeSnapshot) = (Ahead.ToSnapshot(), _waiting.Count);
        }

        var (events, bytes) = (new List<OutboxEvent>(), 0);
        if (acknowledged is not null) events.Add(acknowledged);
        while (_waiting.TryPeek(out var entry))
        {
            if (_snapshot is not null && _beforeSnapshot == 0) break; // the row ends where the snapshot does
            var size = SizeOf(entry.Events);
            var isFull = events.Count + entry.Events.Count > services.Options.BatchEventsMax
                || bytes + size > services.Options.BatchBytesMax;
            if (_writing.Count > 0 && isFull) break;
            events.AddRange(entry.Events);
            bytes += size;
            _writing.Add(Dequeue());
            services.Load.Add(-size); // counted by the journal from here on
        }

        _atWork = Work.Row;
        return events;
    }

    /// <summary>What the journal will have with the row that is being written.</summary>
    public JournalMark AfterRow => _writing.Count > 0 ? _writing[^1].After : Stored;

    /// <summary>The row is in the journal: nobody hears of what a crash could forget.</summary>
    public void OnStored()
    {
        Stored = AfterRow;
        HasStored = true;
        _atWork = Work.None;
        foreach (var entry in _writing) entry.ReplyTo?.Tell(entry.Reply);
        _writing.Clear();
        if (_waiting.Count == 0) EndsUnsent = false;
        _rowsSinceSnapshot++;
    }

    /// <summary>
    /// What was decided can never get into the journal. Who asked asks again with the same id.
    /// </summary>
    public void ReplyUnavailable()
    {
        foreach (var entry in _writing.Concat(_waiting))
        {
            if (entry.Reply is OutboxReply) entry.ReplyTo?.Tell(new OutboxReply.Refused(RefusalReason.Unavailable));
        }

        ForgetWaiting();
    }

    /// <summary>The actor ends.</summary>
    public void ForgetWaiting()
    {
        foreach (var entry in _waiting) services.Load.Add(-SizeOf(entry.Events));
        _writing.Clear();
        _waiting.Clear();
    }

    // ---- snapshots, of exactly what is stored

    /// <summary>The snapshot that the journal has come up to, to be taken now; null if there is none.</summary>
    public OutboxSnapshot? DueSnapshot() => _snapshot is { } reached && _beforeSnapshot == 0 ? Take(reached) : null;

    /// <summary>A snapshot of everything. Only while nothing is ahead of the journal.</summary>
    public OutboxSnapshot Snapshot() => Take(Ahead.ToSnapshot());

    /// <summary>It was taken, or it failed: then its events stay in the journal.</summary>
    public void OnSnapshotDone() => _atWork = Work.None;

    private OutboxSnapshot Take(OutboxSnapshot snapshot)
    {
        (_snapshot, _beforeSnapshot, _rowsSinceSnapshot, _atWork) = (null, 0, 0, Work.Snapshot);
        return snapshot;
    }

    private Entry Dequeue()
    {
        if (_beforeSnapshot > 0) _beforeSnapshot--;
        return _waiting.Dequeue();
    }

    private JournalMark MarkAhead() =>
        new(Ahead.NextNumber, Ahead.NextNotification, Ahead.PacketIdsUpTo, Ahead.NextExpiry, _retirements);

    private static int SizeOf(IReadOnlyList<OutboxEvent> events)
    {
        var bytes = 0;
        for (var i = 0; i < events.Count; i++) bytes += events[i] is OutboxEvent.MessageAccepted accepted ? accepted.Body.Bytes : 0;
        return bytes;
    }
}
