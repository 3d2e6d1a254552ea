using Akka.Cluster.Sharding;
using Akka.Configuration;
using Akka.Configuration.Hocon;
using Akka.Serialization;
using IoTDelivery.Devices;
using IoTDelivery.Devices.Serialization;
using IoTDelivery.Devices.Reminders;
using IoTDelivery.Domain;

namespace IoTDelivery.Host.Tests;

/// <summary>The keys of akka.hocon that keep promises, read from a system that was started from the real file.</summary>
public sealed class AkkaHoconSpec(RunningPlatform platform) : IClassFixture<RunningPlatform>
{
    [Theory]
    [InlineData("akka.cluster.sharding.state-store-mode", "ddata")]
    [InlineData("akka.persistence.journal.sql.tag-write-mode", "Csv")]
    [InlineData("akka.persistence.journal.sql.replay-filter.mode", "off")]
    [InlineData("akka.persistence.journal.sql.class", "IoTDelivery.Devices.Journal.DeviceJournal, IoTDelivery.Devices")]
    [InlineData("akka.persistence.journal.sql.circuit-breaker.max-failures", "1000000000")]
    [InlineData("akka.persistence.max-concurrent-recoveries", "50")]
    [InlineData("akka.cluster.split-brain-resolver.active-strategy", "keep-majority")]
    [InlineData("akka.cluster.split-brain-resolver.stable-after", "4s")]
    [InlineData("akka.cluster.down-removal-margin", "1s")]
    [InlineData("akka.cluster.failure-detector.acceptable-heartbeat-pause", "3s")]
    [InlineData("akka.cluster.sharding.coordinator-state.write-majority-plus", "0")]
    [InlineData("akka.cluster.sharding.distributed-data.majority-min-cap", "2")]
    public void The_file_says_what_the_design_relies_on(string key, string value) => Assert.Equal(value, platform.System.Settings.Config.GetString(key));

    [Fact]
    public void Every_key_of_the_file_is_one_that_Akka_knows()
    {
        var akka = AppDomain.CurrentDomain.GetAssemblies().Where(a => a.GetName().Name!.StartsWith("Akka", StringComparison.Ordinal));
        var known = akka.SelectMany(a => a.GetManifestResourceNames().Where(n => n.EndsWith(".conf", StringComparison.Ordinal)).Select(n => Read(a.GetManifestResourceStream(n)!)))
            .Aggregate(Config.Empty, (all, one) => all.WithFallback(one));
        var keys = Keys(Read(File.OpenRead(Path.Combine(AppContext.BaseDirectory, "akka.hocon"))).Root.GetObject(), "").ToList();
        string[] ours = ["akka.actor.serializers.refuse", "akka.actor.serialization-bindings", "petabridge.cmd"];

        Assert.True(keys.Count > 30);
        (string Section, string Behind)[] fallbacks = // where Akka looks for what such a section does not say
        [
            ("akka.cluster.sharding.distributed-data", "akka.cluster.distributed-data"), ("akka.persistence.journal.sql", "akka.persistence.journal-plugin-fallback"),
            ("akka.persistence.snapshot-store.sql", "akka.persistence.snapshot-store-plugin-fallback"),
        ];
        var unknown = keys.Where(key => !known.HasPath(key) && !fallbacks.Any(f => known.HasPath(key.Replace(f.Section, f.Behind)))
            && !ours.Any(o => key.StartsWith(o, StringComparison.Ordinal))).ToList();
        Assert.Empty(unknown);

        static Config Read(Stream file) => ConfigurationFactory.ParseString(new StreamReader(file).ReadToEnd());

        static IEnumerable<string> Keys(HoconObject of, string prefix) => of.Items.SelectMany(item =>
            item.Value.IsObject() ? Keys(item.Value.GetObject(), $"{prefix}{item.Key}.") : [prefix + item.Key]);
    }

    [Fact]
    public void A_node_that_joins_takes_its_share_in_rounds_of_a_few_shards()
    {
        var tuning = ClusterShardingSettings.Create(platform.System).TuningParameters;
        Assert.InRange(tuning.LeastShardAllocationAbsoluteLimit, 2, DeviceMessageExtractor.ShardCount / 5);
        Assert.True(tuning.LeastShardAllocationRelativeLimit * DeviceMessageExtractor.ShardCount >= tuning.LeastShardAllocationAbsoluteLimit);
    }

    [Fact]
    public void Sharding_never_puts_a_connected_device_to_sleep() =>
        Assert.Equal(TimeSpan.Zero, ClusterShardingSettings.Create(platform.System).PassivateIdleEntityAfter);

    [Fact]
    public void The_default_journal_is_ours() => Assert.Equal("akka.persistence.journal.sql", platform.System.Settings.Config.GetString("akka.persistence.journal.plugin"));

    [Fact]
    public void Between_nodes_nothing_of_ours_travels_as_JSON()
    {
        var serialization = platform.System.Serialization;
        Type[] roots = [typeof(ToDevice), typeof(ToConnection), typeof(OutboxReply), typeof(ToSubscribers), typeof(Subscribers), typeof(ReminderHandled), typeof(DeviceEvents), typeof(OutboxSnapshot)];
        var messages = roots.SelectMany(root => root.Assembly.GetTypes().Where(t => root.IsAssignableFrom(t) && !t.IsAbstract)).ToList();
        Assert.True(messages.Count >= roots.Length);
        Assert.All(messages, type => Assert.IsType<DeliverySerializer>(serialization.FindSerializerForType(type)));

        // Whatever else there is in our boxes is refused, and told by name.
        var others = AppDomain.CurrentDomain.GetAssemblies().Where(a => a.GetName().Name is { } name && name.StartsWith("IoTDelivery.") && !name.Contains("Tests"))
            .SelectMany(a => a.GetTypes()).Where(t => !t.IsAbstract && !t.ContainsGenericParameters && !t.IsByRefLike && !typeof(Exception).IsAssignableFrom(t)).Except(messages);
        Assert.All(others, type => Assert.False(serialization.FindSerializerForType(type) is NewtonSoftJsonSerializer, $"{type} would be JSON."));
        var refused = Assert.Throws<System.Runtime.Serialization.SerializationException>(() => serialization.FindSerializerForType(typeof(DueReminder)).ToBinary(default(DueReminder)));
        Assert.Contains(typeof(DueReminder).FullName!, refused.Message);
    }
}
