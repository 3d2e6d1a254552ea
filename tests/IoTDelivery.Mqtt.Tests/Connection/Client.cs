using System.Buffers;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>The device's side of a connection made of two pipes in memory.</summary>
internal sealed class Client : IConnectionLifetimeNotificationFeature, IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    private readonly MqttProtocolVersion _version;
    private readonly Pipe _toServer = new();
    private readonly Pipe _toClient;
    private readonly CancellationTokenSource _closeRequested = new();

    /// <param name="version">What the client speaks.</param>
    /// <param name="window">Bytes the transport takes before the client has read some.</param>
    public Client(MqttProtocolVersion version, long window = 64 * 1024)
    {
        _version = version;
        _toClient = new Pipe(new PipeOptions(pauseWriterThreshold: window, resumeWriterThreshold: 1));
        Connection = new DefaultConnectionContext("test", new Duplex(_toServer.Reader, _toClient.Writer), new Duplex(_toClient.Reader, _toServer.Writer));
        Connection.Features.Set<IConnectionLifetimeNotificationFeature>(this);
    }

    public DefaultConnectionContext Connection { get; }

    public CancellationToken ConnectionClosedRequested
    {
        get => _closeRequested.Token;
        set => throw new NotSupportedException();
    }

    public void RequestClose() => _closeRequested.Cancel();

    public async Task SendAsync(params MqttPacket[] packets)
    {
        foreach (var packet in packets) MqttFraming.Write(_toServer.Writer, packet, _version);
        await _toServer.Writer.FlushAsync();
    }

    public async Task SendAsync(byte[] bytes) => await _toServer.Writer.WriteAsync(bytes);

    /// <summary>Closes the client's half, as a TCP FIN does.</summary>
    public ValueTask HangUpAsync() => _toServer.Writer.CompleteAsync();

    public async Task<T> ReceiveAsync<T>()
        where T : MqttPacket => Assert.IsType<T>(await ReceiveAsync());

    /// <summary>The next packet, or null at the end of the stream.</summary>
    public async Task<MqttPacket?> ReceiveAsync()
    {
        using var patience = new CancellationTokenSource(Patience);
        while (true)
        {
            var result = await _toClient.Reader.ReadAsync(patience.Token);
            var bytes = result.Buffer;
            var frame = MqttFraming.TryRead(ref bytes, _version, int.MaxValue, out var packet);
            _toClient.Reader.AdvanceTo(bytes.Start, frame == Frame.Packet ? bytes.Start : bytes.End);
            if (frame == Frame.Packet) return packet;
            Assert.Equal(Frame.Incomplete, frame);
            if (result.IsCompleted) return null;
        }
    }

    /// <summary>Whatever bytes have arrived, or nothing at the end of the stream.</summary>
    public async Task<byte[]> ReceiveBytesAsync()
    {
        using var patience = new CancellationTokenSource(Patience);
        var result = await _toClient.Reader.ReadAsync(patience.Token);
        var bytes = result.Buffer.ToArray();
        _toClient.Reader.AdvanceTo(result.Buffer.End);
        return bytes;
    }

    /// <summary>True if there is nothing to read right now.</summary>
    public bool HearsNothing()
    {
        if (!_toClient.Reader.TryRead(out var result)) return true;
        _toClient.Reader.AdvanceTo(result.Buffer.Start, result.Buffer.Start);
        return result.Buffer.IsEmpty;
    }

    public void Dispose() => _closeRequested.Dispose();

    private sealed record Duplex(PipeReader Input, PipeWriter Output) : IDuplexPipe;
}
