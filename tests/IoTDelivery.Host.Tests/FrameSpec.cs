using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;

namespace IoTDelivery.Host.Tests;

/// <summary>What holds for every answer, whatever was asked: X-Request-Id, JSON, the contract's error body, and an answer instead of a collapse when it is too much.</summary>
public sealed class FrameSpec(FrameSpec.Narrow platform) : IClassFixture<FrameSpec.Narrow>
{
    /// <summary>A node that works on one request at a time and lets none wait.</summary>
    public sealed class Narrow : RunningPlatform
    {
        protected override string[] Settings => ["--Api:ConcurrencyMax=1", "--Api:QueueMax=0"];
    }

    [Theory]
    [InlineData("GET", "p1/devices", null, RunningPlatform.Token, 200)]
    [InlineData("POST", "p1/devices/lamp_1/messages", """{"message":"x","ttl":0}""", RunningPlatform.Token, 201)]
    [InlineData("POST", "p1/devices/lamp_1/messages", "{", RunningPlatform.Token, 400)]
    [InlineData("GET", "p1/devices", null, null, 401)]
    [InlineData("GET", "/v5", null, null, 401)]
    [InlineData("GET", "/v3/anything", null, null, 401)]
    [InlineData("POST", "/v3/auth/tokens", "{}", null, 400)]
    [InlineData("GET", "/v3/auth/tokens", null, null, 405)]
    [InlineData("GET", "/nothing", null, null, 404)]
    [InlineData("GET", "p1/nothing", null, RunningPlatform.Token, 404)]
    [InlineData("PATCH", "p1/devices", null, RunningPlatform.Token, 405)]
    public async Task Every_answer_is_JSON_and_has_a_request_id_of_its_own(string method, string path, string? body, string? token, int status)
    {
        var ids = new HashSet<string>();
        for (var i = 0; i < 2; i++)
        {
            using var request = new HttpRequestMessage(new HttpMethod(method), path);
            request.Headers.Add("X-Request-Id", "the-callers-own");
            request.Headers.Add("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
            if (token is not null) request.Headers.Add("X-Auth-Token", token);
            if (body is not null) request.Content = new StringContent(body, Encoding.UTF8, "application/json");
            using var answer = await platform.Http.SendAsync(request);

            Assert.Equal(status, (int)answer.StatusCode);
            Assert.Equal("application/json", answer.Content.Headers.ContentType!.MediaType);
            var json = JsonSerializer.Deserialize<JsonElement>(await answer.Content.ReadAsStringAsync());
            if (status >= 400) Assert.StartsWith("IOTDA.", json.GetProperty("error_code").GetString());
            ids.Add(Assert.Single(answer.Headers.GetValues("X-Request-Id")));
        }

        Assert.Equal(2, ids.Count);
        Assert.All(ids, id => Assert.Matches("^[0-9a-f]{32}$", id));
    }

    [Fact]
    public async Task An_answer_without_a_body_has_a_request_id_and_no_content_type()
    {
        await platform.SendAsync(HttpMethod.Post, "p1/devices", """{"product_id":"lamp","node_id":"frame"}""");

        var (status, _, response) = await platform.SendAsync(HttpMethod.Delete, "p1/devices/lamp_frame");

        Assert.Equal(HttpStatusCode.NoContent, status);
        Assert.True(response.Headers.Contains("X-Request-Id"));
        Assert.Null(response.Content.Headers.ContentType);
    }

    [Fact]
    public async Task What_is_too_much_at_once_is_answered_403_with_the_rate_limit_code_and_later_it_goes_on()
    {
        // One request is in the middle of its body: 100 Continue says that the node reads it.
        var body = """{"message":"slow","ttl":0}"""u8.ToArray();
        using var slow = new TcpClient();
        await slow.ConnectAsync(IPAddress.Loopback, platform.Http.BaseAddress!.Port);
        var stream = slow.GetStream();
        using var reader = new StreamReader(stream, Encoding.ASCII);
        await stream.WriteAsync(Encoding.ASCII.GetBytes(
            $"POST /v5/iot/p1/devices/lamp_1/messages HTTP/1.1\r\nHost: h\r\nX-Auth-Token: {RunningPlatform.Token}\r\nContent-Type: application/json\r\nContent-Length: {body.Length}\r\nExpect: 100-continue\r\n\r\n"));
        Assert.Equal("HTTP/1.1 100 Continue", await reader.ReadLineAsync());
        Assert.Equal("", await reader.ReadLineAsync());

        var (status, answer, response) = await platform.SendAsync(HttpMethod.Get, "p1/devices");

        Assert.Equal(HttpStatusCode.Forbidden, status);
        Assert.Equal("IOTDA.021101", answer.GetProperty("error_code").GetString());
        Assert.Equal(TimeSpan.FromSeconds(1), response.Headers.RetryAfter!.Delta);
        Assert.True(response.Headers.Contains("X-Request-Id"));

        await stream.WriteAsync(body);
        Assert.Equal("HTTP/1.1 201 Created", await reader.ReadLineAsync());
    }
}
