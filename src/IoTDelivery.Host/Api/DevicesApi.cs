using System.Text.Json;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Host.Api;

/// <summary>Devices: create, list, show, update, delete, secrets, freezing, sub-devices (API manual, "Device Management").</summary>
public static class DevicesApi
{
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
        string project_id, HttpRequest request, DeviceRequests devices, OnlineNodes nodes, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var asked = NewDevice.OfRequest(fields);
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        var (created, error) = await devices.CreateAsync(project_id, asked, cancel);
        if (created is null) return error!;
        return new JsonResult(
            201, json => Write(json, created.Device, created.Product.Name, nodes.StatusOf(created.Device)));
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
        return await ShownAsync(device, products, nodes, cancel);
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
        return await registry.UpdateAsync(project_id, deviceId, change, cancel) is { } device
            ? await ShownAsync(device, products, nodes, cancel)
            : ApiError.NoSuchDevice;
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
        var secret = fields.Id("secret", NewDevice.SecretMax, min: NewDevice.SecretMin) ?? NewDevice.NewSecret();
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
        string project_id, string device_id, DeviceRequests devices, CancellationToken cancel)
    {
        if (!DeviceId.TryParse(device_id, out var deviceId)) return ApiError.Invalid($"device_id must be {DeviceId.Pattern}.");
        return await devices.DeleteAsync(project_id, deviceId, cancel) is { } error ? error : Results.NoContent();
    }

    private static async Task<IResult> ShownAsync(
        Device device, Products products, OnlineNodes nodes, CancellationToken cancel)
    {
        var product = await products.FindAsync(device.ProjectId, device.ProductId, cancel);
        return new JsonResult(200, json => Write(json, device, product?.Name, nodes.StatusOf(device)));
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
