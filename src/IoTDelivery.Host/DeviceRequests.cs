using System.Security.Cryptography;
using System.Text.Json;
using IoTDelivery.Domain;
using IoTDelivery.Host.Api;
using IoTDelivery.Registry;

namespace IoTDelivery.Host;

/// <summary>A device as an application or a gateway wants it. Limits: API manual, "Creating a Device".</summary>
public sealed record NewDevice(
    string? NodeId,
    string? ProductId,
    string? DeviceId,
    string? GatewayId,
    string? Name,
    string? Description,
    string? AppId,
    string? ExtensionInfo,
    string? Secret)
{
    /// <summary>Characters of a secret.</summary>
    public const int SecretMin = 8, SecretMax = 32;

    /// <summary>The body of a request. What is wrong stands in <see cref="RequestFields.Problem"/>.</summary>
    public static NewDevice OfRequest(RequestFields fields)
    {
        var device = Of(fields, gatewayId: "gateway_id", name: "device_name");
        var auth = fields.Object("auth_info");
        device = device with
        {
            AppId = fields.Id("app_id", 36),
            Secret = auth?.Id("secret", SecretMax, min: SecretMin),
        };
        auth?.OneOf("auth_type", ["SECRET"]);
        fields.Adopt(auth);
        return device;
    }

    /// <summary>What a gateway says of a sub-device.</summary>
    public static NewDevice OfEvent(RequestFields fields) => Of(fields, gatewayId: "parent_device_id", name: "name");

    /// <summary>One that nobody has chosen.</summary>
    public static string NewSecret() => RandomNumberGenerator.GetHexString(SecretMax, lowercase: true);

    private static NewDevice Of(RequestFields fields, string gatewayId, string name) => new(
        fields.Id("node_id", 64, required: true),
        fields.Id("product_id", 36, required: true),
        fields.Id("device_id", 128),
        fields.Id(gatewayId, 128),
        fields.Text(name, 256),
        fields.Text("description", 2048, min: 0),
        AppId: null,
        fields.Json("extension_info", 1024, JsonValueKind.Object),
        Secret: null);
}

/// <summary>Creates and deletes devices for whoever asks: an application by REST, a gateway by an event.</summary>
public sealed class DeviceRequests(Registry.Devices registry, Products products, DeviceLives lives, TimeProvider clock)
{
    /// <summary>A device that was created, with its product.</summary>
    public sealed record Creation(Device Device, Product Product);

    /// <summary>The device, or why there is none.</summary>
    public async Task<(Creation? Created, ApiError? Error)> CreateAsync(
        string projectId, NewDevice asked, CancellationToken cancel)
    {
        if (await products.FindAsync(projectId, asked.ProductId!, cancel) is not { } product)
        {
            return (null, ApiError.NoSuchProduct);
        }

        var deviceId = asked.DeviceId ?? $"{asked.ProductId}_{asked.NodeId}";

        // How the answer names a device that connects by itself.
        var gatewayId = asked.GatewayId == deviceId ? null : asked.GatewayId;
        var gateway = gatewayId is null ? null : await registry.FindAsync(projectId, DeviceId.Parse(gatewayId));
        if (gatewayId is not null && gateway is null)
        {
            return (null, ApiError.Invalid($"gateway_id: there is no device {gatewayId}."));
        }

        if (gateway is { RootId: not null } && gateway.RootId != gateway.GatewayId)
        {
            return (null, ApiError.Invalid(
                $"gateway_id: {gatewayId} is a sub-device of a sub-device; there are at most two levels."));
        }

        var now = clock.GetUtcNow();
        var device = new Device
        {
            DeviceId = deviceId,
            RecordId = RecordIds.New(now),
            ProjectId = projectId,
            ProductId = asked.ProductId!,
            NodeId = asked.NodeId!,
            AppId = asked.AppId,
            GatewayId = gatewayId,
            RootId = gateway is null ? null : gateway.RootId ?? gateway.DeviceId,
            DeviceName = asked.Name,
            Description = asked.Description,
            ExtensionInfo = asked.ExtensionInfo,
            Secret = asked.Secret ?? NewDevice.NewSecret(),
            CreatedAt = now.ToUnixTimeMilliseconds(),
        };
        return await lives.CreateAsync(device, cancel) switch
        {
            { Device: { } created } => (new Creation(created, product), null),
            { Refused: { } reason } => (null, ApiError.For(reason)),
            _ => (null, ApiError.DeviceExists),
        };
    }

    /// <summary>Null when it is gone, else why it is not.</summary>
    public async Task<ApiError?> DeleteAsync(string projectId, DeviceId deviceId, CancellationToken cancel)
    {
        if (await registry.HasSubDevicesAsync(deviceId, cancel))
        {
            return await registry.FindAsync(projectId, deviceId) is null
                ? ApiError.NoSuchDevice
                : ApiError.HasSubDevices;
        }

        return await lives.DeleteAsync(projectId, deviceId, cancel) is { } reason ? ApiError.For(reason) : null;
    }
}
