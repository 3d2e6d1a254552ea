using System.Buffers;
using System.Text.Json;

namespace IoTDelivery.Host.Api;

/// <summary>A request body that is JSON and text throughout, or the error to answer instead.</summary>
public readonly struct RequestBody : IDisposable
{
    private readonly JsonDocument? _document;
    private readonly byte[]? _bytes; // the document reads them until it is disposed

    private RequestBody(ApiError error) => Error = error;

    private RequestBody(JsonDocument document, byte[] bytes) => (_document, _bytes) = (document, bytes);

    /// <summary>What to answer if the body cannot be read.</summary>
    public ApiError? Error { get; }

    /// <summary>The parsed body.</summary>
    public JsonElement Root => _document!.RootElement;

    /// <summary>True if a body with this Content-Type is read as JSON: it says so, with any parameters, or says nothing.</summary>
    public static bool IsJson(string? contentType) =>
        string.IsNullOrEmpty(contentType) || contentType.StartsWith("application/json", StringComparison.OrdinalIgnoreCase);

    /// <summary>Reads all of it. What is wrong with it is an <see cref="Error"/>, never an exception.</summary>
    public static async Task<RequestBody> ReadAsync(HttpRequest request, CancellationToken cancel)
    {
        if (!IsJson(request.ContentType))
        {
            return new RequestBody(ApiError.Malformed($"Content-Type must be application/json, not {request.ContentType}."));
        }

        try
        {
            var (bytes, length) = await ReadAllAsync(request, cancel);
            var (document, problem) = Parse(bytes.AsMemory(0, length));
            if (document is not null) return new RequestBody(document, bytes);
            ArrayPool<byte>.Shared.Return(bytes);
            return new RequestBody(problem!);
        }
        catch (BadHttpRequestException cause) when (cause.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            return new RequestBody(ApiError.BodyTooLarge);
        }
    }

    public void Dispose()
    {
        if (_document is null) return;
        _document.Dispose();
        ArrayPool<byte>.Shared.Return(_bytes!);
    }

    /// <summary>The whole body, in an array of the shared pool.</summary>
    /// <exception cref="BadHttpRequestException">
    /// It is larger than <see cref="ApiOptions.BodyBytesMax"/> (413). The rest of it is thrown away by the server,
    /// behind the answer.
    /// </exception>
    internal static async ValueTask<(byte[] Bytes, int Length)> ReadAllAsync(
        HttpRequest request, CancellationToken cancel)
    {
        // Also before a client is asked for it (100 Continue).
        if (request.ContentLength > ApiOptions.BodyBytesMax) throw TooLarge();
        var reader = request.BodyReader;
        while (true)
        {
            var read = await reader.ReadAsync(cancel);
            if (read.Buffer.Length > ApiOptions.BodyBytesMax)
            {
                reader.AdvanceTo(read.Buffer.End);
                throw TooLarge();
            }

            if (!read.IsCompleted)
            {
                reader.AdvanceTo(read.Buffer.Start, read.Buffer.End);
                continue;
            }

            var bytes = ArrayPool<byte>.Shared.Rent((int)read.Buffer.Length);
            read.Buffer.CopyTo(bytes);
            var length = (int)read.Buffer.Length;
            reader.AdvanceTo(read.Buffer.End);
            return (bytes, length);
        }
    }

    private static BadHttpRequestException TooLarge() =>
        new(ApiError.BodyTooLarge.Message, StatusCodes.Status413PayloadTooLarge);

    private static (JsonDocument? Document, ApiError? Problem) Parse(ReadOnlyMemory<byte> bytes)
    {
        if (bytes.Span.StartsWith("\uFEFF"u8)) bytes = bytes[3..]; // a byte order mark, which some clients send
        try
        {
            if (JsonText.Problem(bytes.Span) is { } problem) return (null, ApiError.Invalid(problem));
            return (JsonDocument.Parse(bytes), null);
        }
        catch (JsonException cause)
        {
            return (null, ApiError.Malformed(cause.Message));
        }
    }
}
