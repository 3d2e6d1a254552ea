using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;
using LinqToDB.Data;

namespace IoTDelivery.Registry.Tests;

/// <summary>How tables come into being and grow. On every database.</summary>
public abstract class MigrationSpec<TDatabase>(TDatabase server) : IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    private static readonly Migration First = new("box", 1, "create table box_thing (id {id} not null primary key)");
    private static readonly Migration Second = new("box", 2, "alter table box_thing add note {text}", "insert into box_thing (id, note) values ('a', 'n')");

    [SkippableFact]
    public async Task Each_step_is_taken_once_and_in_order()
    {
        var database = await NewAsync();
        await database.MigrateAsync([First]);
        await database.MigrateAsync([Second, First]);
        await database.MigrateAsync([First, Second]);

        await using var db = database.Open();
        Assert.Equal(1, await db.ExecuteAsync<int>("select count(*) from box_thing"));
        Assert.Equal(2, await db.ExecuteAsync<int>("select count(*) from schema_version where box = 'box'"));
    }

    [SkippableFact]
    public async Task Nodes_that_start_together_take_turns()
    {
        var database = await NewAsync();
        await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(() => database.MigrateAsync([First, Second]))));

        await using var db = database.Open();
        Assert.Equal(1, await db.ExecuteAsync<int>("select count(*) from box_thing"));
    }

    [SkippableFact]
    public async Task Tables_of_a_newer_release_are_refused_with_a_sentence()
    {
        var database = await NewAsync();
        await database.MigrateAsync([First, Second]);

        var refusal = await Assert.ThrowsAsync<InvalidOperationException>(() => database.MigrateAsync([First]));
        Assert.Contains("'box'", refusal.Message);
        Assert.Contains("version 2; this release knows 1", refusal.Message);
    }

    [SkippableFact]
    public async Task A_step_that_fails_leaves_nothing_behind()
    {
        var database = await NewAsync();
        await Assert.ThrowsAnyAsync<Exception>(() => database.MigrateAsync([First, new("box", 2, "insert into box_thing (id) values ('a')", "insert into nowhere (id) values ('a')")]));

        await database.MigrateAsync([First, Second]); // and can be taken again
        await using var db = database.Open();
        Assert.Equal(1, await db.ExecuteAsync<int>("select count(*) from box_thing"));
    }

    private async Task<SqlDatabase> NewAsync()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        return new SqlDatabase(await server.CreateAsync());
    }
}

public sealed class SqliteMigrationSpec(SqliteDatabase database) : MigrationSpec<SqliteDatabase>(database);

public sealed class PostgreSqlMigrationSpec(PostgreSqlDatabase database) : MigrationSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerMigrationSpec(SqlServerDatabase database) : MigrationSpec<SqlServerDatabase>(database);
