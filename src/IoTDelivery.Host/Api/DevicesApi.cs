using System.Security.Cryptography;
using System.Text.Json;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Host.Api;

/// <summary>Devices: create, list, show, update, delete, secrets, freezing, sub-devices (API manual, "Device Management").</summary>
public static class DevicesApi
{
    // API manual, "Creating a Device".
    private const int SecretMin = 8, SecretMax = 32;

    public static void MapDevices(this RouteGroupBuilder project)
    {
        var devices = project.MapGroup("/devices");
        devices.MapPost("/", CreateAsync);
        devices.MapGet("/", ListAsync);
        devices.MapGet("/{device_id}", ShowAsync);
        devices.MapPut("/{device_id}", UpdateAsync);
        devices.MapDelete("/{device_id}", DeleteAsync);
        devices.MapPost("/{device_id}/action", ActAsync);
        devices.MapPost(
            "/{device_id}/freeze",
            (string project_id, string device_id, Registry.Devices registry, DeviceLives lives, TimeProvider clock,
                CancellationToken cancel) =>
                FreezeAsync(project_id, device_id, isFrozen: true, registry, lives, clock, cancel));
        devices.MapPost(
            "/{device_id}/unfreeze",
            (string project_id, string device_id, Registry.Devices registry, DeviceLives lives, TimeProvider clock,
                CancellationToken cancel) =>
                FreezeAsync(project_id, device_id, isFrozen: false, registry, lives, clock, cancel));
    }

    private static async Task<IResult> CreateAsync(
        string project_id, HttpRequest request, Registry.Devices registry, Products products, DeviceLives lives,
        OnlineNodes nodes, TimeProvider clock, CancellationToken cancel)
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
        var secret = auth?.Id("secret", SecretMax, min: SecretMin);
        auth?.OneOf("auth_type", ["SECRET"]);
        fields.Adopt(auth);
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        if (await products.FindAsync(project_id, productId!, cancel) is not { } product) return ApiError.NoSuchProduct;

        var deviceId = DeviceId.Parse(givenId ?? $"{productId}_{nodeId}");
        if (gatewayId == deviceId.Value) gatewayId = null; // how the answer names a device that connects by itself
        var gateway = gatewayId is null ? null : await registry.FindAsync(project_id, DeviceId.Parse(gatewayId));
        if (gatewayId is not null && gateway is null) return ApiError.Invalid($"gateway_id: there is no device {gatewayId}.");
        if (gateway is { RootId: not null } && gateway.RootId != gateway.GatewayId) return ApiError.Invalid($"gateway_id: {gatewayId} is a sub-device of a sub-device; there are at most two levels.");
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
            RootId = gateway is null ? null : gateway.RootId ?? gateway.DeviceId,
            DeviceName = deviceName,
            Description = description,
            ExtensionInfo = extensionInfo,
            Secret = secret ?? NewSecret(),
            CreatedAt = now.ToUnixTimeMilliseconds(),
        };

        return await lives.CreateAsync(device, cancel) switch
        {
            { Device: { } created } =>
                new JsonResult(201, json => Write(json, created, product.Name, nodes.StatusOf(created, root: null))),
            { Refused: { } reason } => ApiError.For(reason),
            _ => ApiError.DeviceExists,
        };
    }

    private static async Task<IResult> ListAsync(
        string project_id, HttpRequest request, Registry.Devices registry, OnlineNodes nodes, CancellationToken cancel)
    {
        if (!PageQuery.TryParse(request.Query, out var page, out var problem)) return ApiError.Invalid(problem);
        string? Filter(string name) => request.Query[name] is [{ Length: > 0 } value] ? value : null;
        if (!bool.TryParse(Filter("is_cascade_query") ?? "false", out var isCascade)) return ApiError.Invalid("is_cascade_query must be true or false.");
        if (!Time("start_time", out var from)) return ApiError.Invalid("start_time must be a time such as 20151212T121212Z.");
        if (!Time("end_time", out var to)) return ApiError.Invalid("end_time must be a time such as 20151212T121212Z.");
        var filter = new DeviceFilter(
            Filter("product_id"), Filter("gateway_id"), Filter("node_id"), Filter("device_name"), Filter("app_id"), isCascade, from, to is null ? null : to + 999);
        var (items, count) = await registry.ListAsync(project_id, filter, page, cancel);
        var roots = await registry.RootsAsync(items, cancel);
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("devices");
            foreach (var device in items)
            {
                json.WriteStartObject();
                WriteIds(json, device);
                json.WriteString("status", nodes.StatusOf(device, Root(device, roots)));
                json.WriteStartArray("tags");
                json.WriteEndArray();
                json.WriteEndObject();
            }

            json.WriteEndArray();
            PageQuery.Write(json, count, items.Count == 0 ? null : items[^1].RecordId);
            json.WriteEndObject();
        });

        bool Time(string name, out long? milliseconds)
        {
            milliseconds = null;
            if (Filter(name) is not { } text) return true;
            if (!WireTime.TryParseCompact(text, out var at)) return false;
            milliseconds = at.ToUnixTimeMilliseconds();
            return true;
        }
    }

    private static async Task<IResult> ShowAsync(
        string project_id, string device_id, Registry.Devices registry, Products products, OnlineNodes nodes, CancellationToken cancel)
    {
        if (!DeviceId.TryParse(device_id, out var deviceId)) return ApiError.Invalid($"device_id must be {DeviceId.Pattern}.");
        if (await registry.ReadAsync(project_id, deviceId, cancel) is not { } device) return ApiError.NoSuchDevice;
        return await ShownAsync(device, registry, products, nodes, cancel);
    }

    private static async Task<IResult> UpdateAsync(
        string project_id, string device_id, HttpRequest request, Registry.Devices registry, Products products, OnlineNodes nodes, CancellationToken cancel)
    {
        if (!DeviceId.TryParse(device_id, out var deviceId)) return ApiError.Invalid($"device_id must be {DeviceId.Pattern}.");
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var change = new DeviceChange(fields.Text("device_name", 256), fields.Text("description", 2048, min: 0), fields.Json("extension_info", 1024, JsonValueKind.Object));
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        return await registry.UpdateAsync(project_id, deviceId, change, cancel) is { } device ? await ShownAsync(device, registry, products, nodes, cancel) : ApiError.NoSuchDevice;
    }

    private static async Task<IResult> ActAsync(
        string project_id, string device_id, HttpRequest request, Registry.Devices registry, DeviceLives lives,
        CancellationToken cancel)
    {
        if (!DeviceId.TryParse(device_id, out var deviceId)) return ApiError.Invalid($"device_id must be {DeviceId.Pattern}.");
        if (request.Query["action_id"].FirstOrDefault() is not "resetSecret") return ApiError.Invalid("action_id must be resetSecret.");
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var secret = fields.Id("secret", SecretMax, min: SecretMin) ?? NewSecret();
        var type = fields.OneOf("secret_type", ["PRIMARY", "SECONDARY"]) ?? "PRIMARY";
        var disconnects = fields.Bool("force_disconnect") ?? false;
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        var isSecondary = type == "SECONDARY";
        if (disconnects)
        {
            var reset = await registry.ResetSecretAndEndLoginsAsync(project_id, deviceId, secret, isSecondary, cancel);
            if (reset is not { } end) return ApiError.NoSuchDevice;
            if (await lives.EndLoginsAsync(end, cancel) is { } reason) return ApiError.For(reason);
        }
        else if (!await registry.ResetSecretAsync(project_id, deviceId, secret, isSecondary, cancel))
        {
            return ApiError.NoSuchDevice;
        }

        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteString("device_id", deviceId.Value);
            json.WriteString("secret", secret);
            json.WriteString("secret_type", type);
            json.WriteEndObject();
        });
    }

    private static async Task<IResult> FreezeAsync(
        string project_id, string device_id, bool isFrozen, Registry.Devices registry, DeviceLives lives,
        TimeProvider clock, CancellationToken cancel)
    {
        if (!DeviceId.TryParse(device_id, out var deviceId)) return ApiError.Invalid($"device_id must be {DeviceId.Pattern}.");
        if (await registry.FindAsync(project_id, deviceId) is not { } device) return ApiError.NoSuchDevice;
        if (device.RootId is not null) return ApiError.Invalid("device_id: only a device that connects by itself can be frozen; this is a sub-device.");
        if (!isFrozen)
        {
            var isThawed = await registry.UnfreezeAsync(project_id, deviceId, cancel);
            return isThawed ? Results.NoContent() : ApiError.NoSuchDevice;
        }

        // The row first: who connects from now on is refused, who was let in before it is let go.
        var frozen = await registry.FreezeAsync(project_id, deviceId, clock.GetUtcNow(), cancel);
        if (frozen is not { } end) return ApiError.NoSuchDevice;
        return await lives.EndLoginsAsync(end, cancel) is { } reason ? ApiError.For(reason) : Results.NoContent();
    }

    private static async Task<IResult> DeleteAsync(
        string project_id, string device_id, Registry.Devices registry, DeviceLives lives, CancellationToken cancel)
    {
        if (!DeviceId.TryParse(device_id, out var deviceId)) return ApiError.Invalid($"device_id must be {DeviceId.Pattern}.");
        if (await registry.HasSubDevicesAsync(deviceId, cancel)) return await registry.FindAsync(project_id, deviceId) is null ? ApiError.NoSuchDevice : ApiError.HasSubDevices;
        return await lives.DeleteAsync(project_id, deviceId, cancel) switch
        {
            null => Results.NoContent(),
            { } reason => ApiError.For(reason),
        };
    }

    private static string NewSecret() => RandomNumberGenerator.GetHexString(SecretMax, lowercase: true);

    private static Device? Root(Device device, IReadOnlyDictionary<string, Device> roots) => device.RootId is { } root ? roots.GetValueOrDefault(root) : null;

    private static async Task<IResult> ShownAsync(Device device, Registry.Devices registry, Products products, OnlineNodes nodes, CancellationToken cancel)
    {
        var product = await products.FindAsync(device.ProjectId, device.ProductId, cancel);
        var status = nodes.StatusOf(device, Root(device, await registry.RootsAsync([device], cancel)));
        return new JsonResult(200, json => Write(json, device, product?.Name, status));
    }

    private static void WriteIds(Utf8JsonWriter json, Device device)
    {
        if (device.AppId is not null) json.WriteString("app_id", device.AppId);
        json.WriteString("device_id", device.DeviceId);
        json.WriteString("node_id", device.NodeId);
        json.WriteString("gateway_id", device.GatewayId ?? device.DeviceId);
        if (device.DeviceName is not null) json.WriteString("device_name", device.DeviceName);
        json.WriteString("node_type", device.RootId is null ? "GATEWAY" : "ENDPOINT");
        if (device.Description is not null) json.WriteString("description", device.Description);
        json.WriteString("product_id", device.ProductId);
    }

    private static void Write(Utf8JsonWriter json, Device device, string? productName, string status)
    {
        json.WriteStartObject();
        WriteIds(json, device);
        if (productName is not null) json.WriteString("product_name", productName);
        json.WriteStartObject("auth_info");
        json.WriteString("auth_type", "SECRET");
        json.WriteString("secret", device.Secret);
        if (device.SecondarySecret is not null) json.WriteString("secondary_secret", device.SecondarySecret);
        json.WriteBoolean("secure_access", false);
        json.WriteNumber("timeout", 0);
        json.WriteEndObject();
        json.WriteString("status", status);
        if (device.FwVersion is not null) json.WriteString("fw_version", device.FwVersion);
        if (device.SwVersion is not null) json.WriteString("sw_version", device.SwVersion);
        if (device.DeviceSdkVersion is not null) json.WriteString("device_sdk_version", device.DeviceSdkVersion);
        json.WriteString("create_time", WireTime.Compact(device.CreatedAt));
        if (device.ActiveAt is { } active) json.WriteString("active_time", WireTime.Millis(DateTimeOffset.FromUnixTimeMilliseconds(active)));
        if (device.StatusAt is { } changed) json.WriteString("connection_status_update_time", WireTime.Millis(DateTimeOffset.FromUnixTimeMilliseconds(changed)));
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
