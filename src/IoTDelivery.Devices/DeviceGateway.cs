using System.Diagnostics;
using Akka.Actor;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices;

/// <summary>The way to any device from outside the actors.</summary>
/// <param name="region">The shard region of the devices, or its proxy.</param>
/// <param name="askTimeout">How long one ask may take. Default 2 s.</param>
/// <param name="inAll">How long all asks of one call may take together. Default 4 s: many applications wait five for an answer, and one that is told to come again knows more
/// than one that hears nothing.</param>
/// <param name="isOnLosingSide">True while this node is on the losing side of a partition: nothing is asked then. Default never.</param>
/// <param name="isFull">True while too much waits on this node to be stored: commands, which would be stored too, are
/// refused then. Default never.</param>
public sealed class DeviceGateway(
    Func<IActorRef> region, TimeSpan? askTimeout = null, TimeSpan? inAll = null, Func<bool>? isOnLosingSide = null, Func<bool>? isFull = null)
{
    private readonly TimeSpan _askTimeout = askTimeout ?? TimeSpan.FromSeconds(2);
    private readonly TimeSpan _inAll = inAll ?? TimeSpan.FromSeconds(4);

    /// <summary>Asks, and asks again: messages are silently dropped while a shard moves. Everything asked is idempotent; the message id makes a POST so.</summary>
    /// <returns>The device's reply, or <see cref="RefusalReason.Unavailable"/>: the outcome is unknown then.</returns>
    public async Task<OutboxReply> AskAsync(ToDevice message, CancellationToken cancel)
    {
        if (message is ToDevice.Command && isFull?.Invoke() == true)
        {
            return new OutboxReply.Refused(RefusalReason.Unavailable);
        }
        var begun = Stopwatch.GetTimestamp();
        while (true)
        {
            if (isOnLosingSide?.Invoke() == true) return new OutboxReply.Refused(RefusalReason.Unavailable);
            OutboxReply reply;
            try
            {
                var left = Math.Clamp((_inAll - Stopwatch.GetElapsedTime(begun)).TotalMilliseconds, 1, _askTimeout.TotalMilliseconds);
                reply = await region().Ask<OutboxReply>(message, TimeSpan.FromMilliseconds(left), cancel);
            }
            catch (AskTimeoutException)
            {
                reply = new OutboxReply.Refused(RefusalReason.Unavailable);
            }

            if (reply is not OutboxReply.Refused { Reason: RefusalReason.Unavailable }) return reply;
            var pause = TimeSpan.FromMilliseconds(Random.Shared.Next(100, 300)); // the device is being restarted or moved
            if (Stopwatch.GetElapsedTime(begun) + 2 * pause > _inAll) return reply; // no time for another ask behind it
            await Task.Delay(pause, cancel);
        }
    }

    /// <summary>Has the gateway's connection carry a sub-device, if there is one. Never fails: without it the message waits until the gateway comes or subscribes.</summary>
    public Task AttachSubDeviceAsync(DeviceId gateway, DeviceId subDevice, CancellationToken cancel) =>
        HintAsync(new ToDevice.AttachSubDevice(gateway, subDevice), cancel);

    /// <summary>
    /// Has the gateway's connection tell it what changed, if there is one. Never fails: a gateway that comes asks.
    /// </summary>
    public Task SubDevicesChangedAsync(DeviceId gateway, long version, CancellationToken cancel) =>
        HintAsync(new ToDevice.SubDevicesChanged(gateway, version), cancel);

    /// <summary>
    /// For what is repeated by the sender until it is answered: attach, acknowledgements, acknowledged notifications.
    /// </summary>
    public void Tell(ToDevice message, IActorRef sender) => region().Tell(message, sender);

    private async Task HintAsync(ToDevice hint, CancellationToken cancel)
    {
        for (var attempt = 0; attempt < 2; attempt++)
        {
            try
            {
                await region().Ask<OutboxReply>(hint, _askTimeout / 2, cancel);
                return;
            }
            catch (AskTimeoutException)
            {
                // A shard that moves drops messages: once more.
            }
        }
    }
}
