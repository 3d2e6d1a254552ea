using System.Collections.Concurrent;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>What became of one POST.</summary>
public enum PushOutcome
{
    /// <summary>The receiver answered 200.</summary>
    Answered = 0,

    /// <summary>The receiver will never take this one.</summary>
    Refused = 1,

    /// <summary>No answer, or another one: try again.</summary>
    Failed = 2,
}

/// <summary>What became of one POST, and why.</summary>
/// <param name="RetryAfter">Failed: how long the receiver asks to be left alone; null if it does not.</param>
public readonly record struct PushResult(PushOutcome Outcome, string Reason, TimeSpan? RetryAfter = null)
{
    public static readonly PushResult Answered = new(PushOutcome.Answered, "HTTP 200");
}

/// <summary>The POST to an application: success is exactly 200, what stands in the answer is nobody's business.</summary>
public class Webhook : IDisposable
{
    private static readonly TimeSpan CertificateAge = TimeSpan.FromSeconds(30); // a deleted certificate is trusted this much longer

    // How long one of several addresses of a receiver may keep the next one waiting.
    private static readonly TimeSpan NextAddressAfter = TimeSpan.FromSeconds(1);

    private static readonly MediaTypeHeaderValue Json = new("application/json");
    private static readonly ProductInfoHeaderValue Agent =
        new("IoTDelivery", typeof(Webhook).Assembly.GetName().Version?.ToString(3) ?? "0");

    private readonly TimeSpan _timeout;
    private readonly TimeProvider _clock;
    private readonly HttpClient _client;
    private readonly Certificates? _certificates;
    private readonly ConcurrentDictionary<string, (HttpClient Client, long ReadAt)> _clients = []; // by cert_id

    public Webhook(PushOptions options, Certificates? certificates = null, TimeProvider? clock = null)
    {
        (_timeout, _certificates, _clock) = (options.Timeout, certificates, clock ?? TimeProvider.System);
        _client = Client(trusted: null);
    }

    /// <summary>How a name becomes addresses.</summary>
    internal Func<string, CancellationToken, Task<IPAddress[]>> Resolve { get; init; } = Dns.GetHostAddressesAsync;

    /// <summary>Never throws, except for the cancellation asked for.</summary>
    public virtual async Task<PushResult> PostAsync(HttpForwarding to, byte[] body, CancellationToken cancel)
    {
        try
        {
            var client = to.CertId is { } certId ? await ClientOfAsync(certId, cancel).ConfigureAwait(false) : _client;
            if (client is null) return new(PushOutcome.Failed, $"there is no certificate {to.CertId}");
            using var request = new HttpRequestMessage(HttpMethod.Post, to.Url);
            request.Content = new ByteArrayContent(body);
            request.Content.Headers.ContentType = Json;
            if (to.Login is { } login) request.Headers.Authorization = new AuthenticationHeaderValue("Basic", login);
            if (to.ServerName is { } serverName) request.Headers.Host = serverName; // the handler takes SNI and the name to verify from it
            if (to.Token is { } token) PushSignature.Sign(request.Headers, token, _clock.GetUtcNow());
            using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancel).ConfigureAwait(false);
            return response.StatusCode switch
            {
                HttpStatusCode.OK => PushResult.Answered,
                HttpStatusCode.BadRequest or HttpStatusCode.NotFound or HttpStatusCode.Gone or HttpStatusCode.RequestEntityTooLarge or HttpStatusCode.UnprocessableEntity
                    => new(PushOutcome.Refused, $"HTTP {(int)response.StatusCode}"),
                _ => new(PushOutcome.Failed, $"HTTP {(int)response.StatusCode}", RetryAfter(response.Headers.RetryAfter)),
            };
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            return new(PushOutcome.Failed, "no answer in time");
        }
        catch (Exception cause) when (cause is not OperationCanceledException)
        {
            return new(PushOutcome.Failed, cause.GetBaseException().Message);
        }
    }

    public void Dispose()
    {
        _client.Dispose();
        foreach (var (client, _) in _clients.Values) client.Dispose();
        GC.SuppressFinalize(this);
    }

    private TimeSpan? RetryAfter(RetryConditionHeaderValue? asked) => asked?.Delta ?? asked?.Date - _clock.GetUtcNow();

    // The addresses of a name one behind the other, each a second after the last at the latest; the first that answers counts.
    private async ValueTask<Stream> ConnectAsync(SocketsHttpConnectionContext context, CancellationToken cancel)
    {
        var addresses = IPAddress.TryParse(context.DnsEndPoint.Host, out var address)
            ? [address]
            : await Resolve(context.DnsEndPoint.Host, cancel).ConfigureAwait(false);
        using var decided = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var (attempts, next, cause) = (new List<Task<Socket>>(), 0, (Exception?)null);
        while (next < addresses.Length || attempts.Count > 0)
        {
            if (next < addresses.Length) attempts.Add(OpenAsync(addresses[next++]));
            var pause = next < addresses.Length ? NextAddressAfter : Timeout.InfiniteTimeSpan;
            var first = await Task.WhenAny([.. attempts, Task.Delay(pause, decided.Token)]).ConfigureAwait(false);
            if (first is not Task<Socket> attempt)
            {
                cancel.ThrowIfCancellationRequested();
                continue;
            }

            attempts.Remove(attempt);
            if (attempt.IsCompletedSuccessfully)
            {
                await decided.CancelAsync().ConfigureAwait(false);
                foreach (var late in attempts) _ = late.ContinueWith(static t => t.Result.Dispose(), TaskContinuationOptions.OnlyOnRanToCompletion);
                return new NetworkStream(await attempt.ConfigureAwait(false), ownsSocket: true);
            }

            cause = attempt.Exception?.InnerException ?? new OperationCanceledException(cancel);
        }

        throw cause ?? new SocketException((int)SocketError.HostNotFound);

        async Task<Socket> OpenAsync(IPAddress to)
        {
            var socket = new Socket(to.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            try
            {
                await socket.ConnectAsync(new IPEndPoint(to, context.DnsEndPoint.Port), decided.Token).ConfigureAwait(false);
                return socket;
            }
            catch
            {
                socket.Dispose();
                throw;
            }
        }
    }

    // Certificates do not change, but they are deleted: a client is used until its row is found missing.
    private async Task<HttpClient?> ClientOfAsync(string certId, CancellationToken cancel)
    {
        if (_clients.TryGetValue(certId, out var known) && _clock.GetElapsedTime(known.ReadAt) < CertificateAge) return known.Client;
        var readAt = _clock.GetTimestamp();
        if (_certificates is null || await _certificates.FindAsync(certId, cancel).ConfigureAwait(false) is not { } certificate)
        {
            _clients.TryRemove(certId, out _); // not disposed: others may be posting with it; it is collected when they are done
            return null;
        }

        return _clients.AddOrUpdate(certId, _ => (Client(Certificate.Parse(certificate.Content)), readAt), (_, used) => (used.Client, readAt)).Client;
    }

    private HttpClient Client(X509Certificate2Collection? trusted)
    {
        // No limit on connections per server: the senders count per action, and two actions on one host must not wait for each other.
        var handler = new SocketsHttpHandler
        {
            AllowAutoRedirect = false,
            UseCookies = false,
            UseProxy = false,
            AutomaticDecompression = DecompressionMethods.None,
            ActivityHeadersPropagator = null,
            ConnectTimeout = _timeout,
            ConnectCallback = ConnectAsync,
            PooledConnectionLifetime = TimeSpan.FromMinutes(2), // a receiver that moves is found again by its name
            MaxResponseHeadersLength = 16,
            MaxResponseDrainSize = 4 * 1024,
            ResponseDrainTimeout = TimeSpan.FromSeconds(1),
        };
        if (trusted is not null)
        {
            // This CA and no other: what the machine trusts does not count. A private CA has no revocation list we could reach.
            var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
            policy.CustomTrustStore.AddRange(trusted);
            handler.SslOptions.CertificateChainPolicy = policy;
        }

        return new HttpClient(handler) { Timeout = _timeout, DefaultRequestHeaders = { UserAgent = { Agent } } };
    }
}
