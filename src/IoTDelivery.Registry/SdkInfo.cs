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
/// Writes the versions devices report. One that is lost with its node is said again with the next connection.
/// </summary>
public sealed class SdkInfoLog : IAsyncDisposable
{
    private readonly SqlDatabase _database;
    private readonly DeviceReports<SdkInfo> _reports;

    public SdkInfoLog(SqlDatabase database, ILogger<SdkInfoLog> logger)
    {
        _database = database;
        _reports = new DeviceReports<SdkInfo>("software versions", Merge, WriteAsync, logger);
        _reports.Start();
    }

    /// <summary>A device reported. Never waits.</summary>
    public void Report(DeviceId deviceId, SdkInfo info) =>
        _reports.Report(deviceId.Value, (older, isKnown) => (true, isKnown ? Merge(older!, info) : info));

    public ValueTask DisposeAsync() => _reports.DisposeAsync();

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
