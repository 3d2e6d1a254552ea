using System.Text.Json;

namespace IoTDelivery.Host.Api;

/// <summary>A request body that is JSON, or the error to answer instead.</summary>
public readonly struct RequestBody(JsonDocument? document, ApiError? error) : IDisposable
{
    /// <summary>What to answer if the body cannot be read.</summary>
    public ApiError? Error => error;

    /// <summary>The parsed body.</summary>
    public JsonElement Root => document!.RootElement;

    /// <summary>True if a body with this Content-Type is read as JSON: it says so, with any parameters, or says nothing.</summary>
    public static bool IsJson(string? contentType) => string.IsNullOrEmpty(contentType) || contentType.StartsWith("application/json", StringComparison.OrdinalIgnoreCase);

    public static async Task<RequestBody> ReadAsync(HttpRequest request, CancellationToken cancel)
    {
        try
        {
            if (!IsJson(request.ContentType)) return new RequestBody(null, ApiError.Malformed($"Content-Type must be application/json, not {request.ContentType}."));

            return new RequestBody(await JsonDocument.ParseAsync(request.Body, cancellationToken: cancel), null);
        }
        catch (JsonException cause)
        {
            return new RequestBody(null, ApiError.Malformed(cause.Message));
        }
        catch (BadHttpRequestException cause) when (cause.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            return new RequestBody(null, ApiError.BodyTooLarge);
        }
    }

    public void Dispose() => document?.Dispose();
}
