using System.Collections.Concurrent;
using System.Diagnostics;
using IoTDelivery.Tests.Databases;
using LinqToDB;
using LinqToDB.Data;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Devices.Tests;

/// <summary>The heartbeat of a member, when its table is not as it should be.</summary>
public sealed class NodeMembershipSpec(SqliteDatabase server) : IClassFixture<SqliteDatabase>
{
    private const string BadUid = "'not a uid', 'elsewhere', 'elsewhere', 1";
    private const string BadProcess = "'019a0000-0000-7000-8000-000000000000', 'elsewhere', 'elsewhere', 'not a number'";

    [Theory]
    [InlineData(BadUid, typeof(FormatException)), InlineData(BadProcess, typeof(LinqToDBException))]
    public async Task The_heartbeat_goes_on_while_a_row_cannot_be_read_and_the_failure_is_logged_once(string row, Type failure)
    {
        var log = new Failures();
        await using var node = await DeviceNode.StartAsync(await server.CreateAsync(), replace: services =>
        {
            services.AddMembership([]);
            services.AddSingleton<ILoggerProvider>(log);
        });
        await using var db = node.Database.Open();
        await db.ExecuteAsync(
            $"""
             insert into cluster_node (address, cluster_uid, incarnation, machine, process, started_at, beat_at, is_downed)
             values ('elsewhere:1', {row}, 1, {node.Database.Dialect.Now}, 0)
             """);

        Assert.IsAssignableFrom(failure, await log.FirstAsync.WaitAsync(TimeSpan.FromSeconds(30)));
        for (var i = 0; i < 2; i++) await HeartbeatAsync();
        Assert.Single(log.All);

        await db.ExecuteAsync("delete from cluster_node where address = 'elsewhere:1'");
        await HeartbeatAsync();
        Assert.Single(log.All);

        async Task HeartbeatAsync()
        {
            var (before, patience) = (await LastAsync(), Stopwatch.StartNew());
            while (await LastAsync() == before)
            {
                Assert.True(patience.Elapsed < TimeSpan.FromSeconds(30), "The heartbeat has ended.");
                await Task.Delay(100);
            }
        }

        Task<long> LastAsync() => db.ExecuteAsync<long>("select beat_at from cluster_node where address <> 'elsewhere:1'");
    }

    [Fact]
    public async Task The_heartbeat_goes_on_after_its_table_was_away()
    {
        var log = new Failures();
        await using var node = await DeviceNode.StartAsync(await server.CreateAsync(), replace: services =>
        {
            services.AddMembership([]);
            services.AddSingleton<ILoggerProvider>(log);
        });
        await using var db = node.Database.Open();
        await db.ExecuteAsync("alter table cluster_node rename to away");
        await log.FirstAsync.WaitAsync(TimeSpan.FromSeconds(30));
        var before = await db.ExecuteAsync<long>("select beat_at from away");

        await db.ExecuteAsync("alter table away rename to cluster_node");
        var patience = Stopwatch.StartNew();
        while (await db.ExecuteAsync<long>("select beat_at from cluster_node") == before)
        {
            Assert.True(patience.Elapsed < TimeSpan.FromSeconds(30), "The heartbeat has ended.");
            await Task.Delay(100);
        }
    }

    // What the heartbeat logged.
    private sealed class Failures : ILoggerProvider, ILogger
    {
        private readonly TaskCompletionSource<Exception> _first = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly ConcurrentQueue<Exception> _all = [];

        public Task<Exception> FirstAsync => _first.Task;

        public IReadOnlyCollection<Exception> All => _all;

        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (eventId.Id != 2005 || exception is null) return;
            _all.Enqueue(exception);
            _first.TrySetResult(exception);
        }

        public void Dispose() { }
    }
}
