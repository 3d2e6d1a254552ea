using System.Diagnostics;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Text;
using IoTDelivery.EndToEnd.Harness;
using MQTTnet;
using MQTTnet.Formatter;

namespace IoTDelivery.EndToEnd;

/// <summary>A node that shows its certificate on three ports.</summary>
public sealed class TlsNode(Node node) : IAsyncDisposable
{
    public Node Node => node;

    public int MqttPort { get; } = Node.FreePort();

    public int HttpsPort { get; } = Node.FreePort();

    public int AmqpPort { get; } = Node.FreePort();

    public IReadOnlyList<(string Name, int Port)> Doors =>
        [("MQTT", MqttPort), ("REST", HttpsPort), ("AMQP", AmqpPort)];

    public Task StartAsync() => node.StartAgainAsync(
        $"--urls=http://127.0.0.1:{node.RestPort};https://localhost:{HttpsPort}",
        $"--Mqtt:TlsPort={MqttPort}",
        $"--Amqp:TlsPort={AmqpPort}",
        "--Logging:LogLevel:IoTDelivery.Mqtt.TlsRenewal=Information");

    public ValueTask DisposeAsync() => node.DisposeAsync();
}

/// <summary>A node with each setting of <c>Tls:CipherSuites</c>; both show the same certificate.</summary>
public sealed class TlsSite : IAsyncLifetime
{
    private readonly Dictionary<string, (string Certificate, string Key, string SerialNumber)> _issued = [];
    private string _keyType = "ECDSA";

    public Certificates Certificates { get; } = new();

    public TlsNode Modern { get; private set; } = null!;

    public TlsNode Vendor { get; private set; } = null!;

    public Node Node => Modern.Node;

    public int TlsPort => Modern.MqttPort;

    public int HttpsPort => Modern.HttpsPort;

    public async Task InitializeAsync()
    {
        Modern = new TlsNode(Node.Create(Certificates.Pem));
        Vendor = new TlsNode(Node.Create([.. Certificates.Pem, "--Tls:CipherSuites=Vendor"]));

        // What Modern is depends on the machine's openssl.cnf; what is tested is the product on a machine that has no
        // opinion.
        foreach (var node in new[] { Modern, Vendor }) node.Node.Variables["OPENSSL_CONF"] = "/dev/null";
        await Task.WhenAll(Modern.StartAsync(), Vendor.StartAsync());
        await Node.Api.CreateProductAsync();
    }

    public async Task DisposeAsync()
    {
        await Modern.DisposeAsync();
        await Vendor.DisposeAsync();
        Certificates.Dispose();
    }

    /// <summary>Both nodes show a certificate with such a key.</summary>
    public async Task UseKeyAsync(string keyType)
    {
        if (keyType == _keyType) return;
        if (!_issued.TryGetValue(keyType, out var issued)) _issued[keyType] = issued = Certificates.Issue(keyType);
        Certificates.Write("server.pem", issued.Certificate);
        Certificates.Write("server.key", issued.Key);
        foreach (var node in new[] { Modern, Vendor })
        {
            node.Node.HangUp();
            foreach (var door in node.Doors)
            {
                await UntilShownAsync(door.Port, issued.SerialNumber, TimeSpan.FromSeconds(10));
            }
        }

        _keyType = keyType;
    }

    /// <summary>A new certificate in the files of both nodes. Returns its serial number.</summary>
    public string Renew()
    {
        _keyType = "ECDSA";
        return Certificates.Renew();
    }

    /// <summary>The serial number of what a port shows to a client that checks name and chain.</summary>
    public async Task<string> ShownAsync(int port)
    {
        await using var tls = await ConnectAsync(port);
        return tls.RemoteCertificate!.GetSerialNumberString();
    }

    /// <summary>
    /// Connects until the port shows this certificate; before, it may only show the one it showed first.
    /// </summary>
    public async Task UntilShownAsync(int port, string serialNumber, TimeSpan patience)
    {
        var clock = Stopwatch.StartNew();
        var first = await ShownAsync(port);
        for (var shown = first; shown != serialNumber; shown = await ShownAsync(port))
        {
            Assert.Equal(first, shown);
            Assert.True(clock.Elapsed < patience, $"Port {port} still shows {shown} after {clock.Elapsed}.");
            await Task.Delay(20); // only a new connection tells
        }
    }

    public async Task<SslStream> ConnectAsync(int port)
    {
        var socket = new TcpClient();
        await socket.ConnectAsync(IPAddress.Loopback, port);
        var tls = new SslStream(
            socket.GetStream(), false, (_, certificate, _, errors) => Certificates.IsTrusted(certificate, errors));
        await tls.AuthenticateAsClientAsync("localhost");
        return tls;
    }
}

/// <summary>TLS on every port: the host's name and the chain are checked, as a careful client does.</summary>
public sealed class TlsSpec(TlsSite site) : IClassFixture<TlsSite>
{
    private const string Unchanged = "stays in use: its files have not changed.";
    private const string Refused = "stays in use: its files cannot serve.";

    // What docs/COMPATIBILITY.md claims of TLS. Without TLS it is MqttClientsSpec's.
    [Theory]
    [InlineData(MqttProtocolVersion.V310, SslProtocols.Tls12)] // one device SDK is pinned to it
    [InlineData(MqttProtocolVersion.V310, SslProtocols.Tls13)]
    [InlineData(MqttProtocolVersion.V311, SslProtocols.Tls12)]
    [InlineData(MqttProtocolVersion.V311, SslProtocols.Tls13)]
    [InlineData(MqttProtocolVersion.V500, SslProtocols.Tls12)]
    [InlineData(MqttProtocolVersion.V500, SslProtocols.Tls13)]
    [InlineData(MqttProtocolVersion.V310, SslProtocols.None, true)]
    [InlineData(MqttProtocolVersion.V311, SslProtocols.None, true)]
    [InlineData(MqttProtocolVersion.V500, SslProtocols.None, true)]
    public async Task A_device_gets_its_message_over_TLS_and_over_a_secure_WebSocket(
        MqttProtocolVersion version, SslProtocols protocol, bool isWebSocket = false)
    {
        var lamp = await site.Node.Api.CreateDeviceAsync($"lamp_{version}_{protocol}");
        await using var device = isWebSocket
            ? await Device.ConnectAsync(
                site.HttpsPort,
                lamp,
                version,
                more: o => o.WithTlsOptions(Trusting(protocol)),
                webSocket: $"wss://localhost:{site.HttpsPort}/mqtt")
            : await Device.ConnectAsync(
                site.TlsPort,
                lamp,
                version,
                more: o => o.WithTcpServer("localhost", site.TlsPort).WithTlsOptions(Trusting(protocol)));
        await device.SubscribeAsync();

        Api.Expect(HttpStatusCode.Created, await site.Node.Api.SendMessageAsync(lamp, "over TLS"));

        var received = await device.NextAsync();
        Assert.Equal(("over TLS", 1), (received.Content, received.QoS));
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
        using var files = new Certificates();
        foreach (var settings in new[] { files.Pfx, files.EncryptedPem })
        {
            var port = Node.FreePort();
            await using var node = await Node.StartAsync([.. settings, $"--Mqtt:TlsPort={port}"]);
            using var socket = new TcpClient("localhost", port);
            await using var tls = new SslStream(
                socket.GetStream(), false, (_, certificate, _, errors) => files.IsTrusted(certificate, errors));
            await tls.AuthenticateAsClientAsync("localhost");
        }
    }

    // ---- cipher suites: what s_client of OpenSSL offers, and nothing else

    public static TheoryData<string, string, string, bool, bool> Suites => new()
    {
        // key, protocol, suite, spoken by Modern, by Vendor
        { "ECDSA", "tls1_3", "TLS_AES_256_GCM_SHA384", true, true },
        { "ECDSA", "tls1_3", "TLS_CHACHA20_POLY1305_SHA256", true, true },
        { "ECDSA", "tls1_3", "TLS_AES_128_GCM_SHA256", true, true },
        { "ECDSA", "tls1_2", "ECDHE-ECDSA-AES256-GCM-SHA384", true, true },
        { "ECDSA", "tls1_2", "ECDHE-ECDSA-AES128-GCM-SHA256", true, true },
        { "ECDSA", "tls1_2", "ECDHE-ECDSA-AES256-SHA384", true, true },
        { "ECDSA", "tls1_2", "ECDHE-ECDSA-AES128-SHA256", true, true },
        { "ECDSA", "tls1_2", "ECDHE-ECDSA-AES256-SHA", false, true },
        { "ECDSA", "tls1_2", "ECDHE-ECDSA-AES128-SHA", false, true },
        { "ECDSA", "tls1_2", "ECDHE-RSA-AES128-GCM-SHA256", false, false }, // the certificate is of the other kind
        { "RSA", "tls1_3", "TLS_AES_256_GCM_SHA384", true, true },
        { "RSA", "tls1_3", "TLS_AES_128_GCM_SHA256", true, true },
        { "RSA", "tls1_2", "ECDHE-RSA-AES256-GCM-SHA384", true, true },
        { "RSA", "tls1_2", "ECDHE-RSA-AES128-GCM-SHA256", true, true },
        { "RSA", "tls1_2", "ECDHE-RSA-AES256-SHA384", true, true },
        { "RSA", "tls1_2", "ECDHE-RSA-AES128-SHA256", true, true },
        { "RSA", "tls1_2", "ECDHE-RSA-AES256-SHA", false, true },
        { "RSA", "tls1_2", "ECDHE-RSA-AES128-SHA", false, true },
        { "RSA", "tls1_2", "AES128-SHA", false, false }, // no forward secrecy
        { "RSA", "tls1_2", "AES128-GCM-SHA256", false, false },
        { "RSA", "tls1_2", "DHE-RSA-AES128-GCM-SHA256", false, false },
        { "RSA", "tls1_1", "ECDHE-RSA-AES128-SHA:@SECLEVEL=0", false, false },
    };

    [SkippableTheory]
    [MemberData(nameof(Suites))]
    public async Task A_client_that_knows_one_suite_is_served_as_the_setting_says(
        string key, string protocol, string suite, bool byModern, bool byVendor)
    {
        Skip.If(Command.Find("openssl") is null, "openssl is not installed (apt-get install openssl).");
        await site.UseKeyAsync(key);
        string[] offer =
            ["s_client", "-brief", $"-{protocol}", protocol == "tls1_3" ? "-ciphersuites" : "-cipher", suite];

        var doors = site.Modern.Doors.Select(d => ($"Modern, {d.Name}", d.Port, byModern))
            .Concat(site.Vendor.Doors.Select(d => ($"Vendor, {d.Name}", d.Port, byVendor)));
        await Task.WhenAll(doors.Select(async door =>
        {
            var (name, port, isSpoken) = door;
            await using var client = Command.Start(
                Path.GetTempPath(),
                "sh",
                [
                    "-c", "exec openssl \"$@\" </dev/null", "openssl", .. offer, "-connect", $"127.0.0.1:{port}",
                ]);
            Assert.True((await client.ExitAsync() == 0) == isSpoken, $"{name}: {client.Errors}");
            if (isSpoken) Assert.Contains($"Ciphersuite: {suite}", client.Errors);
            else Assert.Contains("alert", client.Errors); // refused in TLS's words, not cut off
        }));
    }

    // ---- renewal

    [Fact]
    public async Task A_renewed_certificate_is_shown_at_every_door_within_five_seconds_and_no_connected_device_notices()
    {
        const int count = 200;
        await Parallel.ForAsync(0, count, async (i, _) => await site.Node.Api.CreateDeviceAsync($"lamp_r{i}"));
        var devices = new SslStream[count];
        await Parallel.ForAsync(0, count, async (i, _) => devices[i] = await ConnectedAsync($"lamp_r{i}"));
        var refused = Logged(site.Node, Refused);
        var isOver = false;
        var pings = Task.WhenAll(devices.Select(async device =>
        {
            var answers = 0;
            while (!Volatile.Read(ref isOver))
            {
                answers += await PingAsync(device);
                await Task.Delay(100); // 2,000 packets a second are load enough
            }

            return answers;
        }));

        foreach (var isAsked in new[] { false, true })
        {
            var serialNumber = site.Renew();
            if (isAsked) site.Node.HangUp();
            var patience = TimeSpan.FromSeconds(5);
            await Task.WhenAll(
                site.Modern.Doors.Select(door => site.UntilShownAsync(door.Port, serialNumber, patience)));

            // They came with the same file.
            await Task.WhenAll(
                site.Vendor.Doors.Select(door => site.UntilShownAsync(door.Port, serialNumber, patience)));
        }

        var unchanged = Logged(site.Node, Unchanged);
        site.Node.HangUp(); // asked for without a need: it is told so
        await UntilLoggedAsync(site.Node, Unchanged, unchanged + 1);
        Assert.Equal(refused, Logged(site.Node, Refused)); // certificate and key were written one after the other

        Volatile.Write(ref isOver, true);
        Assert.All(await pings, answers => Assert.True(answers > 0));
        foreach (var device in devices)
        {
            Assert.Equal(1, await PingAsync(device));
            await device.DisposeAsync();
        }
    }

    [Theory]
    [InlineData(
        "server.pem", "this is no certificate", "Tls:CertificateFile: {folder}/server.pem cannot be read as PFX")]
    [InlineData("server.pem", null, "Tls:CertificateFile: {folder}/server.pem cannot be read.")]
    [InlineData("server.key", null, "Tls:KeyFile: {folder}/server.key cannot be read.")]
    [InlineData("server.key", "{other}", "Tls:KeyFile: {folder}/server.key holds no private key that fits")]
    public async Task A_broken_file_leaves_the_old_certificate_in_use_and_is_named_in_the_log(
        string name, string? content, string says)
    {
        var (file, shown) = (site.Certificates.File(name), await site.ShownAsync(site.TlsPort));
        var good = await File.ReadAllTextAsync(file);
        try
        {
            if (content is null) File.Delete(file);
            else site.Certificates.Write(name, content == "{other}" ? site.Certificates.Issue().Key : content);
            site.Node.HangUp();

            await UntilLoggedAsync(site.Node, says.Replace("{folder}", site.Certificates.Folder), 1);
            foreach (var door in site.Modern.Doors) Assert.Equal(shown, await site.ShownAsync(door.Port));
        }
        finally
        {
            site.Certificates.Write(name, good);
        }
    }

    private static int Logged(Node node, string text) => node.Output.Split('\n').Count(line => line.Contains(text));

    private static async Task UntilLoggedAsync(Node node, string text, int times)
    {
        var clock = Stopwatch.StartNew();
        while (Logged(node, text) < times)
        {
            Assert.True(
                clock.Elapsed < TimeSpan.FromSeconds(10), $"'{text}' is not {times} times in the log:\n{node.Output}");
            await Task.Delay(20); // the log of another process: there is nothing to await
        }
    }

    private async Task<SslStream> ConnectedAsync(string lamp)
    {
        var device = await site.ConnectAsync(site.TlsPort);
        await device.WriteAsync(RawMqtt.Connect(lamp));
        var connAck = new byte[4];
        await device.ReadExactlyAsync(connAck);
        Assert.Equal([0x20, 2, 0, 0], connAck);
        return device;
    }

    // PINGREQ, PINGRESP.
    private static async Task<int> PingAsync(SslStream device)
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        await device.WriteAsync(new byte[] { 0xC0, 0 }, patience.Token);
        var answer = new byte[2];
        await device.ReadExactlyAsync(answer, patience.Token);
        Assert.Equal([0xD0, 0], answer);
        return 1;
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
        { "not for servers", ["--Mqtt:TlsPort=8883", "--Tls:CertificateFile={good}/client.pem"], "is not for servers" },
        {
            "a key too short for TLS",
            ["--Mqtt:TlsPort=8883", "--Tls:CertificateFile={good}/short.pem"],
            "Tls:CertificateFile: TLS cannot be spoken with the certificate in {good}/short.pem."
        },
        { "unknown suites", ["--Tls:CipherSuites=Old"], "Tls:CipherSuites must be one of Modern, Vendor." },
        { "suites by number", ["--Tls:CipherSuites=1"], "Tls:CipherSuites must be one of Modern, Vendor." },
        { "port out of range", ["--Mqtt:TlsPort=70000"], "Mqtt:TlsPort must be from 0 to 65535." },
        { "no http", ["--urls=ftp://127.0.0.1:0"], "only http and https are offered" },
    };

    public TlsSettingsSpec()
    {
        var (client, @short) = (_good.Issue(usage: Certificates.ClientAuthentication), _good.Issue("short RSA"));
        _good.Write("client.pem", client.Certificate + "\n" + client.Key);
        _good.Write("short.pem", @short.Certificate + "\n" + @short.Key);
    }

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
