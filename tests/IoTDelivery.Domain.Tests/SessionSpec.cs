using System.Collections.Immutable;

namespace IoTDelivery.Domain.Tests;

/// <summary>How long a session outlives its connection (MQTT 5, 3.1.2.11.2; clean session 0 of MQTT 3.1.1: for ever).</summary>
public sealed class SessionSpec
{
    private static readonly DeliveryPolicy Policy = new();
    private static readonly DateTimeOffset Noon = new(2026, 3, 1, 12, 0, 0, TimeSpan.Zero);
    private static readonly ImmutableArray<Subscription> Subscribed = [new("a", 1)];
    private static readonly TimeSpan Minute = TimeSpan.FromMinutes(1);

    [Fact]
    public void It_ends_when_its_time_is_over_after_the_connection_is_gone_and_not_before()
    {
        var left = After(Kept(Minute), new OutboxCommand.LeaveSession(null));

        Assert.NotNull(left.SessionAt(Noon.AddSeconds(59)));
        Assert.Null(left.SessionAt(Noon.AddSeconds(60)));
    }

    [Fact]
    public void While_a_connection_holds_it_it_does_not_end() => Assert.NotNull(Kept(Minute).SessionAt(Noon.AddYears(1)));

    [Fact]
    public void A_connection_that_comes_in_time_holds_it_again()
    {
        var left = After(Kept(Minute), new OutboxCommand.LeaveSession(null));

        var held = After(left, new OutboxCommand.KeepSession(new KeptSession(Subscribed, Minute)));

        Assert.NotNull(held.SessionAt(Noon.AddYears(1)));
    }

    // 0 is "ends at once"
    [Fact]
    public void The_last_word_of_the_client_counts()
    {
        Assert.Null(After(Kept(Minute), new OutboxCommand.LeaveSession(TimeSpan.Zero)).Session);
        Assert.Equal(Noon.AddMinutes(5), After(Kept(Minute), new OutboxCommand.LeaveSession(5 * Minute)).Session!.EndsAt);
        Assert.NotNull(After(Kept(Minute), new OutboxCommand.LeaveSession(TimeSpan.MaxValue)).SessionAt(Noon.AddYears(100)));
        Assert.Equal(Noon.AddMinutes(5), After(Kept(TimeSpan.MaxValue), new OutboxCommand.LeaveSession(5 * Minute)).Session!.EndsAt);
    }

    [Fact]
    public void The_journal_hears_of_it_only_when_something_changes()
    {
        var (held, forever) = (Kept(Minute), Kept(TimeSpan.MaxValue));

        Assert.Empty(Decide(held, new OutboxCommand.KeepSession(new KeptSession([new("a", 1)], Minute))));
        Assert.Empty(Decide(forever, new OutboxCommand.LeaveSession(null)));
        Assert.Empty(Decide(Outbox.Empty, new OutboxCommand.LeaveSession(null)));
        Assert.Empty(Decide(Outbox.Empty, new OutboxCommand.KeepSession(null)));
        var left = After(held, new OutboxCommand.LeaveSession(null));
        Assert.Empty(Decide(left, new OutboxCommand.LeaveSession(null))); // said twice: its time does not start again
        Assert.Contains(new OutboxEvent.SessionKept(null), Decide(left, new OutboxCommand.KeepSession(null)));
    }

    private static Outbox Kept(TimeSpan expiry) => After(Outbox.Empty, new OutboxCommand.KeepSession(new KeptSession(Subscribed, expiry)));

    private static Outbox After(Outbox outbox, OutboxCommand command) => outbox.Apply(Decide(outbox, command), Policy);

    private static IReadOnlyList<OutboxEvent> Decide(Outbox outbox, OutboxCommand command) =>
        outbox.Decide(command, command is OutboxCommand.KeepSession ? Given.Online(outbox) : Inflight.None, Noon, Policy).Events;
}
