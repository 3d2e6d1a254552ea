using System.Text.Json;
using IoTDelivery.Push;
using IoTDelivery.Registry;

namespace IoTDelivery.Host.Api;

/// <summary>Routing rules and their actions: channels HTTP_FORWARDING and AMQP_FORWARDING (API manual, "Data Transfer Rule Management").</summary>
public static class RulesApi
{
    public static void MapRules(this RouteGroupBuilder project)
    {
        var rules = project.MapGroup("/routing-rule/rules");
        rules.MapPost("/", CreateAsync);
        rules.MapGet("/", ListAsync);
        rules.MapGet("/{rule_id}", ShowAsync);
        rules.MapPut("/{rule_id}", UpdateAsync);
        rules.MapDelete("/{rule_id}", DeleteAsync);
        var actions = project.MapGroup("/routing-rule/actions");
        actions.MapPost("/", CreateActionAsync);
        actions.MapGet("/", ListActionsAsync);
        actions.MapGet("/{action_id}", ShowActionAsync);
        actions.MapPut("/{action_id}", UpdateActionAsync);
        actions.MapDelete("/{action_id}", DeleteActionAsync);
    }

    private static async Task<IResult> CreateAsync(string project_id, HttpRequest request, Rules rules, TimeProvider clock, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var subject = fields.Object("subject", required: true);
        var resource = subject?.OneOf("resource", [.. Subjects.All.Select(s => s.Resource)], required: true);
        var @event = subject?.OneOf("event", [.. Subjects.All.Where(s => s.Resource == resource).Select(s => s.Event)], required: true);
        fields.Adopt(subject);
        var (name, description, select, where, _) = Change(fields);
        var appType = fields.OneOf("app_type", [Rule.Global, Rule.App]) ?? Rule.Global;
        var appId = fields.Id("app_id", 36);
        if (appType == Rule.App && appId is null) fields.Wrong<string>("app_id", "is missing: app_type is APP");
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);

        var now = clock.GetUtcNow();
        var rule = new Rule
        {
            RuleId = Guid.NewGuid().ToString("D"),
            RecordId = RecordIds.New(now),
            ProjectId = project_id,
            Name = name,
            Description = description,
            Resource = resource!,
            Event = @event!,
            AppType = appType,
            AppId = appId,
            Select = select,
            Where = where,
            CreatedAt = now.ToUnixTimeMilliseconds(),
        };
        return await rules.AddAsync(rule, cancel) ? new JsonResult(201, json => Write(json, rule)) : ApiError.Internal;
    }

    private static async Task<IResult> ListAsync(string project_id, HttpRequest request, Rules rules, CancellationToken cancel)
    {
        if (!PageQuery.TryParse(request.Query, out var page, out var problem)) return ApiError.Invalid(problem);
        string? Filter(string name) => request.Query[name] is [{ Length: > 0 } value] ? value : null;
        if (Filter("active") is not (null or "true" or "false")) return ApiError.Invalid("active must be true or false.");
        var filter = new RuleFilter(
            Filter("resource"), Filter("event"), Filter("app_type"), Filter("app_id"), Filter("rule_name"), Filter("active") is { } active ? active == "true" : null);
        var (items, count) = await rules.ListAsync(project_id, filter, page, cancel);
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("rules");
            foreach (var rule in items) Write(json, rule);
            json.WriteEndArray();
            json.WriteNumber("count", count);
            if (items.Count > 0) json.WriteString("marker", items[^1].RecordId);
            json.WriteEndObject();
        });
    }

    private static async Task<IResult> ShowAsync(string project_id, string rule_id, Rules rules, CancellationToken cancel) =>
        await rules.FindAsync(project_id, rule_id, cancel) is { } rule ? new JsonResult(200, json => Write(json, rule)) : ApiError.NoSuchRule;

    private static async Task<IResult> UpdateAsync(string project_id, string rule_id, HttpRequest request, Rules rules, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var change = Change(fields);
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        return await rules.UpdateAsync(project_id, rule_id, change, cancel) is { } rule ? new JsonResult(200, json => Write(json, rule)) : ApiError.NoSuchRule;
    }

    private static async Task<IResult> DeleteAsync(string project_id, string rule_id, Rules rules, PushBacklog backlog, ILogger<Rules> log, CancellationToken cancel)
    {
        if (await rules.RemoveAsync(project_id, rule_id, cancel) is not { } actions) return ApiError.NoSuchRule;
        foreach (var action in actions) await DropAsync(backlog, action, log, cancel);
        return Results.NoContent();
    }

    private static async Task<IResult> CreateActionAsync(string project_id, HttpRequest request, Rules rules, Certificates certificates, AmqpQueues queues, TimeProvider clock, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var ruleId = fields.Text("rule_id", 36, required: true);
        var channel = fields.OneOf("channel", Channels, required: true);
        var url = await DetailAsync(fields, channel ?? RuleAction.HttpForwarding, project_id, certificates, queues, cancel);
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        if (await rules.FindAsync(project_id, ruleId!, cancel) is null) return ApiError.NoSuchRule;

        var action = await rules.AddActionAsync(
            new RuleAction
            {
                ActionId = Guid.NewGuid().ToString("D"),
                RecordId = RecordIds.New(clock.GetUtcNow()),
                RuleId = ruleId!,
                ProjectId = project_id,
                Channel = channel!,
                ChannelDetail = Detail(body.Root),
                Url = url,
            },
            cancel);
        return action is null ? ApiError.NoSuchRule : new JsonResult(201, json => Write(json, action));
    }

    // What waits for the old address goes to the new one.
    private static async Task<IResult> UpdateActionAsync(string project_id, string action_id, HttpRequest request, Rules rules, Certificates certificates, AmqpQueues queues, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var before = await rules.FindActionAsync(project_id, action_id, cancel);
        var channel = before?.Channel ?? RuleAction.HttpForwarding;
        if (fields.OneOf("channel", Channels) is { } given && before is not null && given != channel) fields.Wrong<string>("channel", $"must stay {channel}: create another action");
        var url = await DetailAsync(fields, channel, project_id, certificates, queues, cancel);
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        var action = await rules.UpdateActionAsync(project_id, action_id, Detail(body.Root), url, cancel);
        return action is null ? ApiError.NoSuchAction : new JsonResult(200, json => Write(json, action));
    }

    private static async Task<IResult> ListActionsAsync(string project_id, HttpRequest request, Rules rules, CancellationToken cancel)
    {
        if (!PageQuery.TryParse(request.Query, out var page, out var problem)) return ApiError.Invalid(problem);
        string? Filter(string name) => request.Query[name] is [{ Length: > 0 } value] ? value : null;
        var (items, count) = await rules.ListActionsAsync(project_id, new ActionFilter(Filter("rule_id"), Filter("channel"), Filter("app_type"), Filter("app_id")), page, cancel);
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("actions");
            foreach (var action in items) Write(json, action);
            json.WriteEndArray();
            json.WriteNumber("count", count);
            if (items.Count > 0) json.WriteString("marker", items[^1].RecordId);
            json.WriteEndObject();
        });
    }

    private static async Task<IResult> ShowActionAsync(string project_id, string action_id, Rules rules, CancellationToken cancel) =>
        await rules.FindActionAsync(project_id, action_id, cancel) is { } action ? new JsonResult(200, json => Write(json, action)) : ApiError.NoSuchAction;

    private static async Task<IResult> DeleteActionAsync(string project_id, string action_id, Rules rules, PushBacklog backlog, ILogger<Rules> log, CancellationToken cancel)
    {
        if (!await rules.RemoveActionAsync(project_id, action_id, cancel)) return ApiError.NoSuchAction;
        await DropAsync(backlog, action_id, log, cancel);
        return Results.NoContent();
    }

    private static async Task DropAsync(PushBacklog backlog, string actionId, ILogger log, CancellationToken cancel)
    {
        var (rows, letters) = await backlog.DropActionAsync(actionId, cancel);
        log.LogInformation("Action {ActionId} was deleted; {Rows} notifications that waited for it and {DeadLetters} dead letters went with it.", actionId, rows, letters);
    }

    private static readonly string[] Channels = [RuleAction.HttpForwarding, RuleAction.AmqpForwarding];

    private static string Detail(JsonElement body) => RequestFields.Compact(body.GetProperty("channel_detail"));

    /// <returns>The address; null for a queue.</returns>
    private static async Task<string?> DetailAsync(RequestFields fields, string channel, string projectId, Certificates certificates, AmqpQueues queues, CancellationToken cancel)
    {
        var detail = fields.Object("channel_detail", required: true);
        var amqp = detail?.Object(AmqpForwarding.Member, required: channel == RuleAction.AmqpForwarding);
        var queue = amqp?.Text("queue_name", 128, required: true);
        if (queue is not null && !await queues.ExistsAsync(projectId, queue, cancel)) amqp!.Wrong<string>("queue_name", "must be the name of a queue: create it first");
        amqp?.OneOf(PushShapes.Member, PushShapes.Names);
        detail?.Adopt(amqp);
        var url = detail is not null && channel == RuleAction.HttpForwarding ? await HttpAsync(detail, projectId, certificates, cancel) : null;
        fields.Adopt(detail);
        return url;
    }

    /// <returns>The address.</returns>
    private static async Task<string?> HttpAsync(RequestFields detail, string projectId, Certificates certificates, CancellationToken cancel)
    {
        if (detail.Object(HttpForwarding.Member, required: true) is not { } http) return null;
        var url = http.Text("url", 2048, required: true);
        var certId = http.Id("cert_id", 64);
        var cnName = http.Text("cn_name", 256, c => char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or ':', "letters, digits, '.', '-' and ':'");
        var token = http.Text("token", 32, char.IsAsciiLetterOrDigit, "letters and digits", min: 3);
        http.OneOf(PushShapes.Member, PushShapes.Names);
        if (http.Bool("sni_enable") is true && cnName is null) http.Wrong<string>("cn_name", "is missing: sni_enable is true");
        if (http.Bool("signature_enable") is true && token is null) http.Wrong<string>("token", "is missing: signature_enable is true");
        if (!(Uri.TryCreate(url, UriKind.Absolute, out var uri) && uri.Scheme is "http" or "https")) http.Wrong<string>("url", "must be an absolute http or https address");
        else if (certId is not null && uri.Scheme != "https") http.Wrong<string>("cert_id", "needs an https address");
        if (certId is not null && (await certificates.FindAsync(certId, cancel))?.ProjectId != projectId) http.Wrong<string>("cert_id", "must be the certificate_id of a certificate");
        detail.Adopt(http);
        return url;
    }

    // A rule that forwarded more than its where allows would be worse than none: both parts are refused until they are evaluated.
    private static RuleChange Change(RequestFields fields)
    {
        foreach (var part in new[] { "select", "where" })
        {
            if (fields.Text(part, 2500, min: 0) is { Length: > 0 } text && text != "*") fields.Wrong<string>(part, "is not offered yet: leave it out, the rule then forwards everything of its subject");
        }

        return new(fields.Text("rule_name", 256), fields.Text("description", 2048, min: 0), Select: null, Where: null, fields.Bool("active"));
    }

    private static void Write(Utf8JsonWriter json, Rule rule)
    {
        json.WriteStartObject();
        json.WriteString("rule_id", rule.RuleId);
        if (rule.Name is not null) json.WriteString("rule_name", rule.Name);
        if (rule.Description is not null) json.WriteString("description", rule.Description);
        json.WriteStartObject("subject");
        json.WriteString("resource", rule.Resource);
        json.WriteString("event", rule.Event);
        json.WriteEndObject();
        json.WriteString("app_type", rule.AppType);
        if (rule.AppId is not null) json.WriteString("app_id", rule.AppId);
        if (rule.Select is not null) json.WriteString("select", rule.Select);
        if (rule.Where is not null) json.WriteString("where", rule.Where);
        json.WriteBoolean("active", rule.IsActive);
        json.WriteEndObject();
    }

    private static void Write(Utf8JsonWriter json, RuleAction action)
    {
        json.WriteStartObject();
        json.WriteString("action_id", action.ActionId);
        json.WriteString("rule_id", action.RuleId);
        json.WriteString("channel", action.Channel);
        json.WritePropertyName("channel_detail");
        json.WriteRawValue(HttpForwarding.Shown(action), skipInputValidation: true);
        json.WriteEndObject();
    }
}
