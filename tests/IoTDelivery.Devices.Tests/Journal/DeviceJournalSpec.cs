using System.Collections.Concurrent;
using System.Diagnostics;
using Akka.Actor;
using Akka.Hosting;
using Akka.Persistence;
using IoTDelivery.Devices.Journal;
using IoTDelivery.Domain;
using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;
using LinqToDB.Data;
using Microsoft.Extensions.DependencyInjection;
using static IoTDelivery.Devices.Tests.Talk;

namespace IoTDelivery.Devices.Tests.Journal;

/// <summary>The journal on real databases: what its statements store, whom a failure meets, and what an outage
/// costs.</summary>
public abstract class DeviceJournalSpec<TDatabase>(TDatabase server) : IClassFixture<TDatabase> where TDatabase : TestDatabase
{
    private protected static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private protected static readonly DeviceOptions Awake = new() { SleepAfter = TimeSpan.FromHours(1), FlushAfter = TimeSpan.FromHours(1) };

    private protected TDatabase Server => server;

    [SkippableFact]
    public async Task A_row_is_what_the_package_would_have_written()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var storage = await server.CreateAsync();
        string[] configurations = ["IoTDelivery.Devices.Journal.DeviceJournal, IoTDelivery.Devices", "Akka.Persistence.Sql.Journal.SqlWriteJournal, Akka.Persistence.Sql"];
        var rows = new List<(string, long, bool, string?, string?, int?, int)>();
        foreach (var journal in configurations)
        {
            await using var node = await DeviceNode.StartAsync(storage, options: Awake, hocon: $"akka.persistence.journal.sql.class = \"{journal}\"");
            var device = Device($"by{rows.Count}");
            var accept = new ToDevice.Command(device, new OutboxCommand.Accept(MessageId.Parse("m1"), Body(device)));
            Assert.IsType<OutboxReply.Accepted>(await node.Get<IReadOnlyActorRegistry>().Get<DeviceActor>().Ask<OutboxReply>(accept, Patience));
            await using var db = node.Database.Open();
            var row = (await db.QueryToArrayAsync<Stored>(
                "select sequence_number as Nr, deleted as Deleted, tags as Tags, manifest as Manifest, identifier as Identifier, message as Message, created as Created from journal "
                + "where persistence_id = @id", new DataParameter("id", DeviceActor.PersistenceIdOf(device.Value)))).Single();
            Assert.InRange(new DateTime(row.Created), DateTime.UtcNow.AddMinutes(-1), DateTime.UtcNow.AddMinutes(1));
            rows.Add((journal, row.Nr, row.Deleted, row.Tags is "" ? null : row.Tags, row.Manifest, row.Identifier, row.Message.Length));
        }

        Assert.Equal(rows[1] with { Item1 = "" }, rows[0] with { Item1 = "" });
    }

    [SkippableFact]
    public async Task One_transaction_stores_what_it_can_and_names_what_it_cannot()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var database = await TablesAsync();
        await using var store = Open(database);
        var outcomes = new WriteOutcome[3];

        await store.ProbeAsync();
        await store.WriteAsync([Of(Row("device-a", 1)), Of(Row("device-b", 1))], outcomes);
        Assert.Equal([WriteOutcome.Stored, WriteOutcome.Stored], outcomes[..2]);

        await store.WriteAsync([Of(Row("device-a", 2)), Of(Row("device-b", 1, "another", 9)), Of(Row("device-c", 1))], outcomes);
        Assert.Equal([WriteOutcome.Stored, WriteOutcome.KeyTaken, WriteOutcome.Stored], outcomes);

        var found = Assert.Single(await store.FindAsync([Row("device-b", 1), Row("device-b", 2)]));
        Assert.Equal(("device-b", 1L, "me"), (found.PersistenceId, found.SequenceNr, found.Writer));
        Assert.Equal([1, 2, 3], found.Message);
        Assert.Empty(await RemindersAsync(database)); // a probe leaves nothing
    }

    [SkippableFact]
    public async Task Several_rows_of_one_write_are_stored_together_or_not_at_all()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var database = await TablesAsync();
        await using var store = Open(database);
        var outcomes = new WriteOutcome[1];
        await store.WriteAsync([Of(Row("device-a", 2))], outcomes);

        await store.WriteAsync([Of(Row("device-a", 1), Row("device-a", 2), Row("device-a", 3))], outcomes);

        Assert.Equal(WriteOutcome.KeyTaken, outcomes[0]);
        Assert.Single(await store.FindAsync([Row("device-a", 1), Row("device-a", 2), Row("device-a", 3)]));
        await store.WriteAsync([Of(Row("device-b", 1), Row("device-b", 2))], outcomes);
        Assert.Equal(WriteOutcome.Stored, outcomes[0]);
        Assert.Equal(2, (await store.FindAsync([Row("device-b", 1), Row("device-b", 2)])).Count);
    }

    [SkippableFact]
    public async Task A_row_that_its_table_cannot_hold_is_no_outage_and_fails_one_device()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var database = await TablesAsync();
        await using (var db = database.Open())
        {
            if (database.Provider == DatabaseProvider.Sqlite)
            {
                await db.ExecuteAsync("create trigger refuses before insert on journal when new.persistence_id = 'device-07' begin select raise(abort, 'refused'); end");
                await db.ExecuteAsync(
                    "create trigger refused before insert on reminder when new.device_id = '13' "
                    + "begin select raise(abort, 'refused'); end");
            }
            else
            {
                await db.ExecuteAsync("alter table journal add constraint refuses check (persistence_id <> 'device-07')");
                await db.ExecuteAsync("alter table reminder add constraint refused check (device_id <> '13')");
            }
        }

        var log = new Lines();
        await using var queue = new JournalQueue(database, new JournalLoad(long.MaxValue), TimeProvider.System, log);
        List<DeviceWrite> writes =
        [
            .. Enumerable.Range(0, 10).Select(n => Of(Row($"device-{n:00}", 1, queue.Id))),
            .. Enumerable.Range(10, 10).Select(n => Of(Reminder($"{n}", Guid.NewGuid(), 60))),
        ];
        writes.ForEach(queue.Enqueue);

        await using var store = Open(database);
        foreach (var refused in new[] { writes[7], writes[13] })
        {
            var cause = await Assert.ThrowsAnyAsync<Exception>(() => refused.Done.WaitAsync(Patience));
            Assert.IsAssignableFrom<System.Data.Common.DbException>(cause);
            Assert.False(store.IsOutage(cause));
        }

        await Task.WhenAll(writes.Where((_, n) => n is not (7 or 13)).Select(w => w.Done)).WaitAsync(Patience);
        Assert.Equal(2, log.All.Count);
        Assert.Single(log.All, line => line.Contains(writes[7].PersistenceId, StringComparison.Ordinal));
        Assert.Single(log.All, line => line.Contains(writes[13].PersistenceId, StringComparison.Ordinal));
    }

    private sealed class Lines : Microsoft.Extensions.Logging.ILogger<JournalQueue>
    {
        public System.Collections.Concurrent.ConcurrentQueue<string> All { get; } = [];

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(Microsoft.Extensions.Logging.LogLevel logLevel) => true;

        public void Log<TState>(
            Microsoft.Extensions.Logging.LogLevel logLevel,
            Microsoft.Extensions.Logging.EventId eventId,
            TState state,
            Exception? exception,
            Func<TState, Exception?, string> formatter) => All.Enqueue(formatter(state, exception));
    }

    [SkippableFact]
    public async Task A_reminder_is_stored_with_its_row_or_not_at_all()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var database = await TablesAsync();
        await using var store = Open(database);
        var (outcomes, mine, other) = (new WriteOutcome[3], Guid.NewGuid(), Guid.NewGuid());
        await store.WriteAsync([Of(Row("device-b", 1))], outcomes);

        await store.WriteAsync(
            [Of(Reminder("a", mine, 60), Row("device-a", 1)), Of(Reminder("b", mine, 60), Row("device-b", 1, "another")), Of(Reminder("c", mine, 60))], outcomes);

        Assert.Equal([WriteOutcome.Stored, WriteOutcome.KeyTaken, WriteOutcome.Stored], outcomes);
        var reminders = await RemindersAsync(database);
        Assert.Equal(["a", "c"], reminders.Select(r => r.DeviceId));
        Assert.All(reminders, r => Assert.InRange(r.DueIn, 50_000, 60_500));

        // One of another token is only ever moved earlier, and stays whose it is; deleted is only what is still one's own.
        await store.WriteAsync([Of(Reminder("a", other, 90)), Of(Reminder("c", other, null))], outcomes);
        await store.WriteAsync([Of(Reminder("a", other, 90))], outcomes);
        Assert.Equal([("a", mine), ("c", mine)], (await RemindersAsync(database)).Select(r => (r.DeviceId, r.Token)));
        Assert.InRange((await RemindersAsync(database))[0].DueIn, 40_000, 60_500);
        await store.WriteAsync([Of(Reminder("a", other, 30)), Of(Reminder("c", mine, null))], outcomes);
        Assert.InRange(Assert.Single(await RemindersAsync(database)).DueIn, 10_000, 30_500);

        // With a row it has another owner, who may put it off.
        await store.WriteAsync([Of(Reminder("a", other, 90), Row("device-a", 2))], outcomes);
        Assert.Equal(other, Assert.Single(await RemindersAsync(database)).Token);
        Assert.InRange(Assert.Single(await RemindersAsync(database)).DueIn, 10_000, 30_500);
        await store.WriteAsync([Of(Reminder("a", other, 90))], outcomes);
        Assert.InRange(Assert.Single(await RemindersAsync(database)).DueIn, 80_000, 90_500);
    }

    [SkippableFact]
    public async Task A_message_costs_two_rows_and_while_many_are_sent_fewer_transactions_than_rows()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        var counted = new ConcurrentQueue<int>();
        await using var node = await DeviceNode.StartAsync(await server.CreateAsync(), options: Awake, replace: s => s.AddSingleton(p =>
        {
            var database = p.GetRequiredService<SqlDatabase>();
            return new JournalQueue(_ => new CountingStore(Open(database), counted), new JournalQueueOptions(), p.GetRequiredService<JournalLoad>(), TimeProvider.System);
        }));
        node.Sink.Current = node.System.ActorOf(Props.Create(typeof(Payer)));

        await Task.WhenAll(Enumerable.Range(0, 50).Select(async d =>
        {
            var (device, ear, id) = (Device($"d{d}"), new Ear(node.System), Guid.NewGuid());
            node.Devices.Tell(Attach(device, ear, id), ear.Ref);
            await ear.HearAsync<ToConnection.Attached>();
            for (var i = 0; i < 10; i++)
            {
                Assert.IsType<OutboxReply.Accepted>(await node.Devices.SendAsync(device, $"m{i}"));
                var sent = (await ear.HearAsync<ToConnection.Transmit>()).Message;
                node.Devices.Tell(new ToDevice.PacketAcknowledged(device, id, sent.Tag, 1, 0, Sequence: i + 1), ear.Ref);
            }
        }));

        await using var db = node.Database.Open();
        var (rows, clock) = (0, Stopwatch.StartNew());
        while ((rows = await db.ExecuteAsync<int>("select count(*) from journal")) != counted.Sum())
        {
            Assert.True(clock.Elapsed < Patience, "Rows nobody counted.");
        }
        // accepted, delivered with what was acknowledged; and one for the session
        Assert.InRange(rows, 50 * 10, 50 * (10 * 2 + 2));
        Assert.True(counted.Count < rows, $"{counted.Count} transactions for {rows} rows");
    }

    private protected static IJournalStore Open(SqlDatabase database) => database.Provider switch
    {
        DatabaseProvider.Sqlite => new SqliteJournalStore(database, TimeProvider.System),
        DatabaseProvider.PostgreSql => new PostgreSqlJournalStore(database, TimeProvider.System),
        _ => new SqlServerJournalStore(database, TimeProvider.System),
    };

    private async Task<SqlDatabase> TablesAsync()
    {
        var database = new SqlDatabase(await server.CreateAsync());
        await database.MigrateAsync(JournalTables.Migrations.Concat(Reminders.ReminderTable.Migrations));
        return database;
    }

    private static async Task<List<(string DeviceId, Guid Token, long DueIn)>> RemindersAsync(SqlDatabase database)
    {
        await using var db = database.Open();
        var rows = await db.QueryToArrayAsync<ReminderRow>(
            $"select device_id as DeviceId, token as Token, due_at - {database.Dialect.Now} as DueIn from {ReminderSql.Table} order by device_id");
        return [.. rows.Select(r => (r.DeviceId, Guid.Parse(r.Token), r.DueIn))];
    }

    private static JournalRow Row(string id, long nr, string writer = "me", byte first = 1) =>
        new(id, nr, [first, 2, 3], "E1", 4053, DateTime.UtcNow.Ticks, writer);

    private static DeviceWrite Of(params JournalRow[] rows) => new(rows[0].PersistenceId, rows, null);

    private static DeviceWrite Of(ReminderChange reminder, params JournalRow[] rows) =>
        new($"device-{reminder.DeviceId}", rows, reminder);

    private static ReminderChange Reminder(string device, Guid token, int? seconds) =>
        new(device, token, seconds is { } s ? TimeProvider.System.GetTimestamp() + s * TimeProvider.System.TimestampFrequency : null);

    private sealed record ReminderRow
    {
        public string DeviceId { get; init; } = "";
        public string Token { get; init; } = "";
        public long DueIn { get; init; }
    }

    private sealed record Stored
    {
        public long Nr { get; init; }
        public bool Deleted { get; init; }
        public string? Tags { get; init; }
        public string? Manifest { get; init; }
        public int? Identifier { get; init; }
        public byte[] Message { get; init; } = [];
        public long Created { get; init; }
    }

    private sealed class CountingStore(IJournalStore over, ConcurrentQueue<int> rows) : IJournalStore
    {
        public async Task WriteAsync(IReadOnlyList<DeviceWrite> writes, WriteOutcome[] outcomes)
        {
            await over.WriteAsync(writes, outcomes);
            rows.Enqueue(writes.Sum(w => w.Rows.Count));
        }

        public Task<IReadOnlyList<StoredRow>> FindAsync(IReadOnlyList<JournalRow> all) => over.FindAsync(all);

        public Task ProbeAsync() => over.ProbeAsync();

        public bool IsOutage(Exception cause) => over.IsOutage(cause);

        public ValueTask ResetAsync() => over.ResetAsync();

        public ValueTask DisposeAsync() => over.DisposeAsync();
    }

    private protected sealed class Payer : UntypedActor
    {
        protected override void OnReceive(object message)
        {
            var pending = (NotificationsOffered)message;
            Sender.Tell(new ToDevice.NotificationsAcknowledged(pending.DeviceId, pending.Notifications[^1].Number));
        }
    }
}

public sealed class SqliteDeviceJournalSpec(SqliteDatabase database) : DeviceJournalSpec<SqliteDatabase>(database)
{
    // More awake devices than any queue of the package is long, and each has something to store.
    [Fact]
    public async Task A_database_that_stands_still_for_ten_seconds_costs_seven_thousand_devices_time_and_no_device()
    {
        const int devices = 7_000;
        var stall = TimeSpan.FromSeconds(10);
        await using var node = await DeviceNode.StartAsync(await Server.CreateAsync(), options: Awake);
        node.Sink.Current = node.System.ActorOf(Props.Create(typeof(Payer)));
        var region = node.Get<IReadOnlyActorRegistry>().Get<DeviceActor>();
        foreach (var some in Enumerable.Range(0, devices).Chunk(500))
        {
            await Task.WhenAll(some.Select(async d => Assert.IsType<OutboxReply.Accepted>(await region.Ask<OutboxReply>(Accept(d, "first"), Patience))));
        }

        await using var db = node.Database.Open();
        await db.ExecuteAsync("begin immediate");
        var all = Enumerable.Range(0, devices).Select(d => region.Ask<OutboxReply>(Accept(d, "second"), 4 * Patience)).ToList();
        await Task.Delay(stall); // this is what is tested: how long the database stands still
        Assert.DoesNotContain(all, a => a.IsCompleted);
        await db.ExecuteAsync("commit");

        // A device that stops answers Unavailable first.
        Assert.All(await Task.WhenAll(all), r => Assert.IsType<OutboxReply.Accepted>(r));
    }

    private static ToDevice.Command Accept(int device, string id)
    {
        var deviceId = Device($"h{device}");
        return new ToDevice.Command(deviceId, new OutboxCommand.Accept(MessageId.Parse(id), Body(deviceId)));
    }
}

public sealed class PostgreSqlDeviceJournalSpec(PostgreSqlDatabase database) : DeviceJournalSpec<PostgreSqlDatabase>(database)
{
    [SkippableFact]
    public async Task A_row_that_somebody_else_keeps_locked_fails_alone_and_soon()
    {
        Skip.If(Server.SkipReason is not null, Server.SkipReason);
        await using var node = await DeviceNode.StartAsync(await Server.CreateAsync(), options: Awake);
        Assert.IsType<OutboxReply.Accepted>(await node.Devices.SendAsync(Device("victim"), "first"));
        await using var db = node.Database.Open();
        await using var transaction = await db.BeginTransactionAsync();
        await db.ExecuteAsync("insert into journal (created, deleted, persistence_id, sequence_number, message) values (0, false, 'device-victim', 2, '')");
        var region = node.Get<IReadOnlyActorRegistry>().Get<DeviceActor>();

        var victim = region.Ask<OutboxReply>(new ToDevice.Command(Device("victim"), new OutboxCommand.Accept(MessageId.Parse("m"), Body(Device("victim")))), Patience);
        for (var n = 0; !victim.IsCompleted; n++)
        {
            var other = Device($"other{n}");
            Assert.IsType<OutboxReply.Accepted>(await region.Ask<OutboxReply>(new ToDevice.Command(other, new OutboxCommand.Accept(MessageId.Parse("m"), Body(other))), Patience));
        }

        Assert.Equal(RefusalReason.Unavailable, Assert.IsType<OutboxReply.Refused>(await victim).Reason);
        Assert.False(node.Get<Fencing>().IsQuarantined("victim"), "A lock says nothing about owners.");
    }
}

/// <summary>With a server of its own, because it is stopped.</summary>
public sealed class PostgreSqlOutageSpec(PostgreSqlDatabase server) : IClassFixture<PostgreSqlDatabase>
{
    [SkippableFact]
    public async Task A_server_that_is_started_again_costs_no_write_and_no_device()
    {
        Skip.If(server.SkipReason is not null, server.SkipReason);
        await using var node = await DeviceNode.StartAsync(await server.CreateAsync(), options: new DeviceOptions { SleepAfter = TimeSpan.FromHours(1), FlushAfter = TimeSpan.FromHours(1) });
        var region = node.Get<IReadOnlyActorRegistry>().Get<DeviceActor>();
        const int devices = 200;
        Assert.All(await SendAsync("first"), r => Assert.IsType<OutboxReply.Accepted>(r));

        await server.StopAsync();
        var replies = SendAsync("second");
        await Task.Delay(2_000); // this is what is tested: how long the server is away
        Assert.False(replies.IsCompleted);
        await server.StartAsync();

        Assert.All(await replies, r => Assert.IsType<OutboxReply.Accepted>(r));

        Task<OutboxReply[]> SendAsync(string id) => Task.WhenAll(Enumerable.Range(0, devices).Select(d => region.Ask<OutboxReply>(
            new ToDevice.Command(Device($"p{d}"), new OutboxCommand.Accept(MessageId.Parse(id), Body(Device($"p{d}")))), TimeSpan.FromSeconds(60))));
    }
}

public sealed class SqlServerDeviceJournalSpec(SqlServerDatabase database) : DeviceJournalSpec<SqlServerDatabase>(database);
