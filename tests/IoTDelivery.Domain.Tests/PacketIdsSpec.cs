using System.Collections.Immutable;
using static IoTDelivery.Domain.Tests.Given;

namespace IoTDelivery.Domain.Tests;

/// <summary>A PUBACK is never taken for another message, and a message that ended costs no place.</summary>
public sealed class PacketIdsSpec
{
    private static readonly WireConnection V311 = new(ForbidsRepeats: false, ReceiveMaximum: 65535);
    private static readonly WireConnection V5 = new(ForbidsRepeats: true, ReceiveMaximum: 65535);

    public static TheoryData<WireConnection> Connections => [V311, V5, V311 with { MessagesMax = 1 }, V5 with { MessagesMax = 1 }];

    private static Outbox Decide(Outbox outbox, Inflight wire, OutboxCommand command, double at = 0)
    {
        var events = outbox.Decide(command, wire, Noon.AddSeconds(at), Policy).Events;
        wire.Follow(outbox, events);
        return outbox.Apply(events, Policy);
    }

    // As the shell does: without reserved ids a row comes first.
    private static IReadOnlyList<Send> Next(Outbox outbox, Inflight wire, double at = 0)
    {
        var sends = wire.Next(outbox, outbox.NextNumber - 1, outbox.PacketIdsUpTo, Noon.AddSeconds(at), Policy);
        if (!wire.NeedsPacketIds) return sends;
        outbox = Decide(outbox, wire, OutboxCommand.ReservePacketIds.Instance, at);
        return [.. sends, .. wire.Next(outbox, outbox.NextNumber - 1, outbox.PacketIdsUpTo, Noon.AddSeconds(at), Policy)];
    }

    private static Inflight Connect(Outbox outbox, WireConnection connection, ImmutableSortedDictionary<long, ushort>? unacknowledged = null, bool isSame = false)
    {
        var wire = Inflight.None;
        wire.Connect(connection, [QoS1], outbox, unacknowledged ?? NoPackets, isSame, Policy);
        return wire;
    }

    // ---- reserved ids

    [Fact]
    public void Ids_are_reserved_with_the_row_of_the_first_message_and_long_before_they_run_out()
    {
        var (outbox, wire) = (Domain.Outbox.Empty, Connect(Domain.Outbox.Empty, V311));
        List<int> rows = [];
        for (var i = 0; i < 900; i++)
        {
            var accepted = outbox.Decide(Accept($"m{i}"), wire, Noon, Policy).Events;
            if (accepted.OfType<OutboxEvent.PacketIdsReserved>().Any()) rows.Add(i);
            wire.Follow(outbox, accepted);
            outbox = outbox.Apply(accepted, Policy);
            var tag = Assert.Single(Next(outbox, wire)).Tag;
            wire.Acknowledge(tag, 1);
            var delivered = outbox.Decide(new OutboxCommand.Acknowledge(Id($"m{i}")), wire, Noon, Policy).Events;
            if (delivered.OfType<OutboxEvent.PacketIdsReserved>().Any()) rows.Add(i);
            outbox = outbox.Apply(delivered, Policy);
        }

        Assert.Equal(0, rows[0]);
        Assert.Equal(2, rows.Count);
    }

    [Fact]
    public void An_id_that_is_not_reserved_in_the_journal_is_not_used()
    {
        var outbox = Given.Outbox(Accept("m1"));
        var wire = Connect(outbox, V311);

        Assert.Empty(wire.Next(outbox, 1, idsUpTo: 0, Noon, Policy));
        Assert.True(wire.NeedsPacketIds);
        Assert.Equal([new OutboxEvent.PacketIdsReserved(1_024)], outbox.Decide(OutboxCommand.ReservePacketIds.Instance, wire, Noon, Policy).Events);
        Assert.Single(wire.Next(outbox, 1, idsUpTo: 1_024, Noon, Policy));
    }

    [Fact]
    public void What_was_reserved_and_not_used_is_free_again_after_an_orderly_end_but_the_mark_never_goes_away()
    {
        var outbox = Decide(Domain.Outbox.Empty, Connect(Domain.Outbox.Empty, V311), new OutboxCommand.KeepSession(new KeptSession([QoS1], TimeSpan.MaxValue)));
        var wire = Connect(outbox, V311);
        outbox = Decide(outbox, wire, Accept("m1"));
        Next(outbox, wire);
        Next(outbox, wire, 1);
        wire.Disconnect();

        var returned = outbox.Decide(OutboxCommand.ReturnPacketIds.Instance, wire, Noon, Policy).Events;

        Assert.Equal([new OutboxEvent.PacketIdsReserved(1_025)], returned);
        var unused = Connect(Domain.Outbox.Empty, V311);
        outbox = Domain.Outbox.From(new OutboxSnapshot { PacketIdsUpTo = 1_024 });
        returned = outbox.Decide(OutboxCommand.ReturnPacketIds.Instance, unused, Noon, Policy).Events;
        Assert.Equal([new OutboxEvent.PacketIdsReserved(1)], returned);
    }

    // ---- an owner that remembers nothing

    [Theory]
    [MemberData(nameof(Connections))]
    public void After_a_crash_of_the_owner_a_late_PUBACK_is_nobodys_and_the_message_goes_out_under_an_id_behind_the_mark(WireConnection connection)
    {
        var outbox = Domain.Outbox.Empty;
        var wire = Connect(outbox, connection);
        outbox = Decide(outbox, wire, Accept("m1"));
        var first = Assert.Single(Next(outbox, wire));

        var next = Connect(outbox, connection, outbox.Unacknowledged, isSame: true);

        Assert.Null(next.Acknowledge(first.Tag, 1));
        Assert.True(Assert.Single(Next(outbox, next)).Tag > PacketIds.ReservedAhead);
    }

    [Fact]
    public void What_the_owner_noted_before_it_went_counts_for_the_next_one()
    {
        var outbox = Domain.Outbox.Empty;
        var wire = Connect(outbox, V5);
        outbox = Decide(outbox, wire, Accept("m1"));
        var first = Assert.Single(Next(outbox, wire));
        outbox = Decide(outbox, wire, new OutboxCommand.NoteUnacknowledged(wire.Unacknowledged()));

        var moved = Connect(outbox, V5, outbox.Unacknowledged, isSame: true);
        Assert.NotEqual(first.Tag, Assert.Single(Next(outbox, moved)).Tag); // [MQTT-4.4.0-1] not the same packet on the same connection
        Assert.Equal(1, moved.Acknowledge(first.Tag, 1));

        var later = Connect(outbox, V5, outbox.Unacknowledged);
        var again = Assert.Single(Next(outbox, later));
        Assert.Equal((first.Tag, true), (again.Tag, again.Dup)); // on a new one it must be
    }

    [Fact]
    public void A_message_that_ended_while_the_device_was_away_keeps_its_id_from_others()
    {
        var outbox = Decide(Domain.Outbox.Empty, Connect(Domain.Outbox.Empty, V311), new OutboxCommand.KeepSession(new KeptSession([QoS1], TimeSpan.MaxValue)));
        var wire = Connect(outbox, V311);
        outbox = Decide(outbox, wire, Accept("m1", ttl: 5));
        var first = Assert.Single(Next(outbox, wire));
        var unacknowledged = wire.Unacknowledged();
        wire.Disconnect();
        outbox = Decide(outbox, wire, new OutboxCommand.LeaveSession(null, unacknowledged));
        Assert.Equal(first.Tag, outbox.Unacknowledged[1]);
        outbox = Decide(outbox, wire, OutboxCommand.Expire.Instance, at: 300);
        outbox = Decide(outbox, wire, Accept("m2"), at: 300);

        var later = Connect(outbox, V311, outbox.Unacknowledged);

        Assert.Null(later.Acknowledge(first.Tag, 1));
        Assert.NotEqual(first.Tag, Assert.Single(Next(outbox, later)).Tag);
    }

    [Fact]
    public void A_clean_start_forgets_the_ids_of_the_session_in_the_journal_too()
    {
        var accepted = Given.Outbox(Accept("m1")).ToSnapshot();
        var outbox = Domain.Outbox.From(accepted with { PacketIdsUpTo = 1_024, Unacknowledged = NoPackets.Add(1, 7) });

        Assert.Empty(outbox.Decide(new OutboxCommand.KeepSession(null, GoesOn: true), Connect(outbox, V311), Noon, Policy).Events.OfType<OutboxEvent.PacketsUnacknowledged>());
        var events = outbox.Decide(new OutboxCommand.KeepSession(null, GoesOn: false), Connect(outbox, V311), Noon, Policy).Events;
        Assert.Empty(outbox.Apply(events, Policy).Unacknowledged);
    }

    [Fact]
    public void A_session_that_an_older_release_kept_does_not_go_on_once_and_its_ids_begin_behind_16384()
    {
        var accepted = Given.Outbox(Accept("m1")).ToSnapshot();
        var kept = accepted with { Session = new KeptSession([QoS1], TimeSpan.MaxValue) };
        var outbox = Domain.Outbox.From(kept);
        Assert.Null(outbox.SessionAt(Noon));

        var wire = Connect(outbox, V311);
        outbox = Decide(outbox, wire, new OutboxCommand.KeepSession(outbox.Session));

        Assert.Equal(PacketIds.StartWithoutMark + 1, Assert.Single(Next(outbox, wire)).Tag);
        Assert.NotNull(outbox.SessionAt(Noon));
    }

    // ---- the window counts messages

    [Theory]
    [MemberData(nameof(Connections))]
    public void A_message_that_ended_unacknowledged_costs_no_place_in_the_window(WireConnection connection)
    {
        var (outbox, wire) = (Domain.Outbox.Empty, Connect(Domain.Outbox.Empty, connection));
        for (var i = 0; i < 100; i++)
        {
            outbox = Decide(outbox, wire, Accept($"m{i}", ttl: 5), at: i * 400);
            Assert.Single(Next(outbox, wire, i * 400));
            outbox = Decide(outbox, wire, OutboxCommand.Expire.Instance, at: i * 400 + 300);
            Assert.Empty(outbox.Open);
        }

        Assert.Equal(0, wire.Count);
    }

    [Fact]
    public void A_Receive_Maximum_that_the_client_named_counts_the_packets_of_ended_messages_until_it_acknowledges_them()
    {
        var named = V5 with { ReceiveMaximum = 2 };
        var (outbox, wire) = (Domain.Outbox.Empty, Connect(Domain.Outbox.Empty, named));
        var tags = new List<ushort>();
        for (var i = 0; i < 2; i++)
        {
            outbox = Decide(outbox, wire, Accept($"m{i}", ttl: 5));
            tags.Add(Assert.Single(Next(outbox, wire)).Tag);
        }

        outbox = Decide(outbox, wire, OutboxCommand.Expire.Instance, at: 300);
        outbox = Decide(outbox, wire, Accept("m2"), at: 300);
        Assert.Empty(Next(outbox, wire, 300));

        Assert.Null(wire.Acknowledge(tags[0], 1)); // late: its message has ended
        Assert.Equal("m2", Assert.Single(Next(outbox, wire, 300)).Message.MessageId.Value);
    }

    [Fact]
    public void A_packet_that_was_never_sent_gives_its_place_back()
    {
        var named = V5 with { ReceiveMaximum = 1 };
        var (outbox, wire) = (Domain.Outbox.Empty, Connect(Domain.Outbox.Empty, named));
        outbox = Decide(outbox, wire, Accept("m1", ttl: 5));
        var tag = Assert.Single(Next(outbox, wire)).Tag;
        outbox = Decide(outbox, wire, OutboxCommand.Expire.Instance, at: 300);
        Assert.False(wire.HasRoom);

        wire.Skip(tag);

        Assert.True(wire.HasRoom);
        Assert.Null(wire.Acknowledge(tag, 1));
    }

    [Theory]
    [MemberData(nameof(Connections))]
    public void A_client_that_subscribes_again_and_again_does_not_get_a_message_for_ever(WireConnection connection)
    {
        var outbox = Given.Outbox(Accept("m1"));
        var wire = Connect(outbox, connection);
        var sent = 0;
        for (var second = 0; second < 2_000; second++)
        {
            wire.Subscribe([QoS1], [QoS1], outbox, Noon.AddSeconds(second), Policy);
            sent += wire.Next(outbox, Noon.AddSeconds(second)).Count;
        }

        Assert.Equal(Inflight.SendsMax, sent);
        Assert.Null(wire.NextAt);
    }

    // ---- sub-devices

    [Fact]
    public void A_gateway_reserves_ids_for_its_sub_devices_and_gets_back_what_it_did_not_use()
    {
        var reserved = Given.Outbox(OutboxCommand.ReserveSubDeviceIds.Instance, OutboxCommand.ReserveSubDeviceIds.Instance);
        Assert.Equal(2 * PacketIds.ReservedAhead, reserved.SubDeviceIdsUpTo);

        Assert.Empty(reserved.Decide(new OutboxCommand.ReturnSubDeviceIds(10, 1_024), Inflight.None, Noon, Policy).Events); // another connection has reserved since
        var back = reserved.Decide(new OutboxCommand.ReturnSubDeviceIds(1_030, 2_048), Inflight.None, Noon, Policy).Events;
        Assert.Equal([new OutboxEvent.SubDeviceIdsReserved(1_030)], back);
    }

    [Theory]
    [InlineData(0, 1, 0x8000)]
    [InlineData(32_766, 32_767, 0xFFFE)]
    [InlineData(32_767, 1, 0xFFFF)]
    [InlineData(32_768, 2, 0x8000)]
    public void Ids_go_round_in_their_half(long position, int own, int ofSubDevice) =>
        Assert.Equal((own, ofSubDevice), (PacketIds.At(position), PacketIds.OfSubDevice(position)));
}
