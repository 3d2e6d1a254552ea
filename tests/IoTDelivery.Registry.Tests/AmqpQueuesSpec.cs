using IoTDelivery.Tests.Databases;
using Microsoft.Extensions.DependencyInjection;
using static IoTDelivery.Registry.Tests.Site;

namespace IoTDelivery.Registry.Tests;

/// <summary>AMQP queues and access codes. On every database.</summary>
public abstract class AmqpQueuesSpec<TDatabase>(TDatabase server) : IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    [SkippableFact]
    public async Task A_queue_is_listed_beside_the_default_one_found_by_its_project_only_and_removed()
    {
        await using var node = Node(await DatabaseAsync(server));
        var queues = node.GetRequiredService<AmqpQueues>();
        var (outcome, queue) = await queues.AddAsync(Project, "queue:one", default);
        Assert.Equal(QueueAdded.Added, outcome);
        Assert.Equal(queue, await queues.FindAsync(Project, queue!.QueueId, default));
        Assert.Null(await queues.FindAsync("project-2", queue.QueueId, default));
        Assert.Equal((QueueAdded.NameTaken, null), await queues.AddAsync(Project, "queue:one", default));
        Assert.Equal(QueueAdded.Added, (await queues.AddAsync("project-2", "queue:one", default)).Outcome);

        var (items, count) = await queues.ListAsync(Project, null, Page.First, default);
        Assert.Equal((2, "DefaultQueue queue:one"), (count, string.Join(' ', items.Select(q => q.Name).Order(StringComparer.Ordinal))));
        Assert.Equal(queue, Assert.Single((await queues.ListAsync(Project, "one", Page.First, default)).Items));

        Assert.Equal(QueueRemoved.Missing, await queues.RemoveAsync("project-2", queue.QueueId, default));
        Assert.Equal(QueueRemoved.InUse, await queues.RemoveAsync(Project, items.Single(q => q.Name == AmqpQueues.DefaultQueue).QueueId, default));
        Assert.Equal(QueueRemoved.Removed, await queues.RemoveAsync(Project, queue.QueueId, default));
        Assert.False(await queues.ExistsAsync(Project, "queue:one", default));
    }

    [SkippableFact]
    public async Task A_queue_an_action_forwards_to_stays_and_there_is_a_limit()
    {
        await using var node = Node(await DatabaseAsync(server));
        var (queues, rules) = (node.GetRequiredService<AmqpQueues>(), node.GetRequiredService<Rules>());
        var (_, queue) = await queues.AddAsync(Project, "queue-1", default);
        await rules.AddAsync(new Rule { RuleId = "rule", RecordId = RecordIds.New(DateTimeOffset.UtcNow), ProjectId = Project, Resource = "r", Event = "e", CreatedAt = 1 }, default);
        await rules.AddActionAsync(
            new RuleAction
            {
                ActionId = "action",
                RecordId = RecordIds.New(DateTimeOffset.UtcNow),
                RuleId = "rule",
                ProjectId = Project,
                Channel = RuleAction.AmqpForwarding,
                ChannelDetail = """{"amqp_forwarding":{"queue_name":"queue-1"}}""",
            },
            default);
        Assert.Equal(QueueRemoved.InUse, await queues.RemoveAsync(Project, queue!.QueueId, default));
        await rules.RemoveActionAsync(Project, "action", default);
        Assert.Equal(QueueRemoved.Removed, await queues.RemoveAsync(Project, queue.QueueId, default));

        for (var i = 1; i < AmqpQueues.Max; i++) Assert.Equal(QueueAdded.Added, (await queues.AddAsync(Project, $"queue-{i}", default)).Outcome);
        Assert.Equal(QueueAdded.TooMany, (await queues.AddAsync(Project, "one-too-many", default)).Outcome);
    }

    [SkippableFact]
    public async Task A_new_code_voids_the_old_one_and_keeps_the_key()
    {
        await using var node = Node(await DatabaseAsync(server));
        var codes = node.GetRequiredService<AccessCodes>();
        var (key, old) = await codes.CreateAsync(Project, disconnect: true, default);
        var (sameKey, code) = await codes.CreateAsync(Project, disconnect: true, default);
        var (otherKey, _) = await codes.CreateAsync("project-2", disconnect: false, default);

        Assert.Equal((key, 8), (sameKey, key.Length));
        Assert.NotEqual(key, otherKey);
        var access = (await codes.FindAsync(key, default))!;
        Assert.Equal((Project, 1, false, true), (access.ProjectId, access.Disconnects, access.Matches(old), access.Matches(code)));
        Assert.DoesNotContain(code, access.CodeHash);
        Assert.Null(await codes.FindAsync("nobody12", default));
    }
}

public sealed class SqliteAmqpQueuesSpec(SqliteDatabase database) : AmqpQueuesSpec<SqliteDatabase>(database);

public sealed class PostgreSqlAmqpQueuesSpec(PostgreSqlDatabase database) : AmqpQueuesSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerAmqpQueuesSpec(SqlServerDatabase database) : AmqpQueuesSpec<SqlServerDatabase>(database);
