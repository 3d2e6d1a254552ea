using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Net;
using System.Net.Sockets;

namespace IoTDelivery.Host.Tests.Doors;

/// <summary>
/// Balancers and monitors connect, say nothing and go, all day: no line, no count. Who says something and is refused is
/// told of.
/// </summary>
[Collection(nameof(Alone))]
public sealed class ProbeSpec(DoorsPlatform platform) : IClassFixture<DoorsPlatform>, IDisposable
{
    private readonly Counts _counts = new();

    [Fact]
    public async Task Ten_thousand_probes_leave_no_line_and_no_count()
    {
        const int probes = 10_000;
        int[] doors =
        [
            platform.MqttPort, platform.MqttTlsPort, platform.AmqpPort, platform.AmqpTlsPort, platform.RestPort,
            platform.RestTlsPort,
        ];
        await platform.Http.GetAsync("/health/live"); // whatever is logged once is logged
        platform.ForgetLines();

        for (var i = 0; i < probes; i++)
        {
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);

            // It goes by RST, every other one by FIN.
            if (i / doors.Length % 2 == 0) socket.LingerState = new LingerOption(true, 0);
            socket.Connect(IPAddress.Loopback, doors[i % doors.Length]);
        }

        var clock = Stopwatch.StartNew();

        // Kestrel's own count, which nobody can await.
        while (_counts.Ended < probes && clock.Elapsed < TimeSpan.FromSeconds(60)) await Task.Delay(50);
        Assert.True(_counts.Ended >= probes, $"After a minute {probes - _counts.Ended} probes are still there.");
        Assert.Empty(platform.Lines);
        Assert.Equal(0, _counts.Refused);
        Assert.Equal(HttpStatusCode.OK, (await platform.Http.GetAsync("/health/live")).StatusCode);
    }

    public static TheoryData<string, byte[], bool, string> Speakers => new()
    {
        { "a PINGREQ", [0xC0, 0], false, "no CONNECT" },
        { "half of a CONNECT, then FIN", [0x10, 0x2A, 0], false, "no CONNECT" },
        { "half of a CONNECT, then RST", [0x10, 0x2A, 0], true, "connection lost" },
        { "one byte, then FIN", [0x10], false, "no CONNECT" },
    };

    [Theory]
    [MemberData(nameof(Speakers))]
    public async Task Who_sends_bytes_and_is_refused_is_logged_and_counted(
        string what, byte[] bytes, bool resets, string reason)
    {
        foreach (var isTls in new[] { false, true })
        {
            platform.ForgetLines();
            var before = _counts.Refused;
            using (var socket = await DoorsPlatform.OpenAsync(isTls ? platform.MqttTlsPort : platform.MqttPort))
            {
                await using var stream = isTls ? await DoorsPlatform.TlsAsync(socket) : new NetworkStream(socket);
                await stream.WriteAsync(bytes);
                if (resets && await HasReadAsync()) socket.LingerState = new LingerOption(true, 0);
            }

            var line = await platform.LineAsync("was refused");
            Assert.True(line.Contains(resets ? "was refused: " : $"was refused: {reason}."), $"{what}: {line}");
            Assert.Equal(before + 1, _counts.Refused);
        }
    }

    public void Dispose() => _counts.Dispose();

    // An RST takes away what the node has not read. A request that came behind the bytes and was answered says that
    // they are read.
    private async Task<bool> HasReadAsync()
    {
        for (var i = 0; i < 3; i++) await platform.Http.GetAsync("/health/live");
        return true;
    }

    /// <summary>What the meters of the process say since.</summary>
    private sealed class Counts : IDisposable
    {
        private readonly MeterListener _listener = new();
        private long _refused, _ended;

        public Counts()
        {
            _listener.InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Name is "mqtt.refused" or "kestrel.connection.duration")
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            };
            _listener.SetMeasurementEventCallback<long>((_, count, _, _) => Interlocked.Add(ref _refused, count));
            _listener.SetMeasurementEventCallback<double>((_, _, _, _) => Interlocked.Increment(ref _ended));
            _listener.Start();
        }

        public long Refused => Interlocked.Read(ref _refused);

        public long Ended => Interlocked.Read(ref _ended);

        public void Dispose() => _listener.Dispose();
    }
}
