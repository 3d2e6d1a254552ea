using System.Net;
using System.Text;
using System.Text.Json;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>An application that uses the vendor's SDK: its headers, its order, every header signed (contract, "App SDK transport").</summary>
public sealed class Application(Uri address, RequestSigner? signer, string? token = null) : IDisposable
{
    private readonly HttpClient _http = new() { Timeout = TimeSpan.FromSeconds(30) };

    /// <summary>The path from the root; the query as names and values. <paramref name="tamper"/> changes the request after it was signed.</summary>
    public async Task<(HttpStatusCode Status, JsonElement Body, HttpResponseMessage Response)> SendAsync(
        HttpMethod method, string path, object? body = null, (string Name, string Value)[]? query = null, DateTimeOffset? signedAt = null, Action<HttpRequestMessage>? tamper = null)
    {
        // On the wire '*' stays as it is and a space becomes %20, as HTTP libraries write them; the SDK signs both encoded.
        var text = string.Join('&', (query ?? []).Select(q => $"{q.Name}={Uri.EscapeDataString(q.Value).Replace("%2A", "*")}"));
        using var request = new HttpRequestMessage(method, new Uri(address, text.Length == 0 ? path : $"{path}?{text}"));
        request.Headers.TryAddWithoutValidation("User-Agent", "huaweicloud-usdk-python/3.0");
        request.Headers.Add("X-Project-Id", Node.Project);
        request.Headers.Add("Instance-Id", "7f3c4a31-8f5e-4b3a-9b0e-1d7b4f6a2c10");
        if (token is not null) request.Headers.Add("X-Auth-Token", token);
        if (body is not null)
        {
            request.Content = new ByteArrayContent(JsonSerializer.SerializeToUtf8Bytes(body));
            request.Content.Headers.TryAddWithoutValidation("Content-Type", "application/json;charset=UTF-8");
        }

        if (signer is not null) await signer.SignAsync(request, new Uri(address, path), query ?? [], signedAt ?? DateTimeOffset.UtcNow);
        tamper?.Invoke(request);
        var response = await _http.SendAsync(request);
        var answer = await response.Content.ReadAsStringAsync();
        return (response.StatusCode, answer.Length == 0 ? default : JsonSerializer.Deserialize<JsonElement>(answer), response);
    }

    public void Dispose() => _http.Dispose();
}
