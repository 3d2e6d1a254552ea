using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>The talk between a connection and its device, as a value: epochs, revisions, sequence numbers.</summary>
public sealed class DeviceAttachmentSpec : Akka.TestKit.Xunit2.TestKit
{
    private readonly DeviceAttachment _attachment = new(Given.DeviceId, Guid.NewGuid(), heldMax: 2);
    private readonly IActorRef _device, _other;

    public DeviceAttachmentSpec() => (_device, _other) = (CreateTestProbe().Ref, CreateTestProbe().Ref);

    private static ToConnection.Transmit Packet(int sequence, int epoch = 0, int acknowledged = 0) =>
        Given.Transmit((ushort)(sequence + 100)) with { Epoch = epoch, Sequence = sequence, AcknowledgedUpTo = acknowledged };

    [Fact]
    public void What_comes_before_its_sender_says_that_it_is_attached_is_held_and_released_in_order()
    {
        Assert.Equal(TransmitVerdict.Held, _attachment.Receive(_device, Packet(1)));
        Assert.Equal(TransmitVerdict.Held, _attachment.Receive(_device, Packet(2)));

        Assert.Equal(AttachVerdict.Confirmed, _attachment.Confirm(_device, 1, out var released));
        Assert.Equal([1, 2], released.Select(p => p.Sequence));
        Assert.Equal(TransmitVerdict.Deliver, _attachment.Receive(_device, Packet(3)));
    }

    [Fact]
    public void What_was_held_beyond_the_bound_is_missed_and_begins_a_new_epoch()
    {
        for (var i = 1; i <= 3; i++) _attachment.Receive(_device, Packet(i));
        _attachment.Confirm(_device, 1, out _);

        Assert.Equal(TransmitVerdict.Gap, _attachment.Receive(_device, Packet(4)));
    }

    [Fact]
    public void What_another_sent_and_what_belongs_to_an_earlier_epoch_is_stale()
    {
        _attachment.Receive(_other, Packet(1));
        _attachment.Confirm(_device, 1, out var released);
        Assert.Empty(released);
        Assert.Equal(TransmitVerdict.Stale, _attachment.Receive(_other, Packet(1)));

        _attachment.Lose();
        Assert.Equal(TransmitVerdict.Stale, _attachment.Receive(_device, Packet(1)));
        Assert.Equal(AttachVerdict.Stale, _attachment.Confirm(_device, 1, out _));
        Assert.Equal(AttachVerdict.Confirmed, _attachment.Confirm(_other, 2, out _));
        Assert.Equal(TransmitVerdict.Deliver, _attachment.Receive(_other, Packet(1, epoch: 1)));
    }

    [Theory]
    [InlineData(1, 3, true)]
    [InlineData(2, 3, true)]
    [InlineData(1, 2, false)]
    public void A_packet_that_was_lost_is_missed_wherever_it_stood(int first, int second, bool isMissed)
    {
        _attachment.Confirm(_device, 1, out _);
        TransmitVerdict[] verdicts = [_attachment.Receive(_device, Packet(first)), _attachment.Receive(_device, Packet(second))];
        Assert.Equal(isMissed, verdicts.Contains(TransmitVerdict.Gap));
    }

    [Fact]
    public void When_two_claim_the_device_a_new_epoch_begins()
    {
        _attachment.Confirm(_device, 1, out _);
        _attachment.Revise();
        Assert.Equal(AttachVerdict.Restart, _attachment.Confirm(_other, 2, out _));
    }

    [Fact]
    public void An_acknowledgement_is_kept_until_the_device_has_taken_it_and_only_the_last_one_asks_for_an_answer()
    {
        _attachment.Confirm(_device, 1, out _);
        Assert.Equal([1, 2, 3], Enumerable.Range(1, 3).Select(i => _attachment.Acknowledge((ushort)i, 1, 0)!.Sequence));

        Assert.Equal([(1, false), (2, false), (3, true)], _attachment.Unconfirmed().Select(a => (a.Sequence, a.IsRepeated)));
        _attachment.Receive(_device, Packet(1, acknowledged: 2));
        Assert.Equal([(3, 3)], _attachment.Unconfirmed().Select(a => ((int)a.Tag, a.Sequence)));
        _attachment.Taken(epoch: 7, upTo: 3); // of another epoch
        Assert.True(_attachment.HasUnconfirmed);
        _attachment.Taken(epoch: 0, upTo: 3);
        Assert.False(_attachment.HasUnconfirmed);
    }

    [Fact]
    public void A_new_epoch_tells_what_was_not_taken_again_from_one_but_not_what_the_transport_took_for_the_former_owner()
    {
        _attachment.Confirm(_device, 1, out _);
        _attachment.Acknowledge(1, 1, 0);
        _attachment.Acknowledge(2, 0, 0);
        _attachment.Taken(0, 1);
        _attachment.Acknowledge(3, 1, 0x80);
        _attachment.Lose();
        Assert.Null(_attachment.Acknowledge(4, 1, 0)); // nobody is there

        _attachment.Confirm(_other, 2, out _);
        Assert.Equal([(3, 1, 1, 0x80), (4, 1, 2, 0)], _attachment.Unconfirmed().Select(a => ((int)a.Tag, a.Epoch, a.Sequence, (int)a.ReasonCode)));
    }

    [Fact]
    public void It_is_full_when_a_client_acknowledges_and_acknowledges_and_no_device_takes_it()
    {
        for (var i = 0; i < DeviceAttachment.UnconfirmedMax; i++) _attachment.Acknowledge(1, 1, 0);
        Assert.True(_attachment.IsFull);
        _attachment.Confirm(_device, 1, out _);
        _attachment.Taken(0, 1);
        Assert.False(_attachment.IsFull);
    }
}
