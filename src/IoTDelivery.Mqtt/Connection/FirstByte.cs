using System.IO.Pipelines;

namespace IoTDelivery.Mqtt;

/// <summary>
/// Tells a client from a probe: a balancer or a monitor connects, says nothing and goes. That is no event.
/// </summary>
internal static class FirstByte
{
    /// <summary>Waits for it and leaves it where it is. False: the connection ended before.</summary>
    /// <exception cref="OperationCanceledException">Neither happened in time.</exception>
    public static async ValueTask<bool> ComesAsync(PipeReader input, CancellationToken timeout)
    {
        try
        {
            var result = await input.ReadAsync(timeout);
            input.AdvanceTo(result.Buffer.Start);
            return !result.Buffer.IsEmpty;
        }
        catch (Exception) when (!timeout.IsCancellationRequested)
        {
            return false; // reset, or cut by ourselves: whatever the transport calls it
        }
    }
}
