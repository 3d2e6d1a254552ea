using System.Net;
using System.Text;
using System.Text.Json;
using Akka.Actor;
using IoTDelivery.Mqtt;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.DependencyInjection;

namespace IoTDelivery.Host.Tests;

/// <summary>The whole platform in the test's own process, on free ports and SQLite in a folder of its own.</summary>
public class RunningPlatform : IAsyncLifetime
{
    public const string Token = "host-tests-token";
    private readonly string _folder = Directory.CreateTempSubdirectory("iotdelivery-host-").FullName;
    private WebApplication? _app;

    public HttpClient Http { get; private set; } = new();

    /// <summary>More settings, as on the command line.</summary>
    protected virtual string[] Settings => [];

    /// <summary>Where a test puts its own parts in.</summary>
    protected virtual void Replace(IServiceCollection services)
    {
    }

    /// <summary>The services of the running node.</summary>
    public IServiceProvider Services => _app!.Services;

    public ActorSystem System => _app!.Services.GetRequiredService<ActorSystem>();

    public virtual async Task InitializeAsync()
    {
        _app = Platform.Build(
        [
            "--urls=http://127.0.0.1:0", "--Mqtt:Port=0", $"--Storage:DataFolder={_folder}", $"--Api:Token={Token}", "--Api:Projects:0=p1", "--Api:Projects:1=p2",
            "--Logging:LogLevel:Default=Warning", "--Devices:SleepAfter=00:00:00.5", .. Settings,
        ], Replace);
        await Platform.StartAsync(_app);
        var mqtt = _app.Services.GetRequiredService<MqttEndpoint>();
        var rest = _app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!
            .Addresses.First(a => !mqtt.Owns(a));
        Http = new HttpClient { BaseAddress = new Uri($"{rest}/v5/iot/") };
        await SendAsync(HttpMethod.Post, "p1/products", """{"product_id":"lamp","name":"lamp","device_type":"lamp","protocol_type":"MQTT","data_format":"json","service_capabilities":[]}""");
        await SendAsync(HttpMethod.Post, "p1/devices", """{"product_id":"lamp","node_id":"1","auth_info":{"secret":"secret-1234"}}""");
    }

    public virtual async Task DisposeAsync()
    {
        Http.Dispose();
        if (_app is not null)
        {
            await _app.StopAsync();
            await _app.DisposeAsync();
        }

        SqliteConnection.ClearAllPools();
        Directory.Delete(_folder, recursive: true);
    }

    public async Task<(HttpStatusCode Status, JsonElement Body, HttpResponseMessage Response)> SendAsync(HttpMethod method, string path, string? body = null, string? token = Token, string contentType = "application/json")
    {
        using var request = new HttpRequestMessage(method, path);
        if (token is not null) request.Headers.Add("X-Auth-Token", token);
        if (body is not null) request.Content = new StringContent(body, Encoding.UTF8, contentType);
        var response = await Http.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        return (response.StatusCode, text.Length == 0 ? default : JsonSerializer.Deserialize<JsonElement>(text), response);
    }
}
