using System.Collections.Immutable;
using Akka.Actor;
using Akka.Serialization;
using Google.Protobuf;
using IoTDelivery.Domain;
using Proto = IoTDelivery.Devices.Serialization.Proto;

namespace IoTDelivery.Devices.Serialization;

/// <summary>
/// Stored events, snapshots and cluster messages of devices ↔ Protobuf. A manifest is two or three letters, because it stands in every row of the journal.
/// Manifests and the identifier are stored: never changed, never reused.
/// </summary>
public sealed class DeliverySerializer(ExtendedActorSystem system) : SerializerWithStringManifest(system)
{
    private const string EventsManifest = "E1";
    private const string SnapshotManifest = "S1";

    // On disk for ever: it names this serializer in every row.
    public override int Identifier => 4053;

    public override string Manifest(object o) => o switch
    {
        DeviceEvents => EventsManifest,
        OutboxSnapshot => SnapshotManifest,
        ToDevice.Command => "dC",
        ToDevice.List => "dL",
        ToDevice.Show => "dS",
        ToDevice.Attach => "dA",
        ToDevice.Detach => "dD",
        ToDevice.Disconnect => "dX",
        ToDevice.AttachSubDevice => "dK",
        ToDevice.SubDevicesChanged => "dV",
        ToDevice.PacketAcknowledged => "dP",
        ToDevice.ReserveSubDeviceIds => "dI",
        ToDevice.ReturnSubDeviceIds => "dJ",
        ToDevice.Reminder => "dW",
        ToDevice.NotificationsAcknowledged => "d$",
        ReminderHandled => "wA",
        ToConnection.Attached => "cA",
        ToConnection.Transmit => "cT",
        ToConnection.AcknowledgementsTaken => "cP",
        ToConnection.Challenged => "cC",
        ToConnection.SubDeviceIdsReserved => "cI",
        ToConnection.Evicted => "cE",
        ToConnection.AttachSubDevice => "cK",
        ToConnection.SubDevicesChanged => "cV",
        OutboxReply.Accepted => "rA",
        OutboxReply.Done => "rD",
        OutboxReply.Messages => "rM",
        OutboxReply.Refused => "rR",
        ToSubscribers.Broadcast => "bB",
        ToSubscribers.Find => "bF",
        Subscribers => "bS",
        _ => throw new ArgumentException($"{o.GetType()} is not a type of {nameof(DeliverySerializer)}.", nameof(o)),
    };

    public override byte[] ToBinary(object obj) => (obj switch
    {
        DeviceEvents o => (IMessage)Write(o),
        OutboxSnapshot o => Write(o),
        ToDevice.Command o => Write(o),
        ToDevice.List o => new Proto.List { DeviceId = o.DeviceId.Value, Before = o.Before },
        ToDevice.Show o => new Proto.Show { DeviceId = o.DeviceId.Value, MessageId = o.MessageId.Value },
        ToDevice.Attach o => Write(o),
        ToDevice.Disconnect o => Write(o),
        ToDevice.AttachSubDevice o => new Proto.AttachSubDevice { DeviceId = o.DeviceId.Value, SubDeviceId = o.SubDevice.Value },
        ToDevice.SubDevicesChanged o =>
            new Proto.SubDevicesChanged { DeviceId = o.DeviceId.Value, Version = o.Version },
        ToDevice.Detach o => Write(o),
        ToDevice.PacketAcknowledged o => Write(o),
        ToDevice.ReserveSubDeviceIds o => new Proto.ReserveSubDeviceIds
        {
            DeviceId = o.DeviceId.Value,
            ConnectionId = Write(o.ConnectionId),
            Request = o.Request,
        },
        ToDevice.ReturnSubDeviceIds o => new Proto.ReturnSubDeviceIds
        {
            DeviceId = o.DeviceId.Value,
            UsedUpTo = o.UsedUpTo,
            ReservedUpTo = o.ReservedUpTo,
        },
        ToDevice.Reminder o => new Proto.Reminder
        {
            // an older release relies on nothing then
            DeviceId = o.DeviceId.Value,
            Token = Write(o.Token),
            DueIn = o.DueIn.Ticks,
            DueAt = DateTimeOffset.MaxValue.UtcTicks,
        },
        ToDevice.NotificationsAcknowledged o => new Proto.AcknowledgeNotifications { DeviceId = o.DeviceId.Value, UpTo = o.UpTo },
        ReminderHandled o => new Proto.ReminderHandled { DeviceId = o.DeviceId.Value },
        ToConnection.Attached o => new Proto.Attached { Revision = o.Revision, SessionPresent = o.SessionPresent, Subscriptions = Write(o.Subscriptions) },
        ToConnection.Transmit o => Write(o),
        ToConnection.Challenged o => new Proto.Challenged { Challenge = o.Challenge },
        ToConnection.AcknowledgementsTaken o => new Proto.AcknowledgementsTaken { Epoch = o.Epoch, UpTo = o.UpTo },
        ToConnection.SubDeviceIdsReserved o => new Proto.SubDeviceIdsReserved { Request = o.Request, From = o.From, UpTo = o.UpTo },
        ToConnection.Evicted o => new Proto.Evicted { TakenOver = o.TakenOver },
        ToConnection.AttachSubDevice o => new Proto.SubDeviceToAttach { SubDeviceId = o.SubDevice.Value },
        ToConnection.SubDevicesChanged o => new Proto.SubDevicesToTell { Version = o.Version },
        OutboxReply.Accepted o => new Proto.Accepted { MessageId = o.MessageId.Value, Status = Write(o.Status), CreatedAt = o.CreatedAt.UtcTicks },
        OutboxReply.Done => new Proto.Done(),
        OutboxReply.Messages o => new Proto.Messages { Items = { o.Items.Select(Write) }, More = o.More },
        OutboxReply.Refused o => new Proto.Refused { Reason = (int)o.Reason },
        ToSubscribers.Broadcast o => new Proto.Broadcast { To = WriteTo(o), Payload = ByteString.CopyFrom(o.Payload.Span) },
        ToSubscribers.Find o => new Proto.FindSubscribers { To = WriteTo(o), Max = o.Max },
        Subscribers o => new Proto.Subscribers { DeviceIds = { o.DeviceIds.Select(d => d.Value) } },
        _ => throw new ArgumentException($"{obj.GetType()} is not a type of {nameof(DeliverySerializer)}.", nameof(obj)),
    }).ToByteArray();

    public override object FromBinary(byte[] bytes, string manifest) => manifest switch
    {
        EventsManifest => Read(Proto.DeviceEvents.Parser.ParseFrom(bytes)),
        SnapshotManifest => Read(Proto.OutboxSnapshot.Parser.ParseFrom(bytes)),
        "dC" => Read(Proto.Command.Parser.ParseFrom(bytes)),
        "dL" => Read(Proto.List.Parser.ParseFrom(bytes)),
        "dS" => Read(Proto.Show.Parser.ParseFrom(bytes)),
        "dA" => Read(Proto.Attach.Parser.ParseFrom(bytes)),
        "dD" => Read(Proto.Detach.Parser.ParseFrom(bytes)),
        "dX" => Read(Proto.Disconnect.Parser.ParseFrom(bytes)),
        "dK" => Read(Proto.AttachSubDevice.Parser.ParseFrom(bytes)),
        "dV" => Read(Proto.SubDevicesChanged.Parser.ParseFrom(bytes)),
        "dP" => Read(Proto.PacketAcknowledged.Parser.ParseFrom(bytes)),
        "dI" => Read(Proto.ReserveSubDeviceIds.Parser.ParseFrom(bytes)),
        "dJ" => Read(Proto.ReturnSubDeviceIds.Parser.ParseFrom(bytes)),
        "dW" => Read(Proto.Reminder.Parser.ParseFrom(bytes)),
        "d$" => Read(Proto.AcknowledgeNotifications.Parser.ParseFrom(bytes)),
        "wA" => new ReminderHandled(Device(Proto.ReminderHandled.Parser.ParseFrom(bytes).DeviceId)),
        "cA" => Read(Proto.Attached.Parser.ParseFrom(bytes)),
        "cT" => Read(Proto.Transmit.Parser.ParseFrom(bytes)),
        "cC" => new ToConnection.Challenged(Proto.Challenged.Parser.ParseFrom(bytes).Challenge),
        "cP" => Read(Proto.AcknowledgementsTaken.Parser.ParseFrom(bytes)),
        "cI" => Read(Proto.SubDeviceIdsReserved.Parser.ParseFrom(bytes)),
        "cE" => new ToConnection.Evicted(Proto.Evicted.Parser.ParseFrom(bytes).TakenOver),
        "cK" => new ToConnection.AttachSubDevice(Device(Proto.SubDeviceToAttach.Parser.ParseFrom(bytes).SubDeviceId)),
        "cV" => new ToConnection.SubDevicesChanged(Proto.SubDevicesToTell.Parser.ParseFrom(bytes).Version),
        "rA" => Read(Proto.Accepted.Parser.ParseFrom(bytes)),
        "rD" => OutboxReply.Done.Instance,
        "rM" => Read(Proto.Messages.Parser.ParseFrom(bytes)),
        "rR" => new OutboxReply.Refused((RefusalReason)Proto.Refused.Parser.ParseFrom(bytes).Reason),
        "bB" => Read(Proto.Broadcast.Parser.ParseFrom(bytes)),
        "bF" => Read(Proto.FindSubscribers.Parser.ParseFrom(bytes)),
        "bS" => new Subscribers([.. Proto.Subscribers.Parser.ParseFrom(bytes).DeviceIds.Select(Device)]),
        _ => throw new ArgumentException($"Manifest '{manifest}' is unknown: this release is older than the one that wrote it.", nameof(manifest)),
    };

    // ---- events

    private static Proto.DeviceEvents Write(DeviceEvents o)
    {
        var proto = new Proto.DeviceEvents();
        foreach (var @event in o.Events) proto.Events.Add(Write(@event));
        return proto;
    }

    private static DeviceEvents Read(Proto.DeviceEvents m)
    {
        var events = new OutboxEvent[m.Events.Count];
        for (var i = 0; i < events.Length; i++) events[i] = Read(m.Events[i]);
        return new DeviceEvents(events);
    }

    private static Proto.Event Write(OutboxEvent @event) => @event switch
    {
        OutboxEvent.MessageAccepted e => new()
        {
            MessageAccepted = new()
            {
                MessageId = e.MessageId.Value,
                Body = Write(e.Body),
                Answer = Write(e.Answer),
                At = e.At.UtcTicks,
                ExpiresAt = e.ExpiresAt.UtcTicks,
            },
        },
        OutboxEvent.MessageDelivered e => new() { MessageDelivered = new() { MessageId = e.MessageId.Value, At = e.At.UtcTicks } },
        OutboxEvent.MessageTimedOut e => new() { MessageTimedOut = new() { MessageId = e.MessageId.Value, At = e.At.UtcTicks } },
        OutboxEvent.MessageFailed e => new() { MessageFailed = new() { MessageId = e.MessageId.Value, Error = Write(e.Error), At = e.At.UtcTicks } },
        OutboxEvent.MessageDeleted e => new() { MessageDeleted = new() { MessageId = e.MessageId.Value, At = e.At.UtcTicks } },
        OutboxEvent.SessionKept { Expiry: { } expiry } e => new() { SessionKept = new() { Subscriptions = Write(e.Subscriptions), Expiry = expiry.Ticks } },
        OutboxEvent.SessionKept e => new() { SessionKept = new() { Subscriptions = Write(e.Subscriptions) } },
        OutboxEvent.SessionLeft e => new() { SessionLeft = new() { EndsAt = e.EndsAt.UtcTicks } },
        OutboxEvent.PacketIdsReserved e => new() { PacketIdsReserved = new() { UpTo = e.UpTo } },
        OutboxEvent.SubDeviceIdsReserved e => new() { SubDeviceIdsReserved = new() { UpTo = e.UpTo } },
        OutboxEvent.PacketsUnacknowledged e => new() { PacketsUnacknowledged = new() { Items = { Write(e.PacketIds) } } },
        OutboxEvent.QoS1Noted => new() { Qos1Noted = new() },
        OutboxEvent.Registered e => new() { Registered = new() { At = e.At.UtcTicks, Life = e.Life } },
        OutboxEvent.Retired e => new()
        {
            Retired = new() { Header = Write(e.Header), At = e.At.UtcTicks, Life = e.Life },
        },
        OutboxEvent.LoginsEnded e => new() { LoginsEnded = new() { Generation = e.Generation } },
        OutboxEvent.Fenced => new() { Fenced = new() },
        OutboxEvent.NotificationsAcknowledged e => new() { NotificationsAcknowledged = new() { UpTo = e.UpTo } },
        _ => throw new ArgumentOutOfRangeException(nameof(@event), @event, "Unknown outbox event."),
    };

    private static OutboxEvent Read(Proto.Event m) => m.KindCase switch
    {
        Proto.Event.KindOneofCase.MessageAccepted when m.MessageAccepted is var e =>
            new OutboxEvent.MessageAccepted(Id(e.MessageId), Read(e.Body), Read(e.Answer), Time(e.At), Time(e.ExpiresAt)),
        Proto.Event.KindOneofCase.MessageDelivered => new OutboxEvent.MessageDelivered(Id(m.MessageDelivered.MessageId), Time(m.MessageDelivered.At)),
        Proto.Event.KindOneofCase.MessageTimedOut => new OutboxEvent.MessageTimedOut(Id(m.MessageTimedOut.MessageId), Time(m.MessageTimedOut.At)),
        Proto.Event.KindOneofCase.MessageFailed when m.MessageFailed is var e => new OutboxEvent.MessageFailed(Id(e.MessageId), Read(e.Error)!, Time(e.At)),
        Proto.Event.KindOneofCase.MessageDeleted => new OutboxEvent.MessageDeleted(Id(m.MessageDeleted.MessageId), Time(m.MessageDeleted.At)),
        Proto.Event.KindOneofCase.SessionKept => new OutboxEvent.SessionKept(
            ReadOptional(m.SessionKept.Subscriptions), m.SessionKept.HasExpiry ? TimeSpan.FromTicks(m.SessionKept.Expiry) : null),
        Proto.Event.KindOneofCase.SessionLeft => new OutboxEvent.SessionLeft(Time(m.SessionLeft.EndsAt)),
        Proto.Event.KindOneofCase.PacketIdsReserved => new OutboxEvent.PacketIdsReserved(m.PacketIdsReserved.UpTo),
        Proto.Event.KindOneofCase.SubDeviceIdsReserved => new OutboxEvent.SubDeviceIdsReserved(m.SubDeviceIdsReserved.UpTo),
        Proto.Event.KindOneofCase.PacketsUnacknowledged => new OutboxEvent.PacketsUnacknowledged(Read(m.PacketsUnacknowledged.Items)),
        Proto.Event.KindOneofCase.Qos1Noted => new OutboxEvent.QoS1Noted(),
        Proto.Event.KindOneofCase.Registered => new OutboxEvent.Registered(Time(m.Registered.At), m.Registered.Life),
        Proto.Event.KindOneofCase.Retired when m.Retired is var e =>
            new OutboxEvent.Retired(Read(e.Header)!, Time(e.At), e.Life),
        Proto.Event.KindOneofCase.LoginsEnded => new OutboxEvent.LoginsEnded(m.LoginsEnded.Generation),
        Proto.Event.KindOneofCase.Fenced => new OutboxEvent.Fenced(),
        Proto.Event.KindOneofCase.NotificationsAcknowledged => new OutboxEvent.NotificationsAcknowledged(m.NotificationsAcknowledged.UpTo),
        var unknown => throw new InvalidOperationException($"Stored event {unknown} is unknown: this release is older than the one that wrote it."),
    };

    // ---- snapshot

    private static Proto.OutboxSnapshot Write(OutboxSnapshot o)
    {
        var proto = WriteWithoutSessionEnd(o);
        if (o.Session is { } session && session.Expiry != TimeSpan.MaxValue) proto.SessionExpiry = session.Expiry.Ticks;
        if (o.Session?.EndsAt is { } endsAt) proto.SessionEndsAt = endsAt.UtcTicks;
        return proto;
    }

    private static Proto.OutboxSnapshot WriteWithoutSessionEnd(OutboxSnapshot o) => new()
    {
        Open = { o.Open.Select(Write) },
        Ended = { o.Ended.Select(Write) },
        RememberedIds = { o.Remembered.Select(Write) },
        Notifications = { o.Notifications.Select(Write) },
        Session = Write(o.Session?.Subscriptions),
        AskedForQos1 = o.AskedForQoS1,
        IsRetired = o.IsRetired,
        NextNumber = o.NextNumber,
        NextNotification = o.NextNotification,
        PacketIdsUpTo = o.PacketIdsUpTo,
        SubDeviceIdsUpTo = o.SubDeviceIdsUpTo,
        Unacknowledged = { Write(o.Unacknowledged) },
        Life = o.Life,
        LoginsEndedBy = o.LoginsEndedBy,
    };

    private static OutboxSnapshot Read(Proto.OutboxSnapshot m) => new()
    {
        Open = [.. m.Open.Select(Read)],
        Ended = [.. m.Ended.Select(Read)],
        Remembered = [.. ReadIds(m.Remembered), .. m.RememberedIds.Select(Read)],
        Notifications = [.. m.Notifications.Select(Read)],
        Session = m.Session is null
            ? null
            : new KeptSession(Read(m.Session), m.HasSessionExpiry ? TimeSpan.FromTicks(m.SessionExpiry) : TimeSpan.MaxValue, m.HasSessionEndsAt ? Time(m.SessionEndsAt) : null),
        AskedForQoS1 = m.AskedForQos1,
        IsRetired = m.IsRetired,
        NextNumber = m.NextNumber,
        NextNotification = m.NextNotification,
        PacketIdsUpTo = m.PacketIdsUpTo,
        SubDeviceIdsUpTo = m.SubDeviceIdsUpTo,
        Unacknowledged = Read(m.Unacknowledged),
        Life = m.Life,
        LoginsEndedBy = m.LoginsEndedBy,
    };

    // An older release listed an id again when it had ended again; only its last end counts.
    private static IEnumerable<Remembered> ReadIds(IReadOnlyList<Proto.Remembered> items)
    {
        var last = new Dictionary<string, int>();
        for (var i = 0; i < items.Count; i++) last[items[i].MessageId] = i;
        return items.Where((item, i) => last[item.MessageId] == i).Select(Read);
    }

    private static Proto.KnownMessage Write(KnownMessage o)
    {
        var proto = new Proto.KnownMessage
        {
            Number = o.Number,
            MessageId = o.MessageId.Value,
            Body = Write(o.Body),
            Answer = Write(o.Answer),
            AcceptedAt = o.AcceptedAt.UtcTicks,
            ExpiresAt = o.ExpiresAt.UtcTicks,
            Status = Write(o.Status),
            Error = Write(o.Error),
        };
        if (o.EndedAt is { } endedAt) proto.EndedAt = endedAt.UtcTicks;
        return proto;
    }

    private static KnownMessage Read(Proto.KnownMessage m) => new(
        m.Number, Id(m.MessageId), Read(m.Body), Read(m.Answer), Time(m.AcceptedAt), Time(m.ExpiresAt), Read(m.Status), m.HasEndedAt ? Time(m.EndedAt) : null, Read(m.Error));

    private static Proto.RememberedId Write(Remembered o) => new()
    {
        IdHigh = o.Id.High,
        IdLow = o.Id.Low,
        HashHigh = o.Hash.High,
        HashLow = o.Hash.Low,
        Answer = Write(o.Answer),
        AcceptedAt = o.AcceptedAt.UtcTicks,
        EndedAt = o.EndedAt.UtcTicks,
    };

    private static Remembered Read(Proto.RememberedId m) => new(
        new IdDigest(m.IdHigh, m.IdLow),
        new BodyHash(m.HashHigh, m.HashLow),
        Read(m.Answer),
        Time(m.AcceptedAt),
        Time(m.EndedAt));

    private static Remembered Read(Proto.Remembered m) => new(
        Id(m.MessageId).Digest,
        new BodyHash(m.HashHigh, m.HashLow),
        Read(m.Answer),
        Time(m.AcceptedAt),
        Time(m.EndedAt));

    private static Proto.Notification Write(Notification o)
    {
        var proto = new Proto.Notification
        {
            Number = o.Number,
            MessageId = o.MessageId.Value,
            Topic = o.Topic,
            Status = Write(o.Status),
            At = o.At.UtcTicks,
            Error = Write(o.Error),
            Header = o.Header is null ? null : Write(o.Header),
        };
        if (o.Name is not null) proto.Name = o.Name;
        return proto;
    }

    private static Notification Read(Proto.Notification m) =>
        new(m.Number, Id(m.MessageId), m.HasName ? m.Name : null, m.Topic, Read(m.Status), Time(m.At), Read(m.Error), Read(m.Header));

    // ---- between nodes

    private static Proto.Disconnect Write(ToDevice.Disconnect o)
    {
        var proto = new Proto.Disconnect { DeviceId = o.DeviceId.Value, At = o.At.UtcTicks };
        if (o.Generation is { } generation) proto.Generation = generation;
        return proto;
    }

    private static ToDevice.Disconnect Read(Proto.Disconnect m) =>
        new(Device(m.DeviceId), m.HasGeneration ? m.Generation : null, Time(m.At));

    private static ToDevice.AttachSubDevice Read(Proto.AttachSubDevice m) => new(Device(m.DeviceId), Device(m.SubDeviceId));

    private static ToDevice.SubDevicesChanged Read(Proto.SubDevicesChanged m) => new(Device(m.DeviceId), m.Version);

    private static Proto.Command Write(ToDevice.Command o) => o.Ask switch
    {
        OutboxCommand.Accept a => new() { DeviceId = o.DeviceId.Value, Accept = new() { MessageId = a.MessageId.Value, Body = Write(a.Body) } },
        OutboxCommand.Delete d => new() { DeviceId = o.DeviceId.Value, DeleteMessageId = d.MessageId.Value },
        OutboxCommand.Register r => new() { DeviceId = o.DeviceId.Value, Register = true, Life = r.Life },
        OutboxCommand.Retire r => new() { DeviceId = o.DeviceId.Value, Retire = Write(r.Header), Life = r.Life },
        OutboxCommand.DeleteAll => new() { DeviceId = o.DeviceId.Value, DeleteAll = true },
        _ => throw new ArgumentException($"{o.Ask.GetType().Name} is a device's own affair and is not sent.", nameof(o)),
    };

    private static ToDevice.Command Read(Proto.Command m) => new(Device(m.DeviceId), m.AskCase switch
    {
        Proto.Command.AskOneofCase.Accept => new OutboxCommand.Accept(Id(m.Accept.MessageId), Read(m.Accept.Body)),
        Proto.Command.AskOneofCase.DeleteMessageId => new OutboxCommand.Delete(Id(m.DeleteMessageId)),
        Proto.Command.AskOneofCase.Register => new OutboxCommand.Register(m.Life),
        Proto.Command.AskOneofCase.Retire => new OutboxCommand.Retire(Read(m.Retire)!, m.Life),
        Proto.Command.AskOneofCase.DeleteAll => OutboxCommand.DeleteAll.Instance,
        var unknown => throw new InvalidOperationException($"Command {unknown} is unknown: this release is older than the sender's."),
    });

    private static Proto.Attach Write(ToDevice.Attach o)
    {
        var proto = WriteWithoutGeneration(o);
        if (o.Generation is { } generation) proto.Generation = generation;
        return proto;
    }

    private static Proto.Attach WriteWithoutGeneration(ToDevice.Attach o) => new()
    {
        DeviceId = o.DeviceId.Value,
        ConnectionId = Write(o.ConnectionId),
        ConnectedAt = o.ConnectedAt.UtcTicks,
        ForbidsRepeats = o.Wire.ForbidsRepeats,
        ReceiveMaximum = o.Wire.ReceiveMaximum,
        KeepsSession = o.KeepsSession,
        StartsClean = o.StartsClean,
        Revision = o.Revision,
        Subscriptions = Write(o.Subscriptions),
        Subscribed = Write((ImmutableArray<Subscription>?)o.Subscribed),
        Implicit = o.Implicit,
        Connection = Akka.Serialization.Serialization.SerializedActorPath(o.Connection),
        SessionExpiry = o.SessionExpiry.Ticks,
        Epoch = o.Epoch,
        Age = o.Age.Ticks,
        Challenge = o.Challenge,
        MessagesMax = o.Wire.MessagesMax == int.MaxValue ? 0 : o.Wire.MessagesMax,
    };

    private static Proto.Detach Write(ToDevice.Detach o)
    {
        var proto = new Proto.Detach { DeviceId = o.DeviceId.Value, ConnectionId = Write(o.ConnectionId) };
        if (o.SessionExpiry is { } expiry) proto.SessionExpiry = expiry.Ticks;
        return proto;
    }

    private static Proto.Transmit Write(ToConnection.Transmit o)
    {
        var proto = new Proto.Transmit
        {
            MessageId = o.MessageId.Value,
            Body = Write(o.Body),
            Tag = o.Tag,
            Qos = o.QoS,
            Dup = o.Dup,
            Epoch = o.Epoch,
            Sequence = o.Sequence,
            AcknowledgedUpTo = o.AcknowledgedUpTo,
        };
        if (o.Remaining is { } remaining) proto.Remaining = remaining.Ticks;
        return proto;
    }

    private static Proto.PacketAcknowledged Write(ToDevice.PacketAcknowledged o) => new()
    {
        DeviceId = o.DeviceId.Value,
        ConnectionId = Write(o.ConnectionId),
        Tag = o.Tag,
        Qos = o.QoS,
        ReasonCode = o.ReasonCode,
        Epoch = o.Epoch,
        Sequence = o.Sequence,
        IsRepeated = o.IsRepeated,
        IsSkipped = o.IsSkipped,
    };

    private ToDevice.Attach Read(Proto.Attach m) => new(
        Device(m.DeviceId),
        ReadGuid(m.ConnectionId),
        Time(m.ConnectedAt),
        new WireConnection(m.ForbidsRepeats, m.ReceiveMaximum, m.MessagesMax == 0 ? int.MaxValue : m.MessagesMax),
        m.HasSessionExpiry ? TimeSpan.FromTicks(m.SessionExpiry) : m.KeepsSession ? TimeSpan.MaxValue : TimeSpan.Zero,
        m.StartsClean,
        m.Revision,
        ReadOptional(m.Subscriptions),
        Read(m.Subscribed),
        m.Implicit,
        system.Provider.ResolveActorRef(m.Connection),
        m.Epoch,
        TimeSpan.FromTicks(m.Age),
        m.Challenge,
        m.HasGeneration ? m.Generation : null);

    private static ToDevice.List Read(Proto.List m) => new(Device(m.DeviceId), m.Before);

    private static ToDevice.Show Read(Proto.Show m) => new(Device(m.DeviceId), Id(m.MessageId));

    private static ToDevice.Detach Read(Proto.Detach m) => new(
        Device(m.DeviceId), ReadGuid(m.ConnectionId), m.HasSessionExpiry ? TimeSpan.FromTicks(m.SessionExpiry) : null);

    private static ToDevice.PacketAcknowledged Read(Proto.PacketAcknowledged m) => new(
        Device(m.DeviceId),
        ReadGuid(m.ConnectionId),
        (ushort)m.Tag,
        m.Qos,
        (byte)m.ReasonCode,
        m.Epoch,
        m.Sequence,
        m.IsRepeated,
        m.IsSkipped);

    private static ToDevice.ReserveSubDeviceIds Read(Proto.ReserveSubDeviceIds m) => new(Device(m.DeviceId), ReadGuid(m.ConnectionId), m.Request);

    private static ToDevice.ReturnSubDeviceIds Read(Proto.ReturnSubDeviceIds m) => new(Device(m.DeviceId), m.UsedUpTo, m.ReservedUpTo);

    private static ToDevice.Reminder Read(Proto.Reminder m) =>
        new(Device(m.DeviceId), ReadGuid(m.Token), new TimeSpan(m.DueIn));

    private static ToDevice.NotificationsAcknowledged Read(Proto.AcknowledgeNotifications m) => new(Device(m.DeviceId), m.UpTo);

    private static ToConnection.Attached Read(Proto.Attached m) => new(m.Revision, m.SessionPresent, Read(m.Subscriptions));

    private static ToConnection.Transmit Read(Proto.Transmit m) => new(
        Id(m.MessageId),
        Read(m.Body),
        (ushort)m.Tag,
        m.Qos,
        m.Dup,
        m.HasRemaining ? TimeSpan.FromTicks(m.Remaining) : null,
        m.Epoch,
        m.Sequence,
        m.AcknowledgedUpTo);

    private static ToConnection.AcknowledgementsTaken Read(Proto.AcknowledgementsTaken m) => new(m.Epoch, m.UpTo);

    private static ToConnection.SubDeviceIdsReserved Read(Proto.SubDeviceIdsReserved m) => new(m.Request, m.From, m.UpTo);

    private static OutboxReply.Accepted Read(Proto.Accepted m) => new(Id(m.MessageId), Read(m.Status), Time(m.CreatedAt));

    private static OutboxReply.Messages Read(Proto.Messages m) => new([.. m.Items.Select(Read)], m.More);

    private static Proto.ToSubscribers WriteTo(ToSubscribers o)
    {
        var proto = new Proto.ToSubscribers { ProjectId = o.ProjectId, Topic = o.Topic };
        if (o.AppId is not null) proto.AppId = o.AppId;
        return proto;
    }

    private static ToSubscribers.Broadcast Read(Proto.Broadcast m) => new(m.To.ProjectId, m.To.HasAppId ? m.To.AppId : null, m.To.Topic, m.Payload.Memory);

    private static ToSubscribers.Find Read(Proto.FindSubscribers m) => new(m.To.ProjectId, m.To.HasAppId ? m.To.AppId : null, m.To.Topic, m.Max);

    // ---- the small things

    private static Proto.Body Write(MessageBody o)
    {
        var proto = new Proto.Body
        {
            Content = o.Content,
            Kind = (Proto.Kind)o.Kind,
            Encoding = (Proto.Encoding)o.Encoding,
            Format = (Proto.Format)o.Format,
            Topic = o.Topic,
            Ttl = o.Ttl,
        };
        if (o.Name is not null) proto.Name = o.Name;
        if (o.Properties is { } properties)
        {
            proto.Properties = new Proto.Properties { UserProperties = { properties.UserProperties.Select(p => new Proto.UserProperty { Key = p.Key, Value = p.Value }) } };
            if (properties.CorrelationData is not null) proto.Properties.CorrelationData = properties.CorrelationData;
            if (properties.ResponseTopic is not null) proto.Properties.ResponseTopic = properties.ResponseTopic;
        }

        return proto;
    }

    private static MessageBody Read(Proto.Body m) => new(
        m.HasName ? m.Name : null, m.Content, (ContentKind)m.Kind, (ContentEncoding)m.Encoding, (PayloadFormat)m.Format, m.Topic, m.Ttl,
        m.Properties is not { } p ? null : new MessageProperties(
            p.HasCorrelationData ? p.CorrelationData : null, p.HasResponseTopic ? p.ResponseTopic : null,
            [.. p.UserProperties.Select(u => new UserProperty(u.Key, u.Value))]));

    private static Proto.ErrorInfo? Write(ErrorInfo? o) => o is null ? null : new() { Code = o.Code, Text = o.Text };

    private static ErrorInfo? Read(Proto.ErrorInfo? m) => m is null ? null : new(m.Code, m.Text);

    private static Proto.DeviceHeader Write(DeviceHeader o)
    {
        var proto = new Proto.DeviceHeader { ProjectId = o.ProjectId, NodeId = o.NodeId, ProductId = o.ProductId };
        if (o.AppId is not null) proto.AppId = o.AppId;
        if (o.GatewayId is not null) proto.GatewayId = o.GatewayId;
        return proto;
    }

    private static DeviceHeader? Read(Proto.DeviceHeader? m) =>
        m is null ? null : new(m.ProjectId, m.HasAppId ? m.AppId : null, m.NodeId, m.ProductId, m.HasGatewayId ? m.GatewayId : null);

    private static Proto.Subscriptions? Write(ImmutableArray<Subscription>? o) => o is not { } items
        ? null
        : new() { Items = { items.Select(s => new Proto.Subscription { TopicFilter = s.TopicFilter, Qos = s.QoS }) } };

    private static ImmutableArray<Subscription>? ReadOptional(Proto.Subscriptions? m) => m is null ? null : Read(m);

    private static ImmutableArray<Subscription> Read(Proto.Subscriptions? m) =>
        m is null ? [] : [.. m.Items.Select(s => new Subscription(s.TopicFilter, s.Qos))];

    private static IEnumerable<Proto.PacketId> Write(ImmutableSortedDictionary<long, ushort> o) =>
        o.Select(p => new Proto.PacketId { Number = p.Key, Id = p.Value });

    private static ImmutableSortedDictionary<long, ushort> Read(IEnumerable<Proto.PacketId> m) =>
        m.ToImmutableSortedDictionary(p => p.Number, p => (ushort)p.Id);

    private static Proto.Status Write(MessageStatus o) => (Proto.Status)o;

    private static MessageStatus Read(Proto.Status m) => (MessageStatus)m;

    private static DateTimeOffset Time(long ticks) => new(ticks, TimeSpan.Zero);

    private static MessageId Id(string text) => MessageId.Parse(text);

    private static DeviceId Device(string text) => DeviceId.Parse(text);

    private static ByteString Write(Guid guid) => ByteString.CopyFrom(guid.ToByteArray());

    private static Guid ReadGuid(ByteString bytes) => new(bytes.Span);
}
