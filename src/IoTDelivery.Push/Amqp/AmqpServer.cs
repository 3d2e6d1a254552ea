using Amqp;
using Amqp.Framing;
using Amqp.Handler;
using Amqp.Listener;
using Amqp.Types;
using IoTDelivery.Registry;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using EventId = Amqp.Handler.EventId;

namespace IoTDelivery.Push;

/// <summary>
/// Consumers of queues, over AMQP 1.0. Kestrel accepts the connections and owns TLS; the protocol is AMQPNetLite's listener, one per connection, so that its
/// login knows whose it is.
/// </summary>
public sealed class AmqpServer(AmqpQueues queues, AccessCodes codes, AmqpConsumers consumers, AmqpOptions options, ILogger<AmqpServer> logger, TimeProvider clock)
    : BackgroundService
{
    // How soon force_disconnect is obeyed, on whatever node.
    private static readonly TimeSpan CheckInterval = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LastWords = TimeSpan.FromSeconds(1);

    // Milliseconds a consumer may announce: the heartbeats of a thousand consumers are to stay cheap.
    private const uint IdleTimeOutMin = 100;

    private readonly Lock _gate = new();
    private readonly HashSet<AmqpSession> _sessions = [];
    private readonly AmqpQueues _queues = queues;
    private readonly AccessCodes _codes = codes;
    private readonly AmqpConsumers _consumers = consumers;
    private readonly AmqpOptions _options = options;
    private readonly ILogger _logger = logger;
    private readonly TimeProvider _clock = clock;

    /// <summary>Serves a connection until it ends.</summary>
    public async Task OnConnectedAsync(ConnectionContext connection)
    {
        var session = new AmqpSession(this, connection);
        lock (_gate)
        {
            if (_sessions.Count >= _options.ConnectionsMax)
            {
                _logger.AmqpRefused(
                    connection.RemoteEndPoint?.ToString(), "", $"{_options.ConnectionsMax} connections are open");
                return;
            }

            _sessions.Add(session);
        }

        try
        {
            await session.RunAsync();
        }
        finally
        {
            lock (_gate) _sessions.Remove(session);
        }
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(CheckInterval, _clock);
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            if (_consumers.TakeBack(_options.SettleTimeout) is > 0 and var taken) _logger.AmqpTakenBack(taken, _options.SettleTimeout);
            AmqpSession[] sessions;
            lock (_gate) sessions = [.. _sessions.Where(s => s.Access is not null)];
            try
            {
                foreach (var ofKey in sessions.GroupBy(s => s.Access!.AccessKey))
                {
                    var access = await _codes.FindAsync(ofKey.Key, stoppingToken);
                    foreach (var session in ofKey.Where(s => access is null || s.Access!.Disconnects < access.Disconnects)) session.End("Another access code was asked for, with force_disconnect.");
                }
            }
            catch (Exception cause) when (!stoppingToken.IsCancellationRequested)
            {
                _logger.DatabaseAway(cause); // looked at again with the next tick
            }
        }
    }

    private bool Admit(AmqpSession session, AccessCode access)
    {
        lock (_gate)
        {
            if (_sessions.Count(s => s.Access?.AccessKey == access.AccessKey) >= _options.ConnectionsPerKeyMax) return false;
            session.Access = access;
            return true;
        }
    }

    private sealed class AmqpSession(AmqpServer server, ConnectionContext connection) : IContainer, IHandler
    {
        private readonly AmqpTransport _transport = new(connection);
        private readonly TaskCompletionSource<string> _end = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly TaskCompletionSource _hasLink = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private int _links;

        public AccessCode? Access { get; set; } // under the server's lock while it is set

        public System.Security.Cryptography.X509Certificates.X509Certificate2? ServiceCertificate => null;

        public IDictionary<string, TransportProvider> CustomTransports => new Dictionary<string, TransportProvider> { ["kestrel"] = _transport };

        public void End(string why) => _end.TrySetResult(why);

        public async Task RunAsync()
        {
            var listener = new ConnectionListener(new Address("kestrel://node:1"), this);
            var login = new AmqpLogin(
                server._codes,
                server._options,
                access => server.Admit(this, access),
                connection.RemoteEndPoint?.ToString(),
                server._logger,
                server._clock);
            listener.SASL.EnableMechanism("PLAIN", login);
            listener.AMQP.IdleTimeout = (int)server._options.IdleTimeout.TotalMilliseconds; // it announces half (2.4.5)
            listener.AMQP.ContainerId = "iotdelivery";
            listener.HandlerFactory = _ => this;
            using var stopping = connection.Features.Get<IConnectionLifetimeNotificationFeature>()?.ConnectionClosedRequested.Register(() => End("The node stops."));
            using var closed = connection.ConnectionClosed.Register(_transport.Close);
            listener.Open();
            try
            {
                var tooLate = Task.Delay(server._options.LinkTimeout, server._clock);
                await Task.WhenAny(_transport.Negotiated, _transport.Closed, tooLate);
                if (Access is null) return; // refused or silent; what was said has been flushed
                var first = await Task.WhenAny(_hasLink.Task, _transport.Closed, _end.Task, tooLate);
                if (first == tooLate) End($"No receiver link within {server._options.LinkTimeout}.");
                await Task.WhenAny(_end.Task, _transport.Closed);
                if (_end.Task.IsCompleted) server._logger.AmqpEnded(Access.AccessKey, _end.Task.Result);
            }
            finally
            {
                listener.Close(); // says goodbye where somebody still listens
                await Task.WhenAny(_transport.Closed, Task.Delay(LastWords));
                if (_transport.IsSending)
                {
                    connection.Abort(new ConnectionAbortedException("The consumer takes nothing any more."));
                }

                _transport.Close();
            }
        }

        public bool CanHandle(EventId id) => id is EventId.ConnectionRemoteOpen or EventId.ConnectionLocalClose;

        public void Handle(Event protocolEvent)
        {
            switch (protocolEvent.Context)
            {
                // The library sends an empty frame when the whole of what was announced has passed in silence: too late
                // for a consumer that announces its time-out as it is. 2.4.5 asks it for half, but not all halve.
                case Open { IdleTimeOut: > 0 } theirs when protocolEvent.Id == EventId.ConnectionRemoteOpen:
                    if (theirs.IdleTimeOut < IdleTimeOutMin)
                    {
                        var why = $"idle-time-out must be {IdleTimeOutMin} ms or more, not {theirs.IdleTimeOut}.";
                        throw Refused(ErrorCode.NotAllowed, why);
                    }

                    theirs.IdleTimeOut /= 2;
                    break;

                // Closing: for the library's reason (the idle time-out, a frame it cannot read), where it would wait
                // 20 s for the answer of somebody who may be gone, or for ours, which it does not know.
                case Close { Error: { } error }:
                    End(error.Description ?? error.Condition);
                    error.Description = _end.Task.Result;
                    break;
            }
        }

        public Message CreateMessage(ByteBuffer buffer) => Message.Decode(buffer);

        public Link CreateLink(ListenerConnection connection, ListenerSession session, Attach attach) => new ListenerLink(session, attach);

        public bool AttachLink(ListenerConnection connection, ListenerSession session, Link link, Attach attach)
        {
            if (!attach.Role) throw Refused(ErrorCode.NotAllowed, "Only receiver links are offered: messages for devices are sent over REST.");
            if (attach.SndSettleMode == SenderSettleMode.Settled) throw Refused(ErrorCode.NotAllowed, "snd-settle-mode settled is not offered: a notification leaves the queue when it was accepted.");
            if (attach.Source is not Source { Address: { Length: > 0 } name }) throw Refused(ErrorCode.InvalidField, "The source address must be the name of a queue.");
            if (Interlocked.Increment(ref _links) > server._options.LinksMax)
            {
                Interlocked.Decrement(ref _links);
                throw Refused(ErrorCode.ResourceLimitExceeded, $"A connection may have {server._options.LinksMax} receiver links.");
            }

            _ = Task.Run(() => AttachAsync((ListenerLink)link, attach, new AmqpForwarding(Access!.ProjectId, name))); // off the connection's thread: the database is asked
            return false;
        }

        private async Task AttachAsync(ListenerLink link, Attach attach, AmqpForwarding queue)
        {
            Error? error;
            var consumer = new AmqpConsumer(link, () => server._consumers.TellRoom(queue), server._clock);
            try
            {
                error = !await server._queues.ExistsAsync(queue.ProjectId, queue.QueueName, CancellationToken.None) ? Problem(ErrorCode.NotFound, $"The queue {queue.QueueName} does not exist.")
                    : !server._consumers.TryJoin(queue, consumer) ? Problem(ErrorCode.NotAllowed, "This node does not serve the queues; another node of the cluster does: connect to that one.")
                    : null;
            }
            catch (Exception cause)
            {
                server._logger.DatabaseAway(cause);
                error = Problem(ErrorCode.InternalError, "The database does not answer: try again.");
            }

            if (error is null)
            {
                link.InitializeSender((change, _, _) => consumer.OnCredit(change), (message, state, isSettled, _) => consumer.OnDisposition(message, state, isSettled), null);
                _hasLink.TrySetResult();
            }

            link.AddClosedCallback((_, _) =>
            {
                Interlocked.Decrement(ref _links);
                server._consumers.Leave(queue, consumer);
                consumer.Gone();
            });
            link.CompleteAttach(attach, error);
        }

        private static AmqpException Refused(string condition, string why) => new(Problem(condition, why));

        private static Error Problem(string condition, string why) => new(new Symbol(condition)) { Description = why };
    }
}
