using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Amqp;
using Amqp.Framing;
using IoTDelivery.Registry;
using IoTDelivery.Tests.Databases;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace IoTDelivery.Push.Tests;

/// <summary>AMQP 1.0 consumers, over TCP, with the library's own client.</summary>
public abstract class AmqpSpec<TDatabase>(TDatabase server) : PushSpec(server), IClassFixture<TDatabase>, IAsyncLifetime where TDatabase : TestDatabase
{
    private const string Queue = "status-queue";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan Shortly = TimeSpan.FromMilliseconds(400);

    private readonly List<Connection> _connections = [];
    private PushWorld _world = null!;
    private AccessCodes _codes = null!;
    private WebApplication _node = null!;
    private AmqpServer _amqp = null!;
    private (string Key, string Code) _access;

    public async Task InitializeAsync()
    {
        _world = await WorldAsync();
        _codes = new AccessCodes(_world.Database, _world.Clock);
        await new AmqpQueues(_world.Database, _world.Clock).AddAsync(Given.Project, Queue, default);
        _access = await _codes.CreateAsync(Given.Project, disconnect: false, default);
        await ListenAsync(new AmqpOptions { LinksMax = 2, ConnectionsPerKeyMax = 3, LinkTimeout = TimeSpan.FromSeconds(2) });
    }

    public async Task DisposeAsync()
    {
        if (_world is null) return; // skipped
        foreach (var connection in _connections) await QuietlyAsync(connection.CloseAsync(TimeSpan.FromSeconds(1), null));
        await _amqp.StopAsync(default);
        await _node.DisposeAsync();
        await _world.DisposeAsync();
    }

    [SkippableFact]
    public async Task What_happened_to_messages_comes_to_a_consumer_in_order_as_it_would_be_posted_and_leaves_the_queue_when_it_is_accepted()
    {
        await ActionAsync("amqp");
        await _world.AddReceiverAsync("webhook");
        _world.Notify(Given.Lamp, 1, 2, 3);
        await _world.Owing.UntilAcknowledgedAsync(Given.Lamp, 3); // no consumer is there: the device is acknowledged all the same

        var link = await ReceiverAsync(credit: 10);
        var bodies = new List<string>();
        for (var i = 1; i <= 3; i++)
        {
            var message = await TakeAsync(link);
            Assert.Equal(("application/json", $"amqp/lamp/{i}"), (message.Properties.ContentType.ToString(), message.Properties.MessageId));
            bodies.Add((string)message.Body);
            link.Accept(message);
        }

        await PushWorld.UntilAsync(async () => await _world.RowsAsync("amqp") == 0);
        Assert.Equal(["m1", "m2", "m3"], bodies.ConvertAll(Id));
        await _world.Application.UntilAsync(() => _world.Application.Taken("webhook").Count == 3);
        Assert.Equal(_world.Application.Taken("webhook").Select(p => p.Body), bodies);
        Assert.Empty(await _world.DeadLettersAsync("amqp"));
    }

    [SkippableFact]
    public async Task A_consumer_that_takes_ten_and_dies_after_four_leaves_six_to_another_and_every_device_keeps_its_order()
    {
        await ActionAsync("amqp");
        for (var device = 0; device < 10; device++) _world.Notify(Given.Device(device), 1, 2);
        for (var device = 0; device < 10; device++) await _world.Owing.UntilAcknowledgedAsync(Given.Device(device), 2);

        var first = await ReceiverAsync(credit: 10);
        var taken = new List<Message>();
        for (var i = 0; i < 10; i++) taken.Add(await TakeAsync(first));
        Assert.Equal(10, taken.Select(Device).Distinct().Count()); // one of a device at a time
        foreach (var message in taken[..4]) first.Accept(message);
        await PushWorld.UntilAsync(async () => await _world.RowsAsync("amqp") == 16);
        await QuietlyAsync(first.Session.Connection.CloseAsync(TimeSpan.FromSeconds(1), new Error(ErrorCode.ConnectionForced)));

        var second = await ReceiverAsync(credit: 100);
        var rest = new List<Message>();
        for (var i = 0; i < 16; i++)
        {
            rest.Add(await TakeAsync(second));
            second.Accept(rest[^1]);
        }

        Assert.Superset(taken[4..].Select(m => m.Properties.MessageId).ToHashSet(), rest.Select(m => m.Properties.MessageId).ToHashSet());
        Assert.Equal(16, rest.Select(m => m.Properties.MessageId).Distinct().Count());
        foreach (var ofDevice in taken[..4].Concat(rest).GroupBy(Device)) Assert.Equal(["1", "2"], ofDevice.Select(m => m.Properties.MessageId.Split('/')[2]));
        await PushWorld.UntilAsync(async () => await _world.RowsAsync("amqp") == 0);
    }

    [SkippableFact]
    public async Task Released_is_offered_again_and_rejected_is_a_dead_letter_with_the_consumers_reason()
    {
        await ActionAsync("amqp");
        var link = await ReceiverAsync(credit: 10);
        _world.Notify(Given.Lamp, 1, 2, 3);

        var message = await TakeAsync(link);
        link.Release(message);
        var again = await TakeAsync(link);
        Assert.Equal((message.Properties.MessageId, (string)message.Body), (again.Properties.MessageId, (string)again.Body));
        link.Accept(again);

        link.Reject(await TakeAsync(link), new Error(ErrorCode.DecodeError) { Description = "not what I can read" });
        var third = await TakeAsync(link);
        Assert.Equal("amqp/lamp/3", third.Properties.MessageId);
        link.Accept(third);
        await PushWorld.UntilAsync(async () => await _world.RowsAsync("amqp") == 0);
        var letter = Assert.Single(await _world.DeadLettersAsync("amqp"));
        Assert.Equal((2, "rejected by the consumer: not what I can read"), (letter.Number, letter.Reason));
    }

    [SkippableFact]
    public async Task Two_consumers_share_a_queue_and_credit_is_honoured()
    {
        await ActionAsync("amqp");
        var (one, two) = (await ReceiverAsync(credit: 3), await ReceiverAsync(credit: 2));
        for (var device = 0; device < 8; device++) _world.Notify(Given.Device(device), 1);

        var seen = new List<Message>();
        for (var i = 0; i < 3; i++) seen.Add(await TakeAsync(one));
        for (var i = 0; i < 2; i++) seen.Add(await TakeAsync(two));
        Assert.Null(await one.ReceiveAsync(Shortly));
        Assert.Null(await two.ReceiveAsync(Shortly));

        two.SetCredit(3, CreditMode.Manual); // without settling: credit alone counts
        for (var i = 0; i < 3; i++) seen.Add(await TakeAsync(two));
        Assert.Equal(8, seen.Select(Device).Distinct().Count());
        Assert.Equal(8, await _world.RowsAsync("amqp")); // nothing is accepted yet
    }

    [SkippableFact]
    public async Task A_reason_that_no_column_takes_stops_nobody()
    {
        await ActionAsync("amqp");
        var link = await ReceiverAsync(credit: 10);
        _world.Notify(Given.Lamp, 1, 2);

        link.Reject(await TakeAsync(link), new Error(ErrorCode.DecodeError) { Description = "no\0thing \ud83d " + new string('x', 100_000) });
        link.Accept(await TakeAsync(link));

        await PushWorld.UntilAsync(async () => await _world.RowsAsync("amqp") == 0);
        var letter = Assert.Single(await _world.DeadLettersAsync("amqp"));
        Assert.Contains("no\uFFFDthing \uFFFD", letter.Reason);
        Assert.InRange(letter.Reason.Length, 1000, 1024);
    }

    [SkippableFact]
    public async Task What_a_consumer_does_not_settle_in_time_is_offered_to_others()
    {
        await ActionAsync("amqp");
        var idle = await ReceiverAsync(credit: 1);
        _world.Notify(Given.Lamp, 1);
        var taken = await TakeAsync(idle);

        var busy = await ReceiverAsync(credit: 1);
        _world.Clock.Move(TimeSpan.FromMinutes(11));
        var again = await TakeAsync(busy);
        busy.Accept(again);

        Assert.Equal(taken.Properties.MessageId, again.Properties.MessageId);
        await PushWorld.UntilAsync(async () => await _world.RowsAsync("amqp") == 0);
    }

    [SkippableFact]
    public async Task What_nobody_fetches_in_time_is_a_dead_letter()
    {
        await ActionAsync("amqp");
        _world.Notify(Given.Lamp, 1);
        await _world.Owing.UntilAcknowledgedAsync(Given.Lamp, 1);
        Assert.Equal(1, await _world.RowsAsync("amqp"));
        _world.Clock.Move(TimeSpan.FromHours(25));
        await PushWorld.UntilAsync(async () => (await _world.DeadLettersAsync("amqp")).Count == 1);
        Assert.Equal(0, await _world.RowsAsync("amqp"));
    }

    [SkippableFact]
    public async Task A_wrong_code_a_voided_one_a_stale_time_and_an_odd_user_name_are_refused()
    {
        var now = _world.Clock.GetUtcNow();
        await RefusedAsync(User(now), "wrong-code-wrong-code");
        await RefusedAsync(User(now.AddMinutes(-6)), _access.Code);
        await RefusedAsync(User(now.AddMinutes(6)), _access.Code);
        await RefusedAsync($"accessKey={_access.Key}", _access.Code);
        await RefusedAsync($"accessKey=nobody12|timestamp={now.ToUnixTimeMilliseconds()}", _access.Code);
        await ConnectAsync(User(now) + "|", _access.Code);
        await ConnectAsync(User(now) + "|instanceId=any|encode=base64|", _access.Code);

        var (key, code) = await _codes.CreateAsync(Given.Project, disconnect: false, default);
        Assert.Equal(_access.Key, key);
        await RefusedAsync(User(now), _access.Code);
        await ConnectAsync(User(now), code);
    }

    [SkippableFact]
    public async Task A_new_code_with_force_disconnect_ends_the_connections_of_the_old_one()
    {
        var link = await ReceiverAsync(credit: 1);
        var closed = new TaskCompletionSource<Error>();
        link.Session.Connection.AddClosedCallback((_, error) => closed.TrySetResult(error));
        await _codes.CreateAsync(Given.Project, disconnect: true, default);
        var error = await closed.Task.WaitAsync(Patience);
        Assert.Equal("Another access code was asked for, with force_disconnect.", error.Description);
    }

    [SkippableFact]
    public async Task Links_to_unknown_queues_sender_links_and_those_beyond_the_limit_are_refused_in_words()
    {
        var session = new Session(await ConnectAsync());
        Assert.Contains("The queue nowhere does not exist", (await AttachErrorAsync(new ReceiverLink(session, "a", "nowhere"))).Description);
        Assert.Contains("Only receiver links", (await AttachErrorAsync(new SenderLink(session, "b", Queue))).Description);
        await AttachedAsync(session, "c", Queue);
        await AttachedAsync(session, "d", AmqpQueues.DefaultQueue);
        Assert.Contains("2 receiver links", (await AttachErrorAsync(new ReceiverLink(session, "e", Queue))).Description);
    }

    [SkippableFact]
    public async Task A_connection_without_a_receiver_link_and_one_more_than_the_key_may_have_are_ended()
    {
        var idle = await ConnectAsync();
        var closed = new TaskCompletionSource<Error>();
        idle.AddClosedCallback((_, error) => closed.TrySetResult(error));
        await ReceiverAsync(1);
        await ReceiverAsync(1);
        await RefusedAsync(User(_world.Clock.GetUtcNow()), _access.Code);
        Assert.Equal("No receiver link within 00:00:02.", (await closed.Task.WaitAsync(Patience)).Description);
        await PushWorld.UntilAsync(async () =>
        {
            try
            {
                await ConnectAsync();
                return true;
            }
            catch (AmqpException)
            {
                return false; // the server has not yet noticed that the other one is gone
            }
        });
    }

    // AMQP 1.0, 2.4.5. The consumer itself may be silent for longer: the node judges that by its own time-out.
    [SkippableFact]
    public async Task A_consumer_hears_an_empty_frame_at_half_of_the_idle_time_out_it_announced()
    {
        using var consumer = await RawAsync(idleTimeOut: 1000);
        await consumer.AttachAsync(Queue, credit: 1);
        await consumer.ReceiveAsync<Attach>();

        var (began, last, gaps) = (Stopwatch.StartNew(), Stopwatch.StartNew(), new List<TimeSpan>());
        while (began.Elapsed < TimeSpan.FromSeconds(3))
        {
            Assert.Null(await consumer.ReceiveAsync().WaitAsync(Patience));
            gaps.Add(last.Elapsed);
            last.Restart();
        }

        Assert.InRange(gaps.Count, 4, 7); // 6, if nothing is late
        Assert.All(gaps, gap => Assert.InRange(gap, TimeSpan.Zero, TimeSpan.FromMilliseconds(999)));
    }

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(99)]
    public async Task An_idle_time_out_nobody_can_serve_is_refused_in_words(uint idleTimeOut)
    {
        using var consumer = await RawAsync(idleTimeOut);

        var close = await consumer.ReceiveAsync<Close>().WaitAsync(Patience);

        Assert.Equal($"idle-time-out must be 100 ms or more, not {idleTimeOut}.", close.Error.Description);
        Assert.True(await consumer.IsEndedAsync().WaitAsync(Patience));
    }

    [SkippableFact]
    public async Task A_consumer_that_is_silent_for_the_nodes_idle_time_out_is_ended_and_another_gets_what_it_had()
    {
        await ListenAgainAsync(new AmqpOptions { IdleTimeout = TimeSpan.FromSeconds(2) });
        await ActionAsync("amqp");
        _world.Notify(Given.Lamp, 1);
        using var silent = await RawAsync(idleTimeOut: 0);
        var open = await silent.ReceiveAsync<Open>().WaitAsync(Patience);
        Assert.Equal(1000u, open.IdleTimeOut); // half of it is announced
        await silent.AttachAsync(Queue, credit: 1);
        await silent.ReceiveAsync<Transfer>().WaitAsync(Patience);

        var close = await silent.ReceiveAsync<Close>().WaitAsync(Patience);
        Assert.Equal(ErrorCode.ConnectionForced, close.Error.Condition.ToString());
        Assert.Contains("idle timeout 2000 ms", close.Error.Description);
        Assert.True(await silent.IsEndedAsync().WaitAsync(TimeSpan.FromSeconds(5))); // nobody waits for its CLOSE

        var other = await ReceiverAsync(credit: 1);
        other.Accept(await TakeAsync(other));
        await PushWorld.UntilAsync(async () => await _world.RowsAsync("amqp") == 0);
    }

    [SkippableFact]
    public async Task A_consumer_that_sends_empty_frames_as_often_as_the_node_announced_stays()
    {
        await ListenAgainAsync(new AmqpOptions { IdleTimeout = TimeSpan.FromSeconds(2) });
        using var consumer = await RawAsync(idleTimeOut: 0);
        await consumer.AttachAsync(Queue, credit: 1);
        await consumer.ReceiveAsync<Attach>().WaitAsync(Patience);

        var next = consumer.ReceiveAsync();
        for (var i = 0; i < 6; i++)
        {
            await Task.WhenAny(next, Task.Delay(TimeSpan.FromMilliseconds(750))); // time itself is what is tested
            Assert.False(next.IsCompleted);
            await consumer.SendEmptyAsync();
        }
    }

    [SkippableFact]
    public async Task Where_the_drainers_do_not_live_consumers_are_told_so_and_when_they_leave_links_end()
    {
        var link = await ReceiverAsync(credit: 5);
        var ended = new TaskCompletionSource<Error>();
        link.AddClosedCallback((_, error) => ended.TrySetResult(error));
        await _world.KillDrainersAsync();
        Assert.Contains("another node", (await ended.Task.WaitAsync(Patience)).Description);
        Assert.Contains("another node", (await AttachErrorAsync(new ReceiverLink(new Session(await ConnectAsync()), "a", Queue))).Description);

        _world.StartDrainers();
        await ActionAsync("amqp");
        var again = await ReceiverAsync(credit: 5);
        _world.Notify(Given.Lamp, 1);
        again.Accept(await TakeAsync(again));
        await PushWorld.UntilAsync(async () => await _world.RowsAsync("amqp") == 0);
    }

    private async Task ListenAsync(AmqpOptions options)
    {
        _amqp = new AmqpServer(new AmqpQueues(_world.Database, _world.Clock), _codes, _world.Consumers, options, NullLogger<AmqpServer>.Instance, _world.Clock);
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(k => k.Listen(System.Net.IPAddress.Loopback, 0, l => l.Run(_amqp.OnConnectedAsync)));
        _node = builder.Build();
        await _node.StartAsync();
        await _amqp.StartAsync(default);
    }

    private async Task ListenAgainAsync(AmqpOptions options)
    {
        await _amqp.StopAsync(default);
        await _node.DisposeAsync();
        await ListenAsync(options);
    }

    private async Task ActionAsync(string actionId)
    {
        var rule = _world.NewRule();
        await _world.Rules.AddAsync(rule, default);
        var action = _world.NewAction(rule.RuleId, actionId, "") with
        {
            Channel = RuleAction.AmqpForwarding,
            ChannelDetail = $$"""{"amqp_forwarding":{"queue_name":"{{Queue}}"} }""",
            Url = null,
        };
        Assert.NotNull(await _world.Rules.AddActionAsync(action, default));
    }

    private string User(DateTimeOffset at) => $"accessKey={_access.Key}|timestamp={at.ToUnixTimeMilliseconds()}";

    private Task<Connection> ConnectAsync() => ConnectAsync(User(_world.Clock.GetUtcNow()), _access.Code);

    private int Port
    {
        get
        {
            var features = _node.Services.GetRequiredService<IServer>().Features;
            return new Uri(features.Get<IServerAddressesFeature>()!.Addresses.Single()).Port;
        }
    }

    private Task<RawAmqp> RawAsync(uint idleTimeOut) =>
        RawAmqp.ConnectAsync(Port, User(_world.Clock.GetUtcNow()), _access.Code, idleTimeOut).WaitAsync(Patience);

    private async Task<Connection> ConnectAsync(string user, string code)
    {
        var address = new Address("127.0.0.1", Port, user, code, "/", "amqp");
        var connection = await new ConnectionFactory().CreateAsync(address).WaitAsync(Patience);
        _connections.Add(connection);
        return connection;
    }

    private async Task RefusedAsync(string user, string code)
    {
        var cause = await Assert.ThrowsAsync<AmqpException>(() => ConnectAsync(user, code));
        Assert.Equal(ErrorCode.UnauthorizedAccess, cause.Error.Condition.ToString());
    }

    private async Task<ReceiverLink> ReceiverAsync(int credit)
    {
        var link = await AttachedAsync(new Session(await ConnectAsync()), "consumer", Queue);
        link.SetCredit(credit, CreditMode.Manual);
        return link;
    }

    private static async Task<ReceiverLink> AttachedAsync(Session session, string name, string queue)
    {
        var attached = new TaskCompletionSource();
        var link = new ReceiverLink(session, name, new Source { Address = queue }, (_, attach) =>
        {
            if (attach.Source is not null) attached.TrySetResult();
        });
        link.AddClosedCallback((_, error) => attached.TrySetException(new AmqpException(error)));
        await attached.Task.WaitAsync(Patience);
        return link;
    }

    private static async Task<Error> AttachErrorAsync(Link link)
    {
        var closed = new TaskCompletionSource<Error>();
        link.AddClosedCallback((_, error) => closed.TrySetResult(error));
        return await closed.Task.WaitAsync(Patience);
    }

    private static async Task<Message> TakeAsync(ReceiverLink link) =>
        await link.ReceiveAsync(Patience) ?? throw new TimeoutException("No message within 20 s.");

    private static async Task QuietlyAsync(Task task)
    {
        try
        {
            await task;
        }
        catch (Exception cause) when (cause is AmqpException or TimeoutException or ObjectDisposedException)
        {
            // It was closed already.
        }
    }

    private static string Device(Message message) => message.Properties.MessageId.Split('/')[1];

    private static string Id(string body) => JsonDocument.Parse(body).RootElement.GetProperty("notify_data").GetProperty("message_id").GetString()!;
}

public sealed class SqliteAmqpSpec(SqliteDatabase database) : AmqpSpec<SqliteDatabase>(database);

public sealed class PostgreSqlAmqpSpec(PostgreSqlDatabase database) : AmqpSpec<PostgreSqlDatabase>(database);

public sealed class SqlServerAmqpSpec(SqlServerDatabase database) : AmqpSpec<SqlServerDatabase>(database);
