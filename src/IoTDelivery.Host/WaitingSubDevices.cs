using IoTDelivery.Domain;
using IoTDelivery.Storage;
using LinqToDB.Data;

namespace IoTDelivery.Host;

/// <summary>
/// Which sub-devices of a gateway have something to do: those with a reminder on file. Whoever has a message waiting
/// has one (and nobody else is harmed by being
/// attached). The one question that needs the registry's table and the calls' together, so it is asked up here.
/// </summary>
public sealed class WaitingSubDevices(SqlDatabase database)
{
    /// <summary>More than this many are found when the gateway subscribes or comes again.</summary>
    public const int Max = 10_000;

    public async Task<IReadOnlyList<DeviceId>> FindAsync(DeviceId gateway, CancellationToken cancel)
    {
        await using var db = database.Open();
        var ids = await db.QueryToListAsync<string>(
            "select d.device_id from device d join reminder w on w.device_id = d.device_id where d.root_id = @root order by w.due_at", cancel, new DataParameter("root", gateway.Value));
        return [.. ids.Take(Max).Select(DeviceId.Parse)];
    }
}
