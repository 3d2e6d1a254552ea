using IoTDelivery.Domain;
using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;
using Microsoft.Extensions.DependencyInjection;
using static IoTDelivery.Registry.Tests.Site;

namespace IoTDelivery.Registry.Tests;

/// <summary>What is kept to be told about connections. On every database.</summary>
public abstract class StatusChangesSpec<TDatabase>(TDatabase server) : IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    private static readonly DateTimeOffset At = DateTimeOffset.FromUnixTimeMilliseconds(1_000);
    private static readonly DeviceId Lamp = DeviceId.Parse("lamp");
    private static readonly Guid Connection = Guid.NewGuid();

    [SkippableFact]
    public async Task A_device_has_one_row_its_newest_state()
    {
        var database = await SiteAsync();
        await ReportAsync(database, (Connection, true, 0));
        Assert.Equal([Online(at: 1_000, since: 1_000)], await ChangesAsync(database));

        await ReportAsync(database, (Connection, false, 7));
        Assert.Equal([Offline(at: 8_000, since: 1_000)], await ChangesAsync(database));
    }

    [SkippableFact]
    public async Task A_connection_that_ends_before_its_beginning_is_written_was_there_all_the_same()
    {
        var database = await SiteAsync();
        await ReportAsync(database, (Connection, true, 0), (Connection, false, 7));
        Assert.Equal([Offline(at: 8_000, since: 1_000)], await ChangesAsync(database));
    }

    [SkippableFact]
    public async Task The_end_of_an_older_connection_is_no_change()
    {
        var database = await SiteAsync();
        var younger = Guid.NewGuid();
        await ReportAsync(database, (Connection, true, 0));
        await ReportAsync(database, (younger, true, 1));
        await ReportAsync(database, (Connection, false, 2));
        Assert.Equal([Online(at: 2_000, since: 2_000)], await ChangesAsync(database));
    }

    [SkippableFact]
    public async Task Without_a_rule_nothing_is_kept()
    {
        var database = await SiteAsync(withRule: false);
        await ReportAsync(database, (Connection, true, 0));
        Assert.Empty(await ChangesAsync(database));
    }

    [SkippableFact]
    public async Task A_device_that_changed_again_while_it_was_told_about_keeps_its_row()
    {
        var database = await SiteAsync();
        await ReportAsync(database, (Connection, true, 0));
        var told = await ChangesAsync(database);
        await ReportAsync(database, (Connection, false, 7));

        await using var node = Node(database);
        var changes = node.GetRequiredService<StatusChanges>();
        await changes.ForgetAsync(told, default);
        Assert.Equal([Offline(at: 8_000, since: 1_000)], await ChangesAsync(database));
        await changes.ForgetAsync(await ChangesAsync(database), default);
        Assert.Empty(await ChangesAsync(database));
    }

    [SkippableFact]
    public async Task What_a_node_held_that_is_gone_is_offline_and_what_came_back_elsewhere_is_not()
    {
        var database = await SiteAsync();
        await using (var node = Node(database)) await node.GetRequiredService<Devices>().AddAsync(Device("moved"), default);
        await ReportAsync(database, (Connection, true, 0));
        await ReportAsync(database, DeviceId.Parse("moved"), "node-1", (Guid.NewGuid(), true, 0));
        await ReportAsync(database, DeviceId.Parse("moved"), "node-2", (Guid.NewGuid(), true, 1));

        await using var watcher = Node(database, "node-2");
        var changes = watcher.GetRequiredService<StatusChanges>();
        Assert.Equal(["node-1", "node-2"], (await changes.HoldersAsync(At.AddSeconds(10), default)).Order());
        Assert.Equal(["node-1"], await changes.HoldersAsync(At.AddSeconds(1), default));
        Assert.Equal(1, await changes.EndAsync(new NodeIncarnation("node-1"), default));
        Assert.Equal(0, await changes.EndAsync(new NodeIncarnation("node-1"), default));

        var lamp = Assert.Single(await ChangesAsync(database), c => c.DeviceId == "lamp");
        Assert.Equal((StatusChange.Offline, 1_000), (lamp.Status, lamp.LastOnlineAt));
        Assert.Equal(StatusChange.Online, Assert.Single(await ChangesAsync(database), c => c.DeviceId == "moved").Status);
        Assert.Equal(["node-2"], await changes.HoldersAsync(DateTimeOffset.UtcNow.AddSeconds(10), default));
    }

    // What the gateway says ("+plug"), what becomes of its connection ("+" and "-"), and what applications are told of
    // the sub-device: each letter is a batch of its own or one with what stands beside it.
    [SkippableTheory]
    [InlineData("+ +plug", "ONLINE", "ONLINE")]
    [InlineData("+ +plug +plug", "ONLINE", "ONLINE")]
    [InlineData("+ -plug", null, "INACTIVE")]
    [InlineData("+ +plug -plug", "OFFLINE", "OFFLINE")]
    [InlineData("+ +plug -", "OFFLINE", "OFFLINE")]
    [InlineData("++plug -", "OFFLINE", "OFFLINE")]
    [InlineData("+ +plug-", "OFFLINE", "OFFLINE")]
    [InlineData("+ +plug - +", "OFFLINE", "OFFLINE")]
    [InlineData("+ +plug -+", "ONLINE", "ONLINE")] // back before anybody heard that it had gone
    [InlineData("+ +plug -+ -plug", "OFFLINE", "OFFLINE")]
    [InlineData("+ +plug -+ -", "OFFLINE", "OFFLINE")]
    [InlineData("+ +plug - + +plug", "ONLINE", "ONLINE")]
    public async Task A_sub_device_is_what_its_gateway_said_last_and_away_when_that_goes(
        string story, string? told, string shown)
    {
        var database = await SiteAsync();
        var (gateway, plug) = (DeviceId.Parse("lamp"), DeviceId.Parse("plug"));
        await using (var node = Node(database))
        {
            await node.GetRequiredService<Devices>()
                .AddAsync(Device("plug") with { GatewayId = "lamp", RootId = "lamp" }, default);
        }

        var (connection, second) = (Guid.Empty, 0);
        foreach (var batch in story.Split(' '))
        {
            await using var node = Node(database);
            var log = node.GetRequiredService<ConnectionLog>();
            for (var rest = batch; rest.Length > 0;)
            {
                var (isOnline, at) = (rest[0] == '+', At.AddSeconds(++second));
                var isOfPlug = rest.Length > 1 && rest[1] == 'p';
                if (isOfPlug) log.ReportSubDevice(gateway, connection, plug, isOnline, at);
                else log.Report(gateway, connection = isOnline ? Guid.NewGuid() : connection, isOnline, at);
                rest = rest[(isOfPlug ? 5 : 1)..];
            }

            await log.DisposeAsync();
        }

        Assert.Equal(told, (await ChangesAsync(database)).SingleOrDefault(c => c.DeviceId == "plug")?.Status);
        await using var reader = Node(database);
        var row = (await reader.GetRequiredService<Devices>().ReadAsync(Project, plug, default))!;
        Assert.Equal(shown, row.ActiveAt is null ? "INACTIVE" : row.OnlineNode is null ? "OFFLINE" : "ONLINE");
    }

    [SkippableFact]
    public async Task What_is_said_again_of_a_sub_device_is_not_told_again_and_a_stranger_says_nothing()
    {
        var database = await SiteAsync();
        var (gateway, plug) = (DeviceId.Parse("lamp"), DeviceId.Parse("plug"));
        await using var node = Node(database);
        await node.GetRequiredService<Devices>()
            .AddAsync(Device("plug") with { GatewayId = "lamp", RootId = "lamp" }, default);
        await ReportAsync(log => log.ReportSubDevice(DeviceId.Parse("stranger"), Connection, plug, isOnline: true, At));
        Assert.Empty(await ChangesAsync(database));

        await ReportAsync(log => log.ReportSubDevice(gateway, Connection, plug, isOnline: true, At));
        var told = await ChangesAsync(database);
        Assert.Single(told);
        await node.GetRequiredService<StatusChanges>().ForgetAsync(told, default);
        await ReportAsync(log => log.ReportSubDevice(gateway, Connection, plug, isOnline: true, At.AddSeconds(9)));
        Assert.Empty(await ChangesAsync(database));

        async Task ReportAsync(Action<ConnectionLog> report)
        {
            await using var writer = Node(database);
            var log = writer.GetRequiredService<ConnectionLog>();
            report(log);
            await log.DisposeAsync();
        }
    }

    private async Task<SqlDatabase> SiteAsync(bool withRule = true)
    {
        var database = await DatabaseAsync(server);
        await using var node = Node(database);
        await node.GetRequiredService<Devices>().AddAsync(Device("lamp"), default);
        if (!withRule) return database;
        var rules = node.GetRequiredService<Rules>();
        await rules.AddAsync(
            new Rule
            {
                RuleId = "rule",
                RecordId = RecordIds.New(DateTimeOffset.UtcNow),
                ProjectId = Project,
                Resource = StatusChanges.Resource,
                Event = StatusChanges.Event,
                ActiveSince = 1,
                CreatedAt = 0,
            },
            default);
        await rules.AddActionAsync(
            new RuleAction
            {
                ActionId = "action",
                RecordId = RecordIds.New(DateTimeOffset.UtcNow),
                RuleId = "rule",
                ProjectId = Project,
                Channel = RuleAction.HttpForwarding,
                ChannelDetail = "{}",
                Url = "http://127.0.0.1/",
            },
            default);
        return database;
    }

    private static Task ReportAsync(SqlDatabase database, params (Guid Connection, bool IsOnline, int Second)[] reports) => ReportAsync(database, Lamp, "node-1", reports);

    private static async Task ReportAsync(SqlDatabase database, DeviceId deviceId, string incarnation, params (Guid Connection, bool IsOnline, int Second)[] reports)
    {
        await using var node = Node(database, incarnation); // everything reported is written when it is disposed
        var log = node.GetRequiredService<ConnectionLog>();
        foreach (var (connection, isOnline, second) in reports) log.Report(deviceId, connection, isOnline, At.AddSeconds(second));
        await log.DisposeAsync();
    }

    private static async Task<IReadOnlyList<StatusChange>> ChangesAsync(SqlDatabase database)
    {
        await using var node = Node(database);
        return await node.GetRequiredService<StatusChanges>().OldestAsync(10, default);
    }

    private static StatusChange Online(long at, long since) => new() { DeviceId = "lamp", Status = StatusChange.Online, ChangedAt = at, LastOnlineAt = since };

    private static StatusChange Offline(long at, long since) => new() { DeviceId = "lamp", Status = StatusChange.Offline, ChangedAt = at, LastOnlineAt = since };
}

public sealed class SqliteStatusChangesSpec(SqliteDatabase database) : StatusChangesSpec<SqliteDatabase>(database);

public sealed class PostgreSqlStatusChangesSpec(PostgreSqlDatabase database) : StatusChangesSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerStatusChangesSpec(SqlServerDatabase database) : StatusChangesSpec<SqlServerDatabase>(database);
