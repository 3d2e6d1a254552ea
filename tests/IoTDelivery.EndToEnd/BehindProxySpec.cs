using System.Net;
using System.Net.Http.Json;
using System.Net.Sockets;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.EndToEnd;

/// <summary>
/// A node that is reached through haproxy only, with the settings that docker/compose.yaml gives its nodes.
/// </summary>
public sealed class SiteBehindProxy : IAsyncLifetime
{
    public const string Password = "a password";

    public Certificates Certificates { get; } = new();

    public int TlsPort { get; } = Node.FreePort();

    public Node Node { get; private set; } = null!;

    public async Task InitializeAsync()
    {
        Node = await Node.StartAsync(
        [
            .. Certificates.Pem,
            $"--Mqtt:TlsPort={TlsPort}",
            "--Mqtt:ProxyProtocol=true",
            "--Api:ForwardedHeaders=true",
            "--Proxy:TrustedAddresses:0=127.0.0.1",
            "--Logging:LogLevel:IoTDelivery.Mqtt=Debug",
            "--Api:Users:0:Name=app",
            $"--Api:Users:0:PasswordHash={Host.Api.Authentication.Passwords.Hash(Password)}",
            "--Api:LoginFailuresMax=1",
        ]);
        await Node.Api.CreateProductAsync();
    }

    public async Task DisposeAsync()
    {
        await Node.DisposeAsync();
        Certificates.Dispose();
    }
}

/// <summary>haproxy itself, with our own configuration: the node knows who is behind it.</summary>
public sealed class BehindProxySpec(SiteBehindProxy site) : IClassFixture<SiteBehindProxy>
{
    private static readonly string Configuration = Path.GetFullPath(
        Path.Combine(AppContext.BaseDirectory, "../../../../../docker/haproxy.cfg"));

    [SkippableTheory]
    [InlineData("send-proxy-v2", false, "127.0.6.1")]
    [InlineData("send-proxy-v2", true, "127.0.6.2")]
    [InlineData("send-proxy", false, "127.0.6.3")]
    [InlineData("send-proxy", true, "127.0.6.4")]
    public async Task A_device_gets_its_message_and_the_node_knows_where_it_is(string version, bool isTls, string from)
    {
        var lamp = await site.Node.Api.CreateDeviceAsync($"lamp_{from.Replace('.', '_')}");
        await using var haproxy = await HaproxyAsync(version, isTls ? site.TlsPort : site.Node.MqttPort);
        await using var device = await Device.ConnectAsync(haproxy.Mqtt, lamp, more: o =>
        {
            o.WithTcpServer(t => (t.RemoteEndpoint, t.LocalEndpoint) =
                (new IPEndPoint(IPAddress.Loopback, haproxy.Mqtt), new IPEndPoint(IPAddress.Parse(from), 0)));
            if (isTls)
            {
                o.WithTlsOptions(t => t.UseTls().WithTargetHost("localhost").WithCertificateValidationHandler(
                    e => site.Certificates.IsTrusted(e.Certificate, e.SslPolicyErrors)));
            }
        });
        await device.SubscribeAsync();

        Api.Expect(HttpStatusCode.Created, await site.Node.Api.SendMessageAsync(lamp, "through the middle"));

        Assert.Equal("through the middle", (await device.NextAsync()).Content);
        await UntilLoggedAsync($"Device {lamp} is connected from {from}:");
    }

    [SkippableFact]
    public async Task Logins_that_fail_count_for_the_application_behind_it()
    {
        await using var haproxy = await HaproxyAsync("send-proxy-v2", site.Node.MqttPort);

        Assert.Equal(401, await LoginAsync("wrong", "127.0.6.5"));
        Assert.Equal(403, await LoginAsync(SiteBehindProxy.Password, "127.0.6.5", claimed: "203.0.113.9"));
        Assert.Equal(201, await LoginAsync(SiteBehindProxy.Password, "127.0.6.6"));
        await UntilLoggedAsync("A login from 127.0.6.5 failed");

        async Task<int> LoginAsync(string password, string from, string? claimed = null)
        {
            using var http = new HttpClient(new SocketsHttpHandler
            {
                ConnectCallback = async (_, cancel) =>
                {
                    var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
                    socket.Bind(new IPEndPoint(IPAddress.Parse(from), 0));
                    await socket.ConnectAsync(IPAddress.Loopback, haproxy.Rest, cancel);
                    return new NetworkStream(socket, ownsSocket: true);
                },
            });
            if (claimed is not null) http.DefaultRequestHeaders.Add("X-Forwarded-For", claimed);
            var user = new { name = "app", password };
            var identity = new { methods = new[] { "password" }, password = new { user } };
            var login = new { auth = new { identity } };
            using var answer = await http.PostAsJsonAsync($"http://127.0.0.1:{haproxy.Rest}/v3/auth/tokens", login);
            return (int)answer.StatusCode;
        }
    }

    // The node is another process, and its output the only place where it says so.
    private async Task UntilLoggedAsync(string part)
    {
        for (var attempt = 0; !site.Node.Output.Contains(part); attempt++)
        {
            Assert.True(attempt < 200, $"The node never said '{part}':\n{site.Node.Output}");
            await Task.Delay(50);
        }
    }

    // Our own configuration, for one node instead of three.
    private async Task<Haproxy> HaproxyAsync(string version, int behind)
    {
        var program = Command.Find("haproxy") ?? (File.Exists("/usr/sbin/haproxy") ? "/usr/sbin/haproxy" : null);
        Skip.If(program is null, "haproxy is not installed (apt-get install haproxy).");
        var (rest, mqtt, state) = (Node.FreePort(), Node.FreePort(), Node.FreePort());
        var lines = File.ReadAllText(Configuration)
            .Replace("bind :8080", $"bind 127.0.0.1:{rest}")
            .Replace("bind :1883", $"bind 127.0.0.1:{mqtt}")
            .Replace("bind :8404", $"bind 127.0.0.1:{state}")
            .Replace("node1:8080", $"127.0.0.1:{site.Node.RestPort}")
            .Replace(
                "node1:1883 port 8080 send-proxy-v2",
                $"127.0.0.1:{behind} port {site.Node.RestPort} {version}")
            .Split('\n').Where(line => !line.Contains("server node2 ") && !line.Contains("server node3 ")).ToList();
        Assert.Contains($"  server node1 127.0.0.1:{behind} port {site.Node.RestPort} {version}", lines);
        var file = Path.Combine(site.Node.Folder, $"haproxy-{mqtt}.cfg");
        await File.WriteAllLinesAsync(file, lines);
        var haproxy = new Haproxy(Command.Start(site.Node.Folder, program, "-db", "-f", file), rest, mqtt);
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                using var probe = new TcpClient();
                await probe.ConnectAsync(IPAddress.Loopback, mqtt);
                return haproxy;
            }
            catch (SocketException) when (attempt < 200 && !haproxy.HasEnded)
            {
                await Task.Delay(50); // nothing listens yet: there is no event to await but the port itself
            }
        }
    }

    private sealed class Haproxy(Command command, int rest, int mqtt) : IAsyncDisposable
    {
        public int Rest => rest;

        public int Mqtt => mqtt;

        public bool HasEnded => command.HasEnded;

        public ValueTask DisposeAsync() => command.DisposeAsync();
    }
}
