namespace IoTDelivery.Domain;

/// <summary>The topics the platform itself defines, all below <c>$oc/devices/{device_id}/</c> (user guide, "Topics").</summary>
public static class SystemTopics
{
    /// <summary>Where a message goes that names no topic.</summary>
    public static string MessagesDown(DeviceId deviceId) => $"$oc/devices/{deviceId}/sys/messages/down";

    /// <summary>Where the platform answers what a device asked on its <c>sys/events/up</c>.</summary>
    public static string EventsDown(DeviceId deviceId) => $"$oc/devices/{deviceId}/sys/events/down";

    /// <summary>A product's custom topic, of which the application names only the end.</summary>
    public static string User(DeviceId deviceId, string suffix) => $"$oc/devices/{deviceId}/user/{suffix}";

    /// <summary>All topics on which the platform sends to the device by itself; what an implicit subscription covers.</summary>
    public static string AllSystem(DeviceId deviceId) => $"$oc/devices/{deviceId}/sys/#";
}
