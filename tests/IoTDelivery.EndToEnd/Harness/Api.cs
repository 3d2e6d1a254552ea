using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>An answer of the REST API.</summary>
public sealed record Answer(HttpStatusCode Status, JsonElement Body)
{
    public string? ErrorCode => Body.ValueKind == JsonValueKind.Object && Body.TryGetProperty("error_code", out var code) ? code.GetString() : null;

    public string? ErrorMessage => Body.ValueKind == JsonValueKind.Object && Body.TryGetProperty("error_msg", out var message) ? message.GetString() : null;

    /// <summary>result.status of a 201.</summary>
    public string? MessageStatus => Body.TryGetProperty("result", out var result) ? result.GetProperty("status").GetString() : null;
}

/// <summary>An application: plain HTTP, as the contract has it.</summary>
public sealed class Api(Uri address, string token) : IDisposable
{
    private readonly HttpClient _http = new(new SocketsHttpHandler { MaxConnectionsPerServer = 256 }) { BaseAddress = address, Timeout = TimeSpan.FromSeconds(30) };

    public Task<Answer> PostAsync(string path, object body) => SendAsync(HttpMethod.Post, path, JsonSerializer.Serialize(body));

    public Task<Answer> PutAsync(string path, object body) => SendAsync(HttpMethod.Put, path, JsonSerializer.Serialize(body));

    public Task<Answer> GetAsync(string path) => SendAsync(HttpMethod.Get, path, null);

    public Task<Answer> DeleteAsync(string path) => SendAsync(HttpMethod.Delete, path, null);

    public async Task<Answer> SendAsync(HttpMethod method, string path, string? body, string? withToken = null)
    {
        using var request = new HttpRequestMessage(method, path);
        request.Headers.Add("X-Auth-Token", withToken ?? token);
        if (body is not null) request.Content = new StringContent(body, Encoding.UTF8, MediaTypeHeaderValue.Parse("application/json"));
        using var response = await _http.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        return new Answer(response.StatusCode, text.Length == 0 ? default : JsonSerializer.Deserialize<JsonElement>(text));
    }

    /// <summary>Product <c>lamp</c>, once per database.</summary>
    public async Task CreateProductAsync(string productId = "lamp") => Expect(HttpStatusCode.Created, await PostAsync(
        "products", new { product_id = productId, name = productId, device_type = "lamp", protocol_type = "MQTT", data_format = "json", service_capabilities = Array.Empty<object>() }));

    /// <summary>A device of product <c>lamp</c> with a known secret; returns its id.</summary>
    public async Task<string> CreateDeviceAsync(string deviceId, string productId = "lamp", string? gateway = null)
    {
        // A cluster that has just come up, or a busy machine, may not know in time: applications ask again, too.
        Answer answer;
        var attempts = 0;
        do
        {
            answer = await PostAsync(
                "devices",
                new
                {
                    device_id = deviceId,
                    node_id = deviceId,
                    product_id = productId,
                    gateway_id = gateway,
                    auth_info = new { secret = Device.Secret },
                });
        }
        while (answer.Status == HttpStatusCode.ServiceUnavailable && ++attempts < 10);
        Expect(HttpStatusCode.Created, answer);
        return deviceId;
    }

    /// <summary>Sends a message; the answer may be an error.</summary>
    public Task<Answer> SendMessageAsync(string deviceId, string content = "hello", string? messageId = null, int? ttl = null) =>
        PostAsync($"devices/{deviceId}/messages", ttl is null ? new { message_id = messageId, message = content } : new { message_id = messageId, message = content, ttl });

    /// <summary>A rule with one action to this address, active; returns both ids.</summary>
    public async Task<(string Rule, string Action)> PushToAsync(string url, string resource = "device.message.status", string @event = "update")
    {
        var rule = Expect(HttpStatusCode.Created, await PostAsync("routing-rule/rules", new { rule_name = "status", subject = new { resource, @event } }));
        var ruleId = rule.Body.GetProperty("rule_id").GetString()!;
        var action = Expect(HttpStatusCode.Created, await PostAsync(
            "routing-rule/actions", new { rule_id = ruleId, channel = "HTTP_FORWARDING", channel_detail = new { http_forwarding = new { url } } }));
        Expect(HttpStatusCode.OK, await PutAsync($"routing-rule/rules/{ruleId}", new { active = true }));
        return (ruleId, action.Body.GetProperty("action_id").GetString()!);
    }

    public static Answer Expect(HttpStatusCode status, Answer answer)
    {
        Assert.True(answer.Status == status, $"Expected {(int)status}, got {(int)answer.Status}: {answer.Body}");
        return answer;
    }

    public void Dispose() => _http.Dispose();
}
