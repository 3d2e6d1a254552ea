using System.Text.Json;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Storage;

namespace IoTDelivery.Host.Api;

/// <summary>Messages of a device: create, list, show, delete (API manual, "Device Message").</summary>
public static class MessagesApi
{
    public static void MapMessages(this RouteGroupBuilder project)
    {
        var messages = project.MapGroup("/devices/{device_id}/messages");
        messages.MapPost("/", CreateAsync);
        messages.MapGet("/", ListAsync);
        messages.MapGet("/{message_id}", ShowAsync);
        messages.MapDelete("/{message_id}", DeleteAsync);
        messages.MapDelete("/", DeleteAllAsync);
    }

    private static async Task<IResult> CreateAsync(
        string project_id, string device_id, HttpRequest request, Registry.Devices registry, DeviceGateway devices, CancellationToken cancel)
    {
        if (!DeviceId.TryParse(device_id, out var deviceId)) return ApiError.Invalid($"device_id must be {DeviceId.Pattern}.");
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        if (!CreateMessageRequest.TryParse(body.Root, deviceId, out var messageId, out var message, out var problem)) return ApiError.Invalid(problem);

        // Made once, so that every repetition of the ask means the same message.
        messageId ??= MessageId.Parse(Guid.NewGuid().ToString("D"));
        try
        {
            if (await registry.FindAsync(project_id, deviceId) is not { } device) return ApiError.NoSuchDevice;
            if (device.RootId is { } root)
            {
                // What goes to a sub-device goes out on its gateway's topics and connection.
                var gateway = DeviceId.Parse(root);
                if (!CreateMessageRequest.TryParse(body.Root, gateway, out _, out message, out problem)) return ApiError.Invalid(problem);
                await devices.AttachSubDeviceAsync(gateway, deviceId, cancel);
            }
        }
        catch (Exception cause) when (SqlErrors.IsUnavailable(cause))
        {
            return ApiError.For(RefusalReason.Unavailable, messageId); // whoever asks again does so with this id, as always after a 503
        }

        return await devices.AskAsync(new ToDevice.Command(deviceId, new OutboxCommand.Accept(messageId, message)), cancel) switch
        {
            OutboxReply.Accepted accepted => new Created(accepted),
            OutboxReply.Refused refused => ApiError.For(refused.Reason, messageId),
            _ => ApiError.Internal,
        };
    }

    private static async Task<IResult> ListAsync(string project_id, string device_id, Registry.Devices registry, DeviceGateway devices, CancellationToken cancel)
    {
        if (!DeviceId.TryParse(device_id, out var deviceId)) return ApiError.Invalid($"device_id must be {DeviceId.Pattern}.");
        if (await registry.FindAsync(project_id, deviceId) is null) return ApiError.NoSuchDevice;
        var items = new List<KnownMessage>();
        while (true)
        {
            var reply = await devices.AskAsync(new ToDevice.List(deviceId, items.Count == 0 ? long.MaxValue : items[^1].Number), cancel);
            if (reply is OutboxReply.Refused refused) return ApiError.For(refused.Reason);
            if (reply is not OutboxReply.Messages messages) return ApiError.Internal;
            items.AddRange(messages.Items);
            if (messages.More) continue;
            return new JsonResult(200, json =>
            {
                json.WriteStartObject();
                json.WriteString("device_id", deviceId.Value);
                json.WriteStartArray("messages");
                foreach (var item in items) Write(json, item);
                json.WriteEndArray();
                json.WriteEndObject();
            });
        }
    }

    private static async Task<IResult> ShowAsync(
        string project_id, string device_id, string message_id, Registry.Devices registry, DeviceGateway devices, CancellationToken cancel)
    {
        if (!DeviceId.TryParse(device_id, out var deviceId)) return ApiError.Invalid($"device_id must be {DeviceId.Pattern}.");
        if (!MessageId.TryParse(message_id, out var messageId)) return ApiError.Invalid($"message_id must be {MessageId.Pattern}.");
        if (await registry.FindAsync(project_id, deviceId) is null) return ApiError.NoSuchDevice;
        return await devices.AskAsync(new ToDevice.Show(deviceId, messageId), cancel) switch
        {
            OutboxReply.Messages { Items: [var known] } => new JsonResult(200, json => Write(json, known)),
            OutboxReply.Messages => new JsonResult(200, json => // as the cloud does: found nothing, said in a 200 without message_id
            {
                json.WriteStartObject();
                json.WriteEndObject();
            }),
            OutboxReply.Refused refused => ApiError.For(refused.Reason, messageId),
            _ => ApiError.Internal,
        };
    }

    private static async Task<IResult> DeleteAsync(
        string project_id, string device_id, string message_id, Registry.Devices registry, DeviceGateway devices, CancellationToken cancel)
    {
        if (!DeviceId.TryParse(device_id, out var deviceId)) return ApiError.Invalid($"device_id must be {DeviceId.Pattern}.");
        if (!MessageId.TryParse(message_id, out var messageId)) return ApiError.Invalid($"message_id must be {MessageId.Pattern}.");
        if (await registry.FindAsync(project_id, deviceId) is null) return ApiError.NoSuchDevice;
        return await devices.AskAsync(new ToDevice.Command(deviceId, new OutboxCommand.Delete(messageId)), cancel) switch
        {
            OutboxReply.Done => Results.NoContent(),
            OutboxReply.Refused refused => ApiError.For(refused.Reason, messageId),
            _ => ApiError.Internal,
        };
    }

    // Ours: everything that still waits ends FAILED and is pushed; what is on its way goes on.
    private static async Task<IResult> DeleteAllAsync(string project_id, string device_id, Registry.Devices registry, DeviceGateway devices, CancellationToken cancel)
    {
        if (!DeviceId.TryParse(device_id, out var deviceId)) return ApiError.Invalid($"device_id must be {DeviceId.Pattern}.");
        if (await registry.FindAsync(project_id, deviceId) is null) return ApiError.NoSuchDevice;
        return await devices.AskAsync(new ToDevice.Command(deviceId, OutboxCommand.DeleteAll.Instance), cancel) is OutboxReply.Refused refused
            ? ApiError.For(refused.Reason)
            : Results.NoContent();
    }

    private static void Write(Utf8JsonWriter json, KnownMessage known)
    {
        var body = known.Body;
        json.WriteStartObject();
        json.WriteString("message_id", known.MessageId.Value);
        if (body.Name is not null) json.WriteString("name", body.Name);
        json.WritePropertyName("message");
        if (body.Kind == ContentKind.Json) json.WriteRawValue(body.Content, skipInputValidation: true);
        else json.WriteStringValue(body.Content);
        json.WriteString("encoding", body.Encoding == ContentEncoding.Base64 ? "base64" : "none");
        json.WriteString("payload_format", body.Format == PayloadFormat.Raw ? "raw" : "standard");
        json.WriteString("topic", body.Topic);
        if (body.Properties is { } properties) Write(json, properties);
        json.WriteString("status", known.Status.OnTheWire());
        if (known.Error is { } error)
        {
            json.WriteStartObject("error_info");
            json.WriteString("error_code", error.Code);
            json.WriteString("error_msg", error.Text);
            json.WriteEndObject();
        }

        json.WriteString("created_time", WireTime.Compact(known.AcceptedAt));
        if (known.FinishedAt is { } finished) json.WriteString("finished_time", WireTime.Compact(finished));
        json.WriteEndObject();
    }

    private static void Write(Utf8JsonWriter json, MessageProperties properties)
    {
        json.WriteStartObject("properties");
        if (properties.CorrelationData is not null) json.WriteString("correlation_data", properties.CorrelationData);
        if (properties.ResponseTopic is not null) json.WriteString("response_topic", properties.ResponseTopic);
        json.WriteStartArray("user_properties");
        foreach (var property in properties.UserProperties)
        {
            json.WriteStartObject();
            json.WriteString("prop_key", property.Key);
            json.WriteString("prop_value", property.Value);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    // The 201 of the busiest call: written straight out, no closure.
    private sealed class Created(OutboxReply.Accepted accepted) : IResult
    {
        public Task ExecuteAsync(HttpContext httpContext)
        {
            var response = httpContext.Response;
            response.StatusCode = StatusCodes.Status201Created;
            response.ContentType = "application/json";
            using (var json = new Utf8JsonWriter(response.BodyWriter))
            {
                json.WriteStartObject();
                json.WriteString("message_id", accepted.MessageId.Value);
                json.WriteStartObject("result");
                json.WriteString("status", accepted.Status.OnTheWire());
                json.WriteString("created_time", WireTime.Compact(accepted.CreatedAt));
                if (accepted.Status != MessageStatus.Pending) json.WriteString("finished_time", WireTime.Compact(accepted.CreatedAt));
                json.WriteEndObject();
                json.WriteEndObject();
                json.Flush();
                response.ContentLength = json.BytesCommitted;
            }

            return response.BodyWriter.FlushAsync(httpContext.RequestAborted).AsTask();
        }
    }
}
