using System.Text.Json;
using IoTDelivery.Domain;
using IoTDelivery.Push;
using IoTDelivery.Registry;
using Microsoft.Extensions.Logging.Abstractions;

namespace IoTDelivery.Simulation;

/// <summary>POSTs reach the simulated application, or not, or only their answers do not come back.</summary>
internal sealed class SimulatedWebhook(Node node) : Webhook(World.PushOptions)
{
    public override Task<PushResult> PostAsync(HttpForwarding to, byte[] body, CancellationToken cancel)
    {
        var (world, done) = (node.World, new TaskCompletionSource<PushResult>());
        var there = TimeSpan.FromMilliseconds(1 + 20 * world.Random.NextDouble());
        if (world.Happens(Fault.WebhookIsSlow, 0.03)) there += world.Seconds(0.5, 10);
        world.After(there, () =>
        {
            var result = world.Application.Hear(to.Url.Host, body);
            var back = TimeSpan.FromMilliseconds(1 + 10 * world.Random.NextDouble()) + world.Application.ThinkTime(to.Url.Host);
            if (back > World.PushOptions.Timeout) (back, result) = (World.PushOptions.Timeout, new(PushOutcome.Failed, "no answer in time"));
            world.After(back, () =>
            {
                if (node.IsAlive && !cancel.IsCancellationRequested) done.SetResult(result);
            });
        });
        return done.Task;
    }
}

/// <summary>The rules of the site: every action receives every status.</summary>
internal sealed class SimulatedRuleBook(Node node) : RuleBook(null!, NullLogger<RuleBook>.Instance, node.Clock)
{
    public override ValueTask<RuleSnapshot> LoadedAfterAsync(long timestamp, CancellationToken cancel)
    {
        var (world, from, read) = (node.World, node.Clock.GetTimestamp(), new TaskCompletionSource<RuleSnapshot>());
        world.After(TimeSpan.FromMilliseconds(1 + 8 * world.Random.NextDouble()), () => read.SetResult(Load(from)));
        return new(read.Task);
    }

    private RuleSnapshot Load(long from)
    {
        var rule = new Rule
        {
            RuleId = "rule",
            RecordId = "1",
            ProjectId = World.Header.ProjectId,
            Resource = StatusNotification.Resource,
            Event = StatusNotification.Event,
            ActiveSince = 0,
            CreatedAt = 0,
        };
        var active = new RuleActivity { RuleId = rule.RuleId, ActiveFrom = 0 };
        return RuleSnapshot.Of(1, from, [rule], new[] { active }.ToLookup(a => a.RuleId), node.World.Actions.Select(SimulatedRules.Action).ToLookup(a => a.RuleId));
    }
}

/// <summary>The actions of those rules.</summary>
internal sealed class SimulatedRules(World world) : Rules(null!, OneThread.Instance)
{
    public static RuleAction Action(string actionId) => new()
    {
        ActionId = actionId,
        RecordId = actionId,
        RuleId = "rule",
        ProjectId = World.Header.ProjectId,
        Channel = RuleAction.HttpForwarding,
        ChannelDetail = "{}",
        Url = $"http://{actionId}/",
    };

    public override Task<RuleAction?> FindActionAsync(string actionId, CancellationToken cancel) =>
        Task.FromResult(world.Actions.Contains(actionId) ? Action(actionId) : null);
}

/// <summary>What a notification says, as far as the checker looks at it.</summary>
internal readonly record struct Told(Guid RequestId, string MessageId, string Status)
{
    public static Told Read(byte[] body)
    {
        using var json = JsonDocument.Parse(body);
        var data = json.RootElement.GetProperty("notify_data");
        return new Told(json.RootElement.GetProperty("request_id").GetGuid(), data.GetProperty("message_id").GetString()!, data.GetProperty("status").GetString()!);
    }
}
