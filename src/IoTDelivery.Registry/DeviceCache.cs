using System.Threading.Channels;
using IoTDelivery.Domain;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using Microsoft.Extensions.Caching.Memory;

namespace IoTDelivery.Registry;

/// <summary>Has the other nodes forget a device; done when they have, or cannot be reached. Never fails.</summary>
public delegate Task ForgetElsewhere(string deviceId);

/// <summary>
/// Devices read lately on this node. Bounded; a change has every node forget the device before it is answered. Entries are re-read after <see cref="MaxAge"/>, so a
/// node that did not hear of it sees it at the latest then.
/// Misses that come together are read with one query: two thousand devices that connect at once cost a few queries, not two thousand.
/// </summary>
public sealed class DeviceCache : IAsyncDisposable
{
    private const int EntriesMax = 100_000;
    private const int BatchMax = 200;

    /// <summary>How long an entry may be used.</summary>
    public static readonly TimeSpan MaxAge = TimeSpan.FromSeconds(30);

    private readonly record struct Miss(string DeviceId, TaskCompletionSource<Device?> Found);

    private readonly MemoryCache _cache = new(new MemoryCacheOptions { SizeLimit = EntriesMax });
    private readonly Channel<Miss> _misses = Channel.CreateBounded<Miss>(10_000);
    private readonly SqlDatabase _database;
    private readonly Secrets _secrets;
    private readonly Task _reader;
    private readonly ForgetElsewhere _elsewhere;
    private long _generation;

    /// <param name="elsewhere">Without it there are no other nodes.</param>
    public DeviceCache(SqlDatabase database, Secrets secrets, ForgetElsewhere? elsewhere = null)
    {
        (_database, _secrets, _elsewhere) = (database, secrets, elsewhere ?? (_ => Task.CompletedTask));
        _reader = Task.Run(ReadMissesAsync);
    }

    /// <summary>The device, or null if there is none.</summary>
    public ValueTask<Device?> FindAsync(DeviceId deviceId) =>
        _cache.TryGetValue(deviceId.Value, out Device? device) ? new(device) : new(MissAsync(deviceId.Value));

    /// <summary>The next look reads the table again, on every node.</summary>
    public Task ForgetAsync(string deviceId)
    {
        Drop(deviceId);
        return _elsewhere(deviceId);
    }

    /// <summary>The next look on this node reads the table again.</summary>
    public void Drop(string deviceId)
    {
        Interlocked.Increment(ref _generation); // what is being read right now may be older than the change: it is not kept
        _cache.Remove(deviceId);
    }

    public async ValueTask DisposeAsync()
    {
        _misses.Writer.TryComplete();
        await _reader;
        _cache.Dispose();
    }

    private async Task<Device?> MissAsync(string deviceId)
    {
        var miss = new Miss(deviceId, new TaskCompletionSource<Device?>(TaskCreationOptions.RunContinuationsAsynchronously));
        await _misses.Writer.WriteAsync(miss);
        return await miss.Found.Task;
    }

    private async Task ReadMissesAsync()
    {
        var batch = new List<Miss>(BatchMax);
        while (await _misses.Reader.WaitToReadAsync())
        {
            batch.Clear();
            while (batch.Count < BatchMax && _misses.Reader.TryRead(out var miss)) batch.Add(miss);
            try
            {
                var generation = Interlocked.Read(ref _generation);
                var ids = batch.Select(m => m.DeviceId).Distinct().ToArray();
                await using var db = _database.Open();
                var rows = await db.GetTable<Device>().Where(d => ids.Contains(d.DeviceId)).ToListAsync();
                var found = rows.ToDictionary(d => d.DeviceId, _secrets.Unprotect);
                foreach (var device in found.Values)
                {
                    // What is being created changes in a moment, and then nobody is told.
                    if (device.Phase != DevicePhase.Creating && generation == Interlocked.Read(ref _generation))
                    {
                        _cache.Set(device.DeviceId, device, new MemoryCacheEntryOptions { Size = 1, AbsoluteExpirationRelativeToNow = MaxAge });
                    }
                }

                foreach (var miss in batch) miss.Found.SetResult(found.GetValueOrDefault(miss.DeviceId));
            }
            catch (Exception cause)
            {
                foreach (var miss in batch) miss.Found.TrySetException(cause);
            }
        }
    }
}
