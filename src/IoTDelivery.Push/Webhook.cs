using System.Net;
using System.Net.Http.Headers;

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
public readonly record struct PushResult(PushOutcome Outcome, string Reason)
{
    public static readonly PushResult Answered = new(PushOutcome.Answered, "HTTP 200");
}

/// <summary>The POST to an application: success is exactly 200, what stands in the answer is nobody's business.</summary>
public class Webhook : IDisposable
{
    private static readonly MediaTypeHeaderValue Json = new("application/json");

    private readonly HttpClient _client;

    public Webhook(PushOptions options)
    {
        // No limit on connections per server: the senders count per action, and two actions on one host must not wait for each other.
        var handler = new SocketsHttpHandler
        {
            AllowAutoRedirect = false,
            UseCookies = false,
            UseProxy = false,
            AutomaticDecompression = DecompressionMethods.None,
            ActivityHeadersPropagator = null,
            ConnectTimeout = options.Timeout,
            PooledConnectionLifetime = TimeSpan.FromMinutes(2), // a receiver that moves is found again by its name
            MaxResponseHeadersLength = 16,
            MaxResponseDrainSize = 4 * 1024,
            ResponseDrainTimeout = TimeSpan.FromSeconds(1),
        };
        _client = new HttpClient(handler) { Timeout = options.Timeout };
    }

    /// <summary>Never throws, except for the cancellation asked for.</summary>
    public virtual async Task<PushResult> PostAsync(Uri url, byte[] body, CancellationToken cancel)
    {
        try
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, url);
            request.Content = new ByteArrayContent(body);
            request.Content.Headers.ContentType = Json;
            using var response = await _client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancel).ConfigureAwait(false);
            return response.StatusCode switch
            {
                HttpStatusCode.OK => PushResult.Answered,
                HttpStatusCode.BadRequest or HttpStatusCode.NotFound or HttpStatusCode.Gone or HttpStatusCode.RequestEntityTooLarge or HttpStatusCode.UnprocessableEntity
                    => new(PushOutcome.Refused, $"HTTP {(int)response.StatusCode}"),
                _ => new(PushOutcome.Failed, $"HTTP {(int)response.StatusCode}"),
            };
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            return new(PushOutcome.Failed, "no answer in time");
        }
        catch (Exception cause) when (cause is not OperationCanceledException)
        {
            return new(PushOutcome.Failed, cause.Message);
        }
    }

    public void Dispose()
    {
        _client.Dispose();
        GC.SuppressFinalize(this);
    }
}
