namespace IoTDelivery.Storage;

/// <summary>
/// One step forward of a box's tables. Steps are numbered from 1 per box, never edited once released, and applied once each, in order.
/// The statements may use the type names of <see cref="SqlDialect"/> in braces, for example <c>{id}</c> or <c>{bigint}</c>.
/// </summary>
public sealed record Migration(string Box, int Version, params string[] Statements)
{
    /// <summary>A table that an older release made without a step: where it is there already, the statements are left out.</summary>
    public string? UnlessTable { get; init; }
}
