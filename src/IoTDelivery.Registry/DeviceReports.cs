using System.Diagnostics.Metrics;
using System.Threading.Channels;
using IoTDelivery.Storage;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Registry;

/// <summary>
/// The newest report of each device, written in batches behind the connections. While the database is away they wait here.
/// One that the database refuses is set aside, logged and counted; the others are written without it.
/// </summary>
/// <param name="what">What is reported, for the log: a plural.</param>
/// <param name="merge">Makes one report of an older and a newer one of the same device.</param>
/// <param name="write">Writes the reports of a batch, in order, in one transaction.</param>
/// <param name="logger">Hears of outages and of what was set aside.</param>
internal sealed class DeviceReports<T>(
    string what, Func<T, T, T> merge, Func<KeyValuePair<string, T>[], Task> write, ILogger logger)
    : IAsyncDisposable
{
    private const int BatchMax = 500;

    private static readonly TimeSpan TryAgainAfter = TimeSpan.FromSeconds(1);

    private readonly Dictionary<string, T> _newest = []; // bounded by the devices of this node
    private readonly Channel<bool> _signal =
        Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });

    private Task? _writer;

    /// <summary>From here on what is reported is written.</summary>
    public void Start() => _writer = Task.Run(RunAsync);

    /// <summary>Changes what is known of a device; null: leaves it. Never waits.</summary>
    public void Report(string deviceId, Func<T?, bool, (bool Changes, T Report)> change)
    {
        lock (_newest)
        {
            var isKnown = _newest.TryGetValue(deviceId, out var known);
            if (change(known, isKnown) is not (true, var report)) return;
            _newest[deviceId] = report;
        }

        _signal.Writer.TryWrite(true);
    }

    public async ValueTask DisposeAsync()
    {
        _signal.Writer.TryComplete();
        if (_writer is not null) await _writer;
    }

    private async Task RunAsync()
    {
        while (await _signal.Reader.WaitToReadAsync())
        {
            _signal.Reader.TryRead(out _);
            while (Take() is { Length: > 0 } batch)
            {
                try
                {
                    await WriteAsync(batch);
                }
                catch (Exception cause)
                {
                    if (_signal.Reader.Completion.IsCompleted) return;
                    logger.ReportsWait(what, cause.GetBaseException().Message);
                    await Task.Delay(TryAgainAfter);
                }
            }
        }
    }

    // In one order on every node: a device that changes its node is in the batches of both, and the database would have to
    // break a deadlock.
    private KeyValuePair<string, T>[] Take()
    {
        lock (_newest)
        {
            var batch = _newest.Take(BatchMax).OrderBy(r => r.Key, StringComparer.Ordinal).ToArray();
            foreach (var (id, _) in batch) _newest.Remove(id);
            return batch;
        }
    }

    private async Task WriteAsync(KeyValuePair<string, T>[] batch)
    {
        var written = 0;
        try
        {
            try
            {
                await write(batch);
                return;
            }
            catch (Exception cause) when (SqlErrors.IsAboutData(cause))
            {
                // One of them: the others are written without it.
            }

            for (; written < batch.Length; written++) await WriteAloneAsync(batch[written]);
        }
        catch (Exception)
        {
            Return(batch[written..]);
            throw;
        }
    }

    private async Task WriteAloneAsync(KeyValuePair<string, T> report)
    {
        try
        {
            await write([report]);
        }
        catch (Exception cause) when (SqlErrors.IsAboutData(cause))
        {
            RegistryMeters.SetAside.Add(1, new KeyValuePair<string, object?>("what", what));
            logger.ReportSetAside(what, report.Key, cause.GetBaseException().Message);
        }
    }

    private void Return(KeyValuePair<string, T>[] batch)
    {
        lock (_newest)
        {
            foreach (var (id, older) in batch) _newest[id] = _newest.TryGetValue(id, out var newer) ? merge(older, newer) : older;
        }
    }
}

/// <summary>The meter of this box.</summary>
public static class RegistryMeters
{
    /// <summary>Name of the meter.</summary>
    public const string Name = "IoTDelivery.Registry";

    private static readonly Meter Meter = new(Name);

    /// <summary>Reports of devices that the database refused to store, by <c>what</c>.</summary>
    internal static readonly Counter<long> SetAside = Meter.CreateCounter<long>("iotdelivery.registry.set_aside");
}

internal static partial class Log
{
    [LoggerMessage(2102, LogLevel.Warning, "The {What} of devices are not written, they wait: {Reason}")]
    public static partial void ReportsWait(this ILogger logger, string what, string reason);

    [LoggerMessage(2103, LogLevel.Error, "The {What} of device {DeviceId} cannot be stored and are given up, the others are written: {Reason}")]
    public static partial void ReportSetAside(this ILogger logger, string what, string deviceId, string reason);
}
