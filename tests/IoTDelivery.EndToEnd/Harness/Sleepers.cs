using IoTDelivery.Devices;
using IoTDelivery.Devices.Serialization;
using IoTDelivery.Domain;
using IoTDelivery.Host;
using IoTDelivery.Registry;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Data;
using LinqToDB.Mapping;
using Microsoft.Extensions.DependencyInjection;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>Devices asleep with one pending message each, written straight into the tables of a node that is stopped, as if they had gone to sleep long ago.</summary>
public static class Sleepers
{
    /// <summary>Adds sleepers whose messages end at the same time. The message of <c>x</c> is <c>m-x</c>; its PENDING is told and acknowledged.</summary>
    public static async Task AddSleepersAsync(this Node node, IReadOnlyCollection<string> ids, DateTimeOffset endsAt)
    {
        await using var platform = Platform.Build([$"--Storage:DataFolder={Path.Combine(node.Folder, "data")}"]); // for its secrets; it is not started
        var secret = platform.Services.GetRequiredService<Secrets>().Protect(Device.Secret);
        var serializer = new DeliverySerializer(null!); // events name no actors
        var now = DateTimeOffset.UtcNow;
        var acknowledged = serializer.ToBinary(new DeviceEvents([new OutboxEvent.NotificationsAcknowledged(1)]));

        await using var db = node.Database().Open();
        await using var transaction = await db.BeginTransactionAsync();
        var bulk = new BulkCopyOptions { BulkCopyType = BulkCopyType.MultipleRows };
        await db.BulkCopyAsync(bulk, ids.Select(id => new Registry.Device
        {
            DeviceId = id,
            RecordId = id,
            ProjectId = Node.Project,
            ProductId = "lamp",
            NodeId = id,
            Secret = secret,
            CreatedAt = now.ToUnixTimeMilliseconds(),
        }));
        await db.BulkCopyAsync(bulk, ids.Select(id => new ReminderRow { DeviceId = id, DueAt = endsAt.ToUnixTimeMilliseconds(), Token = Guid.NewGuid().ToString("N") }));
        await db.BulkCopyAsync(bulk, ids.SelectMany(id => new[] { Row(id, 1, Accepted(id)), Row(id, 2, acknowledged) }));
        await transaction.CommitAsync();

        byte[] Accepted(string id)
        {
            var body = new MessageBody(null, "hello", ContentKind.Text, ContentEncoding.None, PayloadFormat.Standard, SystemTopics.MessagesDown(DeviceId.Parse(id)), DeliveryPolicy.TtlDefault);
            return serializer.ToBinary(new DeviceEvents([new OutboxEvent.MessageAccepted(MessageId.Parse($"m-{id}"), body, MessageStatus.Pending, now, endsAt)]));
        }

        JournalRow Row(string id, long number, byte[] message) => new()
        {
            Created = now.UtcTicks,
            PersistenceId = DeviceActor.PersistenceIdOf(id),
            SequenceNumber = number,
            Message = message,
            Tags = "",
            Manifest = "E1",
            Identifier = serializer.Identifier,
            WriterUuid = "seed",
        };
    }

    [Table("reminder")]
    private sealed record ReminderRow
    {
        [Column("device_id")] public string DeviceId { get; init; } = "";
        [Column("due_at")] public long DueAt { get; init; }
        [Column("token")] public string Token { get; init; } = "";
    }

    [Table("journal")]
    private sealed record JournalRow
    {
        [Column("created")] public long Created { get; init; }
        [Column("deleted")] public bool Deleted { get; init; }
        [Column("persistence_id")] public string PersistenceId { get; init; } = "";
        [Column("sequence_number")] public long SequenceNumber { get; init; }
        [Column("message")] public byte[] Message { get; init; } = [];
        [Column("tags")] public string Tags { get; init; } = "";
        [Column("manifest")] public string Manifest { get; init; } = "";
        [Column("identifier")] public int Identifier { get; init; }
        [Column("writer_uuid")] public string WriterUuid { get; init; } = "";
    }
}
