using System.Diagnostics;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Devices.Membership;

/// <summary>
/// Does something at each interval, whatever fails, and ends only when it is cancelled: a node without a heartbeat looks
/// dead to those that may form a cluster.
/// </summary>
/// <param name="once">One heartbeat. It may fail; the next one comes all the same.</param>
/// <param name="interval">From one heartbeat to the next.</param>
/// <param name="logger">Hears of the first failure of a row, and of one a minute.</param>
public sealed class Heartbeat(Func<CancellationToken, Task> once, TimeSpan interval, ILogger logger)
{
    // A database that is away for a night must not fill the log.
    private static readonly TimeSpan LogAgain = TimeSpan.FromMinutes(1);

    private long? _loggedAt; // null: the last heartbeat did not fail

    /// <summary>Done when it was cancelled. Does not fail.</summary>
    public async Task RunAsync(CancellationToken cancel)
    {
        using var timer = new PeriodicTimer(interval);
        while (!cancel.IsCancellationRequested)
        {
            try
            {
                await once(cancel);
                _loggedAt = null;
            }
            catch (Exception cause) when (!cancel.IsCancellationRequested)
            {
                LogFailure(cause);
            }
            catch (Exception) // cancelled in the middle
            {
                return;
            }

            try
            {
                await timer.WaitForNextTickAsync(cancel);
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }

    private void LogFailure(Exception cause)
    {
        if (_loggedAt is { } at && Stopwatch.GetElapsedTime(at) < LogAgain) return;
        _loggedAt = Stopwatch.GetTimestamp();
        logger.HeartbeatFails(cause);
    }
}
