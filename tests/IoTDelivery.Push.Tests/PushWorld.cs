using System.Collections.Immutable;
using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using IoTDelivery.Storage;
using LinqToDB.Data;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace IoTDelivery.Push.Tests;

/// <summary>One node with a database of its own, devices with notifications pending, and applications that receive.</summary>
internal sealed class PushWorld : IAsyncDisposable
{
    private readonly ActorSystem _system;
    private readonly NotificationSink _settler = new();
    private int _ids;

    private PushWorld(ActorSystem system, StorageOptions storage, PushOptions options)
    {
        (_system, Options) = (system, options);
        Database = new SqlDatabase(storage);
        Rules = new Rules(Database, Clock);
        Book = new RuleBook(Database, NullLogger<RuleBook>.Instance, Clock);
        Statuses = new StatusChanges(Database, Book, Clock);
        Backlog = new PushBacklog(Database, Metrics, Clock);
        Webhook = new Webhook(options);
        Devices = system.ActorOf(Props.Create(() => new OwingDevices(_settler, Owing)));
    }

    public MovableClock Clock { get; } = new();
    public PushOptions Options { get; }
    public SqlDatabase Database { get; }
    public Rules Rules { get; }
    public RuleBook Book { get; }
    public StatusChanges Statuses { get; }
    public PushMetrics Metrics { get; } = new();
    public PushBacklog Backlog { get; }
    public Webhook Webhook { get; }
    public AmqpConsumers Consumers { get; } = new();
    public BacklogSignal Signal { get; } = new();
    public VolatileNotifications Volatile { get; } = new();
    public Application Application { get; private set; } = null!;
    public IActorRef Devices { get; }
    public Owing Owing { get; } = new();
    public Warnings Warnings { get; } = new();
    public IActorRef Pusher { get; private set; } = ActorRefs.Nobody;
    public IActorRef Drainers { get; private set; } = ActorRefs.Nobody;
    public IActorRef Teller { get; private set; } = ActorRefs.Nobody;
    private UplinkNotifications? Uplinks { get; set; }

    /// <summary>Short enough for tests; everything else as shipped.</summary>
    public static PushOptions Quick(Action<PushOptions>? change = null)
    {
        var options = new PushOptions
        {
            Timeout = TimeSpan.FromSeconds(5),
            RetryFirst = TimeSpan.FromMilliseconds(20),
            RetryMax = TimeSpan.FromMilliseconds(100),
            ProbeInterval = TimeSpan.FromMilliseconds(150),
            PollInterval = TimeSpan.FromMilliseconds(100),
            BoundsInterval = TimeSpan.FromMilliseconds(100),
            StatusInterval = TimeSpan.FromMilliseconds(20),
        };
        change?.Invoke(options);
        return options;
    }

    public static async Task<PushWorld> StartAsync(ActorSystem system, StorageOptions storage, Action<PushOptions>? change = null, bool drains = true)
    {
        var world = new PushWorld(system, storage, Quick(change));
        await world.Database.MigrateAsync([.. RegistryMigrations.All, .. PushBacklog.Migrations]);
        world.Application = await Application.StartAsync();
        world.StartPusher();
        if (drains) world.StartDrainers();
        return world;
    }

    /// <summary>Who a device is; a test may make the registry forget or fail.</summary>
    public DeviceHeaders Headers { get; set; } = _ => new(Given.Header);

    public void StartPusher()
    {
        var services = new DispatcherServices(
            _settler, Volatile, Book, Backlog, Webhook, id => Headers(id), Signal, Options, Metrics, Warnings, Clock);
        Pusher = _system.ActorOf(Props.Create(() => new NotificationDispatcher(services)));
    }

    public void StartTeller() => Teller = _system.ActorOf(Props.Create(() => new PresenceReporter(Statuses, Volatile, Options, NullLogger<PresenceReporter>.Instance)));

    public async Task KillTellerAsync() => await Teller.GracefulStop(TimeSpan.FromSeconds(5));

    /// <summary>From now on devices may publish.</summary>
    public UplinkNotifications StartUplinks() => Uplinks = new UplinkNotifications(Volatile, Book, Clock);

    public void StartDrainers()
    {
        var services = new SenderServices(Rules, Backlog, Webhook, Consumers, Options, Metrics, NullLogger<BacklogSenders>.Instance, Clock);
        Drainers = _system.ActorOf(Props.Create(() => new BacklogSenders(services, Signal)));
    }

    public async Task KillPusherAsync() => await Pusher.GracefulStop(TimeSpan.FromSeconds(5));

    public async Task KillDrainersAsync() => await Drainers.GracefulStop(TimeSpan.FromSeconds(5));

    /// <summary>An active rule with one action that posts to this receiver; the action has the receiver's name as id.</summary>
    public async Task<Rule> AddReceiverAsync(
        string receiver,
        bool isActive = true,
        string? appId = null,
        string resource = StatusNotification.Resource,
        string @event = StatusNotification.Event,
        string? shape = null)
    {
        var rule = NewRule(isActive, appId) with { Resource = resource, Event = @event };
        await Rules.AddAsync(rule, default);
        Assert.NotNull(await Rules.AddActionAsync(
            NewAction(rule.RuleId, receiver, Application.Url(receiver).ToString(), shape), default));
        return rule;
    }

    public Rule NewRule(bool isActive = true, string? appId = null) => new()
    {
        RuleId = $"rule-{++_ids}",
        RecordId = RecordIds.New(Clock.GetUtcNow().AddMilliseconds(_ids)), // later ones are newer, also within a millisecond
        ProjectId = Given.Project,
        Resource = StatusNotification.Resource,
        Event = StatusNotification.Event,
        AppType = appId is null ? Rule.Global : Rule.App,
        AppId = appId,
        ActiveSince = isActive ? 1 : null,
        CreatedAt = Clock.GetUtcNow().ToUnixTimeMilliseconds(),
    };

    public RuleAction NewAction(string ruleId, string actionId, string url, string? shape = null) => new()
    {
        ActionId = actionId,
        RecordId = RecordIds.New(Clock.GetUtcNow().AddMilliseconds(++_ids)),
        RuleId = ruleId,
        ProjectId = Given.Project,
        Channel = RuleAction.HttpForwarding,
        ChannelDetail = shape is null
            ? $$"""{ "http_forwarding": { "url": "{{url}}" } }"""
            : $$"""{ "http_forwarding": { "url": "{{url}}", "shape": "{{shape}}" } }""",
        Url = url,
    };

    /// <summary>These are pending now, and the device offers them.</summary>
    public void Notify(DeviceId deviceId, params int[] numbers) =>
        Notify(deviceId, [.. numbers.Select(n => Given.Notification(n, Clock.GetUtcNow()))]);

    public void Notify(DeviceId deviceId, params Notification[] notifications) => Devices.Tell(new OwingDevices.Notify(deviceId, notifications));

    /// <summary>What a device does when the pusher is another one, or after a while: it offers everything unacknowledged again.</summary>
    public void OfferAgain() => Devices.Tell(OwingDevices.OfferAgain.Instance);

    /// <summary>Everything pending gets this header, as when the device is deleted. Nothing is offered.</summary>
    public void Retire(DeviceId deviceId, DeviceHeader header) => Devices.Tell(new OwingDevices.Retire(deviceId, header));

    /// <summary>The pusher has heard whatever the devices said.</summary>
    public async Task HeardAsync()
    {
        foreach (var actor in (IActorRef[])[Devices, Pusher]) await actor.Ask<ActorIdentity>(new Identify(null), TimeSpan.FromSeconds(20));
    }

    public async Task<int> RowsAsync(string actionId) => (await Backlog.CountAsync(actionId, default)).Rows;

    public async Task<IReadOnlyList<DeadLetter>> DeadLettersAsync(string actionId) => (await Backlog.DeadLettersAsync(actionId, 0, 100, default)).Items;

    /// <summary>From now on the database takes no row into the backlog.</summary>
    public Task RefuseRowsAsync() => ExecuteAsync(Database.Provider == DatabaseProvider.Sqlite
        ? "create trigger no_rows before insert on push_backlog begin select raise(abort, 'no rows'); end"
        : "alter table push_backlog add constraint no_rows check (n < 0)");

    /// <summary>Rows are taken again.</summary>
    public Task TakeRowsAsync() => ExecuteAsync(Database.Provider == DatabaseProvider.Sqlite
        ? "drop trigger no_rows"
        : "alter table push_backlog drop constraint no_rows");

    /// <summary>From now on the database takes every row into the backlog but the one with this number.</summary>
    public Task PoisonAsync(int number) => ExecuteAsync(Database.Provider == DatabaseProvider.Sqlite
        ? $"create trigger poison before insert on push_backlog when new.n = {number} begin select raise(abort, 'poison'); end"
        : $"alter table push_backlog add constraint poison check (n <> {number})");

    /// <summary>From now on the database takes every dead letter but the one with this number.</summary>
    public Task PoisonLetterAsync(int number) => ExecuteAsync(Database.Provider == DatabaseProvider.Sqlite
        ? $"create trigger poisoned before insert on push_dead_letter when new.n = {number} "
            + "begin select raise(abort, 'poison'); end"
        : $"alter table push_dead_letter add constraint poisoned check (n <> {number})");

    /// <summary>All are taken again.</summary>
    public Task CureLettersAsync() => ExecuteAsync(Database.Provider == DatabaseProvider.Sqlite
        ? "drop trigger poisoned"
        : "alter table push_dead_letter drop constraint poisoned");

    /// <summary>Whoever asks for this table gets an error.</summary>
    public Task HideAsync(string table) => RenameAsync(table, "hidden");

    /// <summary>The hidden table is back.</summary>
    public Task ShowAsync(string table) => RenameAsync("hidden", table);

    private Task RenameAsync(string table, string name) => ExecuteAsync(Database.Provider == DatabaseProvider.SqlServer
        ? $"exec sp_rename '{table}', '{name}'"
        : $"alter table {table} rename to {name}");

    private async Task ExecuteAsync(string statement)
    {
        await using var db = Database.Open();
        await db.ExecuteAsync(statement);
    }

    /// <summary>For what only the tables tell.</summary>
    public static async Task UntilAsync(Func<Task<bool>> isTrue)
    {
        for (var until = DateTime.UtcNow.AddSeconds(20); !await isTrue();)
        {
            Assert.True(DateTime.UtcNow < until, "Did not happen within 20 s.");
            await Task.Delay(10);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await KillPusherAsync();
        if (!Drainers.IsNobody()) await KillDrainersAsync();
        if (!Teller.IsNobody()) await KillTellerAsync();
        if (Uplinks is not null) await Uplinks.DisposeAsync();
        await Application.DisposeAsync();
        Webhook.Dispose();
        Book.Dispose();
        Metrics.Dispose();
    }
}

/// <summary>The pusher's log, for tests that wait for a warning.</summary>
internal sealed class Warnings : ILogger<NotificationDispatcher>
{
    private readonly Happening _happening = new();
    private int _count, _dropped;

    /// <summary>Until an offer was dropped.</summary>
    public Task UntilDroppedAsync() => _happening.UntilAsync(() => Volatile.Read(ref _dropped) > 0, () => $"{_count} warnings");

    public Task UntilAsync(int count) => _happening.UntilAsync(() => Volatile.Read(ref _count) >= count, () => $"{_count} warnings");

    public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Warning;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        if (!IsEnabled(logLevel)) return;
        Interlocked.Increment(ref _count);
        if (eventId.Name == nameof(Push.Log.OfferDropped)) Interlocked.Increment(ref _dropped);
        _happening.Pulse();
    }
}

/// <summary>How far the devices were acknowledged.</summary>
internal sealed class Owing
{
    private readonly Happening _happening = new();
    private ImmutableDictionary<string, long> _acknowledged = ImmutableDictionary<string, long>.Empty;

    /// <summary>While true, devices do not hear of acknowledged notifications: they crash before they can write them down.</summary>
    public volatile bool IsDeaf;

    /// <summary>Payments that devices heard, deaf or not, in order.</summary>
    public ImmutableList<ToDevice.NotificationsAcknowledged> Heard { get; private set; } = [];

    public long AcknowledgeNotifications(DeviceId deviceId) => _acknowledged.GetValueOrDefault(deviceId.Value);

    public bool Hear(ToDevice.NotificationsAcknowledged acknowledged)
    {
        Heard = Heard.Add(acknowledged);
        if (!IsDeaf) _acknowledged = _acknowledged.SetItem(acknowledged.DeviceId.Value, Math.Max(acknowledged.UpTo, AcknowledgeNotifications(acknowledged.DeviceId)));
        _happening.Pulse();
        return !IsDeaf;
    }

    public Task UntilHeardAsync(DeviceId deviceId, long number) =>
        _happening.UntilAsync(() => Heard.Any(p => p.DeviceId == deviceId && p.UpTo >= number), () => $"heard {string.Join(", ", Heard)}");

    public Task UntilAcknowledgedAsync(DeviceId deviceId, long number) =>
        _happening.UntilAsync(() => AcknowledgeNotifications(deviceId) >= number, () => $"{deviceId} is acknowledged up to {AcknowledgeNotifications(deviceId)}");
}

/// <summary>All devices of a test in one actor: each keeps what it has pending until it is acknowledged, as a device actor does.</summary>
internal sealed class OwingDevices : ReceiveActor
{
    private readonly Dictionary<string, SortedDictionary<long, Notification>> _unpaid = [];

    private readonly Dictionary<string, IActorRef> _offeredTo = [];

    public OwingDevices(NotificationSink settler, Owing owing)
    {
        Receive<Notify>(offer =>
        {
            if (!_unpaid.TryGetValue(offer.DeviceId.Value, out var unacknowledged)) _unpaid.Add(offer.DeviceId.Value, unacknowledged = []);
            foreach (var notification in offer.Notifications) unacknowledged.Add(notification.Number, notification);

            // Another pusher has to hear of everything unacknowledged, oldest first: it cannot know that there was something before what it is offered first.
            var current = settler.Current;
            var isNew = !current.Equals(_offeredTo.GetValueOrDefault(offer.DeviceId.Value));
            _offeredTo[offer.DeviceId.Value] = current;
            current.Tell(new NotificationsOffered(offer.DeviceId, isNew ? [.. unacknowledged.Values] : offer.Notifications));
        });
        Receive<OfferAgain>(_ =>
        {
            foreach (var (device, unacknowledged) in _unpaid)
            {
                if (unacknowledged.Count == 0) continue;
                _offeredTo[device] = settler.Current;
                settler.Current.Tell(new NotificationsOffered(DeviceId.Parse(device), [.. unacknowledged.Values]));
            }
        });
        Receive<Retire>(retire =>
        {
            var unacknowledged = _unpaid[retire.DeviceId.Value];
            foreach (var number in unacknowledged.Keys.ToArray()) unacknowledged[number] = unacknowledged[number] with { Header = retire.Header };
        });
        Receive<ToDevice.NotificationsAcknowledged>(acknowledged =>
        {
            if (!owing.Hear(acknowledged)) return;
            var unacknowledged = _unpaid[acknowledged.DeviceId.Value];
            foreach (var number in unacknowledged.Keys.Where(n => n <= acknowledged.UpTo).ToArray()) unacknowledged.Remove(number);
        });
    }

    public sealed record Notify(DeviceId DeviceId, Notification[] Notifications);

    public sealed record Retire(DeviceId DeviceId, DeviceHeader Header);

    public sealed record OfferAgain
    {
        public static readonly OfferAgain Instance = new();
    }
}
