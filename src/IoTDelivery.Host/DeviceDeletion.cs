using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Host;

/// <summary>
/// Deletes a device in three steps that each survive a crash: the row is marked, the outbox is retired (what is open ends FAILED), the row is removed.
/// Start-up resumes what stands marked.
/// </summary>
public sealed class DeviceDeletion(Registry.Devices registry, DeviceGateway devices, ILogger<DeviceDeletion> logger) : BackgroundService
{
    /// <summary>Null when the device is gone, else why it is not.</summary>
    public async Task<RefusalReason?> DeleteAsync(string projectId, DeviceId deviceId, CancellationToken cancel)
    {
        if (await registry.MarkDeletingAsync(projectId, deviceId, cancel) is not { } device) return RefusalReason.NoSuchDevice;
        return await FinishAsync(device, cancel);
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                var unfinished = 0;
                foreach (var device in await registry.DeletingAsync(stoppingToken))
                {
                    if (await FinishAsync(device, stoppingToken) is not null) unfinished++;
                }

                if (unfinished == 0) return;
            }
            catch (OperationCanceledException)
            {
                return;
            }
            catch (Exception cause)
            {
                logger.LogWarning(cause, "Deletions that were begun before the start cannot be finished yet.");
            }

            await Task.Delay(TimeSpan.FromSeconds(5), stoppingToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task<RefusalReason?> FinishAsync(Device device, CancellationToken cancel)
    {
        var deviceId = DeviceId.Parse(device.DeviceId);
        if (await devices.AskAsync(new ToDevice.Command(deviceId, new OutboxCommand.Retire(device.Header)), cancel) is OutboxReply.Refused refused) return refused.Reason;
        await registry.RemoveAsync(deviceId, cancel);
        return null;
    }
}
