using System.Security.Cryptography;
using System.Text.Json;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Host.Api;

/// <summary>Devices: create, list, show, delete (API manual, "Device Management").</summary>
public static class DevicesApi
{
    public static void MapDevices(this RouteGroupBuilder project)
    {
        var devices = project.MapGroup("/devices");
        devices.MapPost("/", CreateAsync);
        devices.MapGet("/", ListAsync);
        devices.MapGet("/{device_id}", ShowAsync);
        devices.MapDelete("/{device_id}", DeleteAsync);
    }

    private static async Task<IResult> CreateAsync(
        string project_id, HttpRequest request, Registry.Devices registry, Products products, DeviceGateway devices, OnlineNodes nodes, TimeProvider clock, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var nodeId = fields.Id("node_id", 64, required: true);
        var productId = fields.Id("product_id", 36, required: true);
        var givenId = fields.Id("device_id", 128);
        var deviceName = fields.Text("device_name", 256);
        var description = fields.Text("description", 2048, min: 0);
        var appId = fields.Id("app_id", 36);
        var gatewayId = fields.Id("gateway_id", 128);
        var extensionInfo = fields.Json("extension_info", 1024, JsonValueKind.Object);
        var auth = fields.Object("auth_info");
        var secret = auth?.Id("secret", 32, min: 8);
        auth?.OneOf("auth_type", ["SECRET"]);
        fields.Adopt(auth);
        if (gatewayId is not null && gatewayId != (givenId ?? $"{productId}_{nodeId}")) fields.Wrong<string>("gateway_id", "of another device is not offered yet: sub-devices follow");
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        if (await products.FindAsync(project_id, productId!, cancel) is not { } product) return ApiError.NoSuchProduct;

        var deviceId = DeviceId.Parse(givenId ?? $"{productId}_{nodeId}");
        var now = clock.GetUtcNow();
        var device = new Device
        {
            DeviceId = deviceId.Value,
            RecordId = RecordIds.New(now),
            ProjectId = project_id,
            ProductId = productId!,
            NodeId = nodeId!,
            AppId = appId,
            GatewayId = gatewayId,
            DeviceName = deviceName,
            Description = description,
            ExtensionInfo = extensionInfo,
            Secret = secret ?? RandomNumberGenerator.GetHexString(32, lowercase: true),
            CreatedAt = now.ToUnixTimeMilliseconds(),
        };

        // First the outbox, which may have belonged to a deleted device of this id, then the row that lets messages in: a crash between the two leaves nothing behind.
        if (await devices.AskAsync(new ToDevice.Command(deviceId, OutboxCommand.Register.Instance), cancel) is OutboxReply.Refused refused) return ApiError.For(refused.Reason);
        if (!await registry.AddAsync(device, cancel)) return ApiError.DeviceExists;
        return new JsonResult(201, json => Write(json, device, product.Name, nodes, withSecret: true));
    }

    private static async Task<IResult> ListAsync(
        string project_id, HttpRequest request, Registry.Devices registry, OnlineNodes nodes, CancellationToken cancel)
    {
        if (!PageQuery.TryParse(request.Query, out var page, out var problem)) return ApiError.Invalid(problem);
        string? Filter(string name) => request.Query[name] is [{ Length: > 0 } value] ? value : null;
        var filter = new DeviceFilter(Filter("product_id"), Filter("gateway_id"), Filter("node_id"), Filter("device_name"), Filter("app_id"));
        var (items, count) = await registry.ListAsync(project_id, filter, page, cancel);
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("devices");
            foreach (var device in items)
            {
                json.WriteStartObject();
                WriteIds(json, device);
                json.WriteString("status", nodes.StatusOf(device));
                json.WriteStartArray("tags");
                json.WriteEndArray();
                json.WriteEndObject();
            }

            json.WriteEndArray();
            PageQuery.Write(json, count, items.Count == 0 ? null : items[^1].RecordId);
            json.WriteEndObject();
        });
    }

    private static async Task<IResult> ShowAsync(
        string project_id, string device_id, Registry.Devices registry, Products products, OnlineNodes nodes, CancellationToken cancel)
    {
        if (!DeviceId.TryParse(device_id, out var deviceId)) return ApiError.Invalid($"device_id must be {DeviceId.Pattern}.");
        if (await registry.ReadAsync(project_id, deviceId, cancel) is not { } device) return ApiError.NoSuchDevice;
        var product = await products.FindAsync(project_id, device.ProductId, cancel);
        return new JsonResult(200, json => Write(json, device, product?.Name, nodes, withSecret: true));
    }

    private static async Task<IResult> DeleteAsync(string project_id, string device_id, DeviceDeletion deletion, CancellationToken cancel)
    {
        if (!DeviceId.TryParse(device_id, out var deviceId)) return ApiError.Invalid($"device_id must be {DeviceId.Pattern}.");
        return await deletion.DeleteAsync(project_id, deviceId, cancel) switch
        {
            null => Results.NoContent(),
            { } reason => ApiError.For(reason),
        };
    }

    private static void WriteIds(Utf8JsonWriter json, Device device)
    {
        if (device.AppId is not null) json.WriteString("app_id", device.AppId);
        json.WriteString("device_id", device.DeviceId);
        json.WriteString("node_id", device.NodeId);
        json.WriteString("gateway_id", device.GatewayId ?? device.DeviceId);
        if (device.DeviceName is not null) json.WriteString("device_name", device.DeviceName);
        json.WriteString("node_type", "GATEWAY");
        if (device.Description is not null) json.WriteString("description", device.Description);
        json.WriteString("product_id", device.ProductId);
    }

    private static void Write(Utf8JsonWriter json, Device device, string? productName, OnlineNodes nodes, bool withSecret)
    {
        json.WriteStartObject();
        WriteIds(json, device);
        if (productName is not null) json.WriteString("product_name", productName);
        json.WriteStartObject("auth_info");
        json.WriteString("auth_type", "SECRET");
        if (withSecret) json.WriteString("secret", device.Secret);
        json.WriteBoolean("secure_access", false);
        json.WriteNumber("timeout", 0);
        json.WriteEndObject();
        json.WriteString("status", nodes.StatusOf(device));
        if (device.FwVersion is not null) json.WriteString("fw_version", device.FwVersion);
        if (device.SwVersion is not null) json.WriteString("sw_version", device.SwVersion);
        if (device.DeviceSdkVersion is not null) json.WriteString("device_sdk_version", device.DeviceSdkVersion);
        json.WriteString("create_time", WireTime.Compact(device.CreatedAt));
        if (device.ActiveAt is { } active) json.WriteString("active_time", WireTime.Millis(DateTimeOffset.FromUnixTimeMilliseconds(active)));
        if (device.StatusAt is { } status) json.WriteString("connection_status_update_time", WireTime.Millis(DateTimeOffset.FromUnixTimeMilliseconds(status)));
        json.WriteStartArray("tags");
        json.WriteEndArray();
        if (device.ExtensionInfo is not null)
        {
            json.WritePropertyName("extension_info");
            json.WriteRawValue(device.ExtensionInfo, skipInputValidation: true);
        }

        json.WriteEndObject();
    }
}
