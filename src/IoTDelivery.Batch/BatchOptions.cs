namespace IoTDelivery.Batch;

/// <summary>How fast batch tasks are worked off. Section <c>Batch</c>. The vendor publishes no limits for these.</summary>
public sealed class BatchOptions
{
    /// <summary>The name of the section in <c>appsettings.json</c>.</summary>
    public const string Section = "Batch";

    /// <summary>Devices asked at the same time, by the one node that works the tasks of the site. Default 16.</summary>
    public int Concurrency { get; set; } = 16;

    /// <summary>
    /// Messages sent per second, all tasks together. Default 200, a fraction of what one node takes, so that the messages of others do not wait: 30,000 targets take
    /// two and a half minutes.
    /// </summary>
    public int RatePerSecond { get; set; } = 200;

    /// <summary>Tasks of one project that have not ended; one more is refused with the rate-limit code. Default 100.</summary>
    public int OpenTasksMax { get; set; } = 100;

    /// <summary>How often tasks are looked for while there is nothing to do. Default 1 s.</summary>
    public TimeSpan PollInterval { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>How long to wait before a target whose answer is not known is asked again, for the same message. Default 10 s.</summary>
    public TimeSpan AskAgainAfter { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>What is wrong with these settings, naming the setting; null if nothing is.</summary>
    public string? Problem() => this switch
    {
        { Concurrency: < 1 or > 1000 } => "Batch:Concurrency must be from 1 to 1000.",
        { RatePerSecond: < 1 } => "Batch:RatePerSecond must be 1 or more.",
        { OpenTasksMax: < 1 } => "Batch:OpenTasksMax must be 1 or more.",
        { PollInterval.Ticks: <= 0 } => "Batch:PollInterval must be more than zero.",
        { AskAgainAfter.Ticks: <= 0 } => "Batch:AskAgainAfter must be more than zero.",
        _ => null,
    };
}
