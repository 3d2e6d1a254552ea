namespace IoTDelivery.Domain;

/// <summary>
/// Why a message failed, or what is wrong with one that a device published: <c>error_info</c> of the manual. Codes that
/// start with <c>IOTDA.</c> are the vendor's, <c>DELIVERY.</c> are ours.
/// </summary>
public sealed record ErrorInfo(string Code, string Text)
{
    /// <summary>ttl 0 and the device is away, or its connection was lost.</summary>
    public static readonly ErrorInfo DeviceNotOnline = new("IOTDA.014016", "Operation not allowed. The device is not online.");

    /// <summary>ttl 0 and the device is online but has not subscribed the topic.</summary>
    public static readonly ErrorInfo NotSubscribed = new("IOTDA.014112", "Send to device failed, device not subscribe topic.");

    /// <summary>A newer message took its place in the cache of a device that is away.</summary>
    public static readonly ErrorInfo Displaced = new("DELIVERY.000001", "Displaced by a newer message: the cache of the device was full.");

    /// <summary>The application deleted the waiting message.</summary>
    public static readonly ErrorInfo Deleted = new("DELIVERY.000002", "The message was deleted before it could be delivered.");

    /// <summary>The device was deleted while the message waited.</summary>
    public static readonly ErrorInfo DeviceDeleted = new("DELIVERY.000003", "The device was deleted before the message could be delivered.");

    /// <summary>A device published <c>encoding=gzip</c>, and the payload is none: it is told as it came.</summary>
    public static readonly ErrorInfo NoGzip = new(
        "DELIVERY.000005", "The payload is not what its topic says: it is no gzip, or not whole.");

    /// <summary>A device published gzip that becomes too much: it is told as it came.</summary>
    public static readonly ErrorInfo GzipTooLarge = new(
        "DELIVERY.000006", "The payload was not decompressed: it is more than 1 MB.");

    /// <summary>The device answered the PUBLISH with a reason code of 0x80 or more (MQTT 5, 3.4.2.1).</summary>
    public static ErrorInfo RefusedByDevice(byte reasonCode) =>
        new("DELIVERY.000004", $"The device refused the message with MQTT reason code 0x{reasonCode:X2}.");
}
