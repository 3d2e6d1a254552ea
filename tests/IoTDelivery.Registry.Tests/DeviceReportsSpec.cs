using System.Collections.Concurrent;
using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;
using LinqToDB.Data;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using static IoTDelivery.Registry.Tests.Site;

namespace IoTDelivery.Registry.Tests;

/// <summary>Of what devices report one row is refused by the database: the others are written, and the log names it.</summary>
public abstract class DeviceReportsSpec<TDatabase>(TDatabase server) : IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    private static readonly string[] Ids = ["a", "b", "poisoned", "y", "z"];

    [SkippableFact]
    public async Task A_software_version_that_cannot_be_stored_stops_no_others()
    {
        var (database, log) = (await DatabaseAsync(server), new Lines());
        await using (var node = await NodeAsync(database, log, "device_sdk_version"))
        {
            foreach (var id in Ids) node.GetRequiredService<SdkInfoLog>().Report(Id(id), new SdkInfo($"sdk {id}", null, null));
        } // what is to be written is written before the node is gone

        await using var other = Node(database, "node-2");
        foreach (var id in Ids)
        {
            var device = await other.GetRequiredService<Devices>().ReadAsync(Project, Id(id), default);
            Assert.Equal(id == "poisoned" ? null : $"sdk {id}", device!.DeviceSdkVersion);
        }

        Assert.Contains("poisoned", Assert.Single(log.Errors));
    }

    [SkippableFact]
    public async Task A_connection_state_that_cannot_be_stored_stops_no_others()
    {
        var (database, log) = (await DatabaseAsync(server), new Lines());
        await using (var node = await NodeAsync(database, log, "online_node"))
        {
            foreach (var id in Ids) node.GetRequiredService<ConnectionLog>().Report(Id(id), Guid.NewGuid(), isOnline: true, DateTimeOffset.UtcNow);
        }

        await using var other = Node(database, "node-2");
        foreach (var id in Ids)
        {
            var device = await other.GetRequiredService<Devices>().ReadAsync(Project, Id(id), default);
            Assert.Equal(id == "poisoned" ? null : "node-1", device!.OnlineNode);
        }

        Assert.Contains("poisoned", Assert.Single(log.Errors));
    }

    private static async Task<ServiceProvider> NodeAsync(SqlDatabase database, Lines log, string column)
    {
        var node = Node(database, log: log);
        foreach (var id in Ids) await node.GetRequiredService<Devices>().AddAsync(Device(id), default);
        await using var db = database.Open();
        await db.ExecuteAsync(database.Provider == DatabaseProvider.Sqlite
            ? $"create trigger poison before update of {column} on device when new.device_id = 'poisoned' and new.{column} is not null begin select raise(abort, 'no'); end"
            : $"alter table device add constraint poison check (device_id <> 'poisoned' or {column} is null)");
        return node;
    }

    private sealed class Lines : ILoggerProvider, ILogger
    {
        public ConcurrentQueue<string> Errors { get; } = new();

        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Error;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel)) Errors.Enqueue(formatter(state, exception));
        }

        public void Dispose()
        {
        }
    }
}

public sealed class SqliteDeviceReportsSpec(SqliteDatabase server) : DeviceReportsSpec<SqliteDatabase>(server);

public sealed class PostgreSqlDeviceReportsSpec(PostgreSqlDatabase server) : DeviceReportsSpec<PostgreSqlDatabase>(server);
