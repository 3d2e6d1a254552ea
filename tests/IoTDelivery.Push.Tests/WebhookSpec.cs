using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Push.Tests;

public sealed class WebhookSpec : IAsyncLifetime
{
    private static readonly byte[] Body = StatusNotification.Write(Given.Lamp, Given.Notification(1, Given.Noon), Given.Header, PushShape.Flat);

    private Application _application = null!;

    public async Task InitializeAsync() => _application = await Application.StartAsync();

    public async Task DisposeAsync() => await _application.DisposeAsync();

    [Theory]
    [InlineData(200, PushOutcome.Answered)]
    [InlineData(400, PushOutcome.Refused)]
    [InlineData(404, PushOutcome.Refused)]
    [InlineData(410, PushOutcome.Refused)]
    [InlineData(413, PushOutcome.Refused)]
    [InlineData(422, PushOutcome.Refused)]
    [InlineData(201, PushOutcome.Failed)]
    [InlineData(204, PushOutcome.Failed)]
    [InlineData(302, PushOutcome.Failed)]
    [InlineData(401, PushOutcome.Failed)]
    [InlineData(408, PushOutcome.Failed)]
    [InlineData(429, PushOutcome.Failed)]
    [InlineData(500, PushOutcome.Failed)]
    [InlineData(503, PushOutcome.Failed)]
    public async Task Success_is_exactly_200_and_a_few_refuse_for_good(int status, PushOutcome expected)
    {
        _application.Answers = _ => Task.FromResult(status);
        Assert.Equal(new PushResult(expected, $"HTTP {status}"), await PostAsync(_application.Url("a")));
    }

    [Fact]
    public async Task The_body_arrives_as_it_is_as_json()
    {
        await PostAsync(_application.Url("a"));
        var post = Assert.Single(_application.Taken("a"));
        Assert.Equal(Encoding.UTF8.GetString(Body), post.Body);
        Assert.Equal("application/json", post.ContentType);
    }

    [Fact]
    public async Task A_receiver_that_does_not_answer_in_time_failed()
    {
        var never = new TaskCompletionSource<int>();
        _application.Answers = _ => never.Task;
        var result = await PostAsync(_application.Url("a"), o => o.Timeout = TimeSpan.FromMilliseconds(100));
        never.SetResult(200);
        Assert.Equal(new PushResult(PushOutcome.Failed, "no answer in time"), result);
    }

    [Fact]
    public async Task Nobody_listening_is_a_failure()
    {
        using var taken = new TcpListener(IPAddress.Loopback, 0);
        taken.Start();
        var port = ((IPEndPoint)taken.LocalEndpoint).Port;
        taken.Stop();
        Assert.Equal(PushOutcome.Failed, (await PostAsync(new Uri($"http://127.0.0.1:{port}/"))).Outcome);
    }

    // A dead address refuses, or says nothing: a listener whose queue is full answers no SYN (Linux).
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Of_several_addresses_a_dead_one_costs_a_second(bool isSilent)
    {
        var dead = IPAddress.Parse("127.0.0.2");
        var url = _application.Url("a");
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        List<Socket> waiting = [];
        if (isSilent)
        {
            listener.Bind(new IPEndPoint(dead, url.Port));
            listener.Listen(0);
            for (var n = 0; n < 3; n++)
            {
                waiting.Add(new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp)
                {
                    Blocking = false,
                });
            }

            foreach (var socket in waiting) _ = socket.ConnectAsync(new IPEndPoint(dead, url.Port));
        }

        using var webhook = new Webhook(new PushOptions())
        {
            Resolve = (_, _) => Task.FromResult<IPAddress[]>([dead, IPAddress.Loopback]),
        };
        var begun = Stopwatch.GetTimestamp();
        var forwarding = new HttpForwarding(new Uri($"http://receiver:{url.Port}/a"));
        Assert.Equal(PushResult.Answered, await webhook.PostAsync(forwarding, Body, default));
        var took = Stopwatch.GetElapsedTime(begun);

        // Push:Timeout is 15 s.
        Assert.InRange(took, isSilent ? TimeSpan.FromSeconds(1) : TimeSpan.Zero, TimeSpan.FromSeconds(10));
        foreach (var socket in waiting) socket.Dispose();
    }

    [Fact]
    public async Task Something_that_is_not_http_is_a_failure() =>
        Assert.Equal(PushOutcome.Failed, (await PostAsync(new Uri("ftp://127.0.0.1/"))).Outcome);

    [Fact]
    public async Task A_redirect_is_not_followed()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var serving = ServeAsync(listener, $"HTTP/1.1 307 Temporary Redirect\r\nLocation: {_application.Url("a")}\r\nContent-Length: 0\r\n\r\n");
        Assert.Equal(new PushResult(PushOutcome.Failed, "HTTP 307"), await PostAsync(new Uri($"http://{listener.LocalEndpoint}/")));
        await serving;
        Assert.Empty(_application.All("a"));
    }

    [Fact]
    public async Task It_says_who_it_is_and_logs_in_with_what_stands_in_the_address()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var action = new RuleAction
        {
            ActionId = "a",
            RecordId = "r",
            RuleId = "r",
            ProjectId = "p",
            Channel = RuleAction.HttpForwarding,
            Url = $"http://us%40er:p%3Aw@{listener.LocalEndpoint}/hook",
            ChannelDetail = "{}",
        };
        var to = HttpForwarding.Of(action)!;
        Assert.DoesNotContain("er:p", to.ToString());

        var serving = ServeAsync(listener, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        using var webhook = new Webhook(PushWorld.Quick());
        Assert.Equal(PushResult.Answered, await webhook.PostAsync(to, Body, default));

        var request = await serving;
        Assert.Contains("User-Agent: IoTDelivery/", request);
        Assert.Contains($"Authorization: Basic {Convert.ToBase64String("us@er:p:w"u8)}\r\n", request);
    }

    [Theory]
    [InlineData("http://user:secret@host/a?b@c", "http://host/a?b@c")]
    [InlineData("http://us%40er:%3asecret@host:8080", "http://host:8080")]
    [InlineData("http://über:sécret@host/", "http://host/")]
    [InlineData("http://user:se@cret@host/", "http://host/")]
    [InlineData("http://host/user@secret", "http://host/user@secret")]
    public void User_and_password_of_an_address_are_never_shown(string given, string shown)
    {
        var action = new RuleAction
        {
            ActionId = "a",
            RecordId = "r",
            RuleId = "r",
            ProjectId = "p",
            Channel = RuleAction.HttpForwarding,
            Url = given,
            ChannelDetail = $$"""{"http_forwarding":{"url":"{{given}}","cert_id":"ü"} }""",
        };

        var expected = $$"""{"http_forwarding":{"url":"{{shown}}","cert_id":"ü"} }""";
        Assert.Equal(expected.Replace(" ", ""), HttpForwarding.Shown(action).Replace(" ", ""));
    }

    [Theory]
    [InlineData("7", 7)]
    [InlineData("0", 0)]
    [InlineData("soon", null)]
    public async Task How_long_it_asks_to_be_left_alone_is_told(string asked, int? seconds)
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var serving = ServeAsync(listener, $"HTTP/1.1 503 Busy\r\nRetry-After: {asked}\r\nContent-Length: 0\r\n\r\n");
        var result = await PostAsync(new Uri($"http://{listener.LocalEndpoint}/"));
        await serving;
        Assert.Equal(seconds is { } s ? TimeSpan.FromSeconds(s) : null, result.RetryAfter);
    }

    [Fact]
    public async Task An_answer_without_end_is_not_read()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var serving = ServeAsync(listener, $"HTTP/1.1 200 OK\r\nContent-Length: {long.MaxValue}\r\n\r\n", andThen: new byte[64 * 1024]);
        Assert.Equal(PushResult.Answered, await PostAsync(new Uri($"http://{listener.LocalEndpoint}/")));
        await serving; // ends because the other side hangs up
    }

    [Fact]
    public async Task Only_the_cancellation_asked_for_throws()
    {
        using var webhook = new Webhook(new PushOptions());
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => webhook.PostAsync(new HttpForwarding(_application.Url("a")), Body, new CancellationToken(canceled: true)));
    }

    private static async Task<PushResult> PostAsync(Uri url, Action<PushOptions>? change = null)
    {
        using var webhook = new Webhook(PushWorld.Quick(change));
        return await webhook.PostAsync(new HttpForwarding(url), Body, default);
    }

    // Returns what was asked.
    private static async Task<string> ServeAsync(TcpListener listener, string answer, byte[]? andThen = null)
    {
        using var client = await listener.AcceptTcpClientAsync();
        await using var stream = client.GetStream();
        var request = new byte[16 * 1024];
        var read = 0;
        while (!request.AsSpan(0, read).EndsWith(Body)) read += await stream.ReadAsync(request.AsMemory(read)); // what is left unread would cut the answer off
        await stream.WriteAsync(Encoding.ASCII.GetBytes(answer));
        try
        {
            while (andThen is not null) await stream.WriteAsync(andThen);
        }
        catch (IOException)
        {
            // hung up
        }

        return Encoding.UTF8.GetString(request, 0, read);
    }
}
