namespace IoTDelivery.Push;

/// <summary>Exponential back-off with jitter.</summary>
internal static class RetryDelay
{
    private static readonly TimeSpan DatabaseFirst = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan DatabaseMax = TimeSpan.FromSeconds(5);

    /// <summary>Where the jitter comes from; the simulation puts a seeded one here.</summary>
    internal static Random Chance { get; set; } = Random.Shared;

    /// <summary>The time before repetition number <paramref name="attempt"/> (from 1): doubles, up to a fifth shorter so that many do not come at once.</summary>
    public static TimeSpan Of(int attempt, TimeSpan first, TimeSpan max)
    {
        var doubled = first * Math.Pow(2, Math.Min(attempt - 1, 40));
        return (doubled < max ? doubled : max) * (0.8 + 0.2 * Chance.NextDouble());
    }

    /// <summary>
    /// Repeats database work until it is done: what is pending waits for the database, it is never dropped for it. What the first repetition mends was a race between two
    /// nodes, such as a row that both wrote: it is not worth a word.
    /// </summary>
    public static async Task<T> UntilDoneAsync<T>(Func<Task<T>> work, Action<Exception> report, CancellationToken stop, TimeProvider? clock = null)
    {
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                return await work();
            }
            catch (Exception cause) when (!stop.IsCancellationRequested)
            {
                if (attempt > 1) report(cause);
                await Task.Delay(Of(attempt, DatabaseFirst, DatabaseMax), clock ?? TimeProvider.System, stop);
            }
        }
    }
}
