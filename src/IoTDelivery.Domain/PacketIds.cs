namespace IoTDelivery.Domain;

/// <summary>
/// Packet ids are given out in order, and the journal says up to where they may be in use. Whoever owns the device next
/// and remembers nothing begins behind that mark. So an id never means another message until the range has gone round.
/// </summary>
//
//   position   0 ······ used ······ next ── reserved, not used yet ── mark ─────────────────────────►
//              every id behind it may still be acknowledged            the next owner begins here
//
//   id at a position = 1 + position mod 32,767. The upper half of the ids is for the sub-devices of a gateway.
//
public static class PacketIds
{
    /// <summary>
    /// Largest packet id of a device's own messages. Those above it are for the sub-devices that share the connection of
    /// their gateway.
    /// </summary>
    public const ushort Max = 0x7FFF;

    /// <summary>How many ids the mark moves ahead at once, with a row that is written anyway.</summary>
    public const int ReservedAhead = 1_024;

    /// <summary>
    /// Where ids begin for a device whose journal has no mark and whose client may still know ids: an older release
    /// wrote none, and gave out the ids from 1 on.
    /// </summary>
    public const long StartWithoutMark = 16_384;

    /// <summary>The packet id at this position.</summary>
    public static ushort At(long position) => (ushort)(1 + position % Max);

    /// <summary>The packet id of a sub-device's message at this position.</summary>
    public static ushort OfSubDevice(long position) => (ushort)(Max + 1 + position % (Max + 1));

    /// <summary>Where an owner that remembers nothing begins.</summary>
    /// <param name="isSameConnection">The connection was there before this owner.</param>
    public static long StartOf(Outbox outbox, bool isSameConnection) =>
        outbox.PacketIdsUpTo == 0 && (isSameConnection || outbox.Session is not null) ? StartWithoutMark : outbox.PacketIdsUpTo;
}
