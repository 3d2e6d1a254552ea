using System.Buffers;
using System.Collections.Frozen;
using Microsoft.AspNetCore.Http.Features;

namespace IoTDelivery.Host.Api.Authentication;

/// <summary>Lets a request in that carries a right token (fixed, or handed out to a user) or a right signature; either is enough.</summary>
public sealed class ApplicationLogin(ApiOptions options, ApiToken fixedToken, UserTokens tokens, TimeProvider clock)
{
    private readonly FrozenDictionary<string, string> _secretKeys = options.AccessKeys.ToFrozenDictionary(p => p.AccessKey, p => p.SecretKey);

    /// <summary>The middleware: what needs a login is answered 401 without one.</summary>
    public static async Task CheckAsync(HttpContext context, RequestDelegate next)
    {
        var login = context.RequestServices.GetRequiredService<ApplicationLogin>();
        if (!IsNeededFor(context.Request.Path) || await login.ProblemAsync(context.Request) is not { } problem) await next(context);
        else await ApiError.Unauthorized(problem).ExecuteAsync(context);
    }

    private static bool IsNeededFor(PathString path) =>
        path.StartsWithSegments("/v5") || (path.StartsWithSegments("/v3") && !path.StartsWithSegments("/v3/auth/tokens")); // where a login begins

    private async Task<string?> ProblemAsync(HttpRequest request)
    {
        var headers = request.Headers;
        if (headers["X-Auth-Token"] is [{ } token] && (fixedToken.Matches(token) || tokens.IsValid(token))) return null;
        if (headers.Authorization.Count > 0) return await SignatureProblemAsync(request);
        return headers.ContainsKey("X-Auth-Token")
            ? "the header X-Auth-Token is wrong, or the token has expired"
            : "send the header X-Auth-Token, or sign the request (header Authorization)";
    }

    private async Task<string?> SignatureProblemAsync(HttpRequest request)
    {
        const string wrong = "the access key or the signature is wrong";
        if (!RequestSignature.TryParse(request.Headers.Authorization, out var signature))
        {
            return $"the header Authorization must be '{RequestSignature.Plain} Access=…, SignedHeaders=…, Signature=…' or '{RequestSignature.Derived} Credential=…, SignedHeaders=…, Signature=…'";
        }

        if (signature.Problem(request.Headers, clock.GetUtcNow(), options.SignatureClockSkew) is { } problem) return problem;
        if (!_secretKeys.TryGetValue(signature.AccessKey, out var secretKey)) return wrong;
        var target = request.HttpContext.Features.GetRequiredFeature<IHttpRequestFeature>().RawTarget;
        var signed = new SignedRequest(request.Method, target, request.Headers, await TakeBodyAsync(request));
        return signature.IsRight(signed, secretKey) ? null : wrong;
    }

    // The signature is over the bytes as they came, and whoever handles the request reads them again.
    private static async Task<ReadOnlyMemory<byte>> TakeBodyAsync(HttpRequest request)
    {
        var (bytes, length) = await RequestBody.ReadAllAsync(request, request.HttpContext.RequestAborted);
        var body = bytes.AsSpan(0, length).ToArray();
        ArrayPool<byte>.Shared.Return(bytes);
        request.Body = new MemoryStream(body);
        return body;
    }
}
