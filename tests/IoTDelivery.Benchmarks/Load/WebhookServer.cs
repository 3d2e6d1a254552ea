using System.Buffers.Text;
using System.Net;
using System.Net.Sockets;

namespace IoTDelivery.Benchmarks.Load;

/// <summary>The application's webhook: reads the notification and answers 200.</summary>
public sealed class WebhookServer : Watched, IDisposable
{
    private readonly Poller _poller;
    private readonly DeliveryLoad _load;
    private readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
    private readonly List<Link> _links = [];

    public WebhookServer(Poller poller, DeliveryLoad load)
    {
        (_poller, _load) = (poller, load);
        _listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _listener.Listen(512);
        _listener.Blocking = false;
        Descriptor = (int)_listener.Handle;
        poller.Watch(this);
    }

    public override int Descriptor { get; }

    public string Url => $"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndPoint!).Port}/status";

    public override void OnReadable() => _links.Add(new Receiver(_poller, _listener.Accept(), _load));

    public override void OnWritable()
    {
    }

    public void Dispose()
    {
        foreach (var link in _links) link.Dispose();
        _poller.Forget(this);
        _listener.Dispose();
    }

    private sealed class Receiver(Poller poller, Socket socket, DeliveryLoad load) : Link(poller, socket)
    {
        private static readonly byte[] Ok = Names.Utf8("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");

        protected override int Take(ReadOnlySpan<byte> bytes)
        {
            var length = Http.Length(bytes, out var body);
            if (length == 0) return 0;
            var number = Names.MessageNumber(Http.Value(body, "\"message_id\":\""u8));
            Utf8Parser.TryParse(Http.Value(body, "\"request_id\":\""u8), out Guid requestId, out _);
            load.OnTold(number, requestId, Http.Value(body, "\"status\":\""u8).SequenceEqual("DELIVERED"u8));
            Send(Ok);
            return length;
        }
    }
}
