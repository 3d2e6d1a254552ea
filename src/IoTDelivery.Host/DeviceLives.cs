using System.Diagnostics;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using IoTDelivery.Storage;

namespace IoTDelivery.Host;

/// <summary>
/// Creates and deletes devices, and ends their logins. A device has a row in the registry and an outbox in the journal.
/// Each step of each way survives a crash, and every node resumes what stands unfinished. The row decides: it holds the
/// number of the life. What is asked of the outbox carries that number, so nothing that comes late hurts a device that
/// exists again.
/// </summary>
//
//   create ──► CREATING: number drawn ──► Register(number) ──► READY ──delete──► DELETING ──► Retire(number) ──► no row
//                 │  ▲                                                              ▲
//                 │  └── asked again: a new number                                  │
//                 └── its creator has left ─────────────────────────────────────────┘
//
//   freeze, new secret ──► row changed: number drawn and kept ──► Disconnect(number) ──► number no longer kept
//
public sealed class DeviceLives(
    Registry.Devices registry,
    SubDeviceList subDevices,
    DeviceGateway devices,
    TimeProvider clock,
    ILogger<DeviceLives> logger)
    : BackgroundService
{
    /// <summary>How often each node looks for what is unfinished.</summary>
    public static readonly TimeSpan Interval = TimeSpan.FromSeconds(5);

    // For so long it is left to the request that may be at work on it. Doing it twice would do no harm.
    private static readonly TimeSpan DeletionMax = TimeSpan.FromSeconds(5); // and that logins are over
    private static readonly TimeSpan CreationMax = TimeSpan.FromMinutes(1);

    private const int PageSize = 500;
    private const int AtOnce = 16;

    // A number can be drawn before a whole life that has ended by now. Once is rare, three times does not happen.
    private const int DrawsMax = 3;

    // When this node saw it first, by its own monotonic clock.
    private Dictionary<Step, long> _seen = [];

    // Ready: in use, and not told yet which logins are over.
    private readonly record struct Step(string DeviceId, long Number, DevicePhase Phase);

    /// <summary>What became of a creation: the device, or why there is none. Neither: the id is taken.</summary>
    public readonly record struct Creation(Device? Device, RefusalReason? Refused = null);

    /// <summary>Creates the device. What was begun and failed is taken over when it is asked again.</summary>
    public async Task<Creation> CreateAsync(Device device, CancellationToken cancel)
    {
        for (var draws = 0; draws < DrawsMax;)
        {
            var row = await registry.BeginAsync(device, cancel);
            if (row.Phase == DevicePhase.Ready) return default;
            if (row.Phase == DevicePhase.Deleting)
            {
                if (await FinishAsync(row, cancel) is { } unfinished) return new(null, unfinished);
                continue;
            }

            draws++;
            var register = new ToDevice.Command(DeviceId.Parse(row.DeviceId), new OutboxCommand.Register(row.Life));
            if (await devices.AskAsync(register, cancel) is not OutboxReply.Refused refused)
            {
                if (!await registry.CompleteAsync(row, cancel)) return default;
                await TellGatewayAsync(row, cancel);
                return new(row with { Phase = DevicePhase.Ready });
            }

            if (refused.Reason != RefusalReason.NoSuchDevice) return new(null, refused.Reason);
        }

        return new(null, RefusalReason.Unavailable);
    }

    /// <summary>Null when the device, as it was when this was called, is gone; else why it is not.</summary>
    public async Task<RefusalReason?> DeleteAsync(string projectId, DeviceId deviceId, CancellationToken cancel)
    {
        var device = await registry.MarkDeletingAsync(projectId, deviceId, cancel);
        return device is null ? RefusalReason.NoSuchDevice : await FinishAsync(device, cancel);
    }

    /// <summary>Null when the device has let go whoever must go; else why it has not. It is told again then.</summary>
    public async Task<RefusalReason?> EndLoginsAsync(LoginsEnd end, CancellationToken cancel)
    {
        var disconnect = new ToDevice.Disconnect(DeviceId.Parse(end.DeviceId), end.Generation, clock.GetUtcNow());
        if (await devices.AskAsync(disconnect, cancel) is OutboxReply.Refused refused) return refused.Reason;
        await registry.ToldAsync(end, cancel);
        return null;
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval);
        try
        {
            do
            {
                try
                {
                    await ResumeAsync(stoppingToken);
                }
                catch (Exception cause) when (cause is not OperationCanceledException)
                {
                    logger.DoesNotResume(cause);
                }
            }
            while (await timer.WaitForNextTickAsync(stoppingToken));
        }
        catch (OperationCanceledException)
        {
            // The node stops; another one goes on.
        }
    }

    // Several nodes may do this at once: each step names its life, the second time it changes nothing.
    private async Task ResumeAsync(CancellationToken cancel)
    {
        var seen = new Dictionary<Step, long>();
        var options = new ParallelOptions { MaxDegreeOfParallelism = AtOnce, CancellationToken = cancel };
        var after = "";
        while (await registry.UnfinishedAsync(after, PageSize, cancel) is { Count: > 0 } page)
        {
            var left = page.Where(d => IsLeft(new Step(d.DeviceId, d.Life, d.Phase), seen)).ToList();
            await Parallel.ForEachAsync(left, options, ResumeAsync);
            after = page[^1].DeviceId;
        }

        var afterGeneration = 0L;
        while (await registry.UntoldAsync(afterGeneration, PageSize, cancel) is { Count: > 0 } page)
        {
            var left = page.Where(e => IsLeft(new Step(e.DeviceId, e.Generation, DevicePhase.Ready), seen)).ToList();
            await Parallel.ForEachAsync(left, options, async (end, cancelled) => await EndLoginsAsync(end, cancelled));
            afterGeneration = page[^1].Generation;
        }

        _seen = seen;
    }

    private bool IsLeft(Step step, Dictionary<Step, long> seen)
    {
        var since = _seen.GetValueOrDefault(step, Stopwatch.GetTimestamp());
        seen[step] = since;
        return Stopwatch.GetElapsedTime(since) >= (step.Phase == DevicePhase.Creating ? CreationMax : DeletionMax);
    }

    private async ValueTask ResumeAsync(Device device, CancellationToken cancel)
    {
        if (device.Phase == DevicePhase.Creating && !await registry.AbandonAsync(device, cancel)) return;
        await FinishAsync(device, cancel); // what cannot be done now is tried again
    }

    private async Task<RefusalReason?> FinishAsync(Device device, CancellationToken cancel)
    {
        var deviceId = DeviceId.Parse(device.DeviceId);
        var retire = new ToDevice.Command(deviceId, new OutboxCommand.Retire(device.Header, device.Life));
        if (await devices.AskAsync(retire, cancel) is OutboxReply.Refused refused) return refused.Reason;
        await registry.RemoveAsync(device, cancel);
        await TellGatewayAsync(device, cancel);
        return null;
    }

    // Its gateway knows a sub-device only if it is told. If it is away, or does not hear of it now, it asks when it
    // comes.
    private async Task TellGatewayAsync(Device device, CancellationToken cancel)
    {
        if (device.RootId is not { } root) return;
        var gateway = DeviceId.Parse(root);
        try
        {
            await devices.SubDevicesChangedAsync(gateway, await subDevices.VersionAsync(gateway, cancel), cancel);
        }
        catch (Exception cause) when (SqlErrors.IsOfDatabase(cause))
        {
            logger.GatewayNotTold(gateway, cause.GetBaseException().Message);
        }
    }
}
