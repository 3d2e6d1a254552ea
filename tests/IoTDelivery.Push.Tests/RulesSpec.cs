using IoTDelivery.Registry;
using IoTDelivery.Tests.Databases;
using LinqToDB.Data;

namespace IoTDelivery.Push.Tests;

public abstract class RulesSpec<TDatabase>(TDatabase server) : PushSpec(server), IClassFixture<TDatabase>, IAsyncLifetime where TDatabase : TestDatabase
{
    private PushWorld _world = null!;

    public async Task InitializeAsync() => _world = await WorldAsync(drains: false);

    public async Task DisposeAsync()
    {
        if (_world is not null) await _world.DisposeAsync(); // null if it was skipped
    }

    [SkippableFact]
    public async Task A_rule_is_found_as_it_was_added()
    {
        var rule = _world.NewRule(isActive: false) with { Name = "n", Description = "d", Select = "*", Where = "a = 'b'" };
        Assert.True(await _world.Rules.AddAsync(rule, default));
        Assert.Equal(rule, await _world.Rules.FindAsync(Given.Project, rule.RuleId, default));
        Assert.Null(await _world.Rules.FindAsync("project-2", rule.RuleId, default));
        Assert.False(await _world.Rules.AddAsync(rule, default));
    }

    [SkippableFact]
    public async Task Lists_are_newest_first_in_pages_and_narrowed()
    {
        var active = _world.NewRule();
        var passive = _world.NewRule(isActive: false) with { Resource = "device.status" };
        await _world.Rules.AddAsync(active, default);
        await _world.Rules.AddAsync(passive, default);

        Assert.Equal([passive.RuleId, active.RuleId], (await List(default, Page.First)).Items.Select(r => r.RuleId));
        Assert.Equal([active.RuleId], (await List(new RuleFilter { IsActive = true }, Page.First)).Items.Select(r => r.RuleId));
        Assert.Equal([passive.RuleId], (await List(new RuleFilter { IsActive = false }, Page.First)).Items.Select(r => r.RuleId));
        Assert.Equal([passive.RuleId], (await List(new RuleFilter { Resource = "device.status" }, Page.First)).Items.Select(r => r.RuleId));
        var second = await List(default, new Page(1, passive.RecordId, 0));
        Assert.Equal([active.RuleId], second.Items.Select(r => r.RuleId));
        Assert.Equal(2, second.Count);

        Task<(IReadOnlyList<Rule> Items, int Count)> List(RuleFilter filter, Page page) => _world.Rules.ListAsync(Given.Project, filter, page, default);
    }

    [SkippableFact]
    public async Task An_update_changes_what_it_names()
    {
        var rule = _world.NewRule() with { Name = "old", Where = "w" };
        await _world.Rules.AddAsync(rule, default);
        var after = await _world.Rules.UpdateAsync(Given.Project, rule.RuleId, new RuleChange { Name = "new", IsActive = false }, default);
        Assert.Equal(rule with { Name = "new", ActiveSince = null }, after);
        Assert.Equal(after, await _world.Rules.FindAsync(Given.Project, rule.RuleId, default));
        Assert.Null(await _world.Rules.UpdateAsync("project-2", rule.RuleId, new RuleChange { Name = "theirs" }, default));
    }

    [SkippableFact]
    public async Task Actions_belong_to_a_rule_and_go_with_it()
    {
        var rule = await _world.AddReceiverAsync("a");
        var second = await _world.Rules.AddActionAsync(_world.NewAction(rule.RuleId, "b", "http://127.0.0.1/b"), default);
        Assert.NotNull(second);
        Assert.Null(await _world.Rules.AddActionAsync(_world.NewAction(rule.RuleId, "b", "http://127.0.0.1/b"), default)); // taken
        Assert.Null(await _world.Rules.AddActionAsync(_world.NewAction("no-rule", "c", "http://127.0.0.1/c"), default));
        Assert.Equal(second, await _world.Rules.FindActionAsync(Given.Project, "b", default));
        Assert.Null(await _world.Rules.FindActionAsync("project-2", "b", default));
        Assert.Equal(["b", "a"], (await _world.Rules.ListActionsAsync(Given.Project, new ActionFilter { RuleId = rule.RuleId }, Page.First, default)).Items.Select(a => a.ActionId));
        Assert.Empty((await _world.Rules.ListActionsAsync(Given.Project, new ActionFilter { Channel = "AMQP_FORWARDING" }, Page.First, default)).Items);

        Assert.Null(await _world.Rules.RemoveAsync("project-2", rule.RuleId, default));
        Assert.Equal(["a", "b"], (await _world.Rules.RemoveAsync(Given.Project, rule.RuleId, default))!.Order());
        Assert.Null(await _world.Rules.FindActionAsync("a", default));
    }

    [SkippableFact]
    public async Task An_action_is_changed_or_removed_alone()
    {
        await _world.AddReceiverAsync("a");
        Assert.Equal("http://x/", (await _world.Rules.UpdateActionAsync(Given.Project, "a", "{}", "http://x/", default))!.Url);
        Assert.False(await _world.Rules.RemoveActionAsync("project-2", "a", default));
        Assert.True(await _world.Rules.RemoveActionAsync(Given.Project, "a", default));
        Assert.Null(await _world.Rules.FindActionAsync("a", default));
    }

    [SkippableFact]
    public async Task The_book_knows_when_a_rule_was_active()
    {
        var rule = await _world.AddReceiverAsync("a");
        var on = Moment;
        await StepAsync(isActive: false);
        var off = Moment;
        await StepAsync(isActive: true);
        var onAgain = Moment;

        var target = Target(await LoadAsync());
        Assert.True(target.AppliesAt(on, null));
        Assert.False(target.AppliesAt(off, null));
        Assert.True(target.AppliesAt(onAgain, null));
        Assert.False(target.AppliesAt(on - 100_000, null)); // before there was an action

        async Task StepAsync(bool isActive)
        {
            _world.Clock.Move(TimeSpan.FromSeconds(10));
            await _world.Rules.UpdateAsync(Given.Project, rule.RuleId, new RuleChange { IsActive = isActive }, default);
            _world.Clock.Move(TimeSpan.FromSeconds(10));
        }
    }

    [SkippableFact]
    public async Task In_the_millisecond_of_a_change_both_sides_count()
    {
        var rule = await _world.AddReceiverAsync("a");
        _world.Clock.Move(TimeSpan.FromSeconds(10));
        await _world.Rules.UpdateAsync(Given.Project, rule.RuleId, new RuleChange { IsActive = false }, default);
        await using var db = _world.Database.Open();
        var end = db.Execute<long>("select active_to from rule_activity");
        Assert.True(Target(await LoadAsync()).AppliesAt(end, null));
        Assert.False(Target(await LoadAsync()).AppliesAt(end + 1, null));
    }

    [SkippableFact]
    public async Task A_rule_for_an_application_is_for_its_devices_only()
    {
        await _world.AddReceiverAsync("a", appId: "app-1");
        var target = Target(await LoadAsync());
        Assert.True(target.AppliesAt(Moment, "app-1"));
        Assert.False(target.AppliesAt(Moment, "app-2"));
        Assert.False(target.AppliesAt(Moment, null));
    }

    [SkippableFact]
    public async Task The_book_contains_every_change_made_before_it_was_asked_also_by_another_node()
    {
        var rule = await _world.AddReceiverAsync("a");
        var otherNode = new Rules(_world.Database);
        for (var i = 0; i < 40; i++)
        {
            Assert.NotNull(await otherNode.AddActionAsync(_world.NewAction(rule.RuleId, $"b{i}", "http://127.0.0.1/b"), default));
            Assert.Equal(i + 2, Targets(await LoadAsync()));
        }
    }

    [SkippableFact]
    public async Task Readers_share_a_load_and_loads_are_apart()
    {
        await LoadAsync();
        var asked = _world.Clock.GetTimestamp();
        var shared = await Task.WhenAll(Enumerable.Range(0, 50).Select(_ => _world.Book.LoadedAfterAsync(asked, default).AsTask()));
        Assert.Single(shared.Distinct());
        var next = await LoadAsync();
        Assert.True(_world.Clock.GetElapsedTime(shared[0].LoadedFrom, next.LoadedFrom) >= TimeSpan.FromMilliseconds(6)); // eight, and timers are coarse
    }

    [SkippableFact]
    public async Task While_the_database_is_away_the_book_waits_and_never_says_there_is_nothing()
    {
        await _world.AddReceiverAsync("a");
        await _world.HideAsync("rule_revision");
        var asked = LoadAsync();
        using var patience = new CancellationTokenSource(TimeSpan.FromMilliseconds(300));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => _world.Book.LoadedAfterAsync(_world.Clock.GetTimestamp(), patience.Token).AsTask());
        Assert.False(asked.IsCompleted);
        await _world.ShowAsync("rule_revision");
        Assert.Equal(1, Targets(await asked));
    }

    private long Moment => _world.Clock.GetUtcNow().ToUnixTimeMilliseconds();

    private Task<RuleSnapshot> LoadAsync() => _world.Book.LoadedAfterAsync(_world.Clock.GetTimestamp(), default).AsTask();

    private static RuleTarget Target(RuleSnapshot book) => book.Targets(Given.Project, StatusNotification.Resource, StatusNotification.Event)[0];

    private static int Targets(RuleSnapshot book) => book.Targets(Given.Project, StatusNotification.Resource, StatusNotification.Event).Length;
}

public sealed class SqliteRulesSpec(SqliteDatabase database) : RulesSpec<SqliteDatabase>(database);

public sealed class PostgreSqlRulesSpec(PostgreSqlDatabase database) : RulesSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerRulesSpec(SqlServerDatabase database) : RulesSpec<SqlServerDatabase>(database);
