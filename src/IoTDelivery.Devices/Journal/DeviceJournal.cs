using System.Collections.Immutable;
using Akka.Actor;
using Akka.Persistence;
using Akka.Persistence.Sql.Journal;
using AkkaConfig = Akka.Configuration.Config;

namespace IoTDelivery.Devices.Journal;

/// <summary>
/// The package's journal, with one rule more: the plugin fails every writer of a batch with the same exception, so the writes of a failed batch
/// are tried again one by one, and one bad row stops one device.
/// </summary>
public class DeviceJournal(AkkaConfig config) : SqlWriteJournal(config)
{
    private sealed record WriteAlone(IReadOnlyList<AtomicWrite> Writes, TaskCompletionSource<IImmutableList<Exception>> Done);

    // Retries wait for each other: two of them in one batch would fail together again.
    private readonly SemaphoreSlim _alone = new(1);
    private readonly IActorRef _self = Context.Self;

    protected override Task<IImmutableList<Exception>> WriteMessagesAsync(IEnumerable<AtomicWrite> messages, CancellationToken cancellationToken)
    {
        var writes = messages.ToList();
        var first = base.WriteMessagesAsync(writes, cancellationToken);
        return first.IsCompletedSuccessfully ? first : WriteAsync(first, writes);
    }

    protected override bool ReceivePluginInternal(object message)
    {
        if (message is not WriteAlone write) return base.ReceivePluginInternal(message);
        _ = Forward(base.WriteMessagesAsync(write.Writes, CancellationToken.None), write.Done);
        return true;
    }

    private async Task<IImmutableList<Exception>> WriteAsync(Task<IImmutableList<Exception>> first, List<AtomicWrite> writes)
    {
        try
        {
            return await first.ConfigureAwait(false);
        }
        catch (Exception)
        {
            await _alone.WaitAsync().ConfigureAwait(false);
            try
            {
                // Through the mailbox: the package's bookkeeping of writes in progress belongs to the actor's thread.
                var again = new WriteAlone(writes, new TaskCompletionSource<IImmutableList<Exception>>(TaskCreationOptions.RunContinuationsAsynchronously));
                _self.Tell(again);
                return await again.Done.Task.ConfigureAwait(false);
            }
            finally
            {
                _alone.Release();
            }
        }
    }

    private static async Task Forward(Task<IImmutableList<Exception>> write, TaskCompletionSource<IImmutableList<Exception>> done)
    {
        try
        {
            done.TrySetResult(await write.ConfigureAwait(false));
        }
        catch (Exception cause)
        {
            done.TrySetException(cause);
        }
    }
}
