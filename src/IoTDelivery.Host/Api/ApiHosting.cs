using System.Diagnostics;
using System.Threading.RateLimiting;
using IoTDelivery.Domain;
using IoTDelivery.Host.Admin;
using IoTDelivery.Host.Api.Authentication;
using IoTDelivery.Host.Api.Documentation;
using IoTDelivery.Storage;

namespace IoTDelivery.Host.Api;

public static class ApiHosting
{
    private static readonly object ConcurrencyKey = new();

    /// <summary>Settings, limits and login of the REST API.</summary>
    public static IServiceCollection AddApi(this IServiceCollection services, ApiOptions options) => services
        .AddSingleton(options)
        .AddSingleton<ApiToken>()
        .AddSingleton<AdminToken>()
        .AddSingleton<ClusterView>()
        .AddSingleton<UserTokens>()
        .AddSingleton<PasswordLogin>()
        .AddSingleton<ApplicationLogin>()
        .AddApiDocument()
        .AddSingleton<BroadcastRate>()
        .AddRateLimiter(limiter =>
        {
            limiter.GlobalLimiter = PartitionedRateLimiter.Create<HttpContext, object>(_ => RateLimitPartition.GetConcurrencyLimiter(
                ConcurrencyKey, _ => new ConcurrencyLimiterOptions { PermitLimit = options.ConcurrencyMax, QueueLimit = options.QueueMax }));
            limiter.OnRejected = (rejected, _) => new ValueTask(ApiError.TooMuchAtOnce.ExecuteAsync(rejected.HttpContext));
        });

    /// <summary>What every node answers, whatever its roles: is it well, and what does it know of the cluster.</summary>
    public static void MapForOperators(this WebApplication app)
    {
        app.Use(AnswerErrors);
        app.MapHealth();
        app.MapCluster();
    }

    /// <summary>Every path of the contract, with the errors in the contract's words. After <see cref="MapForOperators"/>.</summary>
    public static void MapApi(this WebApplication app)
    {
        app.UseRateLimiter(); // first, because a signature is checked over the body: what is read is bounded too
        app.Use(ApplicationLogin.CheckAsync);
        if (app.Services.GetRequiredService<ApiOptions>().OpenApi) app.MapApiDocument();
        app.MapGroup("/v3").Describe().MapTokens();
        var project = app.MapGroup("/v5/iot/{project_id}").AddEndpointFilter(KnowProject).Describe();
        project.MapMessages();
        project.MapDevices();
        project.MapProducts();
        project.MapDeviceGroups();
        project.MapBatchTasks();
        project.MapBroadcasts();
        project.MapRules();
        project.MapDeadLetters();
        project.MapCertificates();
        project.MapAmqp();
    }

    private static async Task AnswerErrors(HttpContext context, RequestDelegate next)
    {
        // Ours, not the caller's: two requests never share one. The caller's own is only named in our log.
        // Not a Guid: that asks the kernel for random bytes each time.
        context.TraceIdentifier = ActivityTraceId.CreateRandom().ToHexString();
        context.Response.Headers["X-Request-Id"] = context.TraceIdentifier;
        try
        {
            await next(context);
            if (context.Response is { HasStarted: false, ContentType: null })
            {
                if (context.Response.StatusCode == StatusCodes.Status404NotFound) await ApiError.NoSuchPath.ExecuteAsync(context);
                if (context.Response.StatusCode == StatusCodes.Status405MethodNotAllowed) await ApiError.MethodNotAllowed.ExecuteAsync(context);
            }
        }
        catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
        {
            // The caller went away; nobody reads an answer.
        }
        catch (BadHttpRequestException cause) when (!context.Response.HasStarted)
        {
            await (cause.StatusCode == StatusCodes.Status413PayloadTooLarge ? ApiError.BodyTooLarge : ApiError.Malformed(cause.Message)).ExecuteAsync(context);
        }
        catch (Exception cause) when (!context.Response.HasStarted)
        {
            var isStorage = SqlErrors.IsUnavailable(cause);
            var log = context.RequestServices.GetRequiredService<ILogger<ApiError>>();
            if (isStorage) log.DatabaseAway(context.TraceIdentifier, cause.Message);
            else log.RequestFailed(cause, context.TraceIdentifier, CallerRequestId(context.Request), context.Request.Method, context.Request.Path);
            await (isStorage ? ApiError.StorageAway : ApiError.Internal).ExecuteAsync(context);
        }
    }

    private static string CallerRequestId(HttpRequest request) => request.Headers["X-Request-Id"] is [{ } id] && WireText.IsId(id, 64) ? id : "none";

    private static ValueTask<object?> KnowProject(EndpointFilterInvocationContext context, EndpointFilterDelegate next)
    {
        var request = context.HttpContext.Request;
        var options = context.HttpContext.RequestServices.GetRequiredService<ApiOptions>();
        if (!options.Knows((string?)request.RouteValues["project_id"] ?? "")) return new ValueTask<object?>(ApiError.NoSuchProject);
        return NameWithNull(request) is { } name
            ? new ValueTask<object?>(ApiError.Invalid($"{name} must not contain U+0000."))
            : next(context);
    }

    // Of the path or the query: what is looked for in the database.
    private static string? NameWithNull(HttpRequest request)
    {
        foreach (var (name, value) in request.RouteValues)
        {
            if (value is string text && WireText.Null(text) is not null) return name;
        }

        if (!request.QueryString.HasValue) return null;
        foreach (var (name, values) in request.Query)
        {
            foreach (var value in values)
            {
                if (value is not null && WireText.Null(value) is not null) return name.Replace("\0", "");
            }
        }

        return null;
    }
}
