namespace IoTDelivery.EndToEnd.Harness;

/// <summary>Tests that load the machine or measure it: one after the other, when no others run.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;
