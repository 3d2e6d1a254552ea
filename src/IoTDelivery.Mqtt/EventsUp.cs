using System.Buffers;
using System.Text.Json;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Mqtt;

/// <summary>A device asks what time it is.</summary>
/// <param name="ObjectDeviceId">Who asks, as it said it; null if it did not.</param>
/// <param name="DeviceSendTime">Its own clock, in milliseconds; comes back in the answer.</param>
public sealed record TimeSyncRequest(string? ObjectDeviceId, long DeviceSendTime);

/// <summary>
/// What the platform itself understands of an uplink on <c>sys/events/up</c> (manual, "Platform events"):
/// <c>$time_sync</c>, <c>$sdk_info</c> and <c>$sub_device_manager</c>. Every other service, and whatever is not JSON,
/// is acknowledged and passed over: an event is never a reason to close a connection.
/// </summary>
/// <param name="TimeSync">The first request for the time.</param>
/// <param name="SdkInfo">The last report of the device's own software; a sub-device's is not this connection's affair.</param>
/// <param name="Gateway">What it asks about its sub-devices, in order; null if nothing.</param>
public readonly record struct EventsUp(
    TimeSyncRequest? TimeSync, SdkInfo? SdkInfo, IReadOnlyList<GatewayRequest>? Gateway = null)
{
    /// <summary>The service of gateways.</summary>
    internal const string SubDeviceManager = "$sub_device_manager";

    /// <summary>Longer ids are none.</summary>
    internal const int IdMax = 128;

    // A longer one is no event of these: nothing of it is parsed. 50 sub-devices with all they may have are 200 KB.
    private const int PayloadMax = 256 * 1024;
    private const int ServicesMax = 32;
    private const int ObjectDeviceIdMax = 128;

    private static readonly JsonDocumentOptions Shallow = new() { MaxDepth = 16 };

    /// <summary>Nothing that concerns the platform, unless it says so.</summary>
    public static EventsUp Read(DeviceId deviceId, string topic, in ReadOnlySequence<byte> payload)
    {
        if (!MqttTopics.IsEventsUp(deviceId, topic) || payload.Length is 0 or > PayloadMax) return default;
        try
        {
            using var json = JsonDocument.Parse(payload, Shallow);
            return Read(deviceId, json.RootElement);
        }
        catch (JsonException)
        {
            return default;
        }
    }

    private static EventsUp Read(DeviceId deviceId, JsonElement root)
    {
        var events = default(EventsUp);
        if (Member(root, "services") is not { ValueKind: JsonValueKind.Array } services) return events;
        var objectDeviceId = Text(root, "object_device_id", ObjectDeviceIdMax);
        foreach (var service in services.EnumerateArray().Take(ServicesMax))
        {
            var paras = Member(service, "paras");
            switch (Text(service, "service_id", 64), Text(service, "event_type", 64))
            {
                case ("$time_sync", "time_sync_request") when events.TimeSync is null && Whole(paras, "device_send_time") is { } sent:
                    events = events with { TimeSync = new TimeSyncRequest(objectDeviceId, sent) };
                    break;
                case ("$sdk_info", "sdk_info_report") when objectDeviceId is null || objectDeviceId == deviceId.Value:
                    events = events with
                    {
                        SdkInfo = new SdkInfo(
                            Text(paras, "device_sdk_version", SdkInfo.VersionMax), Text(paras, "sw_version", SdkInfo.VersionMax), Text(paras, "fw_version", SdkInfo.VersionMax)),
                    };
                    break;

                // The Java SDK leaves the $ out when it asks for the list.
                case (SubDeviceManager or "sub_device_manager", { } type)
                    when Request(type, Text(service, "event_id", 128), paras) is { } request:
                    events = events with { Gateway = [.. events.Gateway ?? [], request] };
                    break;
            }
        }

        return events;
    }

    private static GatewayRequest? Request(string type, string? eventId, JsonElement? paras) => type switch
    {
        "sub_device_sync_request" => new GatewayRequest.Sync(eventId, Whole(paras, "version") ?? 0),
        "add_sub_device_request" => new GatewayRequest.Add(
            eventId, [.. Items(paras, "devices").Select(d => d.Clone())]),
        "delete_sub_device_request" => new GatewayRequest.Delete(
            eventId, [.. Items(paras, "devices").Select(d => Text(d, IdMax) ?? "")]),
        "sub_device_update_status" => new GatewayRequest.UpdateStatus(
            eventId,
            [
                .. Items(paras, "device_statuses").Select(
                    s => new SubDeviceStatus(Text(s, "device_id", IdMax) ?? "", Text(s, "status", 32) ?? "")),
            ]),
        _ => null,
    };

    private static IEnumerable<JsonElement> Items(JsonElement? of, string name) =>
        Member(of, name) is { ValueKind: JsonValueKind.Array } array ? array.EnumerateArray() : [];

    private static JsonElement? Member(JsonElement? of, string name)
    {
        try
        {
            return of is { ValueKind: JsonValueKind.Object } parent && parent.TryGetProperty(name, out var member) ? member : null;
        }
        catch (InvalidOperationException) // the name of a member is no text
        {
            return null;
        }
    }

    // What is no text (bytes that are no UTF-8, half a surrogate pair, U+0000) counts as not said, and the rest of the event stands.
    internal static string? Text(JsonElement? of, string name, int max) =>
        Member(of, name) is { } member ? Text(member, max) : null;

    private static string? Text(JsonElement member, int max)
    {
        if (member.ValueKind != JsonValueKind.String) return null;
        try
        {
            return member.GetString() is { Length: > 0 } text && text.Length <= max && WireText.Null(text) is null ? text : null;
        }
        catch (InvalidOperationException)
        {
            return null;
        }
    }

    private static long? Whole(JsonElement? of, string name) =>
        Member(of, name) is { ValueKind: JsonValueKind.Number } member && member.TryGetInt64(out var number) ? number : null;
}
