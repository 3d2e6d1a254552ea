using System.Text.Json;
using IoTDelivery.Domain;

namespace IoTDelivery.Mqtt;

/// <summary>A site whose gateways have no sub-devices they could ask about.</summary>
internal sealed class NoSubDevices : IGatewayRequests
{
    public static readonly NoSubDevices Instance = new();

    private static readonly SubDeviceError NotOffered = new("", "This node has no registry.");

    public SubDeviceError TooMuchAtOnce => NotOffered;

    public SubDeviceError Unavailable => NotOffered;

    public SubDeviceError TooMany(string member, int max) => NotOffered;

    public Task<(long Version, long DeletionsBehind)> BeginAsync(
        DeviceId gateway, long version, CancellationToken cancel) =>
        Task.FromResult((version, 0L));

    public Task<IReadOnlyList<SubDeviceChanged>> ChangesAsync(
        DeviceId gateway, long version, long deletionsBehind, int limit, CancellationToken cancel) =>
        Task.FromResult<IReadOnlyList<SubDeviceChanged>>([]);

    public Task<(SubDeviceInfo? Added, SubDeviceError? Error)> AddAsync(
        DeviceId gateway, JsonElement device, CancellationToken cancel) =>
        Task.FromResult<(SubDeviceInfo?, SubDeviceError?)>((null, NotOffered));

    public Task<SubDeviceError?> DeleteAsync(DeviceId gateway, string deviceId, CancellationToken cancel) =>
        Task.FromResult<SubDeviceError?>(NotOffered);

    public Task<SubDeviceError?> ReportAsync(
        DeviceId gateway, Guid connectionId, SubDeviceStatus status, CancellationToken cancel) =>
        Task.FromResult<SubDeviceError?>(NotOffered);
}
