using System.Buffers.Text;
using System.Text;
using System.Threading.RateLimiting;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Mqtt;

namespace IoTDelivery.Host.Api;

/// <summary>
/// Broadcasts (API manual, "Broadcast Message"). Without a ttl: to every device that is online and subscribed now, once. With one: an ordinary message for each of at most
/// ten of them, repeated until it is acknowledged.
/// </summary>
public static class BroadcastsApi
{
    private const int Base64Max = 128 * 1024; // characters (SDK, 2026)
    private const int SlashesMax = 7; // user guide, "Broadcast Communication", like the next one
    private const int CachedDevicesMax = 10;

    public static void MapBroadcasts(this RouteGroupBuilder project) => project.MapPost("/broadcast-messages", CreateAsync);

    private static async Task<IResult> CreateAsync(
        string project_id, HttpRequest request, Broadcasts broadcasts, BroadcastRate rate, DeviceGateway devices, TimeProvider clock, CancellationToken cancel)
    {
        using var body = await RequestBody.ReadAsync(request, cancel);
        if (body.Error is not null) return body.Error;
        var fields = new RequestFields(body.Root);
        var appId = fields.Id("app_id", 36);
        var topic = Topic(fields);
        var message = fields.Text("message", Base64Max, required: true);
        if (message is not null && !Base64.IsValid(message)) fields.Wrong<string>("message", "must be a Base64 string");
        var ttl = fields.Int("ttl", 0, DeliveryPolicy.TtlMax, DeliveryPolicy.TtlStep) ?? 0;
        var givenId = fields.Id("message_id", 100);
        if (fields.Problem is { } problem) return ApiError.Invalid(problem);
        if (!rate.Allows()) return ApiError.TooMuchAtOnce with { RetryAfter = 60 };

        var messageId = MessageId.Parse(givenId ?? Guid.NewGuid().ToString("D"));
        if (ttl == 0) broadcasts.Send(new ToSubscribers.Broadcast(project_id, appId, topic!, Convert.FromBase64String(message!)));
        else if (await CacheAsync() is { } error) return error;
        var now = clock.GetUtcNow();
        return new JsonResult(201, json =>
        {
            json.WriteStartObject();
            if (appId is not null) json.WriteString("app_id", appId);
            json.WriteString("topic_full_name", topic);
            json.WriteString("message_id", messageId.Value);
            json.WriteString("created_time", WireTime.Compact(now));
            json.WriteEndObject();
        });

        async Task<ApiError?> CacheAsync()
        {
            var subscribed = await broadcasts.FindAsync(new ToSubscribers.Find(project_id, appId, topic!, CachedDevicesMax + 1), cancel);
            if (subscribed is null) return ApiError.For(RefusalReason.Unavailable, messageId);
            if (subscribed.Count > CachedDevicesMax) return ApiError.Invalid($"ttl: more than {CachedDevicesMax} devices have subscribed the topic, so that the broadcast cannot be cached.");
            var accept = new OutboxCommand.Accept(messageId, new MessageBody(null, message!, ContentKind.Text, ContentEncoding.Base64, PayloadFormat.Standard, topic!, ttl));
            foreach (var device in subscribed)
            {
                // One that was deleted meanwhile is none of the subscribed any more. After any other refusal the same request with the same message_id goes on where this one ended.
                if (await devices.AskAsync(new ToDevice.Command(device, accept), cancel) is OutboxReply.Refused { Reason: not RefusalReason.NoSuchDevice } refused)
                {
                    return ApiError.For(refused.Reason, messageId);
                }
            }

            return null;
        }
    }

    private static string? Topic(RequestFields fields)
    {
        if (fields.Text("topic_full_name", 128, required: true) is not { } topic) return null;
        if (!MqttTopics.IsBroadcast(topic) || topic.Length == MqttTopics.Broadcast.Length) return fields.Wrong<string>("topic_full_name", $"must begin with {MqttTopics.Broadcast} and go on");
        if (topic.Count(c => c == '/') > SlashesMax) return fields.Wrong<string>("topic_full_name", $"may have at most {SlashesMax} '/'");
        return fields.Topic("topic_full_name", topic, bytesMax: 128);
    }
}

/// <summary>How many broadcasts this node takes: <see cref="ApiOptions.BroadcastsPerMinute"/>.</summary>
public sealed class BroadcastRate(ApiOptions options) : IDisposable
{
    private readonly FixedWindowRateLimiter _limiter = new(new FixedWindowRateLimiterOptions { PermitLimit = options.BroadcastsPerMinute, Window = TimeSpan.FromMinutes(1), QueueLimit = 0 });

    /// <summary>Counts one, if there is room for it.</summary>
    public bool Allows() => _limiter.AttemptAcquire().IsAcquired;

    public void Dispose() => _limiter.Dispose();
}
