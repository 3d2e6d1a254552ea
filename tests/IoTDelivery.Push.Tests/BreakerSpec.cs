namespace IoTDelivery.Push.Tests;

public sealed class BreakerSpec
{
    private static readonly PushOptions Options = new() { BreakerFailures = 3, ProbeInterval = TimeSpan.FromMilliseconds(100) };

    private static readonly Breaker Open = default(Breaker).Failed(0, Options).Failed(0, Options).Failed(1000, Options);

    [Fact]
    public void It_opens_after_as_many_failures_in_a_row_as_the_setting_says()
    {
        Assert.False(default(Breaker).Failed(0, Options).Failed(0, Options).IsOpen);
        Assert.True(Open.IsOpen);
    }

    [Fact]
    public void An_answer_starts_the_counting_again() =>
        Assert.False(default(Breaker).Failed(0, Options).Failed(0, Options).Answered().Failed(0, Options).Failed(0, Options).IsOpen);

    [Fact]
    public void A_probe_may_go_when_the_interval_is_over()
    {
        Assert.False(Open.MayProbe(1099));
        Assert.True(Open.MayProbe(1100));
    }

    [Fact]
    public void A_probe_that_fails_postpones_the_next_one()
    {
        var again = Open.Failed(1100, Options);
        Assert.True(again.IsOpen);
        Assert.False(again.MayProbe(1199));
        Assert.True(again.MayProbe(1200));
    }

    [Fact]
    public void A_probe_that_is_answered_closes_it() => Assert.Equal(default, Open.Answered());

    [Fact]
    public void A_closed_one_has_nothing_to_probe() => Assert.False(default(Breaker).MayProbe(long.MaxValue));

    [Fact]
    public void One_that_another_node_opened_is_probed_in_its_turn_even_if_that_nodes_clock_is_ahead()
    {
        Assert.True(Breaker.OpenSince(900, now: 1000, Options).MayProbe(1000));
        Assert.False(Breaker.OpenSince(950, now: 1000, Options).MayProbe(1000));
        Assert.True(Breaker.OpenSince(999_999, now: 1000, Options).MayProbe(1100));
    }
}
