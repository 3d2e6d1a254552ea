using System.Collections.Concurrent;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using IoTDelivery.Mqtt;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Host.Tests.Doors;

/// <summary>Alone: counts what happens in the whole process.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;

/// <summary>
/// A platform whose every door is open, with TLS and without, at the product's own log level. What it logs is kept.
/// </summary>
public class DoorsPlatform : RunningPlatform, ILoggerProvider
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iotdelivery-doors-").FullName;
    private readonly ConcurrentQueue<string> _lines = [];
    private volatile TaskCompletionSource _news = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public int MqttPort => Services.GetRequiredService<MqttEndpoint>().BoundTo!.Port;

    public int MqttTlsPort { get; } = FreePort();

    public int AmqpPort { get; } = FreePort();

    public int AmqpTlsPort { get; } = FreePort();

    public int RestPort => Http.BaseAddress!.Port;

    public int RestTlsPort { get; } = FreePort();

    /// <summary>What was logged since the start, or the last <see cref="ForgetLines"/>.</summary>
    public IReadOnlyCollection<string> Lines => _lines;

    public void ForgetLines() => _lines.Clear();

    protected override string[] Settings
    {
        get
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            using var certificate = new CertificateRequest("CN=localhost", key, HashAlgorithmName.SHA256)
                .CreateSelfSigned(DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddDays(1));
            File.WriteAllText(
                Path.Combine(_folder, "server.pem"),
                certificate.ExportCertificatePem() + "\n" + key.ExportPkcs8PrivateKeyPem());
            return
            [
                $"--Tls:CertificateFile={_folder}/server.pem",
                $"--urls=http://127.0.0.1:0;https://127.0.0.1:{RestTlsPort}",
                $"--Mqtt:TlsPort={MqttTlsPort}",
                $"--Amqp:Port={AmqpPort}",
                $"--Amqp:TlsPort={AmqpTlsPort}",
                "--Logging:LogLevel:Default=Information",
            ];
        }
    }

    protected override void Replace(IServiceCollection services) => services.AddSingleton<ILoggerProvider>(this);

    /// <summary>Waits for a line with this in it.</summary>
    public async Task<string> LineAsync(string part)
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(20));
        while (true)
        {
            var news = _news.Task; // taken first: what is logged while we look wakes us
            if (_lines.FirstOrDefault(l => l.Contains(part)) is { } line) return line;
            try
            {
                await news.WaitAsync(patience.Token);
            }
            catch (OperationCanceledException)
            {
                Assert.Fail($"Nobody logged '{part}':\n{string.Join('\n', _lines)}");
            }
        }
    }

    /// <summary>A connection to a port, before TLS.</summary>
    public static async Task<Socket> OpenAsync(int port, string? from = null)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        if (from is not null) socket.Bind(new IPEndPoint(IPAddress.Parse(from), 0));
        await socket.ConnectAsync(IPAddress.Loopback, port);
        return socket;
    }

    /// <summary>TLS over it, whatever the certificate.</summary>
    public static async Task<Stream> TlsAsync(Socket socket)
    {
        var tls = new SslStream(new NetworkStream(socket, ownsSocket: true), false, (_, _, _, _) => true);
        await tls.AuthenticateAsClientAsync("localhost");
        return tls;
    }

    public ILogger CreateLogger(string categoryName) => new KeptLog(this, categoryName);

    public void Dispose() => GC.SuppressFinalize(this);

    public override async Task DisposeAsync()
    {
        await base.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private sealed class KeptLog(DoorsPlatform platform, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true; // the settings say what comes here

        public void Log<TState>(
            LogLevel logLevel,
            EventId eventId,
            TState state,
            Exception? exception,
            Func<TState, Exception?, string> formatter)
        {
            platform._lines.Enqueue($"{logLevel} {category}: {formatter(state, exception)} {exception}");
            Interlocked.Exchange(
                ref platform._news,
                new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).TrySetResult();
        }
    }
}
