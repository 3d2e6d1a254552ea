namespace IoTDelivery.Domain;

/// <summary>Where a message stands. Nothing leaves the last three.</summary>
public enum MessageStatus
{
    /// <summary>Kept for a device that cannot take it now.</summary>
    Pending = 0,

    /// <summary>As an answer: handed over at once. As a final word: acknowledged (QoS 1) or taken by the transport (QoS 0).</summary>
    Delivered = 1,

    /// <summary>Its time to live ended without an acknowledgement.</summary>
    TimedOut = 2,

    /// <summary>It cannot reach the device any more; <see cref="ErrorInfo"/> says why.</summary>
    Failed = 3,
}

/// <summary>The words of the manual for <see cref="MessageStatus"/>.</summary>
public static class MessageStatusWords
{
    /// <summary>PENDING, DELIVERED, TIMEOUT or FAILED.</summary>
    public static string OnTheWire(this MessageStatus status) => status switch
    {
        MessageStatus.Pending => "PENDING",
        MessageStatus.Delivered => "DELIVERED",
        MessageStatus.TimedOut => "TIMEOUT",
        MessageStatus.Failed => "FAILED",
        _ => throw new ArgumentOutOfRangeException(nameof(status), status, "Unknown message status."),
    };
}
