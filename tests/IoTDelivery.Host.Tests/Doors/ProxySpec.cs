using System.Buffers.Binary;
using System.Net;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Text;

namespace IoTDelivery.Host.Tests.Doors;

/// <summary>A platform behind a proxy that comes from 127.0.0.1 or 127.0.9.0/24.</summary>
public sealed class PlatformBehindProxy : DoorsPlatform
{
    public const int FailuresMax = 2;

    protected override string[] Settings =>
    [
        .. base.Settings,
        "--Mqtt:ProxyProtocol=true",
        "--Mqtt:ConnectTimeout=00:00:05",
        "--Amqp:ProxyProtocol=true",
        "--Amqp:LinkTimeout=00:00:05",
        "--Api:ForwardedHeaders=true",
        "--Proxy:TrustedAddresses:0=127.0.0.1",
        "--Proxy:TrustedAddresses:1=127.0.9.0/24",
        "--Api:Users:0:Name=app",
        $"--Api:Users:0:PasswordHash={Api.Authentication.Passwords.Hash("a password")}",
        $"--Api:LoginFailuresMax={FailuresMax}",
        "--Api:LoginFailureWindow=01:00:00",
    ];
}

/// <summary>
/// PROXY protocol on MQTT and AMQP, with TLS and without, and forwarded headers on REST: limits and logs know the
/// client behind the proxy.
/// </summary>
public sealed class ProxySpec(PlatformBehindProxy platform) : IClassFixture<PlatformBehindProxy>
{
    private const string Client = "203.0.113.7:4711";
    private static readonly byte[] Line = Encoding.ASCII.GetBytes("PROXY TCP4 203.0.113.7 192.0.2.9 4711 1883\r\n");
    private static readonly byte[] Start = [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A];
    private static readonly byte[] Binary =
    [
        .. Start, 0x21, 0x11, 0, 12 + 7, 203, 0, 113, 7, 192, 0, 2, 9, 0x12, 0x67, 0x07, 0x5B,
        0x04, 0, 4, 0, 0, 0, 0,
    ];
    private static readonly byte[] Local = [.. Start, 0x20, 0x00, 0, 0];

    public static TheoryData<string, bool> Doors => new()
    {
        { "MQTT", false },
        { "MQTT", true },
        { "AMQP", false },
        { "AMQP", true },
    };

    [Theory]
    [MemberData(nameof(Doors))]
    public async Task A_login_that_is_refused_is_logged_with_the_address_of_the_client_behind_the_proxy(
        string door, bool isTls)
    {
        foreach (var header in new[] { Line, Binary })
        {
            platform.ForgetLines();
            await using var stream = await OpenAsync(door, isTls, header);

            await stream.WriteAsync(WrongLogin(door));

            Assert.Contains($" from {Client} ", await platform.LineAsync(Refusal(door)));
        }
    }

    [Theory]
    [MemberData(nameof(Doors))]
    public async Task The_header_may_come_byte_by_byte_and_together_with_what_follows(string door, bool isTls)
    {
        platform.ForgetLines();
        using (var slow = await DoorsPlatform.OpenAsync(Port(door, isTls)))
        {
            foreach (var b in Binary) await slow.SendAsync(new[] { b });
            await using var stream = isTls ? await DoorsPlatform.TlsAsync(slow) : new NetworkStream(slow);
            await stream.WriteAsync(WrongLogin(door));
            Assert.Contains($" from {Client} ", await platform.LineAsync(Refusal(door)));
        }

        if (isTls) return; // there the header goes before the first flight by itself
        platform.ForgetLines();
        using var quick = await DoorsPlatform.OpenAsync(Port(door, isTls));
        await quick.SendAsync((byte[])[.. Line, .. WrongLogin(door)]);
        Assert.Contains($" from {Client} ", await platform.LineAsync(Refusal(door)));
    }

    [Theory]
    [MemberData(nameof(Doors))]
    public async Task A_proxy_that_speaks_for_itself_is_known_by_its_own_address(string door, bool isTls)
    {
        platform.ForgetLines();
        await using var stream = await OpenAsync(door, isTls, Local, from: "127.0.9.8");

        await stream.WriteAsync(WrongLogin(door));

        Assert.Contains(" from 127.0.9.8:", await platform.LineAsync(Refusal(door)));
    }

    /// <summary>From where, what comes, what is logged.</summary>
    public static TheoryData<string, byte[], string> Strangers => new()
    {
        { "127.0.0.1", WrongLogin("MQTT"), "it begins with 10" },
        {
            "127.0.0.1",
            "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n"u8.ToArray(),
            "its PROXY line is wrong: 'PROXY UDP4 1.2.3.4 5.6.7.8 1 2'"
        },
        { "127.0.0.1", Line[..10], "its PROXY header did not come within 00:00:05" },
        { "127.0.8.8", Line, "its address is not among Proxy:TrustedAddresses" },
        { "127.0.8.8", WrongLogin("MQTT"), "its address is not among Proxy:TrustedAddresses" },
    };

    [Theory]
    [MemberData(nameof(Strangers))]
    public async Task What_is_no_header_of_a_trusted_proxy_closes_the_connection_and_is_told_in_the_log(
        string from, byte[] bytes, string says)
    {
        int[] doors = [platform.MqttPort, platform.MqttTlsPort, platform.AmqpPort, platform.AmqpTlsPort];
        await Task.WhenAll(doors.Select(async port =>
        {
            using var socket = await DoorsPlatform.OpenAsync(port, from);
            await socket.SendAsync(bytes);

            var line = await platform.LineAsync(
                $"A connection from {socket.LocalEndPoint} to 127.0.0.1:{port}, where proxies connect, was refused: ");
            Assert.Contains(says, line);
            await ClosedAsync(socket);
        }));
    }

    [Fact]
    public async Task A_probe_is_no_event_here_either_whether_it_says_its_header_or_nothing()
    {
        platform.ForgetLines();
        foreach (var port in new[] { platform.MqttPort, platform.MqttTlsPort, platform.AmqpPort, platform.AmqpTlsPort })
        {
            foreach (var from in new[] { "127.0.0.1", "127.0.8.8" })
            {
                using var silent = await DoorsPlatform.OpenAsync(port, from);
                silent.Shutdown(SocketShutdown.Send);
                await ClosedAsync(silent);
            }

            using var check = await DoorsPlatform.OpenAsync(port);
            await check.SendAsync(Local);
            check.Shutdown(SocketShutdown.Send);
            await ClosedAsync(check);
        }

        Assert.Empty(platform.Lines);
    }

    [Fact]
    public async Task Failed_logins_are_counted_for_the_client_that_the_proxy_names_and_not_for_what_the_client_writes()
    {
        platform.ForgetLines();
        for (var i = 0; i < PlatformBehindProxy.FailuresMax; i++)
        {
            Assert.Equal(401, await LoginAsync("wrong", "198.51.100.1", "203.0.113.50"));
        }

        Assert.Equal(403, await LoginAsync("a password", "198.51.100.2", "203.0.113.50")); // whatever it claims
        Assert.Equal(201, await LoginAsync("a password", "198.51.100.1", "203.0.113.51")); // another client
        Assert.Contains("A login from 203.0.113.50 failed", await platform.LineAsync("A login from"));
    }

    [Fact]
    public async Task A_client_that_is_no_proxy_is_not_believed()
    {
        platform.ForgetLines();

        Assert.Equal(401, await LoginAsync("wrong", "203.0.113.60", from: "127.0.8.8"));

        Assert.Contains("A login from 127.0.8.8 failed", await platform.LineAsync("A login from"));
    }

    [Fact]
    public async Task A_device_over_WebSocket_is_known_by_its_address_too()
    {
        platform.ForgetLines();
        using var socket = new System.Net.WebSockets.ClientWebSocket();
        socket.Options.AddSubProtocol("mqtt");
        socket.Options.SetRequestHeader("X-Forwarded-For", "203.0.113.70");
        await socket.ConnectAsync(new Uri($"ws://127.0.0.1:{platform.RestPort}/mqtt"), default);

        await socket.SendAsync(
            WrongLogin("MQTT"), System.Net.WebSockets.WebSocketMessageType.Binary, endOfMessage: true, default);

        Assert.Contains(" from 203.0.113.70:", await platform.LineAsync("was refused"));
    }

    [Theory]
    [InlineData("--Mqtt:ProxyProtocol=true", "Proxy:TrustedAddresses is missing: Mqtt:ProxyProtocol = true needs")]
    [InlineData("--Amqp:ProxyProtocol=true", "Proxy:TrustedAddresses is missing: Amqp:ProxyProtocol = true needs")]
    [InlineData("--Api:ForwardedHeaders=true", "Proxy:TrustedAddresses is missing: Api:ForwardedHeaders = true needs")]
    [InlineData(
        "--Mqtt:ProxyProtocol=true --Proxy:TrustedAddresses:0=haproxy",
        "Proxy:TrustedAddresses: 'haproxy' is neither an address")]
    public void Whom_to_believe_must_be_said(string settings, string says) => Assert.Contains(
        says,
        Assert.Throws<Platform.CannotStartException>(() => Platform.Build(
            [.. settings.Split(' '), "--Amqp:Port=5672", $"--Storage:DataFolder={Path.GetTempPath()}"])).Message);

    private int Port(string door, bool isTls) => (door, isTls) switch
    {
        ("MQTT", false) => platform.MqttPort,
        ("MQTT", true) => platform.MqttTlsPort,
        (_, false) => platform.AmqpPort,
        _ => platform.AmqpTlsPort,
    };

    private async Task<Stream> OpenAsync(string door, bool isTls, byte[] header, string? from = null)
    {
        var socket = await DoorsPlatform.OpenAsync(Port(door, isTls), from);
        await socket.SendAsync(header);
        return isTls ? await DoorsPlatform.TlsAsync(socket) : new NetworkStream(socket, ownsSocket: true);
    }

    // A CONNECT of a device nobody knows; or SASL PLAIN with a user name that is none.
    private static byte[] WrongLogin(string door)
    {
        if (door == "MQTT") return [0x10, 26, 0, 4, .. "MQTT"u8, 4, 2, 0, 60, 0, 14, .. "nobody_x_0_0_1"u8];
        byte[] response = [.. "\0nobody\0code"u8];
        byte[] init =
        [
            0, 0x53, 0x41, 0xC0, (byte)(1 + 7 + 2 + response.Length), 2, 0xA3, 5, .. "PLAIN"u8,
            0xA0, (byte)response.Length, .. response,
        ];
        byte[] frame = [0, 0, 0, 0, 2, 1, 0, 0, .. init];
        BinaryPrimitives.WriteInt32BigEndian(frame, frame.Length);
        return [.. "AMQP"u8, 3, 1, 0, 0, .. frame];
    }

    private static string Refusal(string door) =>
        door == "MQTT" ? "with client id 'nobody_x_0_0_1' was refused" : "was refused (nobody)";

    // AMQP's library greets before it is asked.
    private static async Task ClosedAsync(Socket socket)
    {
        try
        {
            while (await socket.ReceiveAsync(new byte[64]).WaitAsync(TimeSpan.FromSeconds(20)) > 0) { }
        }
        catch (SocketException cause) when (cause.SocketErrorCode == SocketError.ConnectionReset)
        {
            // closed with bytes unread
        }
    }

    // Each address is what one hop saw; the last one is what the proxy saw.
    private async Task<int> LoginAsync(string password, string claimed, string? seen = null, string? from = null)
    {
        using var http = new HttpClient(new SocketsHttpHandler
        {
            ConnectCallback = async (_, _) =>
                new NetworkStream(await DoorsPlatform.OpenAsync(platform.RestPort, from), ownsSocket: true),
        });
        var user = new { name = "app", password };
        var identity = new { methods = new[] { "password" }, password = new { user } };
        var login = new { auth = new { identity } };
        using var request = new HttpRequestMessage(
            HttpMethod.Post, $"http://127.0.0.1:{platform.RestPort}/v3/auth/tokens")
        {
            Content = JsonContent.Create(login),
        };
        request.Headers.Add("X-Forwarded-For", claimed);
        if (seen is not null) request.Headers.Add("X-Forwarded-For", seen);
        using var answer = await http.SendAsync(request);
        return (int)answer.StatusCode;
    }
}
