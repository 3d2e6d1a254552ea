using Akka.Hosting;
using Akka.Persistence.Sql;
using Akka.Persistence.Sql.Config;
using IoTDelivery.Storage;

namespace IoTDelivery.Devices.Journal;

public static class JournalHosting
{
    /// <summary>
    /// Journal and snapshots of the devices in the site's database. What is the same on every database stands in <c>akka.hocon</c>;
    /// here is only what depends on which one it is.
    /// </summary>
    public static AkkaConfigurationBuilder WithDeviceJournal(this AkkaConfigurationBuilder akka, SqlDatabase database)
    {
        // SQLite has one writer: several at once only wait for each other, and a deferred BEGIN keeps readers out of that queue.
        var (parallelism, batch, isolation) = database.Provider == DatabaseProvider.Sqlite ? (1, 400, "read-uncommitted") : (3, 100, "unspecified");
        return akka
            .AddSetup(new DataOptionsSetup(database.Options))
            .AddHocon(
                $$"""
                akka.persistence {
                  journal.plugin = "akka.persistence.journal.sql"
                  journal.sql {
                    provider-name = "{{database.PluginProviderName}}"
                    auto-initialize = off # JournalTables makes them
                    parallelism = {{parallelism}}
                    batch-size = {{batch}}
                    read-isolation-level = {{isolation}}
                  }
                  snapshot-store.plugin = "akka.persistence.snapshot-store.sql"
                  snapshot-store.sql {
                    auto-initialize = off
                    provider-name = "{{database.PluginProviderName}}"
                    read-isolation-level = {{isolation}}
                  }
                }
                """,
                HoconAddMode.Append)
            .AddHocon(SqlPersistence.DefaultConfiguration, HoconAddMode.Append); // without the Hosting package nobody else loads it
    }
}
