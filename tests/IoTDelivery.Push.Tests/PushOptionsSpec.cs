using IoTDelivery.Registry;

namespace IoTDelivery.Push.Tests;

public sealed class PushOptionsSpec
{
    [Fact]
    public void What_is_shipped_is_right() => Assert.Null(new PushOptions().Problem());

    public static TheoryData<string, Action<PushOptions>> Wrong => new()
    {
        { "Push:Shape", o => o.Shape = (PushShape)9 },
        { "Push:Timeout", o => o.Timeout = TimeSpan.Zero },
        { "Push:RetryFor", o => o.RetryFor = TimeSpan.Zero },
        { "Push:RetryFirst", o => o.RetryFirst = TimeSpan.Zero },
        { "Push:RetryMax", o => o.RetryMax = TimeSpan.FromMilliseconds(1) },
        { "Push:BreakerFailures", o => o.BreakerFailures = 0 },
        { "Push:ProbeInterval", o => o.ProbeInterval = TimeSpan.Zero },
        { "Push:ConcurrencyPerReceiver", o => o.ConcurrencyPerReceiver = 0 },
        { "Push:WaitingMax", o => o.WaitingMax = -1 },
        { "Push:WaitMax", o => o.WaitMax = TimeSpan.Zero },
        { "Push:BacklogBytesMax", o => o.BacklogBytesMax = -1 },
        { "Push:PollInterval", o => o.PollInterval = TimeSpan.Zero },
        { "Push:BoundsInterval", o => o.BoundsInterval = TimeSpan.Zero },
    };

    [Theory]
    [MemberData(nameof(Wrong), DisableDiscoveryEnumeration = true)]
    public void A_wrong_setting_is_named(string setting, Action<PushOptions> spoil)
    {
        var options = new PushOptions();
        spoil(options);
        Assert.StartsWith(setting + " ", options.Problem());
    }
}
