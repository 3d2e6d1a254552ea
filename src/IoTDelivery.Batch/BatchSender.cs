using System.Text.Json;
using System.Threading.Channels;
using System.Threading.RateLimiting;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Storage;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Batch;

/// <summary>The message a task's document means for one target, and the id the application gave it, if it did. The document was checked when the task was created.</summary>
/// <param name="connected">The device whose topics carry it: the target, or the gateway of a sub-device.</param>
/// <exception cref="FormatException">It is no message all the same, for example to a later release.</exception>
public delegate (MessageId? MessageId, MessageBody Body) ReadDocument(JsonElement document, DeviceId connected);

/// <summary>
/// Sends what batch tasks ask for. One loop takes targets that are due, task by task in turn; some ask devices, no faster than <see cref="BatchOptions.RatePerSecond"/>;
/// one writes what became of them. What it holds is bounded, and lost without harm when the process dies: it is asked again, for the same message.
/// </summary>
//
//   batch_target ──take──► in hand (bounded) ──► ask ──► accepted ────────────────────────────► Success
//        ▲                                        │ └──► refused, attempts left by policy ────► FailWaitRetry ──┐
//        │                                        │ └──► refused ─────────────────────────────► Fail            │ after retry_interval
//        └── again, later ◄── no answer is known ─┘                                                             │
//        └──────────────────────────────────────────────────────────────────────────────────────────────────────┘
//
public sealed class BatchSender(
    BatchTasks tasks, Registry.Devices registry, DeviceGateway devices, ReadDocument read, BatchOptions options, TimeProvider clock, ILogger<BatchSender> logger)
{
    private const int PageMax = 200; // targets taken and settled at once
    private static readonly TimeSpan DatabaseRest = TimeSpan.FromSeconds(1);

    private sealed record InHand(BatchTask Task, BatchTarget Target, JsonElement Document);

    /// <summary>Works until it is cancelled. One at a time in the cluster is enough; two would only ask for the same messages.</summary>
    public async Task RunAsync(CancellationToken cancel)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancel); // if one of them fails, all do
        var inHand = Channel.CreateBounded<InHand>(PageMax);
        var settled = Channel.CreateBounded<Settled>(PageMax);
        var tokens = Math.Max(1, options.RatePerSecond / 10); // small portions, not all of a second at once
        await using var rate = new TokenBucketRateLimiter(new TokenBucketRateLimiterOptions
        {
            TokenLimit = tokens,
            TokensPerPeriod = tokens,
            ReplenishmentPeriod = TimeSpan.FromSeconds((double)tokens / options.RatePerSecond),
            QueueLimit = options.Concurrency,
        });
        await UntilDoneAsync(async () => { await tasks.ReleaseAsync(stop.Token); return true; }, stop.Token);

        Task[] all =
        [
            Guarded(() => TakeAsync(inHand.Writer, stop.Token)),
            .. Enumerable.Range(0, options.Concurrency).Select(_ => Guarded(() => AskAsync(inHand.Reader, settled.Writer, rate, stop.Token))),
            Guarded(() => SettleAsync(settled.Reader, stop.Token)),
        ];
        await Task.WhenAll(all);

        async Task Guarded(Func<Task> work)
        {
            try
            {
                await Task.Run(work, stop.Token);
            }
            finally
            {
                await stop.CancelAsync();
            }
        }
    }

    private async Task TakeAsync(ChannelWriter<InHand> inHand, CancellationToken cancel)
    {
        while (true)
        {
            var isIdle = true;
            foreach (var (taskId, status) in await UntilDoneAsync(() => tasks.OpenAsync(cancel), cancel))
            {
                if (status == BatchStatus.Initializing)
                {
                    await UntilDoneAsync(async () => { await tasks.InitializeAsync(taskId, cancel); return true; }, cancel);
                    isIdle = false;
                    continue;
                }

                var (task, targets) = await UntilDoneAsync(() => tasks.TakeAsync(taskId, PageMax, cancel), cancel);
                if (targets.Count == 0)
                {
                    if (await UntilDoneAsync(() => tasks.EndAsync(taskId, cancel), cancel) is { } ended) logger.Ended(taskId, ended);
                    continue;
                }

                isIdle = false;
                var document = JsonSerializer.Deserialize<JsonElement>(task!.Document);
                foreach (var target in targets) await inHand.WriteAsync(new InHand(task, target, document), cancel);
            }

            if (isIdle) await Task.Delay(options.PollInterval, clock, cancel);
        }
    }

    private async Task AskAsync(ChannelReader<InHand> inHand, ChannelWriter<Settled> settled, RateLimiter rate, CancellationToken cancel)
    {
        await foreach (var (task, target, document) in inHand.ReadAllAsync(cancel))
        {
            using (await rate.AcquireAsync(1, cancel))
            {
                await settled.WriteAsync(await AskAsync(task, target, document, cancel), cancel);
            }
        }
    }

    private async Task<Settled> AskAsync(BatchTask task, BatchTarget target, JsonElement document, CancellationToken cancel)
    {
        var deviceId = DeviceId.Parse(target.Target);
        OutboxReply reply;
        try
        {
            if (await registry.FindAsync(task.ProjectId, deviceId) is not { } device) return Refused(task, target, RefusalReason.NoSuchDevice);
            var root = device.RootId is { } id ? DeviceId.Parse(id) : null;
            var (messageId, body) = read(document, root ?? deviceId);
            if (root is not null) await devices.AttachSubDeviceAsync(root, deviceId, cancel);
            reply = await devices.AskAsync(new ToDevice.Command(deviceId, new OutboxCommand.Accept(messageId ?? task.MessageIdFor(deviceId), body)), cancel);
        }
        catch (FormatException cause)
        {
            return new Settled(target, TargetStatus.Fail, Problem: cause.Message);
        }
        catch (Exception cause) when (SqlErrors.IsUnavailable(cause))
        {
            reply = new OutboxReply.Refused(RefusalReason.Unavailable);
        }

        switch (reply)
        {
            case OutboxReply.Accepted:
                return new Settled(target, TargetStatus.Success);
            case OutboxReply.Refused { Reason: not RefusalReason.Unavailable } refused:
                return Refused(task, target, refused.Reason);
            default: // maybe it is accepted, maybe not: neither Success nor Fail would be true
                logger.NoAnswer(task.TaskId, target.Target);
                return new Settled(target, TargetStatus.Processing, (clock.GetUtcNow() + options.AskAgainAfter).ToUnixTimeMilliseconds());
        }
    }

    private Settled Refused(BatchTask task, BatchTarget target, RefusalReason reason) => target.Refusals < task.RetryCount
        ? new Settled(target, TargetStatus.FailWaitRetry, (clock.GetUtcNow() + TimeSpan.FromMinutes(task.RetryInterval)).ToUnixTimeMilliseconds(), reason)
        : new Settled(target, TargetStatus.Fail, null, reason);

    private async Task SettleAsync(ChannelReader<Settled> settled, CancellationToken cancel)
    {
        var page = new List<Settled>(PageMax);
        while (await settled.WaitToReadAsync(cancel))
        {
            page.Clear();
            while (page.Count < PageMax && settled.TryRead(out var one)) page.Add(one);
            await UntilDoneAsync(async () => { await tasks.SettleAsync(page, cancel); return true; }, cancel);
        }
    }

    // A database that is away is waited for: what is in hand stays in hand.
    private async Task<T> UntilDoneAsync<T>(Func<Task<T>> work, CancellationToken cancel)
    {
        while (true)
        {
            try
            {
                return await work();
            }
            catch (Exception cause) when (SqlErrors.IsOfDatabase(cause) && !cancel.IsCancellationRequested)
            {
                logger.DatabaseAway(cause.GetBaseException().Message);
                await Task.Delay(DatabaseRest, clock, cancel);
            }
        }
    }
}
