using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push.Tests;

/// <summary>A POST an application has received, in flat shape.</summary>
internal sealed record Post(string Receiver, string DeviceId, string MessageId, string Status, string RequestId, string Body, string? ContentType)
{
    public long Number => long.Parse(MessageId[1..]);
}

/// <summary>Applications on a real socket: each path is a receiver of its own with its own manners.</summary>
internal sealed class Application : IAsyncDisposable
{
    private readonly WebApplication _web;
    private readonly List<(Post Post, int Answer)> _log = [];
    private readonly Happening _happening = new();
    private volatile Func<Post, Task<int>> _answers = _ => Task.FromResult(200);

    private Application(WebApplication web) => _web = web;

    public Uri Address { get; private set; } = null!;

    /// <summary>What each POST is answered with; the test may await what it likes before.</summary>
    public Func<Post, Task<int>> Answers
    {
        set => _answers = value;
    }

    public static async Task<Application> StartAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        var web = builder.Build();
        var application = new Application(web);
        web.Run(application.HandleAsync);
        await web.StartAsync();
        application.Address = new Uri(web.Services.GetRequiredService<IServer>().Features.GetRequiredFeature<IServerAddressesFeature>().Addresses.Single());
        return application;
    }

    public Uri Url(string receiver) => new(Address, "/" + receiver);

    /// <summary>All POSTs that were answered, in the order of the answers.</summary>
    public IReadOnlyList<(Post Post, int Answer)> All(string receiver)
    {
        lock (_log) return [.. _log.Where(l => l.Post.Receiver == receiver)];
    }

    /// <summary>What was answered 200, in order.</summary>
    public IReadOnlyList<Post> Taken(string receiver) => [.. All(receiver).Where(l => l.Answer == 200).Select(l => l.Post)];

    public long[] Numbers(string receiver, string deviceId) => [.. Taken(receiver).Where(p => p.DeviceId == deviceId).Select(p => p.Number)];

    public Task UntilAsync(Func<bool> isTrue, TimeSpan? within = null) => _happening.UntilAsync(isTrue, () =>
    {
        lock (_log) return string.Join(", ", _log.TakeLast(60).Select(l => $"{l.Post.Receiver}:{l.Post.DeviceId}:{l.Post.MessageId}={l.Answer}"));
    }, within);

    public async ValueTask DisposeAsync()
    {
        using var now = new CancellationTokenSource(TimeSpan.FromMilliseconds(100));
        await _web.StopAsync(now.Token);
        await _web.DisposeAsync();
    }

    private async Task HandleAsync(HttpContext context)
    {
        using var reader = new StreamReader(context.Request.Body);
        var body = await reader.ReadToEndAsync();
        using var json = JsonDocument.Parse(body);
        var data = json.RootElement.GetProperty("notify_data");
        var post = new Post(context.Request.Path.Value![1..], Text(data, "device_id"), Text(data, "message_id"), Text(data, "status"),
            Text(json.RootElement, "request_id"), body, context.Request.ContentType);
        var answer = await _answers(post);
        lock (_log) _log.Add((post, answer));
        _happening.Pulse();
        context.Response.StatusCode = answer;

        static string Text(JsonElement json, string name) => json.TryGetProperty(name, out var value) ? value.GetString()! : "";
    }
}
