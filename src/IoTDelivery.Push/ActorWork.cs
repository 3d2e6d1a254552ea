using Akka.Actor;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push;

/// <summary>
/// Work that an actor has done off its thread. The result comes as a message to itself, unless the actor has stopped.
/// </summary>
/// <param name="run">How work leaves the actor's thread; SQLite's calls would otherwise keep it.</param>
internal sealed class ActorWork(IActorRef self, ILogger logger, TimeProvider clock, Func<Func<Task>, Task> run)
{
    private readonly CancellationTokenSource _stopped = new();

    /// <summary>Work of an actor whose time is the machine's.</summary>
    public ActorWork(IActorRef self, ILogger logger) : this(self, logger, TimeProvider.System, Task.Run) { }

    /// <summary>Cancelled when the actor stops. Never disposed: results still come in when the actor is gone.</summary>
    public CancellationToken Stop => _stopped.Token;

    /// <summary>Database work, repeated until it is done.</summary>
    public void UntilDone<T>(Func<Task<T>> work) => _ = run(async () =>
    {
        try
        {
            self.Tell(await RetryDelay.UntilDoneAsync(work, logger.DatabaseAway, Stop, clock), ActorRefs.NoSender);
        }
        catch (Exception) when (Stop.IsCancellationRequested)
        {
            // What the actor knew is with the devices or in the tables: the next one goes on from there.
        }
    });

    /// <summary>Something that is under way already and does not fail.</summary>
    public void WhenDone<T>(Task<T> underway, Func<T, object> message)
    {
        _ = TellAsync();

        async Task TellAsync()
        {
            try
            {
                self.Tell(message(await underway.ConfigureAwait(false)), ActorRefs.NoSender);
            }
            catch (OperationCanceledException)
            {
                // The actor is gone; the next one does it again.
            }
        }
    }

    /// <summary>The actor has stopped.</summary>
    public void Cancel() => _stopped.Cancel();
}
