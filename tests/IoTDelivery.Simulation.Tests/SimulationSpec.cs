namespace IoTDelivery.Simulation.Tests;

/// <summary>Some of what <c>./build.sh sim</c> runs, and whether its checker is worth anything.</summary>
public sealed class SimulationSpec
{
    [Fact]
    public void Two_hundred_histories_keep_every_promise()
    {
        var summary = Summary.Of(Enumerable.Range(1, 200).Select(seed => History.Run(seed)));

        Assert.True(summary.Bad.Count == 0, string.Join('\n', summary.Bad.Select(h => $"./build.sh sim --seed {h.Seed}: {h.Violation}")));
        Assert.True(summary.Messages > 2_000, $"Only {summary.Messages} messages: the histories say nothing.");
        Assert.All(
            Enum.GetValues<Fault>().Except(History.NotYet),
            fault => Assert.True(summary.Faults.ContainsKey(fault.ToString()), $"{fault} never happened."));
    }

    [Theory]
    [InlineData(BrokenRule.AnsweredBeforeStored)]
    [InlineData(BrokenRule.AcknowledgedBeforeAnswered)]
    [InlineData(BrokenRule.OrderBrokenOnRepetition)]
    [InlineData(BrokenRule.LossUnnoticed)]
    [InlineData(BrokenRule.PubAckOfAnotherPacket)]
    [InlineData(BrokenRule.OldOwnerWrites)]
    [InlineData(BrokenRule.CallDeletedByRinging)]
    [InlineData(BrokenRule.ClockDecidesEviction)]
    [InlineData(BrokenRule.LatePubAckTaken)]
    [InlineData(BrokenRule.RetireOfAnotherLife)]
    [InlineData(BrokenRule.SubDeviceIdShared)]
    [InlineData(BrokenRule.SlowReceiverBlocksReminders)]
    [InlineData(BrokenRule.CommitOutcomeGuessed)]
    public void A_broken_rule_is_found_within_200_histories(BrokenRule broken) =>
        Assert.Contains(Enumerable.Range(1, 200), seed => History.Run(seed, broken).Violation is not null);

    [Fact]
    public void One_seed_is_one_history()
    {
        var first = Fingerprints();

        Assert.Equal(first, Fingerprints());
        Assert.Equal(first.Count, first.Distinct().Count());

        static List<long> Fingerprints() => [.. Enumerable.Range(1, 30).Select(seed => History.Run(seed, with: History.NotYet).Fingerprint)];
    }
}
