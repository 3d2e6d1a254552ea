using System.Buffers.Binary;
using System.Buffers.Text;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.Benchmarks.Load;

/// <summary>Sends messages, one at a time, and says when one was answered.</summary>
public abstract class Caller(Poller poller, int port, DeliveryLoad load) : Link(poller, port)
{
    protected DeliveryLoad Load { get; } = load;

    protected Poller Poller { get; } = poller;

    protected int Port { get; } = port;

    protected long Number { get; set; } = -1;

    public abstract void Post(long number, int device);

    /// <summary>Another one in the place of this, which the server closed while it was idle.</summary>
    public abstract Caller Again();

    protected override void OnClosed() => Load.OnClosed(this, Number);

    protected void Answered(int status)
    {
        var number = Number;
        Number = -1;
        Load.OnAnswered(this, number, status);
    }
}

/// <summary>An application's connection to the REST API: keep-alive, one request at a time.</summary>
public sealed class RestCaller : Caller
{
    private readonly byte[] _request;
    private readonly int _deviceAt;
    private readonly int _messageAt;

    public RestCaller(Poller poller, int port, DeliveryLoad load) : base(poller, port, load)
    {
        var body = $$"""{"message_id":"{{Names.Message(0)}}","message":"{{Names.Content}}"}""";
        _request = Names.Utf8(
            $"POST /v5/iot/{Node.Project}/devices/{Names.Device(0)}/messages HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Auth-Token: {Node.Token}\r\n"
            + $"Content-Type: application/json\r\nContent-Length: {body.Length}\r\n\r\n{body}");
        _deviceAt = _request.AsSpan().IndexOf("/lamp_"u8) + 6;
        _messageAt = _request.AsSpan().IndexOf("\"b0"u8) + 2;
    }

    public override Caller Again() => new RestCaller(Poller, Port, Load);

    public override void Post(long number, int device)
    {
        Number = number;
        Names.Write(_request.AsSpan(_deviceAt, Names.DeviceDigits), device);
        Names.Write(_request.AsSpan(_messageAt, Names.MessageDigits), number);
        Send(_request);
    }

    protected override int Take(ReadOnlySpan<byte> bytes)
    {
        var length = Http.Length(bytes, out _);
        if (length == 0) return 0;
        Utf8Parser.TryParse(bytes[9..], out int status, out _);
        Answered(status);
        return length;
    }
}

/// <summary>For a plain broker, which has no REST API: publishes at QoS 1 to the device's topic and takes the broker's PUBACK for the answer.</summary>
public sealed class Publisher : Caller
{
    private readonly byte[] _packet;
    private readonly int _topicDigitsAt;
    private readonly int _messageAt;
    private readonly int _packetIdAt;
    private ushort _packetId;

    public Publisher(Poller poller, int port, int index, DeliveryLoad load) : base(poller, port, load)
    {
        var topic = Device.DownTopic(Names.Device(0));
        var payload = $$"""{"object_device_id":"{{Names.Device(0)}}","id":"{{Names.Message(0)}}","content":"{{Names.Content}}"}""";
        _packet = Mqtt.Packet(0x32, [.. Mqtt.Text(topic), 0, 0, .. Names.Utf8(payload)]);
        _topicDigitsAt = _packet.AsSpan().IndexOf("/lamp_"u8) + 6;
        _messageAt = _packet.AsSpan().IndexOf("\"b0"u8) + 2;
        _packetIdAt = _packet.AsSpan().IndexOf("{\"object"u8) - 2;
        Send(Mqtt.Connect($"publisher-{index}", null, null));
    }

    public override Caller Again() => throw new InvalidOperationException("The broker closed the connection of a publisher.");

    public override void Post(long number, int device)
    {
        Number = number;
        if (++_packetId == 0) _packetId = 1;
        Names.Write(_packet.AsSpan(_topicDigitsAt, Names.DeviceDigits), device);
        Names.Write(_packet.AsSpan(_messageAt, Names.MessageDigits), number);
        BinaryPrimitives.WriteUInt16BigEndian(_packet.AsSpan(_packetIdAt), _packetId);
        Send(_packet);
    }

    protected override int Take(ReadOnlySpan<byte> bytes)
    {
        var length = Mqtt.Length(bytes, out _);
        if (length > 0 && bytes[0] >> 4 == Mqtt.ConnAck) Load.OnReady(this);
        if (length > 0 && bytes[0] >> 4 == Mqtt.PubAck) Answered(201);
        return length;
    }
}
