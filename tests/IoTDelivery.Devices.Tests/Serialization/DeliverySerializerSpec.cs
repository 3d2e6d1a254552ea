using System.Collections.Immutable;
using Akka.Actor;
using Akka.Persistence;
using Akka.Serialization;
using Akka.TestKit.Xunit2;
using IoTDelivery.Devices.Serialization;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices.Tests.Serialization;

/// <summary>
/// What is stored stays readable. Each golden file holds the bytes some release wrote; a new shape adds a file, an old file is never edited,
/// because it lies in somebody's database.
/// </summary>
public sealed class DeliverySerializerSpec : TestKit
{
    private static readonly DateTimeOffset At = new(2026, 1, 2, 3, 4, 5, 678, TimeSpan.Zero);
    private static readonly DeviceId Device = DeviceId.Parse("product_node-1");
    private static readonly MessageId Id = MessageId.Parse("b1224afb-e9f0-4916-8220-b6bab568e888");
    private static readonly DeviceHeader Header = new("project", "app", "node-1", "product", "gateway");
    private static readonly MessageBody Plain = new(null, "hello", ContentKind.Text, ContentEncoding.None, PayloadFormat.Standard, "$oc/devices/product_node-1/sys/messages/down", 1440);
    private static readonly MessageBody Full = new(
        "名称", """{"a":1}""", ContentKind.Json, ContentEncoding.None, PayloadFormat.Raw, "some/topic", 0,
        new MessageProperties("correlation", "answer/here", [new UserProperty("k1", "v1"), new UserProperty("k2", "v2")]));

    private static readonly Subscription[] TwoSubscriptions = [new("a/+", 1), new("b/#", 0)];

    private static readonly Dictionary<string, OutboxEvent> Events = new()
    {
        ["message-accepted"] = new OutboxEvent.MessageAccepted(Id, Plain, MessageStatus.Pending, At, At.AddDays(1)),
        ["message-accepted-full"] = new OutboxEvent.MessageAccepted(Id, Full, MessageStatus.Delivered, At, At.AddSeconds(8)),
        ["message-delivered"] = new OutboxEvent.MessageDelivered(Id, At),
        ["message-timed-out"] = new OutboxEvent.MessageTimedOut(Id, At),
        ["message-failed"] = new OutboxEvent.MessageFailed(Id, ErrorInfo.Displaced, At),
        ["message-deleted"] = new OutboxEvent.MessageDeleted(Id, At),
        ["session-kept"] = new OutboxEvent.SessionKept([.. TwoSubscriptions]),
        ["session-kept-for-a-minute"] = new OutboxEvent.SessionKept([.. TwoSubscriptions], TimeSpan.FromMinutes(1)),
        ["session-left"] = new OutboxEvent.SessionLeft(At),
        ["session-ended"] = new OutboxEvent.SessionKept(null),
        ["qos1-noted"] = new OutboxEvent.QoS1Noted(),
        ["registered"] = new OutboxEvent.Registered(At), // an event of 0.1.0 before lives were numbered: life 0
        ["registered-for-life-2"] = new OutboxEvent.Registered(At, 2),
        ["retired"] = new OutboxEvent.Retired(Header, At),
        ["packet-ids-reserved"] = new OutboxEvent.PacketIdsReserved(1_024),
        ["sub-device-ids-reserved"] = new OutboxEvent.SubDeviceIdsReserved(2_048),
        ["packets-unacknowledged"] = new OutboxEvent.PacketsUnacknowledged(ImmutableSortedDictionary<long, ushort>.Empty.Add(5, 1).Add(300, 32_767)),
        ["retired-from-life-2"] = new OutboxEvent.Retired(Header, At, 2),
        ["logins-ended"] = new OutboxEvent.LoginsEnded(17),
        ["fenced"] = new OutboxEvent.Fenced(),
        ["paid"] = new OutboxEvent.NotificationsAcknowledged(42),
    };

    private readonly DeliverySerializer _serializer;

    public DeliverySerializerSpec() => _serializer = new DeliverySerializer((ExtendedActorSystem)Sys);

    public static TheoryData<string> EventNames => [.. Events.Keys];

    [Theory]
    [MemberData(nameof(EventNames))]
    public void An_event_is_written_as_its_golden_file_says_and_read_back_the_same(string name)
    {
        var row = new DeviceEvents([Events[name]]);
        var golden = Golden($"{name}.v1.hex", row);

        Assert.Equal("E1", _serializer.Manifest(row));
        Assert.Equal(golden, Convert.ToHexString(_serializer.ToBinary(row)));
        AssertSame(Events[name], Assert.Single(((DeviceEvents)_serializer.FromBinary(Convert.FromHexString(golden), "E1")).Events));
    }

    [Fact]
    public void Every_event_there_is_has_a_golden_file() => Assert.Equal(
        typeof(OutboxEvent).GetNestedTypes().Where(t => t.IsSubclassOf(typeof(OutboxEvent))).OrderBy(t => t.Name),
        Events.Values.Select(e => e.GetType()).Distinct().OrderBy(t => t.Name));

    [Fact]
    public void A_snapshot_is_written_as_its_golden_file_says_and_holds_all_there_is_to_say()
    {
        var policy = new DeliveryPolicy();
        var outbox = Outbox.Empty.Apply(
            [
                new OutboxEvent.MessageAccepted(MessageId.Parse("m1"), Plain, MessageStatus.Pending, At, At.AddDays(1)),
                new OutboxEvent.MessageAccepted(MessageId.Parse("m2"), Full, MessageStatus.Delivered, At, At.AddDays(1)),
                new OutboxEvent.MessageAccepted(MessageId.Parse("m3"), Plain, MessageStatus.Pending, At, At.AddDays(1)),
                new OutboxEvent.MessageFailed(MessageId.Parse("m1"), ErrorInfo.Displaced, At.AddSeconds(1)),
                new OutboxEvent.NotificationsAcknowledged(1),
                new OutboxEvent.SessionKept([.. TwoSubscriptions]),
                new OutboxEvent.QoS1Noted(),
            ],
            policy);
        var snapshot = outbox.ToSnapshot();
        var golden = Golden("snapshot.v3.hex", snapshot);

        Assert.Equal(golden, Convert.ToHexString(_serializer.ToBinary(snapshot)));
        foreach (var stored in (string[])[golden, Golden("snapshot.v1.hex", snapshot)]) // of an older release, with whole ids
        {
            var read = ReadSnapshot(stored);
            Assert.Equal(golden, Convert.ToHexString(_serializer.ToBinary(read.ToSnapshot())));
            Assert.Equal(outbox.Open.Select(m => (m.Number, m.MessageId, m.Body.Hash)), read.Open.Select(m => (m.Number, m.MessageId, m.Body.Hash)));
            Assert.Equal((outbox.OpenBytes, outbox.EndedBytes, outbox.NextNumber, outbox.NextNotification), (read.OpenBytes, read.EndedBytes, read.NextNumber, read.NextNotification));
            Assert.Equal(outbox.Remembered.Find(MessageId.Parse("m1")), read.Remembered.Find(MessageId.Parse("m1")));
            Assert.Equal(outbox.Notifications, read.Notifications);
        }
    }

    private Outbox ReadSnapshot(string hex) =>
        Outbox.From((OutboxSnapshot)_serializer.FromBinary(Convert.FromHexString(hex), "S1"));

    [Fact]
    public void A_snapshot_says_which_life_it_is_of()
    {
        OutboxEvent[] lives = [new OutboxEvent.Retired(Header, At, 2), new OutboxEvent.Registered(At, 3)];
        var outbox = Outbox.Empty.Apply(lives, new DeliveryPolicy()).ToSnapshot();
        var golden = Golden("snapshot-of-life-3.v1.hex", outbox);

        Assert.Equal(golden, Convert.ToHexString(_serializer.ToBinary(outbox)));
        Assert.Equal(3, ReadSnapshot(golden).Life);
        Assert.Equal(0, ReadSnapshot(Golden("snapshot.v1.hex", outbox)).Life);
    }

    [Fact]
    public void A_snapshot_says_which_logins_count_no_more()
    {
        var outbox = Outbox.Empty.Apply([Events["logins-ended"]], new DeliveryPolicy()).ToSnapshot();
        var golden = Golden("snapshot-of-generation-17.v1.hex", outbox);

        Assert.Equal(golden, Convert.ToHexString(_serializer.ToBinary(outbox)));
        Assert.Equal(17, ReadSnapshot(golden).Generation);
        Assert.Equal(0, ReadSnapshot(Golden("snapshot.v1.hex", outbox)).Generation);
    }

    [Fact]
    public void The_hash_of_a_body_never_changes_because_ended_messages_keep_only_that()
    {
        Assert.Equal(new BodyHash(7975255850958020011, 18301801038328162392), Plain.Hash);
        Assert.Equal(new BodyHash(7042194479551820143, 17000754418155469351), Full.Hash);
    }

    // Checked with sha256sum: the first 96 bits.
    [Fact]
    public void The_digest_of_an_id_never_changes_because_snapshots_keep_only_that() =>
        Assert.Equal(new IdDigest(0x1D291854BBCFF24B, 0x433B9F2D), Id.Digest);

    [Fact]
    public void Whatever_nodes_say_to_each_other_survives_the_way()
    {
        var connection = CreateTestProbe().Ref;
        object[] said =
        [
            new ToDevice.Command(Device, new OutboxCommand.Accept(Id, Full)),
            new ToDevice.Command(Device, new OutboxCommand.Delete(Id)),
            new ToDevice.Command(Device, new OutboxCommand.Register(5)),
            new ToDevice.Command(Device, new OutboxCommand.Retire(Header, 5)),
            new ToDevice.Command(Device, OutboxCommand.DeleteAll.Instance),
            new ToDevice.Disconnect(Device, 17, At),
            new ToDevice.Disconnect(Device, null, At), // of an older release
            new ToDevice.AttachSubDevice(Device, DeviceId.Parse("sub")),
            new ToConnection.AttachSubDevice(Device),
            new ToDevice.List(Device, 17),
            new ToDevice.Show(Device, Id),
            new ToDevice.Attach(Device, Guid.NewGuid(), At, new WireConnection(true, 20), TimeSpan.FromSeconds(60),
                false, 3, null, [.. TwoSubscriptions], true, connection, 3, TimeSpan.FromSeconds(5), 4711, 17),
            new ToDevice.Attach(Device, Guid.NewGuid(), At, new WireConnection(false, 65535, 1), TimeSpan.Zero, true, 1, [.. TwoSubscriptions], [], false, connection),
            new ToDevice.Detach(Device, Guid.NewGuid()),
            new ToDevice.Detach(Device, Guid.NewGuid(), TimeSpan.FromSeconds(5)),
            new ToDevice.PacketAcknowledged(Device, Guid.NewGuid(), 65535, 1, 0x97, 2, 17, true, true),
            new ToDevice.ReserveSubDeviceIds(Device, Guid.NewGuid(), 3),
            new ToDevice.ReturnSubDeviceIds(Device, 1_000, 1_024),
            new ToConnection.Challenged(4711),
            new ToConnection.AcknowledgementsTaken(2, 17),
            new ToConnection.SubDeviceIdsReserved(3, 1_024, 2_048),
            new ToDevice.Reminder(Device, Guid.NewGuid(), TimeSpan.FromSeconds(30)),
            new ToDevice.NotificationsAcknowledged(Device, 9),
            new ReminderHandled(Device),
            new ToConnection.Attached(4, true, [.. TwoSubscriptions]),
            new ToConnection.Transmit(Id, Full, 12, 1, true, TimeSpan.FromHours(1), 2, 3, 4),
            ToConnection.Evicted.ByYounger,
            new OutboxReply.Accepted(Id, MessageStatus.Failed, At),
            OutboxReply.Done.Instance,
            new OutboxReply.Messages([new KnownMessage(5, Id, Full, MessageStatus.Pending, At, At.AddDays(1), MessageStatus.Failed, At.AddHours(1), ErrorInfo.Deleted)], More: true),
            new OutboxReply.Refused(RefusalReason.TooMuchAtOnce),
            new ToSubscribers.Broadcast("project", "app", "$oc/broadcast/news", new byte[] { 0, 1, 255 }),
            new ToSubscribers.Find("project", null, "$oc/broadcast/news", 11),
            new Subscribers([Device]),
        ];

        foreach (var message in said)
        {
            var read = _serializer.FromBinary(_serializer.ToBinary(message), _serializer.Manifest(message));
            AssertSame(message, read);
        }
    }

    // What a node of this release says to one of another while a site is upgraded.
    [Fact]
    public void A_Transmit_says_what_is_left_of_its_ttl_and_one_that_does_not_say_it_is_read_too()
    {
        var transmit = new ToConnection.Transmit(Id, Full, 12, 1, true, TimeSpan.FromHours(24));

        Assert.Equal(Golden("transmit.v3.hex", transmit), Convert.ToHexString(_serializer.ToBinary(transmit)));
        var older = transmit with { Remaining = null };
        AssertSame(older, _serializer.FromBinary(Convert.FromHexString(Golden("transmit.v1.hex", older)), "cT"));
    }

    [Fact]
    public void A_snapshot_holds_the_packet_ids_too_and_one_of_an_older_release_has_none()
    {
        var outbox = Outbox.Empty.Apply(
            [
                new OutboxEvent.MessageAccepted(MessageId.Parse("m1"), Plain, MessageStatus.Pending, At, At.AddDays(1)),
                Events["packet-ids-reserved"],
                Events["sub-device-ids-reserved"],
                new OutboxEvent.PacketsUnacknowledged(ImmutableSortedDictionary<long, ushort>.Empty.Add(1, 7)),
            ],
            new DeliveryPolicy()).ToSnapshot();
        var golden = Golden("snapshot.v2.hex", outbox);

        Assert.Equal(golden, Convert.ToHexString(_serializer.ToBinary(outbox)));
        var read = ReadSnapshot(golden);
        Assert.Equal((1_024, 2_048), (read.PacketIdsUpTo, read.SubDeviceIdsUpTo));
        Assert.Equal(outbox.Unacknowledged, read.Unacknowledged);
        var older = ReadSnapshot(Golden("snapshot.v1.hex", outbox));
        Assert.Equal((0, 0, 0), (older.PacketIdsUpTo, older.SubDeviceIdsUpTo, older.Unacknowledged.Count));
    }

    [Fact]
    public void A_manifest_of_a_newer_release_is_refused_and_not_guessed() => Assert.Throws<ArgumentException>(() => _serializer.FromBinary([], "E9"));

    // Records compare their collections by reference; the printed form compares what is in them.
    private static void AssertSame(object expected, object actual)
    {
        Assert.Equal(expected.GetType(), actual.GetType());
        Assert.Equal(Print(expected), Print(actual));

        static string Print(object o) => System.Text.Json.JsonSerializer.Serialize(o, o.GetType(), new System.Text.Json.JsonSerializerOptions { Converters = { new AsText<IActorRef>(), new AsText<DeviceId>(), new AsText<MessageId>() } });
    }

    private sealed class AsText<T> : System.Text.Json.Serialization.JsonConverter<T>
    {
        public override bool CanConvert(Type typeToConvert) => typeof(T).IsAssignableFrom(typeToConvert);

        public override T Read(ref System.Text.Json.Utf8JsonReader reader, Type typeToConvert, System.Text.Json.JsonSerializerOptions options) => throw new NotSupportedException();

        public override void Write(System.Text.Json.Utf8JsonWriter writer, T value, System.Text.Json.JsonSerializerOptions options) =>
            writer.WriteStringValue(value is IActorRef actor ? actor.Path.ToStringWithoutAddress() : value!.ToString());
    }

    private string Golden(string name, object now)
    {
        var file = Path.Combine(AppContext.BaseDirectory, "Serialization/golden", name);
        Assert.True(File.Exists(file), $"golden/{name} is missing. What this release writes: {Convert.ToHexString(_serializer.ToBinary(now))}");
        return File.ReadAllText(file).Trim();
    }
}
