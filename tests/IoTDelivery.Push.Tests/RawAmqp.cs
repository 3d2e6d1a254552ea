using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;
using Amqp;
using Amqp.Framing;
using Amqp.Sasl;
using Amqp.Types;
using Encoder = Amqp.Types.Encoder;

namespace IoTDelivery.Push.Tests;

/// <summary>
/// An AMQP client that does nothing by itself. The library's own sends heartbeats, answers CLOSE and hides empty
/// frames.
/// </summary>
internal sealed class RawAmqp : IDisposable
{
    private const byte AmqpFrame = 0, SaslFrame = 1;

    private readonly TcpClient _tcp;
    private readonly NetworkStream _stream;

    private RawAmqp(int port)
    {
        _tcp = new TcpClient("127.0.0.1", port);
        _stream = _tcp.GetStream();
    }

    /// <summary>Logs in and sends OPEN with this idle time-out, in milliseconds.</summary>
    public static async Task<RawAmqp> ConnectAsync(int port, string user, string code, uint idleTimeOut)
    {
        var client = new RawAmqp(port);
        await client._stream.WriteAsync("AMQP\u0003\u0001\0\0"u8.ToArray());
        var response = Encoding.UTF8.GetBytes($"\0{user}\0{code}");
        await client.SendAsync(SaslFrame, new SaslInit { Mechanism = "PLAIN", InitialResponse = response });
        await client.ReadAsync(8);
        Assert.IsType<SaslMechanisms>(await client.ReceiveAsync());
        Assert.Equal(SaslCode.Ok, Assert.IsType<SaslOutcome>(await client.ReceiveAsync()).Code);
        await client._stream.WriteAsync("AMQP\0\u0001\0\0"u8.ToArray());
        await client.SendAsync(AmqpFrame, new Open { ContainerId = "raw", IdleTimeOut = idleTimeOut });
        await client.ReadAsync(8);
        return client;
    }

    /// <summary>Asks for so many messages of the queue.</summary>
    public async Task AttachAsync(string queue, uint credit)
    {
        await SendAsync(AmqpFrame, new Begin { NextOutgoingId = 0, IncomingWindow = 100, OutgoingWindow = 100 });
        var source = new Source { Address = queue };
        var target = new Target();
        await SendAsync(
            AmqpFrame, new Attach { LinkName = "raw", Handle = 0, Role = true, Source = source, Target = target });
        await SendAsync(AmqpFrame, new Flow
        {
            NextIncomingId = 0,
            IncomingWindow = 100,
            NextOutgoingId = 0,
            OutgoingWindow = 100,
            Handle = 0,
            DeliveryCount = 0,
            LinkCredit = credit,
        });
    }

    /// <summary>A heartbeat.</summary>
    public Task SendEmptyAsync() => _stream.WriteAsync(new byte[] { 0, 0, 0, 8, 2, AmqpFrame, 0, 0 }).AsTask();

    /// <summary>The next frame of the node's; null if it is empty.</summary>
    public async Task<object?> ReceiveAsync()
    {
        var head = await ReadAsync(8);
        var body = await ReadAsync(BinaryPrimitives.ReadInt32BigEndian(head) - head.Length);
        return body.Length == 0 ? null : Encoder.ReadObject(new ByteBuffer(body, 0, body.Length, body.Length));
    }

    /// <summary>The next frame of this kind.</summary>
    public async Task<T> ReceiveAsync<T>()
    {
        while (true)
        {
            if (await ReceiveAsync() is T wanted) return wanted;
        }
    }

    /// <summary>True if the node ends the connection next, instead of sending a frame.</summary>
    public async Task<bool> IsEndedAsync() => await _stream.ReadAsync(new byte[1]) == 0;

    public void Dispose() => _tcp.Dispose();

    private async Task SendAsync(byte type, DescribedList performative)
    {
        var body = new ByteBuffer(256, autoGrow: true);
        Encoder.WriteObject(body, performative);
        var frame = new byte[8 + body.Length];
        BinaryPrimitives.WriteInt32BigEndian(frame, frame.Length);
        (frame[4], frame[5]) = (2, type);
        body.Buffer.AsSpan(body.Offset, body.Length).CopyTo(frame.AsSpan(8));
        await _stream.WriteAsync(frame);
    }

    private async Task<byte[]> ReadAsync(int count)
    {
        var bytes = new byte[count];
        await _stream.ReadExactlyAsync(bytes);
        return bytes;
    }
}
