using System.Buffers.Binary;
using System.Text.Json;
using System.Threading.Channels;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>
/// A device by hand, for what a library hides: it keeps its session, names every packet id, and acknowledges what a
/// test tells it to, when it is told to. It subscribes only when a test says so.
/// </summary>
public sealed class LastingClient : IDisposable
{
    private readonly RawMqtt _raw;
    private readonly bool _v5;
    private readonly Channel<Received> _received = Channel.CreateUnbounded<Received>();
    private readonly TaskCompletionSource _subscribed = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private LastingClient(RawMqtt raw, bool v5, bool sessionPresent) =>
        (_raw, _v5, SessionPresent) = (raw, v5, sessionPresent);

    /// <summary>What the CONNACK said.</summary>
    public bool SessionPresent { get; }

    /// <summary>Ends when the node has closed the connection, with the reason code of its DISCONNECT, if any.</summary>
    public Task<byte?> Closed { get; private set; } = null!;

    /// <summary>Connects, and is let in.</summary>
    /// <param name="port">The node's MQTT port.</param>
    /// <param name="id">The device.</param>
    /// <param name="v5">MQTT 5 instead of 3.1.1.</param>
    /// <param name="clean">Clean session; otherwise the session is kept for ever.</param>
    public static async Task<LastingClient> ConnectAsync(int port, string id, bool v5, bool clean = false)
    {
        var raw = await RawMqtt.OpenAsync(port);
        var (clientId, user, password) = Device.Login(id);
        byte[] forEver = [5, 0x11, 0xFF, 0xFF, 0xFF, 0xFF]; // Session Expiry Interval
        byte[] properties = !v5 ? [] : clean ? [0] : forEver;
        await raw.SendAsync(RawMqtt.Packet(0x10,
        [
            .. RawMqtt.Text("MQTT"), (byte)(v5 ? 5 : 4), (byte)(clean ? 0xC2 : 0xC0), .. RawMqtt.Number(1_200),
            .. properties,
            .. RawMqtt.Text(clientId), .. RawMqtt.Text(user), .. RawMqtt.Text(password),
        ]));
        var answer = await raw.NextAsync();
        Assert.True(answer is { Type: RawMqtt.ConnAck, Body: [_, 0, ..] }, $"{id} was not let in: {answer}");
        var client = new LastingClient(raw, v5, answer!.Body[0] == 1);
        client.Closed = client.ReadAsync();
        return client;
    }

    /// <summary>Subscribes at QoS 1 and waits for the SUBACK.</summary>
    public async Task SubscribeAsync(string topicFilter)
    {
        await _raw.SendAsync(RawMqtt.Subscribe(topicFilter, 1, _v5));
        await _subscribed.Task.WaitAsync(TimeSpan.FromSeconds(30));
    }

    /// <summary>The next message, repetitions included.</summary>
    public async Task<Received> NextAsync(TimeSpan? patience = null)
    {
        using var limit = new CancellationTokenSource(patience ?? TimeSpan.FromSeconds(30));
        return await _received.Reader.ReadAsync(limit.Token);
    }

    /// <summary>Sends a PUBACK, whether the id means something or not.</summary>
    public async Task AcknowledgeAsync(ushort packetId) =>
        Assert.True(await _raw.SendAsync(RawMqtt.Acknowledge(packetId)), "The connection was closed.");

    /// <summary>The connection is lost: no DISCONNECT.</summary>
    public void Dispose() => _raw.Dispose();

    private async Task<byte?> ReadAsync()
    {
        byte? reason = null;
        try
        {
            while (await _raw.NextAsync(TimeSpan.FromHours(1)) is { } packet)
            {
                switch (packet.Type)
                {
                    case RawMqtt.SubAck: _subscribed.TrySetResult(); break;
                    case RawMqtt.Publish: _received.Writer.TryWrite(Read(packet)); break;
                    case RawMqtt.Disconnect: reason = packet.Body is [var code, ..] ? code : (byte)0; break;
                }
            }
        }
        catch (ObjectDisposedException)
        {
            // Closed from this side.
        }

        _received.Writer.TryComplete();
        _subscribed.TrySetException(new IOException("The connection was closed."));
        return reason;
    }

    private Received Read(RawPacket packet)
    {
        var body = packet.Body.AsSpan();
        var at = 2 + BinaryPrimitives.ReadUInt16BigEndian(body);
        var topic = System.Text.Encoding.UTF8.GetString(body[2..at]);
        var qos = (packet.Header >> 1) & 3;
        ushort id = 0;
        if (qos > 0)
        {
            id = BinaryPrimitives.ReadUInt16BigEndian(body[at..]);
            at += 2;
        }

        if (_v5)
        {
            var (length, shift) = (0, 0);
            byte part;
            do
            {
                part = body[at++];
                length |= (part & 0x7F) << shift;
                shift += 7;
            }
            while (part >= 0x80);
            at += length;
        }

        var json = JsonDocument.Parse(packet.Body.AsMemory(at)).RootElement;
        return new Received(
            json.GetProperty("id").GetString()!, json.GetProperty("content").GetString()!, topic, qos,
            (packet.Header & 8) != 0, id, DateTimeOffset.UtcNow, json.GetProperty("object_device_id").GetString());
    }
}
