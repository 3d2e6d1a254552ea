using Akka.Actor;
using Akka.TestKit;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices.Tests.Actor;

/// <summary>What goes into which row, who is replied to when, and what a snapshot holds.</summary>
public sealed class JournalWriterSpec : Akka.TestKit.Xunit2.TestKit
{
    private readonly TestProbe _application;
    private readonly DeviceOptions _options = new();
    private JournalWriter _writer = null!;

    public JournalWriterSpec()
    {
        _application = CreateTestProbe();
        Begin();
    }

    private void Begin()
    {
        var services = new DeviceServices(
            new DeliveryPolicy(), _options, TimeProvider.System, null!, null!, null!, null!, null!);
        _writer = new JournalWriter("device-lamp", services, Inflight.None, new DeviceClock(TimeProvider.System, services.Calendar));
        _writer.OnRecovered(0);
    }

    private void Accept(string id, int bytes = 5) => _writer.Decide(
        new OutboxCommand.Accept(
            MessageId.Parse(id),
            new MessageBody(
                null, new string('x', bytes), ContentKind.Text, ContentEncoding.None, PayloadFormat.Standard, "t", 60)),
        _application.Ref);

    private IEnumerable<string>? NextRow(long? acknowledged = null, bool mayBeAlone = false) => _writer
        .NextRow(acknowledged is { } upTo ? new OutboxEvent.NotificationsAcknowledged(upTo) : null, mayBeAlone)
        ?.Select(e => e is OutboxEvent.MessageAccepted accepted ? accepted.MessageId.Value : e.GetType().Name)
        .ToArray();

    [Fact]
    public void What_comes_in_while_a_row_is_written_goes_into_the_next_one()
    {
        Accept("a");
        Assert.Equal(["a"], NextRow()!);
        Assert.True(_writer.IsBusy);
        Accept("b");
        Accept("c");
        _writer.OnStored();
        Assert.Equal(["b", "c"], NextRow()!);
    }

    [Fact]
    public void Nobody_hears_of_what_is_not_stored()
    {
        Accept("a");
        Accept("a"); // the same answer again, and no sooner
        _writer.Reply(_application.Ref, "a list");
        NextRow();
        _application.ExpectNoMsg(TimeSpan.Zero);
        _writer.OnStored();
        _application.ExpectMsg<OutboxReply.Accepted>();
        _application.ExpectMsg<OutboxReply.Accepted>();
        _application.ExpectMsg("a list");
        _application.ExpectNoMsg(TimeSpan.Zero);
    }

    [Fact]
    public void A_row_holds_no_more_than_its_bounds_and_one_message_at_least()
    {
        _options.BatchBytesMax = 10;
        Accept("a", bytes: 20);
        Accept("b");
        Accept("c");
        Accept("d");
        Assert.Equal(["a"], NextRow()!);
        _writer.OnStored();
        Assert.Equal(["b", "c"], NextRow()!);
        _writer.OnStored();
        Assert.Equal(["d"], NextRow()!);
    }

    [Fact]
    public void Acknowledged_notifications_go_along_and_alone_only_where_they_may()
    {
        Assert.Null(NextRow(acknowledged: 1));
        Accept("a");
        Assert.Equal(["NotificationsAcknowledged", "a"], NextRow(acknowledged: 1)!);
        _writer.OnStored();
        Assert.Equal(["NotificationsAcknowledged"], NextRow(acknowledged: 2, mayBeAlone: true)!);
    }

    [Fact]
    public void When_a_write_fails_everybody_who_waits_hears_it_and_nothing_is_left()
    {
        Accept("a");
        NextRow();
        Accept("b");
        _writer.ReplyUnavailable();
        for (var i = 0; i < 2; i++)
        {
            Assert.Equal(RefusalReason.Unavailable, _application.ExpectMsg<OutboxReply.Refused>().Reason);
        }

        Assert.Equal(0, _writer.Waiting);
    }

    [Fact]
    public void A_snapshot_holds_exactly_what_is_stored_when_it_is_taken()
    {
        _options.SnapshotEvery = 10;
        for (var row = 1; row < 10; row++)
        {
            Accept($"m{row}");
            NextRow();
            _writer.OnStored();
            Assert.Null(_writer.DueSnapshot());
        }

        Accept("m10");
        NextRow();
        Accept("m11"); // ahead of the journal
        _writer.OnStored();
        var snapshot = _writer.DueSnapshot()!;
        Assert.Equal(11, snapshot.NextNumber);
        Assert.True(_writer.IsBusy);
        _writer.OnSnapshotDone();
        Assert.Equal(["m11"], NextRow()!);
    }

    [Theory]
    [InlineData(2)]
    [InlineData(0)]
    public void A_gap_in_the_journal_is_not_guessed_over(long sequenceNr) =>
        Assert.Contains("gap", Assert.Throws<InvalidOperationException>(
            () => _writer.Recover(new DeviceEvents([new OutboxEvent.QoS1Noted()]), sequenceNr)).Message);

    [Fact]
    public void Sequence_numbers_without_rows_are_not_guessed_over() =>
        Assert.Contains("ends at 0", Assert.Throws<InvalidOperationException>(() => _writer.OnRecovered(1)).Message);
}
