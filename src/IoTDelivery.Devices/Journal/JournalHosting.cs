using System.Data;
using Akka.Hosting;
using Akka.Persistence.Sql.Hosting;
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
        // SQLite has one writer: a deferred BEGIN keeps readers out of its queue.
        var isolation = database.Provider == DatabaseProvider.Sqlite ? IsolationLevel.ReadUncommitted : IsolationLevel.Unspecified;
        var (timeout, options) = (database.OutageMax + TimeSpan.FromMinutes(1), database.Options);
        return akka

            // Before the package, which appends its defaults: what comes behind them says nothing any more. The queue's
            // deadline counts, so Akka's stands above it.
            .AddHocon($"akka.persistence.journal.sql.circuit-breaker.call-timeout = {(long)timeout.TotalSeconds}s", HoconAddMode.Append)
            .WithSqlPersistence(
                new SqlJournalOptions { DataOptions = options, ProviderName = database.PluginProviderName, AutoInitialize = false, ReadIsolationLevel = isolation },
                new SqlSnapshotOptions { DataOptions = options, ProviderName = database.PluginProviderName, AutoInitialize = false, ReadIsolationLevel = isolation });
    }
}
