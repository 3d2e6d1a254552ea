using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>How applications are told what happened. Section <c>Push</c>.</summary>
public sealed class PushOptions
{
    /// <summary>The name of the section in <c>appsettings.json</c>.</summary>
    public const string Section = "Push";

    /// <summary>Shape of the notifications of actions that do not ask for one. Default Both.</summary>
    public PushShape Shape { get; set; } = PushShape.Both;

    /// <summary>How long one POST may take, connecting included. Default 15 s (manual).</summary>
    public TimeSpan Timeout { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>How long a notification is repeated before it becomes a dead letter. Default 24 h (manual).</summary>
    public TimeSpan RetryFor { get; set; } = TimeSpan.FromHours(24);

    /// <summary>Time before the first repetition; it doubles from one to the next. Default 1 s.</summary>
    public TimeSpan RetryFirst { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>Longest time between two repetitions. Default 1 min.</summary>
    public TimeSpan RetryMax { get; set; } = TimeSpan.FromMinutes(1);

    /// <summary>The longest time a receiver may ask for with <c>Retry-After</c>. Default 10 min.</summary>
    public TimeSpan RetryAfterMax { get; set; } = TimeSpan.FromMinutes(10);

    /// <summary>Failures in a row after which a receiver counts as down. Default 10 (manual). Repetitions for a device that failed already do not count.</summary>
    public int BreakerFailures { get; set; } = 10;

    /// <summary>Time between two probes of a receiver that is down. Default 3 min (manual).</summary>
    public TimeSpan ProbeInterval { get; set; } = TimeSpan.FromMinutes(3);

    /// <summary>POSTs to one action at the same time: per node for what is new, and as many for its backlog. Default 16.</summary>
    public int ConcurrencyPerReceiver { get; set; } = 16;

    /// <summary>Notifications of one action that wait in the memory of a node for their turn; what comes on top goes to the backlog. Default 1,000.</summary>
    public int WaitingMax { get; set; } = 1000;

    /// <summary>
    /// How long a notification waits in the memory of a node behind others of its device, or for a free POST; then it goes to the backlog with those behind it. A receiver that is slower
    /// than a device costs rows, and neither memory nor the device's next messages (<see cref="Domain.DeliveryPolicy.NotificationsMax"/>). Default 5 s.
    /// </summary>
    public TimeSpan WaitMax { get; set; } = TimeSpan.FromSeconds(5);

    /// <summary>
    /// Notifications of devices that a node holds in memory until they are settled; what is offered on top stays with
    /// its device, which offers it again after
    /// <c>Devices:OfferAgainAfter</c>. Default 50,000: about 50 MB, and more than receivers take before
    /// <see cref="WaitingMax"/> and <see cref="WaitMax"/> make rows of it.
    /// </summary>
    public int PendingMax { get; set; } = 50_000;

    /// <summary>Bytes one action may have in the backlog; the oldest beyond become dead letters. Default 1 GB (manual).</summary>
    public long BacklogBytesMax { get; set; } = 1024L * 1024 * 1024;

    /// <summary>How often the backlog is looked at without a reason: for what other nodes wrote. Default 5 s.</summary>
    public TimeSpan PollInterval { get; set; } = TimeSpan.FromSeconds(5);

    /// <summary>How often age and bytes of a backlog are checked. Default 1 min.</summary>
    public TimeSpan BoundsInterval { get; set; } = TimeSpan.FromMinutes(1);

    /// <summary>How often changes of connection states are told, and so the shortest time between two about one device: only the newest state is told. Default 1 s.</summary>
    public TimeSpan StatusInterval { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>What is wrong with these settings, naming the setting; null if nothing is.</summary>
    public string? Problem() => this switch
    {
        _ when !Enum.IsDefined(Shape) => $"Push:Shape must be one of {string.Join(", ", Enum.GetNames<PushShape>())}.",
        { Timeout.Ticks: <= 0 } => "Push:Timeout must be more than zero.",
        { RetryFor.Ticks: <= 0 } => "Push:RetryFor must be more than zero.",
        { RetryFirst.Ticks: <= 0 } => "Push:RetryFirst must be more than zero.",
        _ when RetryMax < RetryFirst => "Push:RetryMax must be Push:RetryFirst or more.",
        { RetryAfterMax.Ticks: < 0 } => "Push:RetryAfterMax must be zero or more.",
        { BreakerFailures: < 1 } => "Push:BreakerFailures must be 1 or more.",
        { ProbeInterval.Ticks: <= 0 } => "Push:ProbeInterval must be more than zero.",
        { ConcurrencyPerReceiver: < 1 or > 1000 } => "Push:ConcurrencyPerReceiver must be from 1 to 1000.",
        { WaitingMax: < 0 } => "Push:WaitingMax must be 0 or more.",
        { WaitMax.Ticks: <= 0 } => "Push:WaitMax must be more than zero.",
        { PendingMax: < 1 } => "Push:PendingMax must be 1 or more.",
        { BacklogBytesMax: < 0 } => "Push:BacklogBytesMax must be 0 or more.",
        { PollInterval.Ticks: <= 0 } => "Push:PollInterval must be more than zero.",
        { StatusInterval.Ticks: <= 0 } => "Push:StatusInterval must be more than zero.",
        { BoundsInterval.Ticks: <= 0 } => "Push:BoundsInterval must be more than zero.",
        _ => null,
    };
}
