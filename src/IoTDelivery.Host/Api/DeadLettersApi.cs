using System.Text.Json;
using IoTDelivery.Push;
using IoTDelivery.Registry;

namespace IoTDelivery.Host.Api;

/// <summary>What waits for the receiver of an action, and what was given up. The vendor has nothing like it: there a notification that fails is gone.</summary>
public static class DeadLettersApi
{
    private const int BytesMax = 1024 * 1024; // of one page; a single notification may be larger

    public static void MapDeadLetters(this RouteGroupBuilder project)
    {
        var action = project.MapGroup("/routing-rule/actions/{action_id}");
        action.MapGet("/backlog", CountAsync);
        action.MapGet("/dead-letters", ListAsync);
        action.MapPost("/dead-letters/replay", ReplayAsync);
        action.MapDelete("/dead-letters", ForgetAsync);
    }

    private static async Task<IResult> CountAsync(string project_id, string action_id, Rules rules, PushBacklog backlog, CancellationToken cancel)
    {
        if (await rules.FindActionAsync(project_id, action_id, cancel) is null) return ApiError.NoSuchAction;
        var (rows, bytes) = await backlog.CountAsync(action_id, cancel);
        var downSince = await backlog.DownSinceAsync(action_id, cancel);
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteNumber("count", rows);
            json.WriteNumber("bytes", bytes);
            if (downSince is { } since) json.WriteString("down_since", WireTime.Compact(since));
            json.WriteEndObject();
        });
    }

    // Oldest first, unlike the manual's lists: whoever replays or forgets works from the old end.
    private static async Task<IResult> ListAsync(string project_id, string action_id, HttpRequest request, Rules rules, PushBacklog backlog, CancellationToken cancel)
    {
        if (!PageQuery.TryParse(request.Query, out var page, out var problem)) return ApiError.Invalid(problem);
        if (!TryParseId(request, "marker", out var after)) return ApiError.Invalid(NoId("marker"));
        if (await rules.FindActionAsync(project_id, action_id, cancel) is null) return ApiError.NoSuchAction;
        var (items, count) = await backlog.DeadLettersAsync(action_id, after ?? 0, page.Limit, cancel, BytesMax);
        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("dead_letters");
            foreach (var letter in items) Write(json, letter);
            json.WriteEndArray();
            json.WriteNumber("count", count);
            if (items.Count > 0) json.WriteString("marker", IdOf(items[^1]));
            json.WriteEndObject();
        });
    }

    private static async Task<IResult> ReplayAsync(string project_id, string action_id, Rules rules, PushBacklog backlog, BacklogSignal signal, CancellationToken cancel)
    {
        if (await rules.FindActionAsync(project_id, action_id, cancel) is null) return ApiError.NoSuchAction;
        var replayed = await backlog.ReplayAsync(action_id, cancel);
        signal.RowsWritten(action_id);
        return new JsonResult(200, json => WriteNumber(json, "replayed", replayed));
    }

    // Only up to one that was seen: what has died meanwhile stays.
    private static async Task<IResult> ForgetAsync(string project_id, string action_id, HttpRequest request, Rules rules, PushBacklog backlog, CancellationToken cancel)
    {
        if (!TryParseId(request, "up_to", out var upTo) || upTo is null) return ApiError.Invalid(NoId("up_to"));
        if (await rules.FindActionAsync(project_id, action_id, cancel) is null) return ApiError.NoSuchAction;
        var forgotten = await backlog.ForgetDeadLettersAsync(action_id, upTo.Value, cancel);
        return new JsonResult(200, json => WriteNumber(json, "forgotten", forgotten));
    }

    private static string IdOf(DeadLetter letter) => letter.Id.ToString("x24");

    private static string NoId(string name) => $"{name} must be the dead_letter_id of a dead letter: 24 hexadecimal digits.";

    private static bool TryParseId(HttpRequest request, string name, out long? id)
    {
        id = null;
        if (request.Query[name].FirstOrDefault() is not { Length: > 0 } text) return true;
        if (text.Length != 24 || !long.TryParse(text, System.Globalization.NumberStyles.AllowHexSpecifier, null, out var value) || value < 0) return false;
        id = value;
        return true;
    }

    private static void Write(Utf8JsonWriter json, DeadLetter letter)
    {
        json.WriteStartObject();
        json.WriteString("dead_letter_id", IdOf(letter));
        json.WriteString("device_id", letter.DeviceId);
        json.WriteString("reason", letter.Reason);
        json.WriteString("created_time", WireTime.Compact(letter.CreatedAt));
        json.WriteString("died_time", WireTime.Compact(letter.DiedAt));
        json.WritePropertyName("notification");
        json.WriteRawValue(letter.Body, skipInputValidation: true);
        json.WriteEndObject();
    }

    private static void WriteNumber(Utf8JsonWriter json, string name, int number)
    {
        json.WriteStartObject();
        json.WriteNumber(name, number);
        json.WriteEndObject();
    }
}
