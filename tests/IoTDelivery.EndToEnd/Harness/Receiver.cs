using System.Text.Json;
using System.Threading.Channels;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>One notification as an application got it (flat shape).</summary>
public sealed record Push(string RequestId, string DeviceId, string MessageId, string Status, JsonElement Body);

/// <summary>An application's webhook: a real HTTP server that remembers what it was told, in the order it was told.</summary>
public sealed class Receiver : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly List<Push> _pushes = [];
    private readonly SemaphoreSlim _news = new(0);

    private Receiver(WebApplication app) => _app = app;

    /// <summary>What to answer; 200 unless a test says otherwise. Called before the notification counts as received; only what is answered 200 is remembered.</summary>
    public Func<Push, Task<int>> Answer { get; set; } = _ => Task.FromResult(200);

    public string Url => _app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First() + "/status";

    /// <summary>Everything answered 200 so far, repetitions included.</summary>
    public IReadOnlyList<Push> Pushes
    {
        get
        {
            lock (_pushes) return [.. _pushes];
        }
    }

    public static async Task<Receiver> StartAsync(int port = 0)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        var app = builder.Build();
        app.Urls.Add($"http://127.0.0.1:{port}");
        var receiver = new Receiver(app);
        app.MapPost("/status", receiver.TakeAsync);
        await app.StartAsync();
        return receiver;
    }

    /// <summary>Waits until what was told satisfies the test.</summary>
    public async Task<IReadOnlyList<Push>> UntilAsync(Func<IReadOnlyList<Push>, bool> enough, string what, TimeSpan? patience = null)
    {
        using var limit = new CancellationTokenSource(patience ?? TimeSpan.FromSeconds(60));
        while (true)
        {
            var pushes = Pushes;
            if (enough(pushes)) return pushes;
            try
            {
                await _news.WaitAsync(limit.Token);
            }
            catch (OperationCanceledException)
            {
                Assert.Fail($"The webhook was never told: {what}. It was told {pushes.Count} times: {string.Join(", ", pushes.TakeLast(20).Select(p => $"{p.DeviceId}/{p.MessageId} {p.Status}"))}");
            }
        }
    }

    /// <summary>The statuses told of one message, in order, without repetitions.</summary>
    public IReadOnlyList<string> StatusesOf(string messageId) => [.. Pushes.Where(p => p.MessageId == messageId).DistinctBy(p => p.RequestId).Select(p => p.Status)];

    public async ValueTask DisposeAsync()
    {
        using var now = new CancellationTokenSource(TimeSpan.Zero);
        await _app.StopAsync(now.Token);
        await _app.DisposeAsync();
    }

    private async Task TakeAsync(HttpContext context)
    {
        var body = (await JsonDocument.ParseAsync(context.Request.Body)).RootElement;
        var data = body.GetProperty("notify_data");
        var push = new Push(
            body.GetProperty("request_id").GetString()!, data.GetProperty("device_id").GetString()!, Text("message_id"), Text("status"), body);
        var status = await Answer(push);
        if (status == 200)
        {
            lock (_pushes) _pushes.Add(push);
            _news.Release();
        }

        context.Response.StatusCode = status;

        string Text(string name) => data.TryGetProperty(name, out var value) ? value.GetString()! : ""; // not every subject has both
    }
}
