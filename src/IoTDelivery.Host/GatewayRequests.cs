using System.Runtime.InteropServices;
using System.Text.Json;
using IoTDelivery.Domain;
using IoTDelivery.Host.Api;
using IoTDelivery.Mqtt;
using IoTDelivery.Registry;

namespace IoTDelivery.Host;

/// <summary>
/// What gateways ask about their sub-devices is done here, by the same rules as if an application had asked.
/// </summary>
public sealed class GatewayRequests(
    Registry.Devices registry,
    SubDeviceList list,
    DeviceRequests devices,
    ConnectionLog connections,
    OnlineNodes nodes,
    TimeProvider clock)
    : IGatewayRequests
{
    // Versions are whole numbers that every client can hold: the official Go SDK reads them as floating point.
    private const long VersionMax = 1L << 52;

    public SubDeviceError TooMuchAtOnce => Error(ApiError.TooMuchAtOnce);

    public SubDeviceError Unavailable => Error(ApiError.StorageAway);

    public SubDeviceError TooMany(string member, int max) =>
        Error(ApiError.Invalid($"paras.{member} may have at most {max} items."));

    public async Task<(long Version, long DeletionsBehind)> BeginAsync(
        DeviceId gateway, long version, CancellationToken cancel)
    {
        var newest = await list.VersionAsync(gateway, cancel);
        if (version is <= 0 or > VersionMax) return (0, newest);
        if (version <= newest) return (version, 0);
        await list.ShiftAsync(gateway, version, cancel);
        return (version, version + newest);
    }

    public async Task<IReadOnlyList<SubDeviceChanged>> ChangesAsync(
        DeviceId gateway, long version, long deletionsBehind, int limit, CancellationToken cancel)
    {
        var changes = await list.BehindAsync(gateway, version, deletionsBehind, limit, cancel);
        return
        [
            .. changes.Select(c => new SubDeviceChanged(c.Version, c.DeviceId, c.NodeId, c.ParentId, Info(c.Device))),
        ];
    }

    public async Task<(SubDeviceInfo? Added, SubDeviceError? Error)> AddAsync(
        DeviceId gateway, JsonElement device, CancellationToken cancel)
    {
        if (Text(device) is { } noText) return (null, Error(noText));
        var fields = new RequestFields(device);
        var asked = NewDevice.OfEvent(fields);
        if (fields.Problem is { } problem) return (null, Error(ApiError.Invalid(problem)));
        if (await registry.FindAsync(gateway) is not { RootId: null } own) return (null, Error(ApiError.NoSuchDevice));
        asked = asked with { GatewayId = asked.GatewayId ?? gateway.Value, AppId = own.AppId };
        if (asked.GatewayId != gateway.Value && await FindAsync(gateway, asked.GatewayId) is null)
        {
            return (null, Error(ApiError.Invalid(
                $"parent_device_id: {asked.GatewayId} is no sub-device of this gateway.")));
        }

        var (created, error) = await devices.CreateAsync(own.ProjectId, asked, cancel);
        if (created is not null) return (Info(created.Device), null);

        // The answer to the first request was lost, perhaps: the gateway asks again.
        var known = error == ApiError.DeviceExists
            ? await FindAsync(gateway, asked.DeviceId ?? $"{asked.ProductId}_{asked.NodeId}")
            : null;
        var isThisOne = known is not null
            && (known.NodeId, known.ProductId, known.GatewayId) == (asked.NodeId, asked.ProductId, asked.GatewayId);
        return isThisOne ? (Info(known), null) : (null, Error(error!));
    }

    public async Task<SubDeviceError?> DeleteAsync(DeviceId gateway, string deviceId, CancellationToken cancel)
    {
        if (await FindAsync(gateway, deviceId) is not { } subDevice) return Error(ApiError.NoSuchDevice);
        return await devices.DeleteAsync(subDevice.ProjectId, DeviceId.Parse(deviceId), cancel) is { } error
            ? Error(error)
            : null;
    }

    public async Task<SubDeviceError?> ReportAsync(
        DeviceId gateway, Guid connectionId, SubDeviceStatus status, CancellationToken cancel)
    {
        if (status.Status is not (SubDeviceStatus.Online or SubDeviceStatus.Offline))
        {
            return Error(ApiError.Invalid(
                $"status must be one of {SubDeviceStatus.Online}, {SubDeviceStatus.Offline}."));
        }

        if (await FindAsync(gateway, status.DeviceId) is null) return Error(ApiError.NoSuchDevice);
        var isOnline = status.Status == SubDeviceStatus.Online;
        connections.ReportSubDevice(
            gateway, connectionId, DeviceId.Parse(status.DeviceId), isOnline, clock.GetUtcNow());
        return null;
    }

    // A gateway asks about its own. Others it has not are unknown to it, whether they exist or not.
    private async ValueTask<Device?> FindAsync(DeviceId gateway, string deviceId) =>
        DeviceId.TryParse(deviceId, out var id)
            && await registry.FindAsync(id) is { } device
            && device.RootId == gateway.Value
                ? device
                : null;

    private SubDeviceInfo? Info(Device? device) => device is null ? null : new SubDeviceInfo(
        device.GatewayId!,
        device.NodeId,
        device.DeviceId,
        device.ProductId,
        device.DeviceName,
        device.Description,
        nodes.StatusOf(device),
        device.FwVersion,
        device.SwVersion,
        device.ExtensionInfo);

    private static ApiError? Text(JsonElement device) =>
        JsonText.Problem(JsonMarshal.GetRawUtf8Value(device)) is { } problem ? ApiError.Invalid(problem) : null;

    private static SubDeviceError Error(ApiError error) => new(error.Code, error.Message);
}
