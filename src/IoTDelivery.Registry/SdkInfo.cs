using System.Threading.Channels;
using IoTDelivery.Domain;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Registry;

/// <summary>What a device says of its software (<c>sdk_info_report</c>); null where it says nothing, and what was known stays.</summary>
public sealed record SdkInfo(string? DeviceSdkVersion, string? SwVersion, string? FwVersion)
{
    /// <summary>Characters of one version; a longer one counts as not said. Ours: the manual names no limit.</summary>
    public const int VersionMax = 256;
}

/// <summary>
/// Writes the versions devices report, in batches, behind the connections. When the database is away the newest report of each device waits here;
/// one that is lost with its node is said again with the next connection.
/// </summary>
public sealed class SdkInfoLog : IAsyncDisposable
{
    private const int BatchMax = 500;
    private readonly Dictionary<string, SdkInfo> _reports = []; // newest per device: bounded by the devices of this node
    private readonly Channel<bool> _signal = Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });
    private readonly SqlDatabase _database;
    private readonly ILogger<SdkInfoLog> _logger;
    private readonly Task _writer;

    public SdkInfoLog(SqlDatabase database, ILogger<SdkInfoLog> logger)
    {
        (_database, _logger) = (database, logger);
        _writer = Task.Run(WriteAsync);
    }

    /// <summary>A device reported. Never waits.</summary>
    public void Report(DeviceId deviceId, SdkInfo info)
    {
        lock (_reports) _reports[deviceId.Value] = _reports.TryGetValue(deviceId.Value, out var older) ? Merge(older, info) : info;
        _signal.Writer.TryWrite(true);
    }

    public async ValueTask DisposeAsync()
    {
        _signal.Writer.TryComplete();
        await _writer;
    }

    private async Task WriteAsync()
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
                    Return(batch);
                    if (_signal.Reader.Completion.IsCompleted) return;
                    _logger.LogWarning(cause, "Software versions of devices are not written: the database does not answer. They wait.");
                    await Task.Delay(TimeSpan.FromSeconds(1));
                }
            }
        }
    }

    private KeyValuePair<string, SdkInfo>[] Take()
    {
        lock (_reports)
        {
            var batch = _reports.Take(BatchMax).ToArray();
            foreach (var (id, _) in batch) _reports.Remove(id);
            return batch;
        }
    }

    private void Return(KeyValuePair<string, SdkInfo>[] batch)
    {
        lock (_reports)
        {
            foreach (var (id, info) in batch) _reports[id] = _reports.TryGetValue(id, out var newer) ? Merge(info, newer) : info;
        }
    }

    private static SdkInfo Merge(SdkInfo older, SdkInfo newer) =>
        new(newer.DeviceSdkVersion ?? older.DeviceSdkVersion, newer.SwVersion ?? older.SwVersion, newer.FwVersion ?? older.FwVersion);

    private async Task WriteAsync(KeyValuePair<string, SdkInfo>[] batch)
    {
        await using var db = _database.Open();
        await using var transaction = await db.BeginTransactionAsync();
        foreach (var (id, info) in batch)
        {
            await db.GetTable<Device>().Where(d => d.DeviceId == id)
                .Set(d => d.DeviceSdkVersion, d => info.DeviceSdkVersion ?? d.DeviceSdkVersion)
                .Set(d => d.SwVersion, d => info.SwVersion ?? d.SwVersion)
                .Set(d => d.FwVersion, d => info.FwVersion ?? d.FwVersion)
                .UpdateAsync();
        }

        await transaction.CommitAsync();
    }
}
