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
    private int _handedOut;

    /// <summary>The library has let go of the connection.</summary>
    public Task Closed => _closed.Task;

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

    public async Task SendAsync(IList<ByteBuffer> bufferList, int listSize)
    {
        foreach (var buffer in bufferList) await _output.WriteAsync(buffer.Buffer.AsMemory(buffer.Offset, buffer.Length));
        await _output.FlushAsync();
    }

    public Task<int> ReceiveAsync(byte[] buffer, int offset, int count) => _input.ReadAsync(buffer, offset, count);

    public void Send(ByteBuffer buffer) => _output.Write(buffer.Buffer, buffer.Offset, buffer.Length);

    public int Receive(byte[] buffer, int offset, int count) => _input.Read(buffer, offset, count);

    public void Close() => _closed.TrySetResult();
}
