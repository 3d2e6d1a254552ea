using System.Collections.Immutable;
using Akka.Actor;
using Akka.DependencyInjection;
using Akka.Persistence;
using Akka.Persistence.Sql.Journal;
using Akka.Serialization;
using AkkaConfig = Akka.Configuration.Config;
using AkkaSerialization = Akka.Serialization.Serialization;

namespace IoTDelivery.Devices.Journal;

/// <summary>
/// The package's journal with its tables, replay and query, but its own way to write: rows go through the <see
/// cref="JournalQueue"/>, and the reminder that a row makes
/// necessary goes with it.
/// </summary>
public class DeviceJournal(AkkaConfig config) : SqlWriteJournal(config)
{
    private readonly JournalQueue _queue = DependencyResolver.For(Context.System).Resolver.GetService<JournalQueue>();
    private readonly ExtendedActorSystem _system = (ExtendedActorSystem)Context.System;
    private IActorRef _writer = ActorRefs.Nobody;

    /// <summary>Recovery waits for what the device's last owner on this node has in the database.</summary>
    public override async Task<long> ReadHighestSequenceNrAsync(string persistenceId, long fromSequenceNr, CancellationToken cancellationToken)
    {
        await _queue.SettleAsync(persistenceId).WaitAsync(cancellationToken).ConfigureAwait(false);
        return await base.ReadHighestSequenceNrAsync(persistenceId, fromSequenceNr, cancellationToken).ConfigureAwait(false);
    }

    protected override bool AroundReceive(Receive receive, object message)
    {
        // the writes themselves do not say whose they are
        if (message is WriteMessages write) _writer = write.PersistentActor;
        return base.AroundReceive(receive, message);
    }

    protected override Task<IImmutableList<Exception>> WriteMessagesAsync(IEnumerable<AtomicWrite> messages, CancellationToken cancellationToken)
    {
        string? persistenceId = null;
        ReminderChange? reminder = null;
        List<JournalRow> rows = [];
        foreach (var write in messages)
        {
            persistenceId ??= write.PersistenceId;
            foreach (var representation in (IEnumerable<IPersistentRepresentation>)write.Payload)
            {
                rows.Add(Row(representation));
                if (representation.Payload is DeviceEvents { Reminder: { } needed })
                {
                    reminder = new ReminderChange(DeviceActor.DeviceIdOf(representation.PersistenceId), needed.Token, needed.DueAt);
                }
            }
        }

        var queued = new ActorWrite(persistenceId!, rows, reminder, _writer);
        _queue.Enqueue(queued);
        return queued.Done;
    }

    private JournalRow Row(IPersistentRepresentation representation)
    {
        var payload = representation.Payload;
        var serializer = _system.Serialization.FindSerializerFor(payload);
        var manifest = serializer switch
        {
            SerializerWithStringManifest named => named.Manifest(payload),
            { IncludeManifest: true } => payload.GetType().AssemblyQualifiedName ?? "",
            _ => "",
        };
        var bytes = AkkaSerialization.WithTransport(_system, (serializer, payload), static s => s.serializer.ToBinary(s.payload));
        var created = representation.Timestamp == 0 ? DateTime.UtcNow.Ticks : representation.Timestamp;
        return new JournalRow(representation.PersistenceId, representation.SequenceNr, bytes, manifest, serializer.Identifier, created, _queue.Id);
    }

    // A device that was stopped with its write still in the queue has nobody who waits for it.
    private sealed class ActorWrite(string persistenceId, IReadOnlyList<JournalRow> rows, ReminderChange? reminder, IActorRef writer)
        : DeviceWrite(persistenceId, rows, reminder)
    {
#pragma warning disable CS0618 // a watch per write would cost two messages; who is asked a moment too early stores a row that nobody waits for, which is harmless
        public override bool IsAbandoned => writer is IInternalActorRef { IsTerminated: true };
#pragma warning restore CS0618
    }
}
