using System.Globalization;
using System.Text.Json;
using IoTDelivery.Batch;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using Microsoft.AspNetCore.Http.Features;

namespace IoTDelivery.Host.Api;

/// <summary>Batch tasks of type createMessages: one message for many devices (API manual, "Batch Task").</summary>
public static class BatchTasksApi
{
    /// <summary>The one type that is offered.</summary>
    private const string CreateMessages = "createMessages";

    private const int FilterIdsMax = 100; // groups, products; the manual does not say
    private const int NamedTargetsMax = 100; // of a stop or a retry (manual)
    private static readonly TimeSpan ScheduleMax = TimeSpan.FromDays(7); // manual
    private static readonly DeviceId SomeDevice = DeviceId.Parse("device"); // what is wrong with a document is wrong for every device

    private static readonly string[] TaskTypes =
    [
        "softwareUpgrade", "firmwareUpgrade", "moduleUpgrade", "createDevices", "deleteDevices", "freezeDevices", "unfreezeDevices", "createCommands", "createAsyncCommands",
        CreateMessages, "updateDeviceShadows", "updateDevices",
    ];

    public static void MapBatchTasks(this RouteGroupBuilder project)
    {
        var tasks = project.MapGroup("/batchtasks");
        tasks.MapPost("/", CreateAsync);
        tasks.MapGet("/", ListAsync);
        tasks.MapGet("/{task_id}", ShowAsync);
        tasks.MapDelete("/{task_id}", DeleteAsync);
        tasks.MapPost("/{task_id}/stop", StopAsync);
        tasks.MapPost("/{task_id}/retry", RetryAsync);
    }

    /// <summary>A task's document is a message request, read by the same rules.</summary>
    /// <exception cref="FormatException">It is none; the message names the field and its limit.</exception>
    public static (MessageId? MessageId, MessageBody Body) Read(JsonElement document, DeviceId connected) =>
        CreateMessageRequest.TryParse(document, connected, out var messageId, out var body, out var problem) ? (messageId, body) : throw new FormatException(problem);

    private static async Task<IResult> CreateAsync(
        string project_id, HttpRequest request, BatchTasks tasks, BatchOptions options, DeviceGroups groups, Products products, TimeProvider clock, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var now = clock.GetUtcNow();
        var appId = fields.Id("app_id", 36);
        var name = fields.Text("task_name", 128, c => char.IsLetterOrDigit(c) || c == '_', "letters, digits, Chinese characters and '_'", required: true);
        if (fields.OneOf("task_type", TaskTypes, required: true) is not (null or CreateMessages)) fields.Wrong<string>("task_type", $"must be {CreateMessages}: the others are not offered");
        var targets = Targets(fields, "targets", BatchTasks.TargetsMax);
        var (groupIds, productIds) = Filter(fields); // counts if there are no targets
        var (scheduleAt, retryCount, retryInterval) = Policy(fields, now);
        if (targets is null && groupIds.Count + productIds.Count == 0) fields.Wrong<string>("targets", "is missing: give a list of device ids, or targets_filter with group_ids or product_ids");
        fields.Object("document", required: true);
        if ((fields.Problem ?? Problem(body.Root.GetProperty("document"))) is { } problem) return ApiError.Invalid(problem);
        if (targets is null && await UnknownAsync(project_id, groupIds, productIds, groups, products, cancel) is { } unknown) return ApiError.Invalid(unknown);
        if (targets is null && (await groups.MembersAsync(project_id, groupIds, productIds, "", 1, cancel)).Count == 0) return ApiError.Invalid("targets_filter matches no device.");

        var task = new BatchTask
        {
            TaskId = RecordIds.New(now),
            ProjectId = project_id,
            AppId = appId,
            TaskName = name!,
            Targets = targets is null ? null : JsonSerializer.Serialize(targets),
            TargetsFilter = targets is null ? RequestFields.Compact(body.Root.GetProperty("targets_filter")) : null,
            Document = RequestFields.Compact(body.Root.GetProperty("document")),
            ScheduleAt = scheduleAt?.ToUnixTimeMilliseconds(),
            RetryCount = retryCount,
            RetryInterval = retryInterval,
            Total = targets?.Count ?? 0,
            CreatedAt = now.ToUnixTimeMilliseconds(),
        };
        if (!await tasks.AddAsync(task, options.OpenTasksMax, cancel)) return ApiError.TooMuchAtOnce;
        return new JsonResult(201, json => Write(json, task, new BatchProgress { Total = task.Total, Waitting = task.Total }, targets));
    }

    private static async Task<IResult> ListAsync(string project_id, HttpRequest request, BatchTasks tasks, CancellationToken cancel)
    {
        if (!PageQuery.TryParse(request.Query, out var page, out var problem)) return ApiError.Invalid(problem);
        var type = request.Query["task_type"].FirstOrDefault();
        if (!TaskTypes.Contains(type)) return ApiError.Invalid($"task_type must be one of {string.Join(", ", TaskTypes)}.");
        if (!TryParse<BatchStatus>(request.Query["status"].FirstOrDefault(), out var status)) return ApiError.Invalid($"status must be one of {Words<BatchStatus>()}.");
        var appId = request.Query["app_id"] is [{ Length: > 0 } given] ? given : null;
        var (items, count) = type == CreateMessages ? await tasks.ListAsync(project_id, new BatchFilter(appId, status), page, cancel) : ([], 0); // nobody could create the others
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("batchtasks");
            foreach (var (task, progress) in items) Write(json, task, progress);
            json.WriteEndArray();
            PageQuery.Write(json, count, items.Count == 0 ? null : items[^1].Task.TaskId);
            json.WriteEndObject();
        });
    }

    private static async Task<IResult> ShowAsync(string project_id, string task_id, HttpRequest request, BatchTasks tasks, CancellationToken cancel)
    {
        if (!PageQuery.TryParse(request.Query, out var page, out var problem)) return ApiError.Invalid(problem);
        if (!TryParse<TargetStatus>(request.Query["task_detail_status"].FirstOrDefault(), out var status)) return ApiError.Invalid($"task_detail_status must be one of {Words<TargetStatus>()}.");
        if (await tasks.FindAsync(project_id, task_id, cancel) is not var (task, progress)) return ApiError.NoSuchBatchTask;
        var target = request.Query["target"] is [{ Length: > 0 } given] ? given : null;
        var (items, count) = await tasks.TargetsAsync(task_id, status, target, NumberOf(page.Marker), page.Offset, page.Limit, cancel);
        var document = JsonSerializer.Deserialize<JsonElement>(task.Document);
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WritePropertyName("batchtask");
            Write(json, task, progress);
            json.WriteStartArray("task_details");
            foreach (var item in items) Write(json, task, item, document);
            json.WriteEndArray();
            PageQuery.Write(json, count, items.Count == 0 ? null : items[^1].Number.ToString("x24", CultureInfo.InvariantCulture));
            json.WriteEndObject();
        });
    }

    private static async Task<IResult> DeleteAsync(string project_id, string task_id, BatchTasks tasks, CancellationToken cancel) =>
        await tasks.RemoveAsync(project_id, task_id, cancel) switch
        {
            null => Results.NoContent(),
            BatchRefusal.NoSuchTask => ApiError.NoSuchBatchTask,
            _ => WrongStatus("deleted", "it has ended"),
        };

    private static Task<IResult> StopAsync(string project_id, string task_id, HttpRequest request, BatchTasks tasks, CancellationToken cancel) =>
        ChangeAsync(request, targets => tasks.StopAsync(project_id, task_id, targets, cancel), WrongStatus("stopped", "it is Waitting or Processing"), "It does not wait: it is asked already, or has ended.", cancel);

    private static Task<IResult> RetryAsync(string project_id, string task_id, HttpRequest request, BatchTasks tasks, CancellationToken cancel) =>
        ChangeAsync(request, targets => tasks.RetryAsync(project_id, task_id, targets, cancel), WrongStatus("retried", "it is Processing, Fail or PartialSuccess"), "It has neither failed nor been stopped.", cancel);

    private static async Task<IResult> ChangeAsync(
        HttpRequest request, Func<IReadOnlyCollection<string>?, Task<(IReadOnlySet<string> Done, BatchRefusal? Refusal)>> change, ApiError wrongStatus, string notDone, CancellationToken cancel)
    {
        IReadOnlyCollection<string>? targets = null; // no body, or one without targets: all of them
        if (request.HttpContext.Features.Get<IHttpRequestBodyDetectionFeature>()?.CanHaveBody == true)
        {
            using var body = await RequestBody.ReadAsync(request, cancel);
            if (body.Error is not null) return body.Error;
            var fields = new RequestFields(body.Root);
            targets = Targets(fields, "targets", NamedTargetsMax);
            if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        }

        var (done, refusal) = await change(targets);
        if (refusal is { } why) return why == BatchRefusal.NoSuchTask ? ApiError.NoSuchBatchTask : wrongStatus;
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("targets");
            foreach (var target in targets ?? [])
            {
                var isDone = done.Contains(target);
                json.WriteStartObject();
                json.WriteString("target", target);
                json.WriteString("status", isDone ? "success" : "failure");
                if (!isDone)
                {
                    json.WriteString("error_code", ApiError.NotNow(notDone).Code);
                    json.WriteString("error_msg", notDone);
                }

                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        });
    }

    private static ApiError WrongStatus(string what, string when) => ApiError.NotNow($"A batch task can be {what} when {when}.");

    // Each once: a device named twice gets the message once.
    private static List<string>? Targets(RequestFields fields, string name, int max)
    {
        if (fields.Array(name, max) is not { } items) return null;
        if (items.Count == 0) fields.Wrong<string>(name, "must name one device at least");
        var ids = new List<string>(items.Count);
        for (var i = 0; i < items.Count; i++)
        {
            if (items[i].ValueKind == JsonValueKind.String && DeviceId.TryParse(items[i].GetString(), out var id)) ids.Add(id.Value);
            else fields.Wrong<string>($"{name}[{i}]", $"must be a device id: {DeviceId.Pattern}");
        }

        return [.. ids.Distinct()];
    }

    private static (IReadOnlyList<string> GroupIds, IReadOnlyList<string> ProductIds) Filter(RequestFields fields)
    {
        var filter = fields.Object("targets_filter");
        if (filter is null && !fields.Take("targets", required: false, out _) && fields.Take("document_source", required: false, out _)) fields.Wrong<string>("document_source", "is not for messages: give targets or targets_filter");
        var ids = (Ids("group_ids"), Ids("product_ids"));
        fields.Adopt(filter);
        return ids;

        List<string> Ids(string name)
        {
            var items = filter?.Array(name, FilterIdsMax) ?? [];
            if (items.Any(i => i.ValueKind != JsonValueKind.String || !WireText.IsId(i.GetString(), 64))) filter!.Wrong<string>(name, "must hold ids: letters, digits, '_' and '-'");
            return filter?.Problem is null ? [.. items.Select(i => i.GetString()!).Distinct()] : [];
        }
    }

    private static (DateTimeOffset? ScheduleAt, int RetryCount, int RetryInterval) Policy(RequestFields fields, DateTimeOffset now)
    {
        if (fields.Object("task_policy") is not { } policy) return default;
        DateTimeOffset? scheduleAt = null;
        if (policy.Text("schedule_time", 16) is { } time)
        {
            if (DateTimeOffset.TryParseExact(time, "yyyyMMdd'T'HHmmss'Z'", CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var at) && at <= now + ScheduleMax) scheduleAt = at;
            else policy.Wrong<string>("schedule_time", "must be a UTC time such as 20151212T121212Z within the next 7 days");
        }

        var (count, interval) = (policy.Int("retry_count", 0, 5), policy.Int("retry_interval", 1, 1440));
        if (count is null != interval is null) policy.Wrong<string>(count is null ? "retry_count" : "retry_interval", "is missing: retry_count and retry_interval go together");
        fields.Adopt(policy);
        return (scheduleAt, count ?? 0, interval ?? 0);
    }

    private static string? Problem(JsonElement document)
    {
        try
        {
            Read(document, SomeDevice);
            return null;
        }
        catch (FormatException cause)
        {
            return $"document.{cause.Message}";
        }
    }

    private static async Task<string?> UnknownAsync(
        string projectId, IReadOnlyList<string> groupIds, IReadOnlyList<string> productIds, DeviceGroups groups, Products products, CancellationToken cancel)
    {
        foreach (var id in groupIds)
        {
            if (await groups.FindAsync(projectId, id, cancel) is null) return $"targets_filter.group_ids: there is no device group '{id}'.";
        }

        foreach (var id in productIds)
        {
            if (await products.FindAsync(projectId, id, cancel) is null) return $"targets_filter.product_ids: there is no product '{id}'.";
        }

        return null;
    }

    private static void Write(Utf8JsonWriter json, BatchTask task, BatchProgress progress, IReadOnlyList<string>? targets = null)
    {
        json.WriteStartObject();
        if (task.AppId is not null) json.WriteString("app_id", task.AppId);
        json.WriteString("task_id", task.TaskId);
        json.WriteString("task_name", task.TaskName);
        json.WriteString("task_type", CreateMessages);
        if (targets is not null)
        {
            json.WriteStartArray("targets");
            foreach (var target in targets) json.WriteStringValue(target);
            json.WriteEndArray();
        }

        if (task.TargetsFilter is not null)
        {
            json.WritePropertyName("targets_filter");
            json.WriteRawValue(task.TargetsFilter, skipInputValidation: true);
        }

        json.WritePropertyName("document");
        json.WriteRawValue(task.Document, skipInputValidation: true);
        if (task.ScheduleAt is not null || task.RetryInterval > 0)
        {
            json.WriteStartObject("task_policy");
            if (task.ScheduleAt is { } scheduleAt) json.WriteString("schedule_time", WireTime.Compact(scheduleAt));
            if (task.RetryInterval > 0)
            {
                json.WriteNumber("retry_count", task.RetryCount);
                json.WriteNumber("retry_interval", task.RetryInterval);
            }

            json.WriteEndObject();
        }

        json.WriteString("status", task.Status.ToString());
        json.WriteString("status_desc", Description(task, progress));
        json.WriteStartObject("task_progress");
        json.WriteNumber("total", progress.Total);
        json.WriteNumber("processing", progress.Processing);
        json.WriteNumber("success", progress.Success);
        json.WriteNumber("fail", progress.Fail);
        json.WriteNumber("waitting", progress.Waitting);
        json.WriteNumber("fail_wait_retry", progress.FailWaitRetry);
        json.WriteNumber("stopped", progress.Stopped);
        json.WriteNumber("removed", 0);
        json.WriteEndObject();
        json.WriteString("create_time", WireTime.Compact(task.CreatedAt));
        json.WriteEndObject();
    }

    private static string Description(BatchTask task, BatchProgress progress) => task.Status switch
    {
        BatchStatus.Initializing => "The targets are being written down.",
        BatchStatus.Waitting => "The schedule_time has not come.",
        BatchStatus.Processing => "Messages are being sent.",
        BatchStatus.Stopping => "Stopped; some targets have been asked and have not answered yet.",
        _ => $"{progress.Success} of {progress.Total} targets took the message.",
    };

    private static void Write(Utf8JsonWriter json, BatchTask task, BatchTarget target, JsonElement document)
    {
        json.WriteStartObject();
        json.WriteString("target", target.Target);
        json.WriteString("status", target.Status.ToString());
        var messageId = document.TryGetProperty("message_id", out var id) && MessageId.TryParse(id.ToString(), out var given) ? given : task.MessageIdFor(DeviceId.Parse(target.Target));
        if (target.Status == TargetStatus.Success) json.WriteString("output", $$"""{"message_id":"{{messageId}}"}""");
        var error = target.Problem is { } problem ? ApiError.Invalid($"document.{problem}") : target.Refusal is { } refusal ? ApiError.For(refusal, messageId) : null;
        if (error is not null)
        {
            json.WriteStartObject("error");
            json.WriteString("error_code", error.Code);
            json.WriteString("error_msg", error.Message);
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }

    // A target's marker is its number; the marker of the first page is larger than any.
    private static int NumberOf(string marker) => (int)UInt128.Min(UInt128.Parse(marker, NumberStyles.HexNumber, CultureInfo.InvariantCulture), int.MaxValue);

    private static bool TryParse<T>(string? text, out T? word) where T : struct, Enum
    {
        word = Enum.GetNames<T>().Contains(text) ? Enum.Parse<T>(text!) : null;
        return word is not null || string.IsNullOrEmpty(text);
    }

    private static string Words<T>() where T : struct, Enum => string.Join(", ", Enum.GetNames<T>());
}
