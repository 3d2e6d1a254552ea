using IoTDelivery.Storage;

namespace IoTDelivery.Devices.Journal;

/// <summary>How many bytes of this node wait to be stored. Beyond the bound applications are refused before their
/// message becomes work; the journal itself refuses nothing.</summary>
public sealed class JournalLoad(long bytesMax)
{
    private long _bytes;

    /// <summary>With the bound of the settings.</summary>
    public JournalLoad(SqlDatabase database)
        : this(database.WaitingBytesMax)
    {
    }

    /// <summary>What waits now.</summary>
    public long Bytes => Interlocked.Read(ref _bytes);

    /// <summary>True if nothing more should be taken on.</summary>
    public bool IsFull => Bytes >= bytesMax;

    /// <summary>More waits, or less.</summary>
    public void Add(long bytes) => Interlocked.Add(ref _bytes, bytes);
}
