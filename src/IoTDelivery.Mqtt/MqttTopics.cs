using IoTDelivery.Domain;

namespace IoTDelivery.Mqtt;

/// <summary>Who may use which topic (user guide, "Topics"): everything under <c>$oc/devices/{device_id}/</c> belongs to that device alone.</summary>
public static class MqttTopics
{
    private const string System = "$oc/";
    private const string Devices = "$oc/devices/";
    private const string EventsUp = "/sys/events/up";

    /// <summary>What the topics of broadcasts begin with.</summary>
    public const string Broadcast = "$oc/broadcast/";

    /// <summary>A device publishes under its own id, on anything there, and on topics that are not the platform's.</summary>
    public static bool MayPublish(DeviceId deviceId, string topic) =>
        !topic.StartsWith(System, StringComparison.Ordinal) || IsUnder(deviceId, topic);

    /// <summary>The same for topic filters, and broadcasts. A filter that reaches past the device's own id, as <c>$oc/devices/+/…</c> does, is another's.</summary>
    public static bool MaySubscribe(DeviceId deviceId, string topicFilter) =>
        MayPublish(deviceId, topicFilter) || IsBroadcast(topicFilter);

    /// <summary>True for a topic or topic filter of broadcasts.</summary>
    public static bool IsBroadcast(string topicFilter) => topicFilter.StartsWith(Broadcast, StringComparison.Ordinal);

    /// <summary>True for the topic on which the device reports events; what may follow a <c>?</c> is the manual's <c>request_id</c>.</summary>
    public static bool IsEventsUp(DeviceId deviceId, string topic)
    {
        if (!IsUnder(deviceId, topic)) return false;
        var end = topic.AsSpan(Devices.Length + deviceId.Value.Length);
        return end.StartsWith(EventsUp, StringComparison.Ordinal) && (end.Length == EventsUp.Length || end[EventsUp.Length] == '?');
    }

    /// <summary>True for a filter of a shared subscription (MQTT 5, 4.8.2).</summary>
    public static bool IsShared(string topicFilter) => topicFilter.StartsWith("$share/", StringComparison.Ordinal);

    private static bool IsUnder(DeviceId deviceId, string topic) =>
        topic.StartsWith(Devices, StringComparison.Ordinal)
        && topic.AsSpan(Devices.Length).StartsWith(deviceId.Value, StringComparison.Ordinal)
        && topic.Length > Devices.Length + deviceId.Value.Length
        && topic[Devices.Length + deviceId.Value.Length] == '/';
}
