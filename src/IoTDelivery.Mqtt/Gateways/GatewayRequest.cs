using System.Collections.Immutable;
using System.Text.Json;
using IoTDelivery.Domain;

namespace IoTDelivery.Mqtt;

/// <summary>
/// What a gateway asks about its sub-devices: service <c>$sub_device_manager</c> on <c>sys/events/up</c> (API manual,
/// "Platform events").
/// </summary>
/// <param name="EventId">Comes back in the answer; null if the gateway gave none.</param>
public abstract record GatewayRequest(string? EventId)
{
    /// <summary>Sub-devices in one request to add or delete, at most (manual).</summary>
    public const int DevicesMax = 50;

    /// <summary>States in one report, at most (the official C SDK's bound; the manual's was not to be had).</summary>
    public const int StatusesMax = 100;

    /// <summary>Tell me what of my list is newer than this version; all of it if that is 0.</summary>
    public sealed record Sync(string? EventId, long Version) : GatewayRequest(EventId);

    /// <summary>Create these under me. Each as the gateway said it.</summary>
    public sealed record Add(string? EventId, ImmutableArray<JsonElement> Devices) : GatewayRequest(EventId);

    /// <summary>Delete these.</summary>
    public sealed record Delete(string? EventId, ImmutableArray<string> DeviceIds) : GatewayRequest(EventId);

    /// <summary>These are online now, or not.</summary>
    public sealed record UpdateStatus(string? EventId, ImmutableArray<SubDeviceStatus> Statuses)
        : GatewayRequest(EventId);
}

/// <summary>What a gateway says of a sub-device.</summary>
/// <param name="Status">ONLINE or OFFLINE; anything else is refused.</param>
public readonly record struct SubDeviceStatus(string DeviceId, string Status)
{
    public const string Online = "ONLINE", Offline = "OFFLINE";
}

/// <summary>A sub-device as its gateway is told of it (<c>DeviceInfo</c> of the manual).</summary>
/// <param name="ParentId">The device it stands under.</param>
/// <param name="Status">INACTIVE, ONLINE, OFFLINE.</param>
/// <param name="ExtensionInfo">A JSON object as text.</param>
public sealed record SubDeviceInfo(
    string ParentId,
    string NodeId,
    string DeviceId,
    string ProductId,
    string? Name,
    string? Description,
    string Status,
    string? FwVersion = null,
    string? SwVersion = null,
    string? ExtensionInfo = null);

/// <summary>A change of a gateway's list.</summary>
/// <param name="Info">The sub-device as it is now; null if it was deleted.</param>
public sealed record SubDeviceChanged(
    long Version, string DeviceId, string NodeId, string ParentId, SubDeviceInfo? Info);

/// <summary>Why something was not done: a code of the application API, and a sentence.</summary>
public sealed record SubDeviceError(string Code, string Message);

/// <summary>Does what gateways ask. The gateway is always the device that has the connection.</summary>
public interface IGatewayRequests
{
    /// <summary>
    /// Which version to begin behind for a gateway that says that it knows this one, and behind which one deletions are
    /// worth telling: one that knows nothing of this list need not hear of what was deleted before.
    /// </summary>
    Task<(long Version, long DeletionsBehind)> BeginAsync(DeviceId gateway, long version, CancellationToken cancel);

    /// <summary>
    /// What changed behind this version, oldest first, as many as this; of deletions those behind the other.
    /// </summary>
    Task<IReadOnlyList<SubDeviceChanged>> ChangesAsync(
        DeviceId gateway, long version, long deletionsBehind, int limit, CancellationToken cancel);

    /// <summary>Creates a sub-device. One that is there already as it was asked for counts as created.</summary>
    Task<(SubDeviceInfo? Added, SubDeviceError? Error)> AddAsync(
        DeviceId gateway, JsonElement device, CancellationToken cancel);

    /// <summary>Null when it is deleted.</summary>
    Task<SubDeviceError?> DeleteAsync(DeviceId gateway, string deviceId, CancellationToken cancel);

    /// <summary>Null when it is noted.</summary>
    Task<SubDeviceError?> ReportAsync(
        DeviceId gateway, Guid connectionId, SubDeviceStatus status, CancellationToken cancel);

    /// <summary>What is said to a gateway that asks more than is answered.</summary>
    SubDeviceError TooMuchAtOnce { get; }

    /// <summary>What is said when it cannot be done now.</summary>
    SubDeviceError Unavailable { get; }

    /// <summary>What is said when a member has more items than it may have.</summary>
    SubDeviceError TooMany(string member, int max);
}
