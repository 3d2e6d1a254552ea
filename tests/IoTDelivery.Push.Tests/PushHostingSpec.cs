using Akka.Actor;
using Akka.Cluster.Hosting;
using Akka.Hosting;
using Akka.Remote.Hosting;
using IoTDelivery.Devices;
using IoTDelivery.Registry;
using IoTDelivery.Storage;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace IoTDelivery.Push.Tests;

public sealed class PushHostingSpec : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("push-host-").FullName;

    public void Dispose()
    {
        Microsoft.Data.Sqlite.SqliteConnection.ClearAllPools();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task A_host_with_AddPush_and_WithPush_pushes_drains_and_survives_a_failing_pusher()
    {
        using var host = Build(new() { ["Push:RetryFirst"] = "00:00:00.020", ["Push:PollInterval"] = "00:00:00.100" });
        await using var application = await Application.StartAsync();
        var database = host.Services.GetRequiredService<SqlDatabase>();
        await database.MigrateAsync(host.Services.GetServices<Migration>());
        await AddDeviceAndRuleAsync(host.Services, application.Url("a").ToString());
        var attempts = 0;
        application.Answers = _ => Task.FromResult(Interlocked.Increment(ref attempts) == 1 ? 500 : 200);
        await host.StartAsync();

        var settler = host.Services.GetRequiredService<NotificationSink>();
        await PushWorld.UntilAsync(() => Task.FromResult(!settler.Current.IsNobody()));
        var first = settler.Current;
        await OweAsync(1);
        await application.UntilAsync(() => application.Numbers("a", "lamp").SequenceEqual([1])); // through the backlog and the singleton

        first.Tell(new NotificationsOffered(Given.Lamp, [null!])); // what no device would say
        await PushWorld.UntilAsync(() => Task.FromResult(!settler.Current.IsNobody() && !settler.Current.Equals(first))); // another address, so devices notice
        await OweAsync(2);
        await application.UntilAsync(() => application.Numbers("a", "lamp").SequenceEqual([1, 2]));
        await host.StopAsync();

        async Task OweAsync(int number) =>
            Assert.Equal(number, (await settler.Current.Ask<ToDevice.NotificationsAcknowledged>(new NotificationsOffered(Given.Lamp, [Given.Notification(number, DateTimeOffset.UtcNow)]), TimeSpan.FromSeconds(20))).UpTo);
    }

    [Fact]
    public async Task A_wrong_setting_stops_the_start_and_is_named()
    {
        using var host = Build(new() { ["Push:BreakerFailures"] = "0" });
        var refused = await Assert.ThrowsAsync<OptionsValidationException>(() => host.StartAsync());
        Assert.Contains("Push:BreakerFailures", refused.Message);
    }

    [Fact]
    public void Settings_are_read_from_their_section()
    {
        using var host = Build(new() { ["Push:Shape"] = "HeaderBody", ["Push:Timeout"] = "00:00:03" });
        var options = host.Services.GetRequiredService<PushOptions>();
        Assert.Equal((PushShape.HeaderBody, TimeSpan.FromSeconds(3)), (options.Shape, options.Timeout));
    }

    private IHost Build(Dictionary<string, string?> settings)
    {
        var builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Logging.ClearProviders();
        builder.Configuration.AddInMemoryCollection(settings);
        builder.Services.AddSingleton(new SqlDatabase(new StorageOptions { DataFolder = _folder })).AddSingleton(new NodeIncarnation("node")).AddRegistry();
        builder.Services.AddPush(builder.Configuration);
        builder.Services.AddAkka("push-host", akka => akka
            .WithRemoting("127.0.0.1", 0)
            .WithClustering(new ClusterOptions { Roles = ["device"] })
            .WithPush()
            .AddStartup((system, _) => Akka.Cluster.Cluster.Get(system).Join(Akka.Cluster.Cluster.Get(system).SelfAddress)));
        return builder.Build();
    }

    private static async Task AddDeviceAndRuleAsync(IServiceProvider services, string url)
    {
        var devices = services.GetRequiredService<Registry.Devices>();
        var lamp = await devices.BeginAsync(new Device
        {
            DeviceId = Given.Lamp.Value,
            RecordId = RecordIds.New(DateTimeOffset.UtcNow),
            ProjectId = Given.Project,
            ProductId = "product-1",
            NodeId = "node-1",
            Secret = "secret",
            CreatedAt = 0,
        }, default);
        Assert.True(await devices.CompleteAsync(lamp, default));
        var rules = services.GetRequiredService<Rules>();
        await rules.AddAsync(new Rule
        {
            RuleId = "r",
            RecordId = RecordIds.New(DateTimeOffset.UtcNow),
            ProjectId = Given.Project,
            Resource = StatusNotification.Resource,
            Event = StatusNotification.Event,
            ActiveSince = 1,
            CreatedAt = 0,
        }, default);
        await rules.AddActionAsync(new RuleAction
        {
            ActionId = "a",
            RecordId = RecordIds.New(DateTimeOffset.UtcNow),
            RuleId = "r",
            ProjectId = Given.Project,
            Channel = RuleAction.HttpForwarding,
            ChannelDetail = "{}",
            Url = url,
        }, default);
    }
}
