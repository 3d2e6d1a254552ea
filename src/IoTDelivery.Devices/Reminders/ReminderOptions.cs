namespace IoTDelivery.Devices.Reminders;

/// <summary>How sleeping devices are woken. Section <c>Reminders</c>.</summary>
public sealed class ReminderOptions
{
    /// <summary>The name of the section in <c>appsettings.json</c>.</summary>
    public const string Section = "Reminders";

    /// <summary>Reminders that have fired and are not answered, at most, on one node. Default 20: under half of <c>max-concurrent-recoveries</c>, so that POST and CONNECT keep their permits.</summary>
    public int Concurrency { get; set; } = 20;

    /// <summary>How far a reminder moves ahead when it fires. It fires again then, if its device has not deleted it. Default 30 s.</summary>
    public TimeSpan Lease { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>How often the table is read when nothing fires. Default 1 s.</summary>
    public TimeSpan PollInterval { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>What is wrong with these settings, naming the setting; null if nothing is.</summary>
    public string? Problem() => this switch
    {
        { Concurrency: < 1 or > 24 } => "Reminders:Concurrency must be from 1 to 24 (under half of max-concurrent-recoveries, which is 50).",
        { Lease.Ticks: <= 0 } => "Reminders:Lease must be more than zero.",
        { PollInterval.Ticks: <= 0 } => "Reminders:PollInterval must be more than zero.",
        _ => null,
    };
}
