using Akka.Actor;
using Akka.Actor.Setup;
using Akka.Configuration;
using Akka.Persistence;
using Akka.Persistence.Sql;
using Akka.Persistence.Sql.Config;
using IoTDelivery.Devices.Journal;
using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;
using LinqToDB.Data;

namespace IoTDelivery.Devices.Tests;

/// <summary>The journal's tables are ours; a new release of the plugin that wants other columns is noticed here. On every database.</summary>
public abstract class JournalTablesSpec<TDatabase>(TDatabase server) : IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    [SkippableTheory]
    [InlineData("journal")]
    [InlineData("snapshot")]
    public async Task A_table_has_the_columns_the_plugin_would_give_it(string table)
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var (ours, theirs) = (new SqlDatabase(await server.CreateAsync()), new SqlDatabase(await server.CreateAsync()));
        await ours.MigrateAsync(JournalTables.Migrations);
        await theirs.MigrateAsync([]);
        await LetThePluginMakeThemAsync(theirs);

        Assert.Equal(await ColumnsAsync(theirs, table), await ColumnsAsync(ours, table));
    }

    [SkippableFact]
    public async Task Tables_that_an_older_release_had_made_by_the_plugin_are_left_as_they_are()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var theirs = new SqlDatabase(await server.CreateAsync());
        await theirs.MigrateAsync([]);
        await LetThePluginMakeThemAsync(theirs);

        await theirs.MigrateAsync(JournalTables.Migrations);

        await using var db = theirs.Open();
        Assert.Equal((1, 3), (await db.ExecuteAsync<int>("select count(*) from journal"), await db.ExecuteAsync<int>("select count(*) from schema_version where box = 'journal'")));
    }

    // Each index more is a page more per row.
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_table_has_its_key_and_no_other_index_whoever_made_it(bool isMadeByThePlugin)
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var database = new SqlDatabase(await server.CreateAsync());
        await database.MigrateAsync([]);
        if (isMadeByThePlugin) await LetThePluginMakeThemAsync(database);

        await database.MigrateAsync(JournalTables.Migrations);

        await using var db = database.Open();
        var count = database.Provider switch
        {
            DatabaseProvider.Sqlite => "select (select count(*) from pragma_index_list('journal') where \"unique\" = 0) + (select count(*) from pragma_index_list('snapshot') where \"unique\" = 0)",
            DatabaseProvider.PostgreSql => "select count(*) from pg_indexes where tablename in ('journal', 'snapshot') and indexdef not like 'CREATE UNIQUE%'",
            _ => "select count(*) from sys.indexes where object_id in (object_id('journal'), object_id('snapshot')) and index_id > 0 and is_unique = 0",
        };
        Assert.Equal(0, await db.ExecuteAsync<int>(count));
    }

    [SkippableFact]
    public async Task Ids_that_differ_in_case_are_two_and_a_number_is_taken_once()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var ours = new SqlDatabase(await server.CreateAsync());
        await ours.MigrateAsync(JournalTables.Migrations);
        await using var db = ours.Open();

        await InsertAsync("device-Dev");
        await InsertAsync("device-dev");
        await Assert.ThrowsAnyAsync<Exception>(() => InsertAsync("device-dev"));

        Task InsertAsync(string id) => db.ExecuteAsync(
            "insert into journal (created, deleted, persistence_id, sequence_number, message) values (0, @deleted, @id, 1, @message)",
            new DataParameter("deleted", false), new DataParameter("id", id), new DataParameter("message", new byte[] { 1 }));
    }

    private static async Task<List<string>> ColumnsAsync(SqlDatabase database, string table)
    {
        await using var db = database.Open();
        await using var reader = await db.ExecuteReaderAsync($"select * from {table} where 1 = 0");
        return [.. Enumerable.Range(0, reader.Reader!.FieldCount).Select(reader.Reader.GetName)];
    }

    private static async Task LetThePluginMakeThemAsync(SqlDatabase database)
    {
        var config = ConfigurationFactory.ParseString(
            $$"""
            akka.loglevel = OFF
            akka.stdout-loglevel = OFF
            akka.persistence {
              journal { plugin = "akka.persistence.journal.sql", sql { provider-name = "{{database.PluginProviderName}}", auto-initialize = on, tag-write-mode = Csv } }
              snapshot-store { plugin = "akka.persistence.snapshot-store.sql", sql { provider-name = "{{database.PluginProviderName}}", auto-initialize = on } }
            }
            """).WithFallback(SqlPersistence.DefaultConfiguration);
        var system = ActorSystem.Create("plugin", ActorSystemSetup.Create(BootstrapSetup.Create().WithConfig(config), new DataOptionsSetup(database.Options)));
        try
        {
            await system.ActorOf(Props.Create<OneOfEach>()).Ask<SaveSnapshotSuccess>("write", TimeSpan.FromSeconds(30));
        }
        finally
        {
            await system.Terminate();
        }
    }

    private sealed class OneOfEach : UntypedPersistentActor
    {
        private IActorRef _asker = ActorRefs.Nobody;

        public override string PersistenceId => "one-of-each";

        protected override void OnCommand(object message)
        {
            if (message is string word)
            {
                _asker = Sender;
                Persist(word, SaveSnapshot);
            }
            else
            {
                _asker.Tell(message);
            }
        }

        protected override void OnRecover(object message)
        {
        }
    }
}

public sealed class SqliteJournalTablesSpec(SqliteDatabase database) : JournalTablesSpec<SqliteDatabase>(database);

public sealed class PostgreSqlJournalTablesSpec(PostgreSqlDatabase database) : JournalTablesSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerJournalTablesSpec(SqlServerDatabase database) : JournalTablesSpec<SqlServerDatabase>(database);
