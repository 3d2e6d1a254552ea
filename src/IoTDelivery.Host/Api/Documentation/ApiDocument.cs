using System.Reflection;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Http.Metadata;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.AspNetCore.Routing.Patterns;
using Microsoft.OpenApi;
using Scalar.AspNetCore;

namespace IoTDelivery.Host.Api.Documentation;

/// <summary>The OpenAPI document of the API at <c>/openapi/v1.json</c>, made from the endpoints, and a page to read it at <c>/scalar</c>.</summary>
public static class ApiDocument
{
    private const string Json = "application/json";

    // An on-prem page: its browser may not ask anybody but this node, whatever the script would like to load.
    private const string SameOriginOnly =
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'";

    public static IServiceCollection AddApiDocument(this IServiceCollection services) => services
        .ConfigureHttpJsonOptions(json => (json.SerializerOptions.PropertyNamingPolicy, json.SerializerOptions.NumberHandling) = (JsonNamingPolicy.SnakeCaseLower, JsonNumberHandling.Strict))
        .AddOpenApi(options => options.AddDocumentTransformer(IntroduceAsync).AddOperationTransformer(DescribeAsync));

    /// <summary>Serves the document and its page, without a login.</summary>
    public static void MapApiDocument(this IEndpointRouteBuilder app)
    {
        app.MapOpenApi();
        app.MapScalarApiReference("/scalar", (scalar, context) =>
        {
            context.Response.Headers.ContentSecurityPolicy = SameOriginOnly;
            scalar.WithTitle("IoTDelivery.Akka").DisableDefaultFonts().DisableTelemetry().DisableAgent().DisableMcp().HideDeveloperTools().HideClientButton();
        });
    }

    /// <summary>Gives every endpoint of the group its row of <see cref="Operations.Table"/>.</summary>
    public static T Describe<T>(this T group) where T : IEndpointConventionBuilder
    {
        group.Finally(endpoint =>
        {
            if (endpoint is not RouteEndpointBuilder { RoutePattern: var pattern } || endpoint.Metadata.OfType<IHttpMethodMetadata>().LastOrDefault() is not { HttpMethods: [var method] }) return;
            if (!Operations.Table.TryGetValue($"{method} {Path(pattern)}", out var operation)) return;
            endpoint.Metadata.Add(operation);
            endpoint.Metadata.Add(new EndpointNameMetadata(operation.Id));
            endpoint.Metadata.Add(new EndpointSummaryAttribute(operation.Summary));
            endpoint.Metadata.Add(new TagsAttribute(operation.Tag));
            endpoint.Metadata.Add(new ProducesResponseTypeMetadata(operation.Status, operation.Answer ?? typeof(void), operation.Answer is null ? [] : [Json]));
            foreach (var status in operation.AllErrors(IsOfProject(pattern)).Select(e => e.Status).Distinct().Order()) endpoint.Metadata.Add(new ProducesResponseTypeMetadata(status, typeof(ErrorResponse), [Json]));
        });
        return group;
    }

    private static string Path(RoutePattern pattern) => "/" + pattern.RawText!.Trim('/');

    private static bool IsOfProject(RoutePattern pattern) => pattern.Parameters.Any(p => p.Name == "project_id");

    private static Task IntroduceAsync(OpenApiDocument document, OpenApiDocumentTransformerContext context, CancellationToken cancel)
    {
        document.Info.Title = "IoTDelivery.Akka";
        document.Info.Version = typeof(ApiDocument).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion.Split('+')[0];
        document.Info.Description = "Messages for devices that are not always there: the device-message part of Huawei Cloud IoTDA v5.";
        document.AddComponent<IOpenApiSecurityScheme>("token", new OpenApiSecurityScheme
        {
            Type = SecuritySchemeType.ApiKey,
            In = ParameterLocation.Header,
            Name = "X-Auth-Token",
            Description = "The fixed token of the site, or one from POST /v3/auth/tokens.",
        });
        document.AddComponent<IOpenApiSecurityScheme>("signature", new OpenApiSecurityScheme
        {
            Type = SecuritySchemeType.ApiKey,
            In = ParameterLocation.Header,
            Name = "Authorization",
            Description = "SDK-HMAC-SHA256 or V11-HMAC-SHA256 with the header X-Sdk-Date, as the vendor's SDK signs with an access key.",
        });
        document.Security = [Requirement("token"), Requirement("signature")];
        return Task.CompletedTask;

        OpenApiSecurityRequirement Requirement(string scheme) => new() { [new OpenApiSecuritySchemeReference(scheme, document)] = [] };
    }

    // What no endpoint metadata can say: the query and the body, which the handlers read themselves, and what each error status means here.
    private static async Task DescribeAsync(OpenApiOperation document, OpenApiOperationTransformerContext context, CancellationToken cancel)
    {
        var metadata = context.Description.ActionDescriptor.EndpointMetadata;
        if (metadata.OfType<Operation>().FirstOrDefault() is not { } operation) return;
        document.Parameters ??= [];
        foreach (var name in operation.Query)
        {
            document.Parameters.Add(new OpenApiParameter
            {
                Name = name,
                In = ParameterLocation.Query,
                Description = Operations.QueryParameters[name],
                Schema = new OpenApiSchema { Type = JsonSchemaType.String },
            });
        }

        if (operation.Body is { } body)
        {
            context.Document!.AddComponent(body.Name, await context.GetOrCreateSchemaAsync(body, cancellationToken: cancel));
            document.RequestBody = new OpenApiRequestBody
            {
                Required = true,
                Content = new Dictionary<string, OpenApiMediaType> { [Json] = new() { Schema = new OpenApiSchemaReference(body.Name, context.Document) } },
            };
        }

        if (operation.Id == "CreateToken") document.Security = []; // the login itself needs none
        var isOfProject = context.Description.RelativePath!.Contains("{project_id}");
        foreach (var errors in operation.AllErrors(isOfProject).Distinct().GroupBy(e => e.Status))
        {
            if (document.Responses?.TryGetValue(errors.Key.ToString(), out var response) == true) response.Description = string.Join(" ", errors.Select(e => $"{e.Code}: {e.Meaning}"));
        }
    }
}
