using System.Collections.Immutable;

namespace IoTDelivery.Domain;

/// <summary>What is remembered of a device that asked for a session longer than its connection.</summary>
/// <param name="Expiry">How long it outlives the connection; <see cref="TimeSpan.MaxValue"/>: for ever.</param>
/// <param name="EndsAt">When it ends; null while a connection holds it, and always if it lasts for ever.</param>
public sealed record KeptSession(ImmutableArray<Subscription> Subscriptions, TimeSpan Expiry, DateTimeOffset? EndsAt = null);
