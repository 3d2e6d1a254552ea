using System.Text.Json;
using IoTDelivery.Domain;
using Microsoft.Extensions.Primitives;

namespace IoTDelivery.Host.Api;

/// <summary>
/// Every error an application can get: status, <c>error_code</c>, <c>error_msg</c>. Codes that start with <c>IOTDA.</c> are the vendor's where it documents one.
/// </summary>
public sealed record ApiError(int Status, string Code, string Message) : IResult
{
    /// <summary>Seconds after which asking again makes sense.</summary>
    public int? RetryAfter { get; init; }

    /// <summary>The message the outcome of which is unknown.</summary>
    public string? MessageId { get; init; }

    /// <summary>A field of the request is wrong: which one, and what is allowed.</summary>
    public static ApiError Invalid(string problem) => new(400, "IOTDA.000006", $"Invalid input data. {problem}");

    /// <summary>The body is no JSON, or not of the kind asked for.</summary>
    public static ApiError Malformed(string problem) => new(400, "IOTDA.000008", $"The request body is malformed. {problem}");

    public static readonly ApiError BodyTooLarge = new(413, "IOTDA.000008", $"The request body is larger than {ApiOptions.BodyBytesMax} bytes.");
    public static readonly ApiError Unauthorized = new(401, "IOTDA.000002", "Authentication failed: the header X-Auth-Token is missing or wrong.");
    public static readonly ApiError NoSuchPath = new(404, "IOTDA.000029", "There is nothing at this path.");
    public static readonly ApiError MethodNotAllowed = new(405, "IOTDA.000029", "This path does not know this method.");
    public static readonly ApiError NoSuchProject = new(404, "IOTDA.000029", "This site does not know the project_id.");
    public static readonly ApiError NoSuchDevice = new(404, "IOTDA.014000", "The device does not exist.");
    public static readonly ApiError NoSuchProduct = new(404, "IOTDA.014204", "The product does not exist.");
    public static readonly ApiError NoSuchMessage = new(404, "IOTDA.000029", "The message does not exist.");
    public static readonly ApiError NoSuchRule = new(404, "IOTDA.010002", "The rule does not exist.");
    public static readonly ApiError NoSuchAction = new(404, "IOTDA.010002", "The rule action does not exist.");
    public static readonly ApiError NoSuchCertificate = new(404, "IOTDA.000029", "The certificate does not exist.");
    public static readonly ApiError DeviceExists = new(400, "IOTDA.014031", "A device with this device_id exists already.");
    public static readonly ApiError ProductExists = new(400, "IOTDA.000006", "Invalid input data. A product with this product_id exists already.");
    public static readonly ApiError TooMuchAtOnce = new(403, "IOTDA.021101", "Request reached the maximum rate limit.") { RetryAfter = 1 };
    public static readonly ApiError Internal = new(500, "IOTDA.000001", "Internal server error.");
    public static readonly ApiError StorageAway = new(503, "IOTDA.000001", "The database of the platform does not answer. Nothing was changed, or the outcome is unknown: ask again.") { RetryAfter = 2 };

    /// <summary>What a device's refusal means to the application.</summary>
    public static ApiError For(RefusalReason reason, MessageId? messageId = null) => reason switch
    {
        RefusalReason.IdConflict => Invalid($"message_id: {messageId} is taken by a message with another body."),
        RefusalReason.TooMuchAtOnce => TooMuchAtOnce,
        RefusalReason.NoSuchDevice => NoSuchDevice,
        RefusalReason.NoSuchMessage => NoSuchMessage,
        RefusalReason.NotWaiting => new(403, "IOTDA.000006", "Only a message that still waits for its device can be deleted; this one is on its way or has ended."),
        RefusalReason.Unavailable => new(503, "IOTDA.000001", "The platform cannot say whether the message is stored. Ask again with the same message_id.")
        {
            RetryAfter = 2,
            MessageId = messageId?.Value,
        },
        _ => Internal,
    };

    public async Task ExecuteAsync(HttpContext httpContext)
    {
        var response = httpContext.Response;
        response.StatusCode = Status;
        response.ContentType = "application/json";
        if (RetryAfter is { } seconds) response.Headers.RetryAfter = new StringValues(seconds.ToString());
        await using var json = new Utf8JsonWriter(response.BodyWriter.AsStream(leaveOpen: true));
        json.WriteStartObject();
        json.WriteString("error_code", Code);
        json.WriteString("error_msg", Message);
        if (MessageId is not null) json.WriteString("message_id", MessageId);
        json.WriteEndObject();
    }
}
