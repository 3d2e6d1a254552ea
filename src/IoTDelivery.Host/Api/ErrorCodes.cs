namespace IoTDelivery.Host.Api;

/// <summary>One row of the table: the HTTP status, the <c>error_code</c>, and when it is answered.</summary>
public sealed record ErrorCode(int Status, string Code, string Meaning)
{
    /// <summary>The error, with the text this case deserves.</summary>
    public ApiError With(string message) => new(Status, Code, message);
}

/// <summary>
/// Every error the REST API answers; docs/ERRORS.md is this table for readers. Codes are the vendor's where it documents one for the case, else the nearest.
/// (Why a message ended as FAILED is another list: <see cref="Domain.ErrorInfo"/>.)
/// </summary>
public static class ErrorCodes
{
    public static readonly ErrorCode InvalidInput = new(400, "IOTDA.000006", "A field or parameter is missing, wrong or taken; the text names it and what is allowed.");
    public static readonly ErrorCode Malformed = new(400, "IOTDA.000008", "The body is no JSON, or Content-Type says that it is something else.");
    public static readonly ErrorCode DeviceExists = new(400, "IOTDA.014031", "A device with this device_id exists already.");
    public static readonly ErrorCode Unauthorized = new(401, "IOTDA.000002", "Authentication failed: the text says what is missing or wrong.");
    public static readonly ErrorCode NotNow = new(403, "IOTDA.000006", "What is asked for does not go with the state of the message, group, task, queue or node, or a fixed bound is reached; the text says which.");
    public static readonly ErrorCode TooMuchAtOnce = new(403, "IOTDA.021101", "Too much at once, or too many failed logins. Retry-After says when to ask again.");
    public static readonly ErrorCode NotFound = new(404, "IOTDA.000029", "The path does not exist, or the project, message, group, task, certificate, queue or node it names.");
    public static readonly ErrorCode NoSuchRule = new(404, "IOTDA.010002", "The rule or the rule action does not exist.");
    public static readonly ErrorCode NoSuchDevice = new(404, "IOTDA.014000", "The device does not exist.");
    public static readonly ErrorCode NoSuchProduct = new(404, "IOTDA.014204", "The product does not exist.");
    public static readonly ErrorCode MethodNotAllowed = new(405, "IOTDA.000029", "The path does not know the method.");
    public static readonly ErrorCode BodyTooLarge = new(413, "IOTDA.000008", "The body is larger than 1 MB.");
    public static readonly ErrorCode Internal = new(500, "IOTDA.000001", "A fault of the platform; its log names the X-Request-Id of the answer.");
    public static readonly ErrorCode Unavailable = new(503, "IOTDA.000001", "The database or the device's node does not answer: nothing was changed, or the outcome is unknown. Retry-After says when to ask again, with the same message_id.");
}
