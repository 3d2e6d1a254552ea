using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using IoTDelivery.Registry;

namespace IoTDelivery.Host.Api;

/// <summary>CA certificates (API manual, "Device CA Certificate Management"), as far as forwarding needs them: an action names one as <c>cert_id</c>.</summary>
public static class CertificatesApi
{
    public static void MapCertificates(this RouteGroupBuilder project)
    {
        var certificates = project.MapGroup("/certificates");
        certificates.MapPost("/", CreateAsync);
        certificates.MapGet("/", ListAsync);
        certificates.MapDelete("/{certificate_id}", DeleteAsync);
    }

    private static async Task<IResult> CreateAsync(string project_id, HttpRequest request, Certificates certificates, TimeProvider clock, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var content = fields.Text("content", 65535, required: true);
        var appId = fields.Id("app_id", 36);
        var parsed = content is null ? null : Certificate.Parse(content);
        if (content is not null && parsed is null) fields.Wrong<string>("content", "must be one or several certificates in PEM");
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);

        var now = clock.GetUtcNow();
        var certificate = new Certificate
        {
            CertificateId = Guid.NewGuid().ToString("D"),
            RecordId = RecordIds.New(now),
            ProjectId = project_id,
            AppId = appId,
            Content = parsed!.ExportCertificatePems(),
            CreatedAt = now.ToUnixTimeMilliseconds(),
        };
        return await certificates.AddAsync(certificate, cancel)
            ? new JsonResult(201, json => Write(json, certificate))
            : ApiError.Invalid($"The project has {Certificates.Max} certificates already; delete one first.");
    }

    private static async Task<IResult> ListAsync(string project_id, HttpRequest request, Certificates certificates, CancellationToken cancel)
    {
        if (!PageQuery.TryParse(request.Query, out var page, out var problem)) return ApiError.Invalid(problem);
        var appId = request.Query["app_id"] is [{ Length: > 0 } value] ? value : null;
        var (items, count) = await certificates.ListAsync(project_id, appId, page, cancel);
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("certificates");
            foreach (var certificate in items) Write(json, certificate);
            json.WriteEndArray();
            PageQuery.Write(json, count, items.Count == 0 ? null : items[^1].RecordId);
            json.WriteEndObject();
        });
    }

    private static async Task<IResult> DeleteAsync(string project_id, string certificate_id, Certificates certificates, CancellationToken cancel) =>
        await certificates.RemoveAsync(project_id, certificate_id, cancel) ? Results.NoContent() : ApiError.NoSuchCertificate;

    private static void Write(Utf8JsonWriter json, Certificate certificate)
    {
        var first = Certificate.Parse(certificate.Content)![0];
        json.WriteStartObject();
        json.WriteString("certificate_id", certificate.CertificateId);
        json.WriteString("cn_name", first.GetNameInfo(X509NameType.SimpleName, forIssuer: false));
        json.WriteString("owner", first.Subject);
        json.WriteBoolean("status", false); // verified for devices: they do not log in with certificates yet
        json.WriteString("create_date", WireTime.Compact(certificate.CreatedAt));
        json.WriteString("effective_date", WireTime.Compact(new DateTimeOffset(first.NotBefore)));
        json.WriteString("expiry_date", WireTime.Compact(new DateTimeOffset(first.NotAfter)));
        json.WriteEndObject();
    }
}
