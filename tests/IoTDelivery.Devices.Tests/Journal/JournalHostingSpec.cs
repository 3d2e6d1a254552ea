using Akka.Actor;
using Akka.Configuration;
using Akka.Persistence;
using Akka.Persistence.Sql.Config;
using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;

namespace IoTDelivery.Devices.Tests.Journal;

/// <summary>What the journal really runs with, after the file, our code and the package's defaults: the last of them to
/// be read wins, and says nothing about it.</summary>
public abstract class JournalHostingSpec<TDatabase>(TDatabase server) : IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    [SkippableFact]
    public async Task The_effective_settings_are_ours()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var storage = await server.CreateAsync();
        storage.OutageMax = TimeSpan.FromMinutes(2);
        await using var node = await DeviceNode.StartAsync(storage);
        var (config, provider) = (node.System.Settings.Config, node.Database.PluginProviderName);

        Assert.Equal(("akka.persistence.journal.sql", "akka.persistence.snapshot-store.sql"), (config.GetString("akka.persistence.journal.plugin"), config.GetString("akka.persistence.snapshot-store.plugin")));
        var journal = config.GetConfig("akka.persistence.journal.sql");
        Assert.Equal("IoTDelivery.Devices.Journal.DeviceJournal, IoTDelivery.Devices", journal.GetString("class"));
        // above the queue's own deadline
        Assert.Equal(TimeSpan.FromMinutes(3), journal.GetTimeSpan("circuit-breaker.call-timeout"));
        Assert.Equal(1_000_000_000, journal.GetInt("circuit-breaker.max-failures"));
        Assert.Equal("off", journal.GetString("replay-filter.mode"));

        var isSqlite = storage.Provider == DatabaseProvider.Sqlite;
        var effective = new JournalConfig(journal.WithFallback(config.GetConfig("akka.persistence.journal-plugin-fallback")));
        Assert.Equal((provider, false, TagMode.Csv), (effective.ProviderName, effective.AutoInitialize, effective.PluginConfig.TagMode));
        Assert.Equal(isSqlite ? System.Data.IsolationLevel.ReadUncommitted : System.Data.IsolationLevel.Unspecified, effective.ReadIsolationLevel);
        var snapshots = config.GetConfig("akka.persistence.snapshot-store.sql");
        Assert.Equal((provider, false), (snapshots.GetString("provider-name"), snapshots.GetBoolean("auto-initialize")));
    }
}

public sealed class SqliteJournalHostingSpec(SqliteDatabase database) : JournalHostingSpec<SqliteDatabase>(database);

public sealed class PostgreSqlJournalHostingSpec(PostgreSqlDatabase database) : JournalHostingSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerJournalHostingSpec(SqlServerDatabase database) : JournalHostingSpec<SqlServerDatabase>(database);
