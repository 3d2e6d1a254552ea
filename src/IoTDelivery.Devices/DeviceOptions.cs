namespace IoTDelivery.Devices;

/// <summary>How a device's actor lives; delivery itself is in <see cref="Domain.DeliveryPolicy"/>. Section <c>Devices</c>.</summary>
public sealed class DeviceOptions
{
    /// <summary>The name of the section in <c>appsettings.json</c>.</summary>
    public const string Section = "Devices";

    /// <summary>How long a device without a connection stays in memory after its last activity. Default 2 s. One woken only by its reminder is passivated again at once.</summary>
    public TimeSpan SleepAfter { get; set; } = TimeSpan.FromSeconds(2);

    /// <summary>
    /// How long a connected device is idle before it stores which notifications are acknowledged and deletes its reminder.
    /// Default 30 s.
    /// </summary>
    public TimeSpan FlushAfter { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>How far ahead the reminder of a working device is due. So its pending notifications are offered again after a crash, at the latest then. Default 60 s.</summary>
    public TimeSpan ReminderInterval { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>After this time without an acknowledgement, pending notifications are offered again. Default 60 s: four times the limit of one webhook.</summary>
    public TimeSpan OfferAgainAfter { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>Rows of the journal after which a snapshot is taken. Default 500; a device that goes to sleep takes one after a tenth of it.</summary>
    public int SnapshotEvery { get; set; } = 500;

    /// <summary>Facts that go out as one row of the journal at most. Default 128.</summary>
    public int BatchEventsMax { get; set; } = 128;

    /// <summary>Bytes of message content in one row of the journal at most; one message may be larger. Default 1 MB.</summary>
    public int BatchBytesMax { get; set; } = 1024 * 1024;

    /// <summary>Commands that wait for one device's journal at most; beyond it a POST is answered 403. Default 2,000.</summary>
    public int WaitingMax { get; set; } = 2_000;

    /// <summary>How old a snapshot must be before the events below it are deleted. Default 10 min.</summary>
    public TimeSpan UpkeepAge { get; set; } = TimeSpan.FromMinutes(10);

    /// <summary>How often events are deleted that a snapshot has made superfluous. Default 1 min.</summary>
    public TimeSpan UpkeepInterval { get; set; } = TimeSpan.FromMinutes(1);

    /// <summary>What is wrong with these settings, naming the setting; null if nothing is.</summary>
    public string? Problem() => this switch
    {
        { SleepAfter.Ticks: < 0 } => "Devices:SleepAfter must be zero or more.",
        { FlushAfter.Ticks: <= 0 } => "Devices:FlushAfter must be more than zero.",
        { ReminderInterval.Ticks: <= 0 } => "Devices:ReminderInterval must be more than zero.",
        { OfferAgainAfter.Ticks: <= 0 } => "Devices:OfferAgainAfter must be more than zero.",
        { SnapshotEvery: < 10 } => "Devices:SnapshotEvery must be 10 or more.",
        { BatchEventsMax: < 1 } => "Devices:BatchEventsMax must be 1 or more.",
        { BatchBytesMax: < 1 } => "Devices:BatchBytesMax must be 1 or more.",
        { WaitingMax: < 1 } => "Devices:WaitingMax must be 1 or more.",
        { UpkeepAge.Ticks: < 0 } => "Devices:UpkeepAge must be zero or more.",
        { UpkeepInterval.Ticks: <= 0 } => "Devices:UpkeepInterval must be more than zero.",
        _ => null,
    };
}
