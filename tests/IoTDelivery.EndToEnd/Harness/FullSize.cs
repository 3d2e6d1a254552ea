namespace IoTDelivery.EndToEnd.Harness;

/// <summary>
/// <c>./build.sh e2e</c> runs everything; <c>./build.sh</c>, which must end within half an hour, what differs most.
/// </summary>
internal static class FullSize
{
    /// <summary>True in <c>./build.sh e2e</c>.</summary>
    public static bool IsOn => Environment.GetEnvironmentVariable("IOTDELIVERY_E2E") == "full";

    /// <summary>Skips a case that <c>./build.sh</c> has a sister of.</summary>
    public static void OnlyIf(bool isSister) =>
        Skip.If(isSister && !IsOn, "A case like it runs: set IOTDELIVERY_E2E=full for all, as ./build.sh e2e does.");
}
