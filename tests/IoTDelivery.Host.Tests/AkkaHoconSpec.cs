using Akka.Cluster.Sharding;

namespace IoTDelivery.Host.Tests;

/// <summary>The keys of akka.hocon that keep promises, read from a system that was started from the real file.</summary>
public sealed class AkkaHoconSpec(RunningPlatform platform) : IClassFixture<RunningPlatform>
{
    [Theory]
    [InlineData("akka.cluster.sharding.state-store-mode", "ddata")]
    [InlineData("akka.cluster.sharding.rebalance-absolute-limit", "20")]
    [InlineData("akka.persistence.journal.sql.tag-write-mode", "Csv")]
    [InlineData("akka.persistence.journal.sql.replay-filter.mode", "off")]
    [InlineData("akka.persistence.journal.sql.class", "IoTDelivery.Devices.Journal.DeviceJournal, IoTDelivery.Devices")]
    [InlineData("akka.persistence.journal.sql.circuit-breaker.max-failures", "2000")]
    [InlineData("akka.persistence.max-concurrent-recoveries", "50")]
    [InlineData("akka.cluster.split-brain-resolver.active-strategy", "keep-majority")]
    [InlineData("akka.cluster.split-brain-resolver.stable-after", "5s")]
    public void The_file_says_what_the_design_relies_on(string key, string value) => Assert.Equal(value, platform.System.Settings.Config.GetString(key));

    [Fact]
    public void Sharding_never_puts_a_connected_device_to_sleep() =>
        Assert.Equal(TimeSpan.Zero, ClusterShardingSettings.Create(platform.System).PassivateIdleEntityAfter);

    [Fact]
    public void The_default_journal_is_ours() => Assert.Equal("akka.persistence.journal.sql", platform.System.Settings.Config.GetString("akka.persistence.journal.plugin"));
}
