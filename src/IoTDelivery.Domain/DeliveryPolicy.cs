namespace IoTDelivery.Domain;

/// <summary>The numbers of delivery. Defaults are the manual's ("Message Delivery Usage"), or ours where it is silent.</summary>
public sealed record DeliveryPolicy
{
    /// <summary>ttl of a message that names none, in units: 1440 (API manual, "Delivering a Message").</summary>
    public const int TtlDefault = 1440;

    /// <summary>Largest ttl, in units: 1440 = one day.</summary>
    public const int TtlMax = 1440;

    /// <summary>ttl must be a multiple of this many units.</summary>
    public const int TtlStep = 5;

    /// <summary>Time between a send without PUBACK and its repetition. Default 2 s (manual: "resends every 2 seconds").</summary>
    public TimeSpan RepeatInterval { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>Repetitions after the first send of a round. Default 3 (manual: "three times").</summary>
    public int Repeats { get; init; } = 3;

    /// <summary>Time between the starts of two rounds after the device came online or subscribed again. Default 10 s.</summary>
    public TimeSpan RoundInterval { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Rounds after the device came online or subscribed again, the first at once. Default 5.</summary>
    public int Rounds { get; init; } = 5;

    /// <summary>Length of one unit of <c>ttl</c>. Default one minute; tests shorten it.</summary>
    public TimeSpan TtlUnit { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>Messages cached per device. Default 20 (manual); what is on the wire of a live connection does not count.</summary>
    public int PendingMax { get; init; } = 20;

    /// <summary>Bytes of message content one device can hold, waiting, on the wire and in the history. Default 8 MB.</summary>
    public long PendingBytesMax { get; init; } = 8 * 1024 * 1024;

    /// <summary>Unacknowledged packets per device on the wire; an MQTT 5 device can lower it by its Receive Maximum. Default 32.</summary>
    public int InflightMax { get; init; } = 32;

    /// <summary>The newest messages of any status that Show and List tell in full. Default 20 (manual).</summary>
    public int HistoryMax { get; init; } = 20;

    /// <summary>How long the id of an ended message is remembered. Default 24 h.</summary>
    public TimeSpan IdempotencyWindow { get; init; } = TimeSpan.FromHours(24);

    /// <summary>How many ids of ended messages are remembered per device. Default 256.</summary>
    public int IdempotencyMax { get; init; } = 256;

    /// <summary>
    /// Notifications of one device that no receiver and no backlog has taken yet; beyond it new messages are refused, until it is told what became of the old ones.
    /// What is open still ends and is told. Default 1,000.
    /// </summary>
    public int NotificationsMax { get; init; } = 1_000;

    /// <summary>How long the first schedule of a message lasts; a message with ttl 0 gets no more.</summary>
    public TimeSpan FirstSchedule => RepeatInterval * (Repeats + 1);

    /// <summary>When a message accepted now ends. ttl 0 means: the first schedule only.</summary>
    public DateTimeOffset ExpiresAt(int ttl, DateTimeOffset now) => now + (ttl == 0 ? FirstSchedule : ttl * TtlUnit);

    /// <summary>What is wrong with these numbers, naming the setting; null if nothing is.</summary>
    public string? Problem() => this switch
    {
        { RepeatInterval.Ticks: <= 0 } => "Delivery:RepeatInterval must be more than zero.",
        { Repeats: < 0 } => "Delivery:Repeats must be 0 or more.",
        { Rounds: < 1 } => "Delivery:Rounds must be 1 or more.",
        { TtlUnit.Ticks: <= 0 } => "Delivery:TtlUnit must be more than zero.",
        { PendingMax: < 1 } => "Delivery:PendingMax must be 1 or more.",
        { PendingBytesMax: < MessageBody.ContentBytesMax } => $"Delivery:PendingBytesMax must be {MessageBody.ContentBytesMax} (one message) or more.",
        { InflightMax: < 1 or > PacketIds.Max } => $"Delivery:InflightMax must be from 1 to {PacketIds.Max}.",
        { HistoryMax: < 0 } => "Delivery:HistoryMax must be 0 or more.",
        { IdempotencyMax: < 0 } => "Delivery:IdempotencyMax must be 0 or more.",
        { NotificationsMax: < 1 } => "Delivery:NotificationsMax must be 1 or more.",
        { IdempotencyWindow.Ticks: < 0 } => "Delivery:IdempotencyWindow must be zero or more.",
        _ when RoundInterval <= Repeats * RepeatInterval => "Delivery:RoundInterval must be more than Delivery:Repeats × Delivery:RepeatInterval: a round must end before the next one starts.",
        _ => null,
    };
}
