using System.Diagnostics;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using System.Threading.Channels;
using IoTDelivery.Mqtt;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using MQTTnet;

namespace IoTDelivery.Host;

/// <summary>Plays the whole story by itself on free ports and a folder of its own: offline send, PENDING, the device connects, DELIVERED, webhook.</summary>
public static class Demo
{
    private const string Project = "demo", Device = "lamp_1", Secret = "demo-secret", Token = "demo-token";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    /// <summary>Exit code 0 if every step of the story happened, 1 if one did not.</summary>
    public static async Task<int> RunAsync(string[] args)
    {
        var clock = Stopwatch.StartNew();
        var folder = Directory.CreateTempSubdirectory("iotdelivery-demo-").FullName;
        try
        {
            Step("starting a node on free ports, SQLite in " + folder);
            await using var receiver = Receiver(out var pushes);
            await receiver.StartAsync();
            await using var node = Platform.Build(
            [
                "--urls=http://127.0.0.1:0", "--Mqtt:Port=0", $"--Storage:DataFolder={folder}", $"--Api:Token={Token}", "--Logging:LogLevel:Default=Warning", .. args,
            ]);
            await Platform.StartAsync(node);
            var mqtt = node.Services.GetRequiredService<MqttEndpoint>().BoundTo!;
            using var api = new HttpClient { BaseAddress = new Uri($"{Addresses(node).First(a => !a.EndsWith($":{mqtt.Port}"))}/v5/iot/{Project}/") };
            api.DefaultRequestHeaders.Add("X-Auth-Token", Token);

            await PostAsync(api, "products", new { product_id = "lamp", name = "lamp", device_type = "lamp", protocol_type = "MQTT", data_format = "json", service_capabilities = Array.Empty<object>() });
            await PostAsync(api, "devices", new { product_id = "lamp", node_id = "1", auth_info = new { secret = Secret } });
            Step("an application created the device lamp_1, which has never been online");

            var rule = await PostAsync(api, "routing-rule/rules", new { rule_name = "demo", subject = new { resource = "device.message.status", @event = "update" } });
            var ruleId = rule.GetProperty("rule_id").GetString();
            await PostAsync(api, "routing-rule/actions", new { rule_id = ruleId, channel = "HTTP_FORWARDING", channel_detail = new { http_forwarding = new { url = $"{Addresses(receiver).First()}/status" } } });
            (await api.PutAsJsonAsync($"routing-rule/rules/{ruleId}", new { active = true })).EnsureSuccessStatusCode();
            Step("a rule sends every message status to the application's webhook");

            var sent = await PostAsync(api, $"devices/{Device}/messages", new { message = "hello, lamp", name = "greeting" });
            Step($"POST …/messages while the device is away → 201 {sent.GetProperty("result").GetProperty("status").GetString()}");
            await ExpectAsync(pushes, "PENDING");

            using var device = new MqttClientFactory().CreateMqttClient();
            var received = new TaskCompletionSource<string>();
            device.ApplicationMessageReceivedAsync += message =>
            {
                received.TrySetResult(Encoding.UTF8.GetString(message.ApplicationMessage.Payload));
                return Task.CompletedTask; // the client acknowledges when this returns
            };
            const string stamp = "2026010100";
            await device.ConnectAsync(new MqttClientOptionsBuilder()
                .WithTcpServer(mqtt.Address.ToString(), mqtt.Port)
                .WithClientId($"{Device}_0_0_{stamp}").WithCredentials(Device, DeviceLogin.Password(Secret, stamp))
                .WithKeepAlivePeriod(TimeSpan.FromSeconds(60)).Build());
            Step("the device connected by MQTT");
            await device.SubscribeAsync($"$oc/devices/{Device}/sys/messages/down", MQTTnet.Protocol.MqttQualityOfServiceLevel.AtLeastOnce);
            Step("the device subscribed its down topic at QoS 1");
            Step("the device received " + await received.Task.WaitAsync(Patience));
            await ExpectAsync(pushes, "DELIVERED");

            sent = await PostAsync(api, $"devices/{Device}/messages", new { message = "hello again" });
            Step($"POST …/messages while the device is there → 201 {sent.GetProperty("result").GetProperty("status").GetString()}");
            await ExpectAsync(pushes, "DELIVERED");
            await device.DisconnectAsync();
            await node.StopAsync();
            Step("the node stopped; every step happened");
            return 0;
        }
        catch (Exception cause)
        {
            Step($"the story ended early: {cause.Message}");
            return 1;
        }
        finally
        {
            Microsoft.Data.Sqlite.SqliteConnection.ClearAllPools();
            Directory.Delete(folder, recursive: true);
        }

        void Step(string what) => Console.WriteLine($"{clock.Elapsed.TotalSeconds,7:0.000} s  {what}");

        async Task ExpectAsync(ChannelReader<JsonElement> pushes, string status)
        {
            var push = await pushes.ReadAsync().AsTask().WaitAsync(Patience);
            var told = push.GetProperty("notify_data").GetProperty("status").GetString();
            if (told != status) throw new InvalidOperationException($"the webhook was told {told}, not {status}");
            Step($"the application's webhook was told {told}: {push.GetRawText()}");
        }
    }

    private static IEnumerable<string> Addresses(WebApplication app) => app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses;

    private static WebApplication Receiver(out ChannelReader<JsonElement> pushes)
    {
        var channel = Channel.CreateBounded<JsonElement>(100);
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        var app = builder.Build();
        app.Urls.Add("http://127.0.0.1:0");
        app.MapPost("/status", async (JsonElement body) => await channel.Writer.WriteAsync(body));
        pushes = channel.Reader;
        return app;
    }

    private static async Task<JsonElement> PostAsync(HttpClient api, string path, object body)
    {
        var response = await api.PostAsJsonAsync(path, body);
        var answer = await response.Content.ReadAsStringAsync();
        return response.IsSuccessStatusCode
            ? JsonSerializer.Deserialize<JsonElement>(answer)
            : throw new InvalidOperationException($"POST {path} was answered {(int)response.StatusCode}: {answer}");
    }
}
