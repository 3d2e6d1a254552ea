using System.Collections.Concurrent;
using IoTDelivery.Devices.Reminders;

namespace IoTDelivery.Devices;

/// <summary>
/// Whether a device that recovers now must first take a number in the journal, because a former owner of the device may still be writing: its next write must
/// collide. True for a while after a member became unreachable or was downed, and after that as long as a downed node may still have a process.
/// </summary>
//
//   unreachable ──► raised for 2 × stable-after      a machine that was suspended for an hour goes on where it stopped,
//   downed ───────► raised ──► on file ──► raised    and does not know that its devices live elsewhere
//                                 └── started again, or its process is known to be gone ──► not raised
//
public sealed class Fencing(TimeProvider clock)
{
    /// <summary>How long a device whose write was refused accepts nothing on this node: longer than a beat, which tells a downed node that it is one. 3 s.</summary>
    public static readonly TimeSpan QuarantineFor = TimeSpan.FromSeconds(3);

    private readonly ConcurrentDictionary<string, byte> _downed = [];
    private readonly ConcurrentDictionary<string, long> _quarantined = [];
    private const int QuarantinedMax = 10_000; // beyond it those that are over are forgotten; a database that is away has every device doubted
    private int _sweepBeyond = QuarantinedMax;
    private volatile bool _mayHaveZombies;
    private volatile bool _isOnLosingSide;
    private long _until = long.MinValue; // timestamps: a clock that is set changes nothing

    /// <summary>Recoveries from now on are fenced, for this long.</summary>
    public void Raise(TimeSpan duration) => Interlocked.Exchange(ref _until, clock.TimestampIn(duration));

    /// <summary>True while recoveries are fenced.</summary>
    public bool IsRaised => _mayHaveZombies || _isOnLosingSide || !_downed.IsEmpty || clock.GetTimestamp() < Interlocked.Read(ref _until);

    /// <summary>True while this node is on the side of a partition that will lose: it accepts nothing more.</summary>
    public bool IsOnLosingSide
    {
        get => _isOnLosingSide;
        set => _isOnLosingSide = value;
    }

    /// <summary>
    /// A sequence number of this device was taken, so another node owns it. Quarantine it here for a moment, or it
    /// would recover from the other owner's events and continue
    /// after them. Any other failure of a write says nothing about owners.
    /// </summary>
    public void Quarantine(string deviceId)
    {
        var now = clock.GetTimestamp();
        _quarantined[deviceId] = clock.TimestampIn(QuarantineFor);
        if (_quarantined.Count <= _sweepBeyond) return;
        foreach (var (over, until) in _quarantined)
        {
            if (until <= now) _quarantined.TryRemove(over, out _);
        }

        _sweepBeyond = Math.Max(QuarantinedMax, 2 * _quarantined.Count); // or each of fifty thousand would look at all of them
    }

    /// <summary>True while the device accepts nothing here.</summary>
    public bool IsQuarantined(string deviceId)
    {
        if (!_quarantined.TryGetValue(deviceId, out var until)) return false; // asked for every command: IsEmpty would take every lock to say yes
        if (clock.GetTimestamp() < until) return true;
        _quarantined.TryRemove(deviceId, out _);
        return false;
    }

    /// <summary>Nodes this one saw downed that are not on file yet as such.</summary>
    public IEnumerable<string> Downed => _downed.Keys;

    /// <summary>This start of a node was downed.</summary>
    public void OnDowned(string incarnation) => _downed.TryAdd(incarnation, 0);

    /// <summary>What is on file now: <paramref name="written"/> is among it, and there are downed nodes whose process may still be there, or not.</summary>
    public void OnFile(IReadOnlyCollection<string> written, bool mayHaveZombies)
    {
        _mayHaveZombies = mayHaveZombies;
        foreach (var incarnation in written) _downed.TryRemove(incarnation, out _);
    }
}
