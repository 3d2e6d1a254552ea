using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text.Json;
using IoTDelivery.Faults.History;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Faults;

/// <summary>The applications' webhooks, one for each rule. The second is choosy: now and then it answers 500.</summary>
public sealed class Webhooks : IAsyncDisposable
{
    public static readonly string[] Rules = ["alpha", "beta"];

    private const int Port = 9000, OneIn = 50;

    private readonly WebApplication _app;
    private readonly Recorder _history;
    private readonly Ends _ends;
    private int _told;

    private Webhooks(WebApplication app, Recorder history, Ends ends) => (_app, _history, _ends) = (app, history, ends);

    public static string UrlOf(string rule) => $"http://{Site.Address}:{Port}/{rule}";

    public static async Task<Webhooks> StartAsync(Recorder history, Ends ends)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        var app = builder.Build();
        app.Urls.Add($"http://{Site.Address}:{Port}");
        var webhooks = new Webhooks(app, history, ends);
        app.MapPost("/{rule}", webhooks.TakeAsync);
        await app.StartAsync();
        foreach (var rule in Rules) history.Add(new Entry(What.Rule) { Rule = rule });
        return webhooks;
    }

    public async ValueTask DisposeAsync()
    {
        using var now = new CancellationTokenSource(TimeSpan.Zero);
        await _app.StopAsync(now.Token);
        await _app.DisposeAsync();
    }

    private async Task TakeAsync(HttpContext context, string rule)
    {
        using var bytes = new MemoryStream();
        await context.Request.Body.CopyToAsync(bytes);
        var body = JsonDocument.Parse(bytes.ToArray()).RootElement;
        var data = body.GetProperty("notify_data");
        var status = rule == "beta" && Interlocked.Increment(ref _told) % OneIn == 0 ? 500 : 200;
        var (message, word) = (data.GetProperty("message_id").GetString()!, data.GetProperty("status").GetString()!);
        _history.Add(new Entry(What.Push)
        {
            Rule = rule,
            Device = data.GetProperty("device_id").GetString(),
            Message = message,
            Word = word,
            Request = body.GetProperty("request_id").GetString(),
            Hash = Convert.ToHexString(SHA256.HashData(bytes.ToArray()))[..16],
            Status = status,
            Text = data.TryGetProperty("error_info", out var error) ? error.GetRawText() : null,
        });
        if (status == 200 && word != "PENDING") _ends.Add(rule, message);
        context.Response.StatusCode = status;
    }
}

/// <summary>Which messages were told to have ended, at which rule.</summary>
public sealed class Ends
{
    private readonly ConcurrentDictionary<(string Rule, string Message), bool> _told = [];

    public void Add(string rule, string message) => _told[(rule, message)] = true;

    /// <summary>Whether every rule was told the end of this message.</summary>
    public bool Has(string message) => Webhooks.Rules.All(rule => _told.ContainsKey((rule, message)));
}
