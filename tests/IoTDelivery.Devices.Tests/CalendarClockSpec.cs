namespace IoTDelivery.Devices.Tests;

/// <summary>A wall clock that jumps is not believed, one that is corrected in small steps is.</summary>
public sealed class CalendarClockSpec
{
    private sealed class Machine : TimeProvider
    {
        public TimeSpan Elapsed { get; set; }

        public TimeSpan Offset { get; set; }

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Elapsed.Ticks;

        public override DateTimeOffset GetUtcNow() => DateTimeOffset.UnixEpoch + Elapsed + Offset;
    }

    private readonly Machine _machine = new();
    private readonly CalendarClock _clock;

    public CalendarClockSpec() => _clock = new CalendarClock(_machine);

    private void Wait(TimeSpan time) => _machine.Elapsed += time;

    [Theory]
    [InlineData(60, true)]
    [InlineData(-60, true)]
    [InlineData(61, false)]
    [InlineData(-61, false)]
    [InlineData(3_600, false)]
    public void A_step_of_more_than_a_minute_is_doubted(int seconds, bool isBelieved)
    {
        Wait(TimeSpan.FromDays(3));
        Assert.True(_clock.IsBelieved);
        _machine.Offset += TimeSpan.FromSeconds(seconds);
        Assert.Equal(isBelieved, _clock.IsBelieved);
    }

    [Fact]
    public void It_is_believed_again_when_both_agree_again_or_after_ten_minutes()
    {
        _machine.Offset = TimeSpan.FromHours(1);
        Assert.False(_clock.IsBelieved);
        _machine.Offset = TimeSpan.FromSeconds(5);
        Assert.True(_clock.IsBelieved);

        _machine.Offset = TimeSpan.FromHours(-1);
        Assert.False(_clock.IsBelieved);
        Wait(CalendarClock.DoubtedFor - TimeSpan.FromSeconds(1));
        Assert.False(_clock.IsBelieved);
        Wait(TimeSpan.FromSeconds(1));
        Assert.True(_clock.IsBelieved);
    }

    [Fact]
    public void Small_corrections_add_up_and_are_followed()
    {
        for (var i = 0; i < 100; i++)
        {
            Wait(TimeSpan.FromHours(1));
            _machine.Offset += TimeSpan.FromSeconds(30);
            Assert.True(_clock.IsBelieved);
        }
    }
}
