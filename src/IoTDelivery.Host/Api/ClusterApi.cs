using System.Text.Json;
using Akka.Actor;
using IoTDelivery.Host.Admin;
using IoTDelivery.Host.Api.Authentication;

namespace IoTDelivery.Host.Api;

/// <summary>The cluster for whoever runs it. Not the vendor's and not part of the API for applications: its own path, its own token.</summary>
public static class ClusterApi
{
    public static void MapCluster(this IEndpointRouteBuilder app)
    {
        // Open to its owner also while applications ask for more than the node can do.
        var cluster = app.MapGroup("/admin/cluster").AddEndpointFilter(CheckAsync).ExcludeFromDescription().DisableRateLimiting();
        cluster.MapGet("", (ClusterView view) => new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("members");
            foreach (var member in view.Members()) Write(json, member);
            json.WriteEndArray();
            json.WriteEndObject();
        }));
        cluster.MapGet("/shards", ShardsAsync);
        cluster.MapPost("/down", (HttpRequest request, ClusterView view, CancellationToken cancel) => ChangeAsync(request, view, view.Down, cancel));
        cluster.MapPost("/leave", (HttpRequest request, ClusterView view, CancellationToken cancel) => ChangeAsync(request, view, view.Leave, cancel));
    }

    private static ValueTask<object?> CheckAsync(EndpointFilterInvocationContext context, EndpointFilterDelegate next)
    {
        var (request, token) = (context.HttpContext.Request, context.HttpContext.RequestServices.GetRequiredService<AdminToken>());
        return request.Headers["X-Auth-Token"] is [{ } given] && token.Matches(given)
            ? next(context)
            : new ValueTask<object?>(ApiError.Unauthorized("send the admin token of the site in the header X-Auth-Token"));
    }

    private static async Task<IResult> ShardsAsync(ClusterView view, CancellationToken cancel)
    {
        IReadOnlyList<ShardRegionView> regions;
        try
        {
            regions = await view.ShardsAsync(cancel);
        }
        catch (AskTimeoutException)
        {
            return ApiError.NoShardCoordinator;
        }

        return new JsonResult(200, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("regions");
            foreach (var region in regions)
            {
                json.WriteStartObject();
                json.WriteString("type", region.Type);
                json.WriteString("address", region.Address);
                json.WriteStartArray("shards");
                foreach (var (shard, entities) in region.Shards)
                {
                    json.WriteStartObject();
                    json.WriteString("shard", shard);
                    json.WriteNumber("entities", entities);
                    json.WriteEndObject();
                }

                json.WriteEndArray();
                WriteTexts(json, "unanswered", region.Unanswered);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        });
    }

    // 202: what was asked for happens when the members have heard of it.
    private static async Task<IResult> ChangeAsync(HttpRequest request, ClusterView view, Func<ClusterMember, string?> change, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var address = fields.Text("address", 300, required: true);
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        var members = view.Members();
        if (members.FirstOrDefault(m => m.Address == address) is not { } member) return ApiError.NoSuchNode(address!, members.Select(m => m.Address));
        return change(member) is { } whyNot ? ApiError.NotNow(whyNot) : new JsonResult(202, json => Write(json, member));
    }

    private static void Write(Utf8JsonWriter json, ClusterMember member)
    {
        json.WriteStartObject();
        json.WriteString("address", member.Address);
        json.WriteString("status", member.Status);
        WriteTexts(json, "roles", member.Roles);
        json.WriteString("app_version", member.AppVersion);
        WriteTexts(json, "unreachable_by", member.UnreachableBy);
        json.WriteBoolean("leader", member.IsLeader);
        json.WriteBoolean("oldest", member.IsOldest);
        json.WriteBoolean("self", member.IsSelf);
        json.WriteEndObject();
    }

    private static void WriteTexts(Utf8JsonWriter json, string name, IReadOnlyList<string> texts)
    {
        json.WriteStartArray(name);
        foreach (var text in texts) json.WriteStringValue(text);
        json.WriteEndArray();
    }
}
