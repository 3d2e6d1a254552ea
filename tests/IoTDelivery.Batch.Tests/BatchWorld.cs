using System.Collections.Immutable;
using System.Text.Json;
using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using IoTDelivery.Storage;
using LinqToDB.Data;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace IoTDelivery.Batch.Tests;

/// <summary>A site's tables, devices that answer as outboxes do, and runners that can be killed.</summary>
internal sealed class BatchWorld : IAsyncDisposable
{
    public const string Project = "project-1";

    private readonly ServiceProvider _registry;
    private readonly IActorRef _devices;
    private readonly List<Task> _runs = [];
    private CancellationTokenSource _alive = new();
    private int _tasks;

    private BatchWorld(ActorSystem system, SqlDatabase database)
    {
        Database = database;
        _registry = new ServiceCollection()
            .AddSingleton(database).AddSingleton(TimeProvider.System).AddSingleton(new NodeIncarnation("node-1")).AddLogging(l => l.ClearProviders()).AddRegistry().BuildServiceProvider();
        Tasks = NewTasks();
        _devices = system.ActorOf(Props.Create(() => new Outboxes(Told)));
    }

    public SqlDatabase Database { get; }

    public Told Told { get; } = new();

    public MovableClock Clock { get; } = new();

    public BatchTasks Tasks { get; }

    public DeviceGroups Groups => _registry.GetRequiredService<DeviceGroups>();

    public BatchOptions Options { get; } = new() { RatePerSecond = 100_000, PollInterval = TimeSpan.FromMilliseconds(20), AskAgainAfter = TimeSpan.FromMilliseconds(100) };

    public static async Task<BatchWorld> StartAsync(ActorSystem system, StorageOptions storage)
    {
        var database = new SqlDatabase(storage);
        await database.MigrateAsync([.. RegistryMigrations.All, .. BatchTasks.Migrations]);
        return new BatchWorld(system, database);
    }

    /// <summary>Devices with the ids d0, d1 …</summary>
    public async Task<string[]> AddDevicesAsync(int count, string product = "lamp", string prefix = "d", string? gateway = null)
    {
        var ids = Enumerable.Range(0, count).Select(i => $"{prefix}{i}").ToArray();
        await using var db = Database.Open();
        var secret = _registry.GetRequiredService<Secrets>().Protect("secret-of-devices");
        await db.BulkCopyAsync(new BulkCopyOptions { BulkCopyType = BulkCopyType.MultipleRows }, ids.Select(id => new Device
        {
            DeviceId = id,
            RecordId = RecordIds.New(Clock.GetUtcNow()),
            ProjectId = Project,
            ProductId = product,
            NodeId = id,
            GatewayId = gateway,
            RootId = gateway,
            Secret = secret,
            CreatedAt = 1,
        }));
        return ids;
    }

    public async Task<BatchTask> AddTaskAsync(string[]? targets, Func<BatchTask, BatchTask>? change = null)
    {
        var now = Clock.GetUtcNow();
        var task = new BatchTask
        {
            TaskId = RecordIds.New(now.AddMilliseconds(++_tasks)), // later ones are newer, also within a millisecond
            ProjectId = Project,
            TaskName = "task",
            Targets = targets is null ? null : JsonSerializer.Serialize(targets),
            Document = """{"message":"hello"}""",
            Total = targets?.Length ?? 0,
            CreatedAt = now.ToUnixTimeMilliseconds(),
        };
        task = change?.Invoke(task) ?? task;
        Assert.True(await Tasks.AddAsync(task, 100, default));
        return task;
    }

    public BatchTasks NewTasks() => new(Database, Groups, Clock);

    /// <summary>A runner; more than one at a time is what a cluster has for a moment when its singleton moves.</summary>
    public void StartRunner(BatchTasks? tasks = null)
    {
        var gateway = new DeviceGateway(() => _devices, askTimeout: TimeSpan.FromMilliseconds(200), inAll: TimeSpan.FromMilliseconds(250));
        var sender = new BatchSender(tasks ?? Tasks, _registry.GetRequiredService<Registry.Devices>(), gateway, Read, Options, Clock, NullLogger<BatchSender>.Instance);
        var alive = _alive.Token;
        _runs.Add(Task.Run(() => sender.RunAsync(alive)));
    }

    /// <summary>All runners are gone, with everything they held.</summary>
    public async Task KillRunnersAsync()
    {
        await _alive.CancelAsync();
        foreach (var run in _runs) await Assert.ThrowsAnyAsync<OperationCanceledException>(() => run);
        _runs.Clear();
        _alive = new CancellationTokenSource();
    }

    public async Task<(BatchTask Task, BatchProgress Progress)> ShowAsync(BatchTask task)
    {
        var found = await Tasks.FindAsync(Project, task.TaskId, default);
        Assert.NotNull(found);
        return found.Value;
    }

    public async Task<BatchProgress> UntilAsync(BatchTask task, BatchStatus status)
    {
        await UntilAsync(async () => (await ShowAsync(task)).Task.Status == status, async () => $"{await ShowAsync(task)}");
        return (await ShowAsync(task)).Progress;
    }

    public async Task<IReadOnlyList<BatchTarget>> TargetsAsync(BatchTask task) => (await Tasks.TargetsAsync(task.TaskId, null, null, int.MaxValue, 0, 100_000, default)).Items;

    /// <summary>For what only the tables tell.</summary>
    public static async Task UntilAsync(Func<Task<bool>> isTrue, Func<Task<string>> what)
    {
        for (var until = DateTime.UtcNow.AddSeconds(30); !await isTrue();)
        {
            if (DateTime.UtcNow > until) Assert.Fail($"Did not happen within 30 s: {await what()}");
            await Task.Delay(10);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await KillRunnersAsync();
        await _registry.DisposeAsync();
        _alive.Dispose();
    }

    // As the REST API reads a document, as far as these specs need it.
    private static (MessageId? MessageId, MessageBody Body) Read(JsonElement document, DeviceId target)
    {
        if (document.GetProperty("message").GetString() is not { Length: > 0 } message) throw new FormatException("message is missing.");
        var id = document.TryGetProperty("message_id", out var given) ? MessageId.Parse(given.GetString()!) : null;
        return (id, new MessageBody(null, message, ContentKind.Text, ContentEncoding.None, PayloadFormat.Standard, SystemTopics.MessagesDown(target), 1440));
    }
}

/// <summary>Time that a test moves; timers run by the real clock.</summary>
internal sealed class MovableClock : TimeProvider
{
    private long _ahead;

    public override DateTimeOffset GetUtcNow() => System.GetUtcNow() + TimeSpan.FromTicks(Interlocked.Read(ref _ahead));

    public void Move(TimeSpan by) => Interlocked.Add(ref _ahead, by.Ticks);
}

/// <summary>What devices were asked and what they took.</summary>
internal sealed class Told
{
    private ImmutableList<(string Device, string MessageId)> _asked = [];
    private ImmutableDictionary<string, ImmutableList<string>> _accepted = ImmutableDictionary<string, ImmutableList<string>>.Empty;

    /// <summary>What a device says to the nth ask (from 1), instead of accepting; null for no answer. Not asked where the message is known already.</summary>
    public Func<string, int, OutboxReply?> Answers { get; set; } = (_, _) => Accept;

    /// <summary>Stands for: accept it.</summary>
    public static readonly OutboxReply Accept = OutboxReply.Done.Instance;

    /// <summary>True: what is accepted is not answered.</summary>
    public volatile bool IsMute;

    public ImmutableList<(string Device, string MessageId)> Asked => _asked;

    /// <summary>Per device the ids it accepted, each once.</summary>
    public ImmutableDictionary<string, ImmutableList<string>> Accepted => _accepted;

    /// <summary>Per device the topic of what it accepted last.</summary>
    public ImmutableDictionary<string, string> Topics { get; set; } = ImmutableDictionary<string, string>.Empty;

    /// <summary>Gateways whose connection was asked to carry a sub-device, and which.</summary>
    public ImmutableList<(string Gateway, string SubDevice)> AttachSubDevice { get; set; } = [];

    public int Ask(string device, string messageId)
    {
        _asked = _asked.Add((device, messageId));
        return _asked.Count(a => a.Device == device);
    }

    /// <summary>False if it was known.</summary>
    public bool Take(string device, string messageId)
    {
        var known = _accepted.GetValueOrDefault(device, []);
        if (known.Contains(messageId)) return false;
        _accepted = _accepted.SetItem(device, known.Add(messageId));
        return true;
    }
}

/// <summary>All devices in one actor, each idempotent by message id as an outbox is.</summary>
internal sealed class Outboxes : ReceiveActor
{
    public Outboxes(Told told)
    {
        var bodies = new Dictionary<(string Device, string MessageId), BodyHash>();
        Receive<ToDevice.Command>(command =>
        {
            var (device, accept) = (command.DeviceId.Value, (OutboxCommand.Accept)command.Ask);
            var n = told.Ask(device, accept.MessageId.Value);
            if (bodies.TryGetValue((device, accept.MessageId.Value), out var first))
            {
                Reply(first == accept.Body.Hash ? Accepted(accept) : new OutboxReply.Refused(RefusalReason.IdConflict));
                return;
            }

            if (told.Answers(device, n) is not { } answer) return;
            if (answer is OutboxReply.Refused)
            {
                Sender.Tell(answer);
                return;
            }

            bodies.Add((device, accept.MessageId.Value), accept.Body.Hash);
            Assert.True(told.Take(device, accept.MessageId.Value));
            told.Topics = told.Topics.SetItem(device, accept.Body.Topic);
            Reply(Accepted(accept));
        });

        Receive<ToDevice.AttachSubDevice>(attach =>
        {
            told.AttachSubDevice = told.AttachSubDevice.Add((attach.DeviceId.Value, attach.SubDevice.Value));
            Sender.Tell(OutboxReply.Done.Instance);
        });

        static OutboxReply Accepted(OutboxCommand.Accept accept) => new OutboxReply.Accepted(accept.MessageId, MessageStatus.Pending, DateTimeOffset.UnixEpoch);

        void Reply(OutboxReply reply)
        {
            if (!told.IsMute) Sender.Tell(reply);
        }
    }
}
