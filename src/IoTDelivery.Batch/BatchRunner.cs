using Akka.Actor;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Batch;

/// <summary>One in the cluster: lets a <see cref="BatchSender"/> work as long as it lives. All that is known is in the tables, so a fresh one goes on where the old one was.</summary>
public sealed class BatchRunner(BatchSender sender, ILogger<BatchRunner> logger) : UntypedActor, IWithTimers
{
    private static readonly TimeSpan Rest = TimeSpan.FromSeconds(1);

    private sealed record Work
    {
        public static readonly Work Instance = new();
    }

    private sealed record Failed(Exception Cause);

    private readonly CancellationTokenSource _stop = new();

    public ITimerScheduler Timers { get; set; } = null!;

    protected override void PreStart() => Self.Tell(Work.Instance);

    protected override void PostStop() => _stop.Cancel();

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case Work:
                var (self, stop) = (Self, _stop.Token);
                _ = Task.Run(async () =>
                {
                    try
                    {
                        await sender.RunAsync(stop);
                    }
                    catch (Exception cause) when (!stop.IsCancellationRequested)
                    {
                        self.Tell(new Failed(cause), ActorRefs.NoSender);
                    }
                    catch (OperationCanceledException)
                    {
                        // The next one works.
                    }
                });
                break;
            case Failed failed:
                logger.Failed(failed.Cause);
                Timers.StartSingleTimer("work", Work.Instance, Rest);
                break;
            default:
                Unhandled(message);
                break;
        }
    }
}
