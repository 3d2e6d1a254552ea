using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Text;
using IoTDelivery.EndToEnd.Harness;
using MQTTnet;

namespace IoTDelivery.EndToEnd;

/// <summary>A node with a certificate on every port.</summary>
public sealed class TlsSite : IAsyncLifetime
{
    public Certificates Certificates { get; } = new();

    public int TlsPort { get; } = Node.FreePort();

    public int HttpsPort { get; } = Node.FreePort();

    public Node Node { get; private set; } = null!;

    public async Task InitializeAsync()
    {
        Node = Node.Create([.. Certificates.Pem, $"--Mqtt:TlsPort={TlsPort}"]);
        await Node.StartAgainAsync($"--urls=http://127.0.0.1:{Node.RestPort};https://localhost:{HttpsPort}");
        await Node.Api.CreateProductAsync();
    }

    public async Task DisposeAsync()
    {
        await Node.DisposeAsync();
        Certificates.Dispose();
    }
}

/// <summary>TLS on every port: the host's name and the chain are checked, as a careful client does.</summary>
public sealed class TlsSpec(TlsSite site) : IClassFixture<TlsSite>
{
    [Theory]
    [InlineData(SslProtocols.Tls12)] // one device SDK is pinned to it
    [InlineData(SslProtocols.Tls13)]
    public async Task A_device_gets_its_message_over_TLS(SslProtocols protocol)
    {
        var lamp = await site.Node.Api.CreateDeviceAsync($"lamp_{protocol}");
        await using var device = await Device.ConnectAsync(site.TlsPort, lamp, more: o => o.WithTcpServer("localhost", site.TlsPort).WithTlsOptions(Trusting(protocol)));
        await device.SubscribeAsync();

        Api.Expect(HttpStatusCode.Created, await site.Node.Api.SendMessageAsync(lamp, "over TLS"));

        Assert.Equal("over TLS", (await device.NextAsync()).Content);
    }

    [Fact]
    public async Task TLS_1_1_is_not_spoken()
    {
        using var socket = new TcpClient("localhost", site.TlsPort);
        await using var tls = new SslStream(socket.GetStream(), false, (_, _, _, _) => true);

#pragma warning disable SYSLIB0039, CS0618 // what is tested is that it is refused
        var old = new SslClientAuthenticationOptions { TargetHost = "localhost", EnabledSslProtocols = SslProtocols.Tls11 };
#pragma warning restore SYSLIB0039, CS0618
        await Assert.ThrowsAnyAsync<Exception>(() => tls.AuthenticateAsClientAsync(old));
    }

    [Fact]
    public async Task A_device_that_asks_for_a_protocol_by_name_is_let_in()
    {
        using var socket = new TcpClient("localhost", site.TlsPort);
        await using var tls = new SslStream(socket.GetStream(), false, (_, certificate, _, errors) => site.Certificates.IsTrusted(certificate, errors));

        await tls.AuthenticateAsClientAsync(new SslClientAuthenticationOptions { TargetHost = "localhost", ApplicationProtocols = [new SslApplicationProtocol("mqtt")] });

        Assert.True(tls.IsAuthenticated);
    }

    [Fact]
    public async Task REST_answers_over_HTTPS()
    {
        using var handler = new SocketsHttpHandler { SslOptions = { RemoteCertificateValidationCallback = (_, certificate, _, errors) => site.Certificates.IsTrusted(certificate, errors) } };
        using var http = new HttpClient(handler);
        using var request = new HttpRequestMessage(HttpMethod.Get, $"https://localhost:{site.HttpsPort}/v5/iot/{Node.Project}/products") { Headers = { { "X-Auth-Token", Node.Token } } };

        using var response = await http.SendAsync(request);

        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
    }

    [Fact]
    public async Task A_device_gets_its_message_over_a_secure_WebSocket()
    {
        var lamp = await site.Node.Api.CreateDeviceAsync("lamp_wss");
        await using var device = await Device.ConnectAsync(
            site.HttpsPort, lamp, more: o => o.WithTlsOptions(Trusting(SslProtocols.None)), webSocket: $"wss://localhost:{site.HttpsPort}/mqtt");
        await device.SubscribeAsync();

        Api.Expect(HttpStatusCode.Created, await site.Node.Api.SendMessageAsync(lamp, "over WSS"));

        Assert.Equal("over WSS", (await device.NextAsync()).Content);
    }

    [Fact]
    public async Task Garbage_on_the_TLS_port_is_cut_off_and_the_next_device_is_served()
    {
        foreach (var garbage in new[] { RawMqtt.Connect("lamp_x"), Encoding.ASCII.GetBytes("GET / HTTP/1.1\r\n\r\n"), new byte[70_000] })
        {
            using var raw = await RawMqtt.OpenAsync(site.TlsPort);
            await raw.SendAsync(garbage);
            while (await raw.NextAsync() is not null) { } // a TLS alert at most, then the end
        }

        var lamp = await site.Node.Api.CreateDeviceAsync("lamp_after");
        await using var device = await Device.ConnectAsync(site.TlsPort, lamp, more: o => o.WithTcpServer("localhost", site.TlsPort).WithTlsOptions(Trusting(SslProtocols.None)));
        Assert.True(device.Client.IsConnected);
    }

    [Fact]
    public async Task A_PFX_and_an_encrypted_key_serve_as_well()
    {
        foreach (var settings in new[] { site.Certificates.Pfx, site.Certificates.EncryptedPem })
        {
            var port = Node.FreePort();
            await using var node = await Node.StartAsync([.. settings, $"--Mqtt:TlsPort={port}"]);
            using var socket = new TcpClient("localhost", port);
            await using var tls = new SslStream(socket.GetStream(), false, (_, certificate, _, errors) => site.Certificates.IsTrusted(certificate, errors));
            await tls.AuthenticateAsClientAsync("localhost");
        }
    }

    private Action<MqttClientTlsOptionsBuilder> Trusting(SslProtocols protocol) => tls => tls
        .UseTls().WithSslProtocols(protocol).WithTargetHost("localhost").WithCertificateValidationHandler(e => site.Certificates.IsTrusted(e.Certificate, e.SslPolicyErrors));
}

/// <summary>A certificate that cannot serve stops the start: one sentence that names the setting, exit code 1.</summary>
public sealed class TlsSettingsSpec : IDisposable
{
    private readonly Certificates _good = new(), _old = new(DateTimeOffset.UtcNow.AddDays(-2), DateTimeOffset.UtcNow.AddDays(-1));

    public static TheoryData<string, string[], string> Wrong => new()
    {
        { "https without a certificate", ["--urls=https://127.0.0.1:0"], "Tls:CertificateFile is missing: Urls = https://127.0.0.1:0 needs a certificate." },
        { "TLS port without a certificate", ["--Mqtt:TlsPort=8883"], "Tls:CertificateFile is missing: Mqtt:TlsPort = 8883 needs a certificate." },
        { "no such file", ["--Mqtt:TlsPort=8883", "--Tls:CertificateFile={good}/none.pem"], "Tls:CertificateFile: {good}/none.pem cannot be read." },
        { "no such key", ["--Mqtt:TlsPort=8883", "--Tls:CertificateFile={good}/server.pem", "--Tls:KeyFile={good}/none.key"], "Tls:KeyFile: {good}/none.key cannot be read." },
        { "no certificate", ["--Mqtt:TlsPort=8883", "--Tls:CertificateFile={good}/garbage.pem"], "Tls:CertificateFile: {good}/garbage.pem cannot be read as PFX" },
        { "no PFX", ["--Mqtt:TlsPort=8883", "--Tls:CertificateFile={good}/garbage.pfx"], "Tls:CertificateFile: {good}/garbage.pfx cannot be read as PFX" },
        { "no key", ["--Mqtt:TlsPort=8883", "--Tls:CertificateFile={good}/server.pem"], "Tls:CertificateFile (there is no Tls:KeyFile): {good}/server.pem holds no private key" },
        { "another key", ["--Mqtt:TlsPort=8883", "--Tls:CertificateFile={good}/server.pem", "--Tls:KeyFile={good}/other.key"], "Tls:KeyFile: {good}/other.key holds no private key that fits" },
        { "wrong password", ["--Mqtt:TlsPort=8883", "--Tls:CertificateFile={good}/server.pfx", "--Tls:Password=wrong"], "Tls:CertificateFile: {good}/server.pfx cannot be read as PFX" },
        { "expired", ["--Mqtt:TlsPort=8883", "--Tls:CertificateFile={old}/server.pem", "--Tls:KeyFile={old}/server.key"], "expired at" },
        { "port out of range", ["--Mqtt:TlsPort=70000"], "Mqtt:TlsPort must be from 0 to 65535." },
        { "no http", ["--urls=ftp://127.0.0.1:0"], "only http and https are offered" },
    };

    [Theory]
    [MemberData(nameof(Wrong))]
    public async Task It_is_said_in_a_sentence(string story, string[] settings, string says)
    {
        await using var host = Command.Host(_good.Folder, [.. settings.Select(Named)]);

        Assert.True(await host.ExitAsync() == 1, story);
        Assert.StartsWith("A setting is wrong. ", host.Errors);
        Assert.Contains(Named(says), host.Errors);
        Assert.DoesNotContain("   at ", host.Errors);
    }

    public void Dispose()
    {
        _good.Dispose();
        _old.Dispose();
    }

    private string Named(string text) => text.Replace("{good}", _good.Folder).Replace("{old}", _old.Folder);
}
