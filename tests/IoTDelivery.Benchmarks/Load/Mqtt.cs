using System.Buffers.Binary;
using System.Diagnostics;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.Benchmarks.Load;

/// <summary>As much of MQTT 3.1.1 as the generator needs.</summary>
public static class Mqtt
{
    public const int ConnAck = 2, Publish = 3, PubAck = 4, SubAck = 9;

    // The longest the manual allows: no PINGREQ falls into a run.
    private const ushort KeepAliveSeconds = 1200;

    public static byte[] Connect(string clientId, string? user, string? password)
    {
        var flags = (byte)(0x02 | (user is null ? 0 : 0xC0)); // clean session
        return Packet(0x10,
        [
            .. Text("MQTT"), 4, flags, KeepAliveSeconds >> 8, KeepAliveSeconds & 0xFF, .. Text(clientId),
            .. user is null ? [] : Text(user), .. password is null ? [] : Text(password),
        ]);
    }

    public static byte[] Subscribe(string topic) => Packet(0x82, [0, 1, .. Text(topic), 1]);

    public static byte[] Text(string text)
    {
        var utf8 = Names.Utf8(text);
        return [(byte)(utf8.Length >> 8), (byte)utf8.Length, .. utf8];
    }

    public static byte[] Packet(byte header, byte[] rest)
    {
        var length = new List<byte>();
        var left = rest.Length;
        do
        {
            length.Add((byte)((left & 0x7F) | (left > 0x7F ? 0x80 : 0)));
            left >>= 7;
        }
        while (left > 0);
        return [header, .. length, .. rest];
    }

    /// <summary>Length of the whole packet, and where it goes on behind the fixed header; 0 if it is not all there.</summary>
    public static int Length(ReadOnlySpan<byte> bytes, out int start)
    {
        var (length, shift) = (0, 0);
        for (start = 1; start < bytes.Length; shift += 7)
        {
            var digit = bytes[start++];
            length |= (digit & 0x7F) << shift;
            if (digit < 0x80) return bytes.Length < start + length ? 0 : start + length;
        }

        return 0;
    }
}

/// <summary>A device: connects, subscribes its down topic at QoS 1, acknowledges at once.</summary>
public sealed class DeviceLink : Link
{
    private readonly string _deviceId;
    private readonly DeliveryLoad _load;
    private readonly byte[] _pubAck = [0x40, 2, 0, 0];

    public DeviceLink(Poller poller, int port, int number, DeliveryLoad load) : base(poller, port)
    {
        (_deviceId, _load) = (Names.Device(number), load);
        var (clientId, user, password) = Device.Login(_deviceId);
        Send(Mqtt.Connect(clientId, user, password));
    }

    public bool IsOnline { get; private set; }

    protected override int Take(ReadOnlySpan<byte> bytes)
    {
        var length = Mqtt.Length(bytes, out var start);
        if (length == 0) return 0;
        switch (bytes[0] >> 4)
        {
            case Mqtt.ConnAck when bytes[3] == 0: Send(Mqtt.Subscribe(Device.DownTopic(_deviceId))); break;
            case Mqtt.ConnAck: throw new InvalidOperationException($"CONNECT of {_deviceId} was answered with {bytes[3]}.");
            case Mqtt.SubAck:
                IsOnline = true;
                _load.OnOnline();
                break;
            case Mqtt.Publish: OnPublish(bytes[start..length]); break;
        }

        return length;
    }

    protected override void OnClosed() => _load.OnDeviceClosed();

    private void OnPublish(ReadOnlySpan<byte> packet)
    {
        var at = Stopwatch.GetTimestamp();
        var topic = BinaryPrimitives.ReadUInt16BigEndian(packet);
        packet.Slice(2 + topic, 2).CopyTo(_pubAck.AsSpan(2));
        Send(_pubAck);
        _load.OnPublished(Names.MessageNumber(Http.Value(packet[(4 + topic)..], "\"id\":\""u8)), at);
    }
}
