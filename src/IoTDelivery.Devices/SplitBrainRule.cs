namespace IoTDelivery.Devices;

/// <summary>
/// The rule by which the split-brain resolver will decide, asked before it does: a node that sees itself on the side that will lose accepts nothing from then on. So
/// the two sides never both accept, although the winning one starts the devices as soon as it has decided.
/// </summary>
//
//   cut ──► noticed (about 4 s): the smaller side answers 503 ──► decided (4 s later): it ends ──► the larger side runs its devices
//
public static class SplitBrainRule
{
    /// <summary>True if the side with <paramref name="here"/> nodes would be downed.</summary>
    /// <param name="here">Members this node reaches, itself included.</param>
    /// <param name="there">Members it does not reach.</param>
    /// <param name="hasLowest">The member with the lowest address is here.</param>
    /// <param name="quorum">How many a side needs (static-quorum); null: more than the other side (keep-majority), of two equal ones the one with the lowest address.</param>
    public static bool IsOnLosingSide(int here, int there, bool hasLowest, int? quorum) =>
        there > 0 && (quorum is { } needed ? here < needed : here < there || (here == there && !hasLowest));
}
