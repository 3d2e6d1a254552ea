using Amqp;
using Microsoft.AspNetCore.Connections;

namespace IoTDelivery.Push;

/// <summary>The library's view of a connection that Kestrel accepted, with TLS or without. It is handed out once.</summary>
internal sealed class AmqpTransport(ConnectionContext connection) : TransportProvider, IAsyncTransport
{
    private readonly Stream _input = connection.Transport.Input.AsStream();
    private readonly Stream _output = connection.Transport.Output.AsStream();
    private readonly TaskCompletionSource _closed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _negotiated = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _clientSpoke = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _handedOut;
    private int _sending;
    private int _headerBytes; // of the client's AMQP header that have come

    /// <summary>The library has let go of the connection.</summary>
    public Task Closed => _closed.Task;

    /// <summary>Something is being sent, and the consumer has not taken enough of what came before.</summary>
    public bool IsSending => Volatile.Read(ref _sending) > 0;

    /// <summary>Login is over, one way or the other.</summary>
    public Task Negotiated => _negotiated.Task;

    public override Task<IAsyncTransport> CreateAsync(Address address)
    {
        if (Interlocked.Exchange(ref _handedOut, 1) == 0) return Task.FromResult<IAsyncTransport>(this);
        _negotiated.TrySetResult();
        return new TaskCompletionSource<IAsyncTransport>().Task; // there is no second one
    }

    public void SetConnection(Connection connection)
    {
    }

    // The library sends its header and OPEN as soon as the login is over. A client that sends its own header first, and then
    // looks at what comes (AMQP 1.0, 2.2), takes them for an answer to something else: rhea waits for ever.
    public async Task SendAsync(IList<ByteBuffer> bufferList, int listSize)
    {
        var isHeader = bufferList.Any(b => b.Buffer.AsSpan(b.Offset, b.Length).StartsWith(Header));
        if (isHeader && !_clientSpoke.Task.IsCompleted) await Task.WhenAny(_clientSpoke.Task, _closed.Task);
        Interlocked.Increment(ref _sending);
        try
        {
            foreach (var buffer in bufferList)
            {
                await _output.WriteAsync(buffer.Buffer.AsMemory(buffer.Offset, buffer.Length));
            }

            await _output.FlushAsync();
        }
        finally
        {
            Interlocked.Decrement(ref _sending);
        }
    }

    public async Task<int> ReceiveAsync(byte[] buffer, int offset, int count)
    {
        var read = await _input.ReadAsync(buffer.AsMemory(offset, count));
        Look(buffer.AsSpan(offset, read));
        return read;
    }

    public void Send(ByteBuffer buffer) => _output.Write(buffer.Buffer, buffer.Offset, buffer.Length);

    public int Receive(byte[] buffer, int offset, int count)
    {
        var read = _input.Read(buffer, offset, count);
        Look(buffer.AsSpan(offset, read));
        return read;
    }

    public void Close() => _closed.TrySetResult();

    private void Look(ReadOnlySpan<byte> received)
    {
        if (_headerBytes == Header.Length) return;
        foreach (var b in received)
        {
            _headerBytes = b == Header[_headerBytes] ? _headerBytes + 1 : b == Header[0] ? 1 : 0;
            if (_headerBytes < Header.Length) continue;
            _clientSpoke.TrySetResult();
            return;
        }
    }

    // 2.2: of the protocol itself, id 0. That of SASL, id 3, came before.
    private static ReadOnlySpan<byte> Header => "AMQP\0\u0001\0\0"u8;
}
