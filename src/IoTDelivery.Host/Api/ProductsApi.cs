using System.Security.Cryptography;
using System.Text.Json;
using IoTDelivery.Registry;

namespace IoTDelivery.Host.Api;

/// <summary>Products: create, list, show, update, delete (API manual, "Product Management").</summary>
public static class ProductsApi
{
    private static readonly string[] Protocols = ["MQTT", "CoAP", "HTTP", "HTTPS", "Modbus", "ONVIF", "OPC-UA", "OPC-DA", "Other", "TCP", "UDP"];
    private static readonly string[] Formats = ["json", "binary"];

    // Manual, "Creating a Product": 500 KB.
    private const int CapabilitiesBytesMax = 500 * 1024;

    public static void MapProducts(this RouteGroupBuilder project)
    {
        var products = project.MapGroup("/products");
        products.MapPost("/", CreateAsync);
        products.MapGet("/", ListAsync);
        products.MapGet("/{product_id}", ShowAsync);
        products.MapPut("/{product_id}", UpdateAsync);
        products.MapDelete("/{product_id}", DeleteAsync);
    }

    private static async Task<IResult> CreateAsync(string project_id, HttpRequest request, Products products, TimeProvider clock, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var now = clock.GetUtcNow();
        var productId = fields.Id("product_id", 36) ?? RandomNumberGenerator.GetHexString(24, lowercase: true);
        var product = new Product
        {
            ProductId = productId,
            RecordId = RecordIds.New(now),
            ProjectId = project_id,
            AppId = fields.Id("app_id", 36),
            Name = fields.Text("name", 64, required: true) ?? "",
            DeviceType = fields.Text("device_type", 32, required: true) ?? "",
            ProtocolType = fields.OneOf("protocol_type", Protocols, required: true) ?? "",
            DataFormat = fields.OneOf("data_format", Formats) ?? "json",
            ServiceCapabilities = fields.Json("service_capabilities", CapabilitiesBytesMax, JsonValueKind.Array) ?? "[]",
            ManufacturerName = fields.Text("manufacturer_name", 32, min: 0),
            Industry = fields.Text("industry", 64, min: 0),
            Description = fields.Text("description", 128, min: 0),
            CreatedAt = now.ToUnixTimeMilliseconds(),
        };
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        if (!await products.AddAsync(product, cancel)) return ApiError.ProductExists;
        return new JsonResult(201, json => Write(json, product, inFull: true));
    }

    private static async Task<IResult> ListAsync(string project_id, HttpRequest request, Products products, CancellationToken cancel)
    {
        if (!PageQuery.TryParse(request.Query, out var page, out var problem)) return ApiError.Invalid(problem);
        var (items, count) = await products.ListAsync(project_id, request.Query["product_name"].FirstOrDefault() is { Length: > 0 } name ? name : null, page, cancel);
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("products");
            foreach (var product in items) Write(json, product, inFull: false);
            json.WriteEndArray();
            PageQuery.Write(json, count, items.Count == 0 ? null : items[^1].RecordId);
            json.WriteEndObject();
        });
    }

    private static async Task<IResult> ShowAsync(string project_id, string product_id, Products products, CancellationToken cancel) =>
        await products.FindAsync(project_id, product_id, cancel) is { } product ? new JsonResult(200, json => Write(json, product, inFull: true)) : ApiError.NoSuchProduct;

    private static async Task<IResult> UpdateAsync(string project_id, string product_id, HttpRequest request, Products products, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var (name, type, protocol, format) = (fields.Text("name", 64), fields.Text("device_type", 32), fields.OneOf("protocol_type", Protocols), fields.OneOf("data_format", Formats));
        var capabilities = fields.Json("service_capabilities", CapabilitiesBytesMax, JsonValueKind.Array);
        var (manufacturer, industry, description) = (fields.Text("manufacturer_name", 32, min: 0), fields.Text("industry", 64, min: 0), fields.Text("description", 128, min: 0));
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        var after = await products.UpdateAsync(project_id, product_id, before => before with
        {
            Name = name ?? before.Name,
            DeviceType = type ?? before.DeviceType,
            ProtocolType = protocol ?? before.ProtocolType,
            DataFormat = format ?? before.DataFormat,
            ServiceCapabilities = capabilities ?? before.ServiceCapabilities,
            ManufacturerName = manufacturer ?? before.ManufacturerName,
            Industry = industry ?? before.Industry,
            Description = description ?? before.Description,
        }, cancel);
        return after is null ? ApiError.NoSuchProduct : new JsonResult(200, json => Write(json, after, inFull: true));
    }

    private static async Task<IResult> DeleteAsync(string project_id, string product_id, Products products, CancellationToken cancel) =>
        await products.RemoveAsync(project_id, product_id, cancel) switch
        {
            null => ApiError.NoSuchProduct,
            false => ApiError.ProductInUse,
            true => Results.NoContent(),
        };

    private static void Write(Utf8JsonWriter json, Product product, bool inFull)
    {
        json.WriteStartObject();
        if (product.AppId is not null) json.WriteString("app_id", product.AppId);
        json.WriteString("product_id", product.ProductId);
        json.WriteString("name", product.Name);
        json.WriteString("device_type", product.DeviceType);
        json.WriteString("protocol_type", product.ProtocolType);
        json.WriteString("data_format", product.DataFormat);
        if (product.ManufacturerName is not null) json.WriteString("manufacturer_name", product.ManufacturerName);
        if (product.Industry is not null) json.WriteString("industry", product.Industry);
        if (product.Description is not null) json.WriteString("description", product.Description);
        json.WriteString("create_time", WireTime.Compact(product.CreatedAt));
        if (inFull)
        {
            json.WritePropertyName("service_capabilities");
            json.WriteRawValue(product.ServiceCapabilities, skipInputValidation: true);
        }

        json.WriteEndObject();
    }
}
