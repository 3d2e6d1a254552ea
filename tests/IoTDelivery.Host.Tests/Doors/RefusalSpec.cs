using System.Diagnostics;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text;

namespace IoTDelivery.Host.Tests.Doors;

/// <summary>A platform that serves one request at a time and lets none wait.</summary>
public sealed class OneRequestAtATime : DoorsPlatform
{
    protected override string[] Settings => [.. base.Settings, "--Api:ConcurrencyMax=1", "--Api:QueueMax=0"];
}

/// <summary>
/// A client that writes all of its body before it reads gets its answer, also if it was refused before: what is still
/// on its way is read and thrown away. The next request on the same connection is answered too.
/// </summary>
public sealed class RefusalSpec(OneRequestAtATime platform) : IClassFixture<OneRequestAtATime>
{
    private const int Mega = 1024 * 1024;
    private const string Messages = "/v5/iot/p1/devices/lamp_1/messages";
    private const string Token = $"X-Auth-Token: {RunningPlatform.Token}\r\n";
    private const string Json = "Content-Type: application/json\r\n";

    /// <summary>Method and path, headers, status, what the body says.</summary>
    public static TheoryData<string, string, int, string> Refusals => new()
    {
        { $"POST {Messages}", Json, 401, "IOTDA.000002" },
        { $"POST {Messages}", "X-Auth-Token: wrong\r\n" + Json, 401, "IOTDA.000002" },
        { $"POST {Messages}", "Authorization: Basic eDp5\r\n" + Json, 401, "IOTDA.000002" },
        { $"POST {Messages}", Token + Json, 413, "1048576 bytes" },
        { "POST /v3/auth/tokens", Json, 413, "1048576 bytes" },
        { $"PUT /v5/iot/p1/devices/lamp_1", Token + Json, 413, "1048576 bytes" },
        { "POST /v5/iot/p1/nothing", Token + Json, 404, "IOTDA.000029" },
        { "POST /v5/iot/p9/devices", Token + Json, 404, "IOTDA.000029" },
        { "POST /nothing", Json, 404, "IOTDA.000029" },
        { "PATCH /v5/iot/p1/devices", Token + Json, 405, "IOTDA.000029" },
        { $"POST {Messages}", Token + "Content-Type: text/plain\r\n", 400, "Content-Type must be application/json" },
        { "POST /admin/cluster/leave", Json, 401, "IOTDA.000002" },
        { "POST /mqtt", Json, 426, "WebSocket" },
    };

    [Theory]
    [MemberData(nameof(Refusals))]
    public async Task The_answer_is_read_by_a_client_that_writes_first(
        string request, string headers, int status, string says)
    {
        foreach (var isChunked in new[] { false, true })
        {
            var answer = await AskAsync(request, headers, 2 * Mega, isChunked);

            Assert.True(
                answer.StartsWith($"HTTP/1.1 {status} "), $"{request}{(isChunked ? ", chunked" : "")}: {answer}");
            Assert.Contains(says, answer);
            AssertServed(answer);
        }
    }

    // More than the buffers of both machines take.
    [Theory]
    [InlineData("", 401, false)]
    [InlineData("", 401, true)]
    [InlineData(Token, 413, false)]
    [InlineData(Token, 413, true)]
    public async Task So_is_that_to_a_body_of_20_MB(string token, int status, bool isChunked)
    {
        var answer = await AskAsync($"POST {Messages}", token + Json, 20 * Mega, isChunked);

        Assert.StartsWith($"HTTP/1.1 {status} ", answer);
        AssertServed(answer);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Too_much_at_once_is_read_too(bool isChunked)
    {
        // This one is asked for its body, so it has begun; it never sends it.
        using var first = new TcpClient("127.0.0.1", platform.RestPort);
        await first.GetStream().WriteAsync(Encoding.ASCII.GetBytes(
            $"POST {Messages} HTTP/1.1\r\nHost: x\r\n{Token}{Json}Content-Length: 10\r\n"
            + "Expect: 100-continue\r\n\r\n"));
        var asked = new byte[25];
        await first.GetStream().ReadExactlyAsync(asked);
        Assert.StartsWith("HTTP/1.1 100 Continue", Encoding.ASCII.GetString(asked));

        var answer = await AskAsync($"POST {Messages}", Token + Json, 2 * Mega, isChunked);

        Assert.StartsWith("HTTP/1.1 403 ", answer);
        Assert.Contains("IOTDA.021101", answer);
        AssertServed(answer);
    }

    // 64 MB, which is what a fast client sends in the five seconds that Kestrel gives it.
    [Fact]
    public async Task There_is_a_bound_beyond_which_a_client_is_cut_off()
    {
        var isCut = await Assert.ThrowsAnyAsync<IOException>(
            () => AskAsync($"POST {Messages}", Json, Api.ApiOptions.DrainedBytesMax + 1, isChunked: false));

        Assert.IsType<SocketException>(isCut.InnerException);
    }

    // A client that asks first is refused before it sends anything.
    [Theory]
    [InlineData(Json, "401")]
    [InlineData(Token + Json, "413")]
    public async Task A_client_that_asks_before_it_sends_is_not_asked_for_its_body(string headers, string status)
    {
        using var client = new TcpClient("127.0.0.1", platform.RestPort);
        await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes(
            $"POST {Messages} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {2 * Mega}\r\n"
            + "Expect: 100-continue\r\n\r\n"));
        var said = new byte[12];
        await client.GetStream().ReadExactlyAsync(said);

        Assert.Equal($"HTTP/1.1 {status}", Encoding.ASCII.GetString(said));
    }

    [Theory]
    [InlineData(null, 401)]
    [InlineData(RunningPlatform.Token, 413)]
    public async Task Over_HTTP_2_the_answer_is_read_too(string? token, int status)
    {
        using var http = new HttpClient(new SocketsHttpHandler
        {
            SslOptions = { RemoteCertificateValidationCallback = (_, _, _, _) => true },
        });
        for (var i = 0; i < 3; i++)
        {
            using var request = new HttpRequestMessage(
                HttpMethod.Post, $"https://127.0.0.1:{platform.RestTlsPort}{Messages}")
            {
                Version = HttpVersion.Version20,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact,
                Content = new ByteArrayContent(new byte[2 * Mega])
                {
                    Headers = { ContentType = new MediaTypeHeaderValue("application/json") },
                },
            };
            if (token is not null) request.Headers.Add("X-Auth-Token", token);

            using var answer = await http.SendAsync(request);

            Assert.Equal(status, (int)answer.StatusCode);
            Assert.Contains("error_code", await answer.Content.ReadAsStringAsync());
        }
    }

    // Somebody else's client. Without "Expect", which it would send for a body of this size.
    [SkippableTheory]
    [InlineData("Content-Length: 2097152")]
    [InlineData("Transfer-Encoding: chunked")]
    public async Task Curl_reads_it(string length)
    {
        Skip.IfNot(File.Exists("/usr/bin/curl"), "curl is not installed (apt-get install curl).");
        var file = Path.GetTempFileName();
        await File.WriteAllBytesAsync(file, new byte[2 * Mega]);
        string[] arguments =
        [
            "-sS", "-w", "\n%{http_code}", "-H", "Expect:", "-H", "Content-Type: application/json", "-H", length,
            "--data-binary", $"@{file}", $"http://127.0.0.1:{platform.RestPort}{Messages}",
        ];
        using var curl = Process.Start(new ProcessStartInfo("/usr/bin/curl", arguments)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        var errors = curl.StandardError.ReadToEndAsync();
        var said = await curl.StandardOutput.ReadToEndAsync();
        await curl.WaitForExitAsync();
        File.Delete(file);

        Assert.True(curl.ExitCode == 0, $"curl ended with {curl.ExitCode}: {await errors}");
        Assert.EndsWith("\n401", said);
        Assert.Contains("IOTDA.000002", said);
    }

    // Two requests, written to their end before a byte is read; what was answered to both.
    private async Task<string> AskAsync(string request, string headers, int bytes, bool isChunked)
    {
        using var client = new TcpClient("127.0.0.1", platform.RestPort);
        var stream = client.GetStream();
        var length = isChunked ? "Transfer-Encoding: chunked" : $"Content-Length: {bytes}";
        await WriteAsync($"{request} HTTP/1.1\r\nHost: x\r\n{headers}{length}\r\n\r\n");
        var part = new byte[64 * 1024];
        for (var sent = 0; sent < bytes; sent += part.Length)
        {
            if (isChunked) await WriteAsync($"{part.Length:X}\r\n");
            await stream.WriteAsync(part.AsMemory(0, Math.Min(part.Length, bytes - sent)))
                .AsTask().WaitAsync(TimeSpan.FromSeconds(20));
            if (isChunked) await WriteAsync("\r\n");
        }

        if (isChunked) await WriteAsync("0\r\n\r\n");
        await WriteAsync("GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        using var reader = new StreamReader(stream, Encoding.ASCII);
        return await reader.ReadToEndAsync().WaitAsync(TimeSpan.FromSeconds(20));

        Task WriteAsync(string text) => stream.WriteAsync(Encoding.ASCII.GetBytes(text)).AsTask();
    }

    // The second request: the connection is as good as new.
    private static void AssertServed(string answers)
    {
        var second = answers[answers.LastIndexOf("HTTP/1.1 ", StringComparison.Ordinal)..];
        Assert.StartsWith("HTTP/1.1 200 ", second);
        Assert.Contains("Healthy", second);
    }
}
