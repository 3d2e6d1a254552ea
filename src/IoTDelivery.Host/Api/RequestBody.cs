using System.Text.Json;

namespace IoTDelivery.Host.Api;

/// <summary>A request body that is JSON, or the error to answer instead.</summary>
public readonly struct RequestBody(JsonDocument? document, ApiError? error) : IDisposable
{
    /// <summary>What to answer if the body cannot be read.</summary>
    public ApiError? Error => error;

    /// <summary>The parsed body.</summary>
    public JsonElement Root => document!.RootElement;

    public static async Task<RequestBody> ReadAsync(HttpRequest request, CancellationToken cancel)
    {
        try
        {
            if (request.ContentType is { Length: > 0 } type && !type.StartsWith("application/json", StringComparison.OrdinalIgnoreCase))
            {
                return new RequestBody(null, ApiError.Malformed($"Content-Type must be application/json, not {type}."));
            }

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
