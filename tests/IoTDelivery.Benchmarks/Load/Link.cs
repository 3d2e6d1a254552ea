using System.Net;
using System.Net.Sockets;

namespace IoTDelivery.Benchmarks.Load;

/// <summary>One connection of the generator: a socket that never blocks, and the bytes that are not a whole unit yet.</summary>
public abstract class Link : Watched, IDisposable
{
    private readonly Poller _poller;
    private readonly Socket _socket;
    private byte[] _in = new byte[2048];
    private byte[] _out = [];
    private int _received;

    protected Link(Poller poller, int port) : this(poller, Connected(port))
    {
    }

    protected Link(Poller poller, Socket socket)
    {
        (_poller, _socket) = (poller, socket);
        _socket.NoDelay = true;
        _socket.Blocking = false;
        Descriptor = (int)_socket.Handle;
        poller.Watch(this);
    }

    public override int Descriptor { get; }

    public bool IsClosed { get; private set; }

    public override void OnReadable()
    {
        if (IsClosed) return;
        if (_received == _in.Length) Array.Resize(ref _in, _in.Length * 2);
        var read = _socket.Receive(_in.AsSpan(_received), SocketFlags.None, out var error);
        if (error == SocketError.WouldBlock) return;
        if (read <= 0 || error != SocketError.Success)
        {
            Dispose();
            OnClosed();
            return;
        }

        _received += read;
        var taken = 0;
        while (taken < _received && Take(_in.AsSpan(taken, _received - taken)) is > 0 and var bytes) taken += bytes;
        if (IsClosed) return;
        _received -= taken;
        if (_received > 0 && taken > 0) Buffer.BlockCopy(_in, taken, _in, 0, _received);
    }

    public override void OnWritable()
    {
        var waiting = _out;
        _out = [];
        _poller.WatchWrites(this, false);
        Send(waiting);
    }

    public void Dispose()
    {
        if (IsClosed) return;
        IsClosed = true;
        _poller.Forget(this);
        _socket.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Handles the first whole unit of <paramref name="bytes"/> and tells its length; 0 if there is none yet.</summary>
    protected abstract int Take(ReadOnlySpan<byte> bytes);

    protected virtual void OnClosed()
    {
    }

    protected void Send(ReadOnlySpan<byte> bytes)
    {
        if (IsClosed) return;
        if (_out.Length > 0)
        {
            _out = [.. _out, .. bytes];
            return;
        }

        var sent = _socket.Send(bytes, SocketFlags.None, out var error);
        if (error is not (SocketError.Success or SocketError.WouldBlock)) return; // the read that follows tells the same
        if (sent >= bytes.Length) return;
        _out = bytes[Math.Max(0, sent)..].ToArray();
        _poller.WatchWrites(this, true);
    }

    private static Socket Connected(int port)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Connect(IPAddress.Loopback, port);
        return socket;
    }
}
