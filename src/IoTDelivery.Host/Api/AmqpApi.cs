using System.Text.Json;
using IoTDelivery.Registry;

namespace IoTDelivery.Host.Api;

/// <summary>Queues of the channel AMQP_FORWARDING (API manual, "AMQP Queue Management") and the code their consumers log in with ("Access Credential Management").</summary>
public static class AmqpApi
{
    public static void MapAmqp(this RouteGroupBuilder project)
    {
        var queues = project.MapGroup("/amqp-queues");
        queues.MapPost("/", CreateAsync);
        queues.MapGet("/", ListAsync);
        queues.MapGet("/{queue_id}", ShowAsync);
        queues.MapDelete("/{queue_id}", DeleteAsync);
        project.MapPost("/auth/accesscode", CreateAccessCodeAsync);
    }

    private static async Task<IResult> CreateAsync(string project_id, HttpRequest request, AmqpQueues queues, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var name = fields.Text("queue_name", 128, c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-' or '.' or ':', "letters, digits, '_', '-', '.' and ':'", required: true, min: 8);
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        var (outcome, queue) = await queues.AddAsync(project_id, name!, cancel);
        return outcome switch
        {
            QueueAdded.Added => new JsonResult(201, json => Write(json, queue)),
            QueueAdded.NameTaken => ApiError.Invalid($"queue_name: the project has a queue {name} already."),
            _ => ApiError.NotNow($"The project has {AmqpQueues.Max} queues already; delete one first."),
        };
    }

    private static async Task<IResult> ListAsync(string project_id, HttpRequest request, AmqpQueues queues, CancellationToken cancel)
    {
        if (!PageQuery.TryParse(request.Query, out var page, out var problem)) return ApiError.Invalid(problem);
        var name = request.Query["queue_name"] is [{ Length: > 0 } value] ? value : null;
        var (items, count) = await queues.ListAsync(project_id, name, page, cancel);
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("queues");
            foreach (var queue in items) Write(json, queue);
            json.WriteEndArray();
            PageQuery.Write(json, count, items.Count == 0 ? null : items[^1].RecordId);
            json.WriteEndObject();
        });
    }

    // As the cloud answers: a queue that is not there is 200 with nothing in it.
    private static async Task<IResult> ShowAsync(string project_id, string queue_id, AmqpQueues queues, CancellationToken cancel)
    {
        var queue = await queues.FindAsync(project_id, queue_id, cancel);
        return new JsonResult(200, json => Write(json, queue));
    }

    private static async Task<IResult> DeleteAsync(string project_id, string queue_id, AmqpQueues queues, CancellationToken cancel) =>
        await queues.RemoveAsync(project_id, queue_id, cancel) switch
        {
            QueueRemoved.Removed => Results.NoContent(),
            QueueRemoved.InUse => ApiError.NotNow($"The queue is {AmqpQueues.DefaultQueue}, or an action forwards to it: delete the action first."),
            _ => ApiError.NoSuchQueue,
        };

    private static async Task<IResult> CreateAccessCodeAsync(string project_id, HttpRequest request, AccessCodes codes, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        fields.OneOf("type", ["AMQP"]);
        var disconnect = fields.Bool("force_disconnect") is true;
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);

        var (key, code) = await codes.CreateAsync(project_id, disconnect, cancel);
        return new JsonResult(201, json =>
        {
            json.WriteStartObject();
            json.WriteString("access_key", key);
            json.WriteString("access_code", code);
            json.WriteEndObject();
        });
    }

    private static void Write(Utf8JsonWriter json, AmqpQueue? queue)
    {
        json.WriteStartObject();
        json.WriteString("queue_id", queue?.QueueId);
        json.WriteString("queue_name", queue?.Name);
        var time = queue is null ? null : WireTime.Millis(DateTimeOffset.FromUnixTimeMilliseconds(queue.CreatedAt));
        json.WriteString("create_time", time);
        json.WriteString("last_modify_time", time);
        json.WriteEndObject();
    }
}
