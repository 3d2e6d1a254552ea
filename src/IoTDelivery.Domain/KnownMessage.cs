namespace IoTDelivery.Domain;

/// <summary>A message as the outbox knows it: open, or ended and still in the history.</summary>
/// <param name="Number">Counts the accepted messages of a device; the order of delivery.</param>
public sealed record KnownMessage(
    long Number,
    MessageId MessageId,
    MessageBody Body,
    MessageStatus Answer,
    DateTimeOffset AcceptedAt,
    DateTimeOffset ExpiresAt,
    MessageStatus Status,
    DateTimeOffset? EndedAt = null,
    ErrorInfo? Error = null)
{
    /// <summary><c>finished_time</c>: when it ended, or when it was answered DELIVERED.</summary>
    public DateTimeOffset? FinishedAt => EndedAt ?? (Answer == MessageStatus.Pending ? null : AcceptedAt);
}

/// <summary>What the application is to hear: one status of one message. <see cref="Number"/> counts per device and never restarts.</summary>
/// <param name="Header">Only once the device is deleted; before that the registry knows it.</param>
public sealed record Notification(
    long Number,
    MessageId MessageId,
    string? Name,
    string Topic,
    MessageStatus Status,
    DateTimeOffset At,
    ErrorInfo? Error = null,
    DeviceHeader? Header = null);

/// <summary>Who a device is, as the header of a notification says it.</summary>
public sealed record DeviceHeader(string ProjectId, string? AppId, string NodeId, string ProductId, string? GatewayId);
