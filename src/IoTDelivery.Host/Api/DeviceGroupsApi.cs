using System.Text.Json;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Host.Api;

/// <summary>Device groups and who is in them (API manual, "Device Group Management"). Groups are static: dynamic ones (group_type DYNAMIC) are not offered.</summary>
public static class DeviceGroupsApi
{
    private const string Alphabet = "letters, digits, Chinese characters and _? '#().,&%@!-";

    public static void MapDeviceGroups(this RouteGroupBuilder project)
    {
        var groups = project.MapGroup("/device-group");
        groups.MapPost("/", CreateAsync);
        groups.MapGet("/", ListAsync);
        groups.MapGet("/{group_id}", ShowAsync);
        groups.MapPut("/{group_id}", UpdateAsync);
        groups.MapDelete("/{group_id}", DeleteAsync);
        groups.MapPost("/{group_id}/action", ActAsync);
        groups.MapGet("/{group_id}/devices", ListDevicesAsync);
    }

    private static async Task<IResult> CreateAsync(string project_id, HttpRequest request, DeviceGroups groups, TimeProvider clock, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var (name, description) = NameAndDescription(fields, isNew: true);
        var superGroupId = fields.Id("super_group_id", 36);
        var appId = fields.Id("app_id", 36);
        if (fields.OneOf("group_type", ["STATIC", "DYNAMIC"]) == "DYNAMIC") fields.Wrong<string>("group_type", "DYNAMIC is not offered: devices are added to groups one by one");
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);

        var now = clock.GetUtcNow();
        var group = new DeviceGroup
        {
            GroupId = Guid.NewGuid().ToString("D"),
            RecordId = RecordIds.New(now),
            ProjectId = project_id,
            AppId = appId,
            Name = name!,
            NameKey = DeviceGroup.NameKeyOf(project_id, appId, name!),
            Description = description,
            SuperGroupId = superGroupId,
            CreatedAt = now.ToUnixTimeMilliseconds(),
        };
        return await groups.AddAsync(group, cancel) is { } refusal ? For(refusal) : new JsonResult(201, json => Write(json, group));
    }

    private static async Task<IResult> ListAsync(string project_id, HttpRequest request, DeviceGroups groups, CancellationToken cancel)
    {
        if (!PageQuery.TryParse(request.Query, out var page, out var problem)) return ApiError.Invalid(problem);
        var appId = request.Query["app_id"] is [{ Length: > 0 } given] ? given : null;
        var (items, count) = await groups.ListAsync(project_id, appId, page, cancel);
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("device_groups");
            foreach (var group in items) Write(json, group);
            json.WriteEndArray();
            PageQuery.Write(json, count, items.Count == 0 ? null : items[^1].RecordId);
            json.WriteEndObject();
        });
    }

    private static async Task<IResult> ShowAsync(string project_id, string group_id, DeviceGroups groups, CancellationToken cancel) =>
        await groups.FindAsync(project_id, group_id, cancel) is { } group ? new JsonResult(200, json => Write(json, group)) : For(GroupRefusal.NoSuchGroup);

    private static async Task<IResult> UpdateAsync(string project_id, string group_id, HttpRequest request, DeviceGroups groups, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var (name, description) = NameAndDescription(fields, isNew: false);
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        return await groups.UpdateAsync(project_id, group_id, name, description, cancel) switch
        {
            ({ } group, _) => new JsonResult(200, json => Write(json, group)),
            (_, var refusal) => For(refusal!.Value),
        };
    }

    private static async Task<IResult> DeleteAsync(string project_id, string group_id, DeviceGroups groups, CancellationToken cancel) =>
        await groups.RemoveAsync(project_id, group_id, cancel) is { } refusal ? For(refusal) : Results.NoContent();

    private static async Task<IResult> ActAsync(string project_id, string group_id, HttpRequest request, DeviceGroups groups, TimeProvider clock, CancellationToken cancel)
    {
        if (!DeviceId.TryParse(request.Query["device_id"].FirstOrDefault(), out var deviceId)) return ApiError.Invalid($"device_id must be {DeviceId.Pattern}.");
        GroupRefusal? refusal;
        switch (request.Query["action_id"].FirstOrDefault())
        {
            case "addDevice":
                refusal = await groups.AddDeviceAsync(project_id, group_id, deviceId, clock.GetUtcNow(), cancel);
                break;
            case "removeDevice":
                refusal = await groups.RemoveDeviceAsync(project_id, group_id, deviceId, cancel);
                break;
            default:
                return ApiError.Invalid("action_id must be one of addDevice, removeDevice.");
        }

        return refusal is { } why ? For(why) : Results.Ok();
    }

    private static async Task<IResult> ListDevicesAsync(string project_id, string group_id, HttpRequest request, DeviceGroups groups, CancellationToken cancel)
    {
        if (!PageQuery.TryParse(request.Query, out var page, out var problem)) return ApiError.Invalid(problem);
        if (await groups.FindAsync(project_id, group_id, cancel) is null) return For(GroupRefusal.NoSuchGroup);
        var (items, count) = await groups.DevicesAsync(group_id, page, cancel);
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("devices");
            foreach (var (device, _) in items)
            {
                json.WriteStartObject();
                json.WriteString("device_id", device.DeviceId);
                json.WriteString("node_id", device.NodeId);
                if (device.DeviceName is not null) json.WriteString("device_name", device.DeviceName);
                json.WriteString("product_id", device.ProductId);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            PageQuery.Write(json, count, items.Count == 0 ? null : items[^1].Marker);
            json.WriteEndObject();
        });
    }

    private static (string? Name, string? Description) NameAndDescription(RequestFields fields, bool isNew) =>
        (fields.Text("name", 64, IsAllowed, Alphabet, required: isNew), fields.Text("description", 64, IsAllowed, Alphabet, min: 0));

    private static bool IsAllowed(char c) => char.IsLetterOrDigit(c) || "_? '#().,&%@!-".Contains(c);

    private static ApiError For(GroupRefusal refusal) => refusal switch
    {
        GroupRefusal.NoSuchGroup => ApiError.NoSuchGroup,
        GroupRefusal.NoSuchDevice => ApiError.NoSuchDevice,
        GroupRefusal.NameTaken => ApiError.Invalid("name: another device group of this resource space has it."),
        GroupRefusal.NoSuchSuperGroup => ApiError.Invalid("super_group_id: there is no such device group."),
        GroupRefusal.TooDeep => ApiError.Invalid($"super_group_id: device groups may be nested {DeviceGroups.DepthMax} levels deep."),
        GroupRefusal.TooManyGroups => ApiError.NotNow($"A project may have {DeviceGroups.GroupsMax} device groups."),
        GroupRefusal.TooManyDevices => ApiError.NotNow($"A device group may have {DeviceGroups.DevicesMax} devices."),
        GroupRefusal.InTooManyGroups => ApiError.NotNow($"A device may be in {DeviceGroups.GroupsPerDeviceMax} device groups."),
        GroupRefusal.NotEmpty => ApiError.NotNow("The device group still has devices or groups below it: remove them first."),
        _ => ApiError.Internal,
    };

    private static void Write(Utf8JsonWriter json, DeviceGroup group)
    {
        json.WriteStartObject();
        json.WriteString("group_id", group.GroupId);
        json.WriteString("name", group.Name);
        if (group.Description is not null) json.WriteString("description", group.Description);
        if (group.SuperGroupId is not null) json.WriteString("super_group_id", group.SuperGroupId);
        json.WriteString("group_type", "STATIC");
        json.WriteEndObject();
    }
}
