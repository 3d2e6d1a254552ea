using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using System.Threading.RateLimiting;
using IoTDelivery.Storage;

namespace IoTDelivery.Host.Api;

public static class ApiHosting
{
    private static readonly object ConcurrencyKey = new();

    /// <summary>Settings, limits and login of the REST API.</summary>
    public static IServiceCollection AddApi(this IServiceCollection services, ApiOptions options) => services
        .AddSingleton(options)
        .AddSingleton<ApiToken>()
        .AddRateLimiter(limiter =>
        {
            limiter.GlobalLimiter = PartitionedRateLimiter.Create<HttpContext, object>(_ => RateLimitPartition.GetConcurrencyLimiter(
                ConcurrencyKey, _ => new ConcurrencyLimiterOptions { PermitLimit = options.ConcurrencyMax, QueueLimit = options.QueueMax }));
            limiter.OnRejected = (rejected, _) => new ValueTask(ApiError.TooMuchAtOnce.ExecuteAsync(rejected.HttpContext));
        });

    /// <summary>Every path of the contract, with the errors in the contract's words.</summary>
    public static void MapApi(this WebApplication app)
    {
        app.Use(AnswerErrors);
        app.Use(Authenticate);
        app.UseRateLimiter();
        var project = app.MapGroup("/v5/iot/{project_id}").AddEndpointFilter(KnowProject);
        project.MapMessages();
        project.MapDevices();
        project.MapProducts();
        project.MapRules();
        project.MapDeadLetters();
        project.MapCertificates();
    }

    private static async Task AnswerErrors(HttpContext context, RequestDelegate next)
    {
        context.Response.Headers["X-Request-Id"] = Activity.Current?.TraceId.ToHexString() ?? Guid.NewGuid().ToString("N");
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
            var isStorage = SqlDatabase.IsUnavailable(cause);
            var log = context.RequestServices.GetRequiredService<ILogger<ApiToken>>();
            if (isStorage) log.LogWarning("The database does not answer: {Message}", cause.Message);
            else log.LogError(cause, "A request failed: {Method} {Path}", context.Request.Method, context.Request.Path);
            await (isStorage ? ApiError.StorageAway : ApiError.Internal).ExecuteAsync(context);
        }
    }

    private static Task Authenticate(HttpContext context, RequestDelegate next)
    {
        if (!context.Request.Path.StartsWithSegments("/v5")) return next(context);
        var token = context.RequestServices.GetRequiredService<ApiToken>();
        return context.Request.Headers["X-Auth-Token"] is [{ } given] && token.Matches(given) ? next(context) : ApiError.Unauthorized.ExecuteAsync(context);
    }

    private static ValueTask<object?> KnowProject(EndpointFilterInvocationContext context, EndpointFilterDelegate next)
    {
        var options = context.HttpContext.RequestServices.GetRequiredService<ApiOptions>();
        return options.Knows((string?)context.HttpContext.Request.RouteValues["project_id"] ?? "") ? next(context) : new ValueTask<object?>(ApiError.NoSuchProject);
    }
}

/// <summary>The application token of this site; set once at start.</summary>
public sealed class ApiToken
{
    private byte[] _hash = [];

    public string Value
    {
        set => _hash = SHA256.HashData(Encoding.UTF8.GetBytes(value));
    }

    /// <summary>Compares hashes, in constant time, so that neither length nor content leaks.</summary>
    public bool Matches(string given) => _hash.Length > 0 && CryptographicOperations.FixedTimeEquals(_hash, SHA256.HashData(Encoding.UTF8.GetBytes(given)));
}
