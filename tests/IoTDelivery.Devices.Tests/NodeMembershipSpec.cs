using System.Collections.Concurrent;
using System.Diagnostics;
using IoTDelivery.Devices.Membership;
using IoTDelivery.Tests.Databases;
using LinqToDB;
using LinqToDB.Data;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Devices.Tests;

/// <summary>The heartbeat of a member, when its table is not as it should be.</summary>
public sealed class NodeMembershipSpec(SqliteDatabase server) : IClassFixture<SqliteDatabase>
{
    [Theory]
    [InlineData(typeof(LinqToDBException)), InlineData(typeof(FormatException))]
    [InlineData(typeof(TaskCanceledException)), InlineData(typeof(TimeoutException))]
    public async Task The_heartbeat_goes_on_whatever_its_table_throws_and_says_so_once(Type failure)
    {
        using var log = new Failures();
        using var stop = new CancellationTokenSource();
        var (heartbeats, goneOn) = (0, new TaskCompletionSource());
        var heartbeat = new Heartbeat(
            _ =>
            {
                if (++heartbeats == 6) goneOn.TrySetResult();
                if (heartbeats is > 1 and < 5) throw (Exception)Activator.CreateInstance(failure)!;
                return Task.CompletedTask;
            },
            TimeSpan.FromMilliseconds(1), log);
        var running = heartbeat.RunAsync(stop.Token);

        await goneOn.Task.WaitAsync(TimeSpan.FromSeconds(30));
        Assert.IsType(failure, Assert.Single(log.All));
        await stop.CancelAsync();
        await running.WaitAsync(TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task The_heartbeat_is_written_while_a_row_of_another_node_cannot_be_read()
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
             values ('elsewhere:1', 'not a uid', 'a', 'elsewhere', 1, 1, {node.Database.Dialect.Now}, 0)
             """);

        Assert.IsType<FormatException>(await log.FirstAsync.WaitAsync(TimeSpan.FromSeconds(30)));
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

        Task<long> LastAsync() =>
            db.ExecuteAsync<long>("select beat_at from cluster_node where address <> 'elsewhere:1'");
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
        private readonly TaskCompletionSource<Exception> _first = new();
        private readonly ConcurrentQueue<Exception> _all = [];

        public Task<Exception> FirstAsync => _first.Task;

        public IReadOnlyCollection<Exception> All => _all;

        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel level, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> text)
        {
            if (eventId.Id != 2005 || exception is null) return;
            _all.Enqueue(exception);
            _first.TrySetResult(exception);
        }

        public void Dispose() { }
    }
}
