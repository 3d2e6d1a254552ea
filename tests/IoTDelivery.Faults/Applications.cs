using System.Collections.Concurrent;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using IoTDelivery.Faults.History;

namespace IoTDelivery.Faults;

/// <summary>
/// The applications: for each device one that sends a message every <paramref name="interval"/>, one after the other, to the nodes in turn. What is refused, times out
/// or is answered 503 is asked again at another node with the same message_id; some never ask again and look with Show what became of it.
/// </summary>
public sealed class Applications(Recorder history, IReadOnlyList<SiteNode> nodes, TimeSpan interval, int seed) : IDisposable
{
    private const int TooMuchAtOnce = 403;
    private const double TimeOutShare = 0.03, GiveUpShare = 0.1, AskTwiceShare = 0.01, HastyShare = 0.75;
    private static readonly TimeSpan Hasty = TimeSpan.FromSeconds(5), Patient = TimeSpan.FromSeconds(12), LastWord = TimeSpan.FromSeconds(60);

    private readonly HttpClient _http = new(new SocketsHttpHandler { MaxConnectionsPerServer = 512, ConnectTimeout = TimeSpan.FromSeconds(2) }) { Timeout = Timeout.InfiniteTimeSpan };
    private readonly ConcurrentDictionary<string, double> _accepted = []; // message → when its 201 was read
    private long _posts;

    /// <summary>Messages answered 201 or known by Show, so far.</summary>
    public int Accepted => _accepted.Count;

    /// <summary>Their ids.</summary>
    public IReadOnlyCollection<string> All => [.. _accepted.Keys];

    /// <summary>Sends for this device until it is told to stop; what is unanswered then is asked for a minute more.</summary>
    public async Task RunAsync(string device, int number, CancellationToken stop)
    {
        var random = new Random(seed * 10_007 + number);
        var due = history.Now + random.NextDouble() * interval.TotalSeconds;
        for (var n = 0; !stop.IsCancellationRequested; n++)
        {
            try
            {
                if (due > history.Now) await Task.Delay(TimeSpan.FromSeconds(due - history.Now), stop);
            }
            catch (OperationCanceledException)
            {
                return;
            }

            due += interval.TotalSeconds; // what could not be sent in time is sent as fast as it goes: the rate holds over the run
            await SendAsync(device, $"{device}-{n:00000}", random.NextDouble() < TimeOutShare ? 5 * random.Next(1, 3) : null, random, number + n, stop);
        }
    }

    /// <summary>Sends one message and stays with it until it is accepted, refused for good, or given up.</summary>
    public async Task<bool> SendAsync(string device, string message, int? ttl, Random random, int turn, CancellationToken stop)
    {
        var body = JsonSerializer.Serialize(new { message_id = message, message = $"Message {message}: set brightness to {turn % 100} per cent", ttl = ttl ?? 1440 });
        var (until, isGivenUp) = (double.PositiveInfinity, false);
        for (var attempt = 0; history.Now < until; attempt++)
        {
            if (stop.IsCancellationRequested && double.IsPositiveInfinity(until)) until = history.Now + LastWord.TotalSeconds;
            var node = nodes[(turn + attempt) % nodes.Count];
            var patience = random.NextDouble() < HastyShare ? Hasty : Patient;
            var status = await PostAsync(node, device, message, ttl, body, patience);
            if (status == 201)
            {
                _accepted[message] = history.Now;
                if (random.NextDouble() < AskTwiceShare) await PostAsync(nodes[(turn + 1) % nodes.Count], device, message, ttl, body, Patient);
                return true;
            }

            if (status is >= 400 and < 500 and not TooMuchAtOnce) return false; // nothing was done
            if (random.NextDouble() < GiveUpShare)
            {
                isGivenUp = true;
                break;
            }

            await Task.Delay(random.Next(100, 500), CancellationToken.None);
        }

        return isGivenUp && await ShowAsync(device, message, random, stop);
    }

    /// <summary>Asks these nodes in turn, impatiently, until one accepts.</summary>
    public async Task InsistAsync(string device, string message, IReadOnlyList<SiteNode> among, TimeSpan patience, CancellationToken cancel)
    {
        var body = JsonSerializer.Serialize(new { message_id = message, message });
        for (var turn = 0; !cancel.IsCancellationRequested && await PostAsync(among[turn % among.Count], device, message, null, body, patience) != 201; turn++)
        {
            await Task.Delay(100, CancellationToken.None);
        }
    }

    public void Dispose() => _http.Dispose();

    private async Task<int> PostAsync(SiteNode node, string device, string message, int? ttl, string body, TimeSpan patience)
    {
        var post = Interlocked.Increment(ref _posts);
        history.Add(new Entry(What.Post) { Post = post, Device = device, Message = message, Node = node.Name, Ttl = ttl });
        var (status, text) = await AskAsync(HttpMethod.Post, node.Url($"devices/{device}/messages"), body, patience);
        var word = status == 201 ? JsonDocument.Parse(text).RootElement.GetProperty("result").GetProperty("status").GetString() : null;
        history.Add(new Entry(What.Answer) { Post = post, Device = device, Message = message, Node = node.Name, Status = status, Word = word, Text = status == 201 ? null : text });
        return status;
    }

    private async Task<bool> ShowAsync(string device, string message, Random random, CancellationToken stop)
    {
        var until = double.PositiveInfinity;
        while (history.Now < until)
        {
            if (stop.IsCancellationRequested && double.IsPositiveInfinity(until)) until = history.Now + LastWord.TotalSeconds;
            var node = nodes[random.Next(nodes.Count)];
            var (status, text) = await AskAsync(HttpMethod.Get, node.Url($"devices/{device}/messages/{message}"), null, Patient);
            if (status == 200)
            {
                var word = JsonDocument.Parse(text).RootElement.TryGetProperty("status", out var known) ? known.GetString() : null;
                history.Add(new Entry(What.Show) { Device = device, Message = message, Node = node.Name, Word = word });
                if (word is not null) _accepted[message] = history.Now;
                return word is not null;
            }

            await Task.Delay(random.Next(100, 500), CancellationToken.None);
        }

        return false;
    }

    // Status 0: no answer, and the text says why.
    private async Task<(int Status, string Text)> AskAsync(HttpMethod method, Uri url, string? body, TimeSpan patience)
    {
        using var limit = new CancellationTokenSource(patience);
        using var request = new HttpRequestMessage(method, url);
        request.Headers.Add("X-Auth-Token", Site.Token);
        if (body is not null) request.Content = new StringContent(body, Encoding.UTF8, MediaTypeHeaderValue.Parse("application/json"));
        try
        {
            using var response = await _http.SendAsync(request, limit.Token);
            return ((int)response.StatusCode, await response.Content.ReadAsStringAsync(limit.Token));
        }
        catch (OperationCanceledException)
        {
            return (0, "time-out");
        }
        catch (HttpRequestException cause)
        {
            return (0, cause.HttpRequestError.ToString());
        }
        catch (IOException cause)
        {
            return (0, cause.Message);
        }
    }
}
