using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Net.WebSockets;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace IoTDelivery.Mqtt;

/// <summary>
/// A WebSocket as Kestrel would hand over a socket (MQTT 5 and 3.1.1, chapter 6): bytes come out of a bounded pipe and go into one. Where a frame begins or ends
/// means nothing to MQTT [MQTT-6.0.0-2].
/// </summary>
//
//   client ══ frames ══► ReceiveAsync ──► pipe ──► Transport.Input  ──►
//                                                                        MqttConnectionHandler
//   client ◄══ frames ══ SendAsync   ◄── pipe ◄── Transport.Output ◄──
//
internal sealed class WebSocketConnection : ConnectionContext, IDuplexPipe
{
    private const int PauseBytes = 64 * 1024; // as Kestrel's own pipes
    private const int ReceiveBytes = 4096;

    private static readonly PipeOptions Bounded = new(pauseWriterThreshold: PauseBytes, resumeWriterThreshold: PauseBytes / 2, useSynchronizationContext: false);

    private readonly HttpContext _http;
    private readonly WebSocket _socket;
    private readonly Pipe _fromClient = new(Bounded), _toClient = new(Bounded);
    private readonly CancellationTokenSource _closed = new(); // nothing comes any more: what the handler asks
    private readonly CancellationTokenSource _aborted = new(); // and nothing goes
    private WebSocketCloseStatus _closeStatus = WebSocketCloseStatus.NormalClosure;

    private WebSocketConnection(HttpContext http, WebSocket socket)
    {
        (_http, _socket) = (http, socket);
        (ConnectionId, Features, Items) = (http.Connection.Id, http.Features, http.Items!);
        (LocalEndPoint, RemoteEndPoint) = (EndPoint(http.Connection.LocalIpAddress, http.Connection.LocalPort), EndPoint(http.Connection.RemoteIpAddress, http.Connection.RemotePort));
        Transport = this;
    }

    public override string ConnectionId { get; set; }

    /// <summary>Those of the request: Kestrel's notice that the host stops is among them.</summary>
    public override IFeatureCollection Features { get; }

    public override IDictionary<object, object?> Items { get; set; }

    public override IDuplexPipe Transport { get; set; }

    public override CancellationToken ConnectionClosed
    {
        get => _closed.Token;
        set => throw new NotSupportedException();
    }

    PipeReader IDuplexPipe.Input => _fromClient.Reader;

    PipeWriter IDuplexPipe.Output => _toClient.Writer;

    /// <summary>Serves until the handler has let go; the closing handshake may then take <paramref name="closeTimeout"/>.</summary>
    public static async Task RunAsync(HttpContext http, WebSocket socket, TimeSpan closeTimeout, ConnectionDelegate handle)
    {
        var connection = new WebSocketConnection(http, socket);
        var (receiving, sending) = (connection.ReceiveAsync(), connection.SendAsync());
        try
        {
            await handle(connection);
        }
        finally
        {
            connection._aborted.CancelAfter(closeTimeout);
            await connection._toClient.Writer.CompleteAsync();
            await connection._fromClient.Reader.CompleteAsync();
            await Task.WhenAll(sending, receiving);
            connection._aborted.Dispose();
        }
    }

    public override void Abort(ConnectionAbortedException abortReason)
    {
        _aborted.Cancel();
        _closed.Cancel();
        _http.Abort();
    }

    private async Task ReceiveAsync()
    {
        var writer = _fromClient.Writer;
        try
        {
            while (true)
            {
                var frame = await _socket.ReceiveAsync(writer.GetMemory(ReceiveBytes), _aborted.Token);
                if (frame.MessageType == WebSocketMessageType.Close) break;
                if (frame.MessageType == WebSocketMessageType.Text)
                {
                    _closeStatus = WebSocketCloseStatus.InvalidMessageType; // [MQTT-6.0.0-1] binary frames only
                    break;
                }

                writer.Advance(frame.Count);
                await writer.FlushAsync(); // the handler that has let go takes no more; the client's closing frame is waited for all the same
            }
        }
        catch (Exception cause) when (cause is WebSocketException or OperationCanceledException or IOException or ObjectDisposedException)
        {
            // The client is gone: the handler reads it from the end of the pipe.
        }

        await writer.CompleteAsync();
        _closed.Cancel();
    }

    private async Task SendAsync()
    {
        var reader = _toClient.Reader;
        try
        {
            while (true)
            {
                var result = await reader.ReadAsync();
                foreach (var segment in result.Buffer) await _socket.SendAsync(segment, WebSocketMessageType.Binary, endOfMessage: true, _aborted.Token);
                reader.AdvanceTo(result.Buffer.End);
                if (result.IsCompleted) break;
            }

            if (_socket.State is WebSocketState.Open or WebSocketState.CloseReceived) await _socket.CloseOutputAsync(_closeStatus, statusDescription: null, _aborted.Token);
        }
        catch (Exception cause) when (cause is WebSocketException or OperationCanceledException or IOException or ObjectDisposedException)
        {
            // Not taken: the handler's next flush finds the pipe completed.
        }

        await reader.CompleteAsync();
    }

    private static IPEndPoint? EndPoint(IPAddress? address, int port) => address is null ? null : new IPEndPoint(address, port);
}
