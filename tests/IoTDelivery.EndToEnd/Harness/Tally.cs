namespace IoTDelivery.EndToEnd.Harness;

/// <summary>Counts what an application is told while it is told: a hundred thousand notifications are not searched again at each one.</summary>
public sealed class Tally
{
    private readonly record struct Notified(string RequestId, string DeviceId, string MessageId, string Status);

    private readonly List<Notified> _all = [];
    private readonly Dictionary<string, HashSet<string>> _messages = [];
    private readonly SemaphoreSlim _news = new(0);

    public Tally(Receiver receiver) => receiver.Answer = push =>
    {
        lock (_all)
        {
            _all.Add(new Notified(push.RequestId, push.DeviceId, push.MessageId, push.Status));
            if (!_messages.TryGetValue(push.Status, out var messages)) _messages.Add(push.Status, messages = []);
            if (messages.Add(push.MessageId)) _news.Release();
        }

        return Task.FromResult(200);
    };

    /// <summary>All notifications, repetitions included.</summary>
    public int Count
    {
        get
        {
            lock (_all) return _all.Count;
        }
    }

    /// <summary>How many messages were told with this status.</summary>
    public int Of(string status)
    {
        lock (_all) return _messages.TryGetValue(status, out var messages) ? messages.Count : 0;
    }

    /// <summary>Per message the statuses in the order they were told first, without repetitions.</summary>
    public IReadOnlyDictionary<string, string> Statuses()
    {
        lock (_all) return _all.DistinctBy(n => n.RequestId).GroupBy(n => n.MessageId).ToDictionary(m => m.Key, m => string.Join(' ', m.Select(n => n.Status)));
    }

    /// <summary>Waits until so many messages were told with this status.</summary>
    public async Task UntilAsync(string status, int messages, TimeSpan patience)
    {
        using var limit = new CancellationTokenSource(patience);
        while (Of(status) < messages)
        {
            try
            {
                await _news.WaitAsync(limit.Token);
            }
            catch (OperationCanceledException)
            {
                Assert.Fail($"{messages} messages should have been told {status} within {patience}; {Of(status)} were.");
            }
        }
    }
}
