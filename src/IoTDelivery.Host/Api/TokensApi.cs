using System.Text.Json;
using IoTDelivery.Host.Api.Authentication;

namespace IoTDelivery.Host.Api;

/// <summary>The part of the vendor's identity service an application asks: a token for a password, and the id of its project.</summary>
public static class TokensApi
{
    public static void MapTokens(this IEndpointRouteBuilder identity)
    {
        identity.MapPost("/auth/tokens", CreateAsync);
        identity.MapGet("/projects", ListProjects);
    }

    private static async Task<IResult> CreateAsync(
        HttpRequest request, PasswordLogin logins, UserTokens tokens, ApiOptions options, TimeProvider clock, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var auth = fields.Object("auth", required: true);
        var identity = auth?.Object("identity", required: true);
        var methods = identity?.Array("methods", 8, required: true);
        if (methods is not null && !methods.Any(m => m.ValueKind == JsonValueKind.String && m.GetString() == "password")) identity!.Wrong<string>("methods", "must contain password, no other method is offered");
        var given = identity?.Object("password", required: true);
        var login = given?.Object("user", required: true);
        var (name, password) = (login?.Text("name", 64, required: true), login?.Text("password", Passwords.LengthMax, required: true));
        var domain = login?.Object("domain");
        var domainName = domain?.Text("name", 64);
        var scope = auth?.Object("scope");
        var project = scope?.Object("project");
        var (projectId, projectName) = (project?.Text("id", 64), project?.Text("name", 64));
        (RequestFields? Outer, RequestFields? Inner)[] nested =
            [(login, domain), (given, login), (identity, given), (auth, identity), (scope, project), (auth, scope), (fields, auth)];
        foreach (var (outer, inner) in nested) outer?.Adopt(inner);
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);

        switch (await logins.TryAsync(request.HttpContext.Connection.RemoteIpAddress, name!, password!, domainName, cancel))
        {
            case LoginOutcome.TooMany tooMany:
                return ApiError.TooMuchAtOnce with { RetryAfter = (int)Math.Ceiling(tooMany.RetryAfter.TotalSeconds) };
            case LoginOutcome.Welcome welcome:
                string[] scopes = projectId is not null ? (options.Knows(projectId) ? [projectId] : []) : projectName is not null ? Named(projectName, options) : [];
                if (project is not null && scopes is []) return ApiError.NoSuchProject;
                var now = clock.GetUtcNow();
                var expiresAt = now + options.TokenLifetime;
                request.HttpContext.Response.Headers["X-Subject-Token"] = tokens.Issue(welcome.User, expiresAt);
                return Created(welcome.User, scopes.FirstOrDefault(), domainName, now, expiresAt);
            default:
                return ApiError.Unauthorized("the user or the password is wrong");
        }
    }

    private static JsonResult ListProjects(HttpRequest request, ApiOptions options)
    {
        var found = request.Query["name"] is [{ Length: > 0 } name] ? Named(name, options) : options.Projects;
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("projects");
            foreach (var id in found)
            {
                json.WriteStartObject();
                json.WriteString("id", id);
                json.WriteString("name", id);
                json.WriteBoolean("enabled", true);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        });
    }

    // A project has no name of its own here, its id is its name. Applications ask with the name of their region and want one answer: a site with one project has it.
    private static string[] Named(string name, ApiOptions options) => options.Projects switch
    {
        [] => options.Knows(name) ? [name] : [],
        [var only] => [only],
        var all => [.. all.Where(p => p == name)],
    };

    private static JsonResult Created(User user, string? projectId, string? domain, DateTimeOffset issuedAt, DateTimeOffset expiresAt) => new(201, json =>
    {
        json.WriteStartObject();
        json.WriteStartObject("token");
        json.WriteString("expires_at", WireTime.Micros(expiresAt));
        json.WriteString("issued_at", WireTime.Micros(issuedAt));
        json.WriteStartArray("methods");
        json.WriteStringValue("password");
        json.WriteEndArray();
        if (projectId is not null)
        {
            json.WriteStartObject("project");
            json.WriteString("id", projectId);
            json.WriteString("name", projectId);
            json.WriteEndObject();
        }

        json.WriteStartArray("roles");
        json.WriteEndArray();
        json.WriteStartObject("user");
        json.WriteString("name", user.Name);
        if ((user.Domain ?? domain) is { } named)
        {
            json.WriteStartObject("domain");
            json.WriteString("name", named);
            json.WriteEndObject();
        }

        json.WriteEndObject();
        json.WriteEndObject();
        json.WriteEndObject();
    });
}
