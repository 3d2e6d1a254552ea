using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>A packet as it came: first byte and what follows the remaining length.</summary>
public sealed record RawPacket(byte Header, byte[] Body)
{
    public int Type => Header >> 4;

    /// <summary>Packet id of a PUBLISH of QoS 1.</summary>
    public ushort PublishId() => BinaryPrimitives.ReadUInt16BigEndian(Body.AsSpan(2 + BinaryPrimitives.ReadUInt16BigEndian(Body)));

    public override string ToString() => $"0x{Header:X2} {Convert.ToHexString(Body)}";
}

/// <summary>MQTT by hand over a socket: for what no decent client would send, and for a thousand clients at once.</summary>
public sealed class RawMqtt : IDisposable
{
    public const int ConnAck = 2, Publish = 3, PubAck = 4, SubAck = 9, PingResp = 13, Disconnect = 14;

    private readonly Socket _socket = new(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };

    private readonly byte[] _buffer = new byte[1024];
    private ReadOnlyMemory<byte> _unread;

    private RawMqtt() { }

    /// <summary>Opens the connection, says nothing.</summary>
    public static async Task<RawMqtt> OpenAsync(int port, int? receiveBuffer = null)
    {
        var raw = new RawMqtt();
        if (receiveBuffer is { } bytes) raw._socket.ReceiveBufferSize = bytes;
        await raw._socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, port));
        return raw;
    }

    /// <summary>Opens, logs in and reads the CONNACK, which must be a yes.</summary>
    public static async Task<RawMqtt> LoggedInAsync(int port, string id, bool v5 = false, ushort keepAlive = 60, int? receiveBuffer = null)
    {
        var raw = await OpenAsync(port, receiveBuffer);
        await raw.SendAsync(Connect(id, v5, keepAlive));
        var answer = await raw.NextAsync();
        Assert.True(answer is { Type: ConnAck, Body: [0, 0, ..] }, $"{id} was not let in: {answer}");
        return raw;
    }

    public static byte[] Connect(string id, bool v5 = false, ushort keepAlive = 60, string? password = null, byte level = 0)
    {
        var (clientId, user, right) = Device.Login(id);
        byte[] properties = v5 ? [0] : [];
        return Packet(0x10, [.. Text("MQTT"), level == 0 ? (byte)(v5 ? 5 : 4) : level, 0xC2, .. Number(keepAlive), .. properties, .. Text(clientId), .. Text(user), .. Text(password ?? right)]);
    }

    public static byte[] Subscribe(string topicFilter, int qos, bool v5 = false, ushort packetId = 1)
    {
        byte[] properties = v5 ? [0] : [];
        return Packet(0x82, [.. Number(packetId), .. properties, .. Text(topicFilter), (byte)qos]);
    }

    public static byte[] PublishTo(string topic, int qos, bool v5 = false, ushort packetId = 1)
    {
        byte[] properties = v5 ? [0] : [];
        return Packet((byte)(0x30 | (qos << 1)), [.. Text(topic), .. qos == 0 ? [] : Number(packetId), .. properties, .. "x"u8]);
    }

    public static byte[] Acknowledge(ushort packetId) => Packet(0x40, Number(packetId));

    public static byte[] Packet(byte header, byte[] body)
    {
        var bytes = new List<byte> { header };
        var rest = body.Length;
        do
        {
            bytes.Add((byte)(rest % 128 | (rest > 127 ? 0x80 : 0)));
            rest /= 128;
        }
        while (rest > 0);
        return [.. bytes, .. body];
    }

    /// <summary>False if the other side has gone.</summary>
    public async Task<bool> SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancel = default)
    {
        try
        {
            while (!bytes.IsEmpty) bytes = bytes[await _socket.SendAsync(bytes, cancel)..];
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    /// <summary>The next packet; null if the connection was closed instead.</summary>
    public async Task<RawPacket?> NextAsync(TimeSpan? patience = null)
    {
        using var limit = new CancellationTokenSource(patience ?? TimeSpan.FromSeconds(30));
        try
        {
            if (await ByteAsync(limit.Token) is not { } header) return null;
            var (length, shift) = (0, 0);
            while (true)
            {
                if (await ByteAsync(limit.Token) is not { } part) return null;
                length |= (part & 0x7F) << shift;
                if (part < 0x80) break;
                shift += 7;
            }

            var body = new byte[length];
            var read = 0;
            while (read < length)
            {
                if (_unread.IsEmpty && !await FillAsync(limit.Token)) return null;
                var count = Math.Min(_unread.Length, length - read);
                _unread[..count].CopyTo(body.AsMemory(read));
                _unread = _unread[count..];
                read += count;
            }

            return new RawPacket(header, body);
        }
        catch (SocketException)
        {
            return null; // reset: closed with bytes of ours unread
        }
    }

    /// <summary>Reads until the connection is closed by the node; fails if it is not. Returns what the node still said.</summary>
    public async Task<IReadOnlyList<RawPacket>> ClosedAsync(TimeSpan? patience = null)
    {
        var said = new List<RawPacket>();
        try
        {
            while (await NextAsync(patience) is { } packet) said.Add(packet);
        }
        catch (OperationCanceledException)
        {
            Assert.Fail($"The connection was not closed; it said {string.Join(", ", said)}.");
        }

        return said;
    }

    public void Dispose() => _socket.Dispose();

    public static byte[] Text(string text) => [.. Number((ushort)Encoding.UTF8.GetByteCount(text)), .. Encoding.UTF8.GetBytes(text)];

    public static byte[] Number(ushort number) => [(byte)(number >> 8), (byte)number];

    private async ValueTask<byte?> ByteAsync(CancellationToken cancel)
    {
        if (_unread.IsEmpty && !await FillAsync(cancel)) return null;
        var one = _unread.Span[0];
        _unread = _unread[1..];
        return one;
    }

    private async ValueTask<bool> FillAsync(CancellationToken cancel)
    {
        _unread = _buffer.AsMemory(0, await _socket.ReceiveAsync(_buffer, cancel));
        return !_unread.IsEmpty;
    }
}
