namespace IoTDelivery.Devices.Tests;

/// <summary>Who will lose a partition, as both sides see it before the resolver decides.</summary>
public sealed class SplitBrainRuleSpec
{
    [Theory]
    [InlineData(3, 0, true, false)] // whole
    [InlineData(1, 0, false, false)] // alone, and that is all there is
    [InlineData(2, 1, false, false)] // the larger side goes on
    [InlineData(1, 2, true, true)] // the smaller one ends, lowest address or not
    [InlineData(1, 1, true, false)] // of two equal ones the one with the lowest address goes on
    [InlineData(1, 1, false, true)]
    [InlineData(2, 2, false, true)]
    public void With_keep_majority_the_smaller_side_is_cut_off(int here, int there, bool hasLowest, bool isOnLosingSide) =>
        Assert.Equal(isOnLosingSide, SplitBrainRule.IsOnLosingSide(here, there, hasLowest, quorum: null));

    [Theory]
    [InlineData(2, 1, false)]
    [InlineData(1, 2, true)]
    [InlineData(1, 1, true)] // both sides: no quorum is left
    [InlineData(2, 3, false)]
    public void With_static_quorum_a_side_that_has_it_goes_on(int here, int there, bool isOnLosingSide) =>
        Assert.Equal(isOnLosingSide, SplitBrainRule.IsOnLosingSide(here, there, hasLowest: true, quorum: 2));

    [Fact]
    public void Two_sides_never_both_go_on_and_with_keep_majority_one_always_does()
    {
        for (var here = 1; here < 8; here++)
        {
            for (var there = 1; there < 8; there++)
            {
                foreach (var hasLowest in new[] { true, false })
                {
                    Assert.NotEqual(SplitBrainRule.IsOnLosingSide(here, there, hasLowest, null), SplitBrainRule.IsOnLosingSide(there, here, !hasLowest, null));
                    var majority = (here + there) / 2 + 1;
                    Assert.True(SplitBrainRule.IsOnLosingSide(here, there, hasLowest, majority) || SplitBrainRule.IsOnLosingSide(there, here, !hasLowest, majority));
                }
            }
        }
    }
}
