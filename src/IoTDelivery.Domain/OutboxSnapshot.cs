using System.Collections.Immutable;

namespace IoTDelivery.Domain;

/// <summary>
/// All there is to say about an <see cref="Outbox"/> at one moment. It does not change when the outbox does: another
/// thread may write it down.
/// </summary>
public sealed record OutboxSnapshot
{
    /// <inheritdoc cref="Outbox.Open"/>
    public ImmutableArray<KnownMessage> Open { get; init; } = [];

    /// <inheritdoc cref="Outbox.Ended"/>
    public ImmutableArray<KnownMessage> Ended { get; init; } = [];

    /// <inheritdoc cref="Outbox.Remembered"/>
    public ImmutableArray<Remembered> Remembered { get; init; } = [];

    /// <inheritdoc cref="Outbox.Notifications"/>
    public ImmutableArray<Notification> Notifications { get; init; } = [];

    /// <inheritdoc cref="Outbox.Session"/>
    public KeptSession? Session { get; init; }

    /// <inheritdoc cref="Outbox.PacketIdsUpTo"/>
    public long PacketIdsUpTo { get; init; }

    /// <inheritdoc cref="Outbox.SubDeviceIdsUpTo"/>
    public long SubDeviceIdsUpTo { get; init; }

    /// <inheritdoc cref="Outbox.Unacknowledged"/>
    public ImmutableSortedDictionary<long, ushort> Unacknowledged { get; init; } =
        ImmutableSortedDictionary<long, ushort>.Empty;

    /// <inheritdoc cref="Outbox.AskedForQoS1"/>
    public bool AskedForQoS1 { get; init; }

    /// <inheritdoc cref="Outbox.IsRetired"/>
    public bool IsRetired { get; init; }

    /// <inheritdoc cref="Outbox.Life"/>
    public long Life { get; init; }

    /// <inheritdoc cref="Outbox.LoginsEndedBy"/>
    public long LoginsEndedBy { get; init; }

    /// <inheritdoc cref="Outbox.NextNumber"/>
    public long NextNumber { get; init; } = 1;

    /// <inheritdoc cref="Outbox.NextNotification"/>
    public long NextNotification { get; init; } = 1;
}
