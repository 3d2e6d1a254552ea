using System.Text.Json;
using IoTDelivery.Domain;
using Microsoft.Extensions.Primitives;

namespace IoTDelivery.Host.Api;

/// <summary>
/// Every error an application can get: status, <c>error_code</c>, <c>error_msg</c>. Status and code are a row of <see cref="ErrorCodes"/>.
/// </summary>
public sealed record ApiError(int Status, string Code, string Message) : IResult
{
    /// <summary>Seconds after which asking again makes sense.</summary>
    public int? RetryAfter { get; init; }

    /// <summary>The message the outcome of which is unknown.</summary>
    public string? MessageId { get; init; }

    /// <summary>A field of the request is wrong: which one, and what is allowed.</summary>
    public static ApiError Invalid(string problem) => ErrorCodes.InvalidInput.With($"Invalid input data. {problem}");

    /// <summary>The request is right, but not for the state things are in: what has to be otherwise.</summary>
    public static ApiError NotNow(string problem) => ErrorCodes.NotNow.With(problem);

    /// <summary>The body is no JSON, or not of the kind asked for.</summary>
    public static ApiError Malformed(string problem) => ErrorCodes.Malformed.With($"The request body is malformed. {problem}");

    /// <summary>No login, or a wrong one: what is missing or wrong.</summary>
    public static ApiError Unauthorized(string problem) => ErrorCodes.Unauthorized.With($"Authentication failed: {problem}.");

    /// <summary>An operator named a node that is no member; the text names those that are.</summary>
    public static ApiError NoSuchNode(string address, IEnumerable<string> members) => ErrorCodes.NotFound.With($"No member of the cluster has the address '{address}'. The members are {string.Join(", ", members)}.");

    public static readonly ApiError BodyTooLarge = ErrorCodes.BodyTooLarge.With($"The request body is larger than {ApiOptions.BodyBytesMax} bytes.");
    public static readonly ApiError NoSuchPath = ErrorCodes.NotFound.With("There is nothing at this path.");
    public static readonly ApiError MethodNotAllowed = ErrorCodes.MethodNotAllowed.With("This path does not know this method.");
    public static readonly ApiError NoSuchProject = ErrorCodes.NotFound.With("This site does not know the project_id.");
    public static readonly ApiError NoSuchDevice = ErrorCodes.NoSuchDevice.With("The device does not exist.");
    public static readonly ApiError NoSuchProduct = ErrorCodes.NoSuchProduct.With("The product does not exist.");
    public static readonly ApiError NoSuchMessage = ErrorCodes.NotFound.With("The message does not exist.");
    public static readonly ApiError NoSuchRule = ErrorCodes.NoSuchRule.With("The rule does not exist.");
    public static readonly ApiError NoSuchAction = ErrorCodes.NoSuchRule.With("The rule action does not exist.");
    public static readonly ApiError NoSuchCertificate = ErrorCodes.NotFound.With("The certificate does not exist.");
    public static readonly ApiError NoSuchQueue = ErrorCodes.NotFound.With("The AMQP queue does not exist.");
    public static readonly ApiError NoSuchGroup = ErrorCodes.NotFound.With("The device group does not exist.");
    public static readonly ApiError NoSuchBatchTask = ErrorCodes.NotFound.With("The batch task does not exist.");
    public static readonly ApiError DeviceExists = ErrorCodes.DeviceExists.With("A device with this device_id exists already.");
    public static readonly ApiError ProductExists = ErrorCodes.InvalidInput.With("Invalid input data. A product with this product_id exists already.");
    public static readonly ApiError ProductInUse = ErrorCodes.InvalidInput.With("Invalid input data. The product still has devices: delete them first.");
    public static readonly ApiError HasSubDevices = ErrorCodes.InvalidInput.With("Invalid input data. The device still has sub-devices: delete them first.");
    public static readonly ApiError TooMuchAtOnce = ErrorCodes.TooMuchAtOnce.With("Request reached the maximum rate limit.") with { RetryAfter = 1 };
    public static readonly ApiError Internal = ErrorCodes.Internal.With("Internal server error.");
    public static readonly ApiError StorageAway = ErrorCodes.Unavailable.With("The database of the platform does not answer. Nothing was changed, or the outcome is unknown: ask again.") with { RetryAfter = 2 };

    public static readonly ApiError NoShardCoordinator = ErrorCodes.Unavailable.With("The coordinator of the shards does not answer: it moves to another node, or is out of reach. Ask again.") with { RetryAfter = 2 };

    /// <summary>What a device's refusal means to the application.</summary>
    public static ApiError For(RefusalReason reason, MessageId? messageId = null) => reason switch
    {
        RefusalReason.IdConflict => Invalid($"message_id: {messageId} is taken by a message with another body."),
        RefusalReason.TooMuchAtOnce => TooMuchAtOnce,
        RefusalReason.NoSuchDevice => NoSuchDevice,
        RefusalReason.NoSuchMessage => NoSuchMessage,
        RefusalReason.NotWaiting => NotNow("Only a message that still waits for its device can be deleted; this one is on its way or has ended."),
        RefusalReason.Unavailable => ErrorCodes.Unavailable.With("The platform cannot say whether the message is stored. Ask again with the same message_id.") with
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
