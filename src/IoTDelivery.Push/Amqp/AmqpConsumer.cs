using System.Runtime.CompilerServices;
using System.Text;
using Amqp;
using Amqp.Framing;
using Amqp.Listener;
using Amqp.Types;

namespace IoTDelivery.Push;

/// <summary>One receiver link: what was handed to it and is not settled, and how many more it takes.</summary>
internal sealed class AmqpConsumer
{
    // How long a consumer that asks for what there is (drain) waits for it: longer than a page takes to be read.
    private static readonly TimeSpan DrainWait = TimeSpan.FromMilliseconds(250);

    private readonly record struct Delivery(TaskCompletionSource<PushResult> Settled, long At);

    private readonly ListenerLink _link;
    private readonly Action _hasRoom;
    private readonly TimeProvider _clock;
    private readonly Lock _gate = new();
    private readonly Dictionary<Message, Delivery> _unsettled = [];
    private int _credit;
    private int _underway; // being sent right now: the library may or may not have counted them
    private bool _mustCount; // credit came while something was under way
    private bool _isGone;

    public AmqpConsumer(ListenerLink link, Action hasRoom, TimeProvider clock) => (_link, _hasRoom, _clock) = (link, hasRoom, clock);

    public bool HasCredit
    {
        get
        {
            lock (_gate) return !_isGone && _credit > 0;
        }
    }

    /// <summary>Null if it takes no more.</summary>
    public Task<PushResult>? TryGive(BacklogRow row)
    {
        var settled = new TaskCompletionSource<PushResult>(TaskCreationOptions.RunContinuationsAsynchronously);
        var message = new Message
        {
            Header = new Header { Durable = true },
            Properties = new Properties { MessageId = $"{row.ActionId}/{row.DeviceId}/{row.Number}", ContentType = "application/json" },
            BodySection = new AmqpValue { Value = Encoding.UTF8.GetString(row.Body) }, // a string: what the vendor's consumers read
        };
        lock (_gate)
        {
            if (_isGone || _credit <= 0) return null;
            _credit--;
            _underway++;
            _unsettled.Add(message, new Delivery(settled, _clock.GetTimestamp()));
        }

        try
        {
            _link.SendMessage(message); // not under the lock: the library has its own and calls back
        }
        catch (Exception cause) when (cause is AmqpException or ObjectDisposedException or InvalidOperationException or IOException)
        {
            Gone();
        }

        lock (_gate)
        {
            _underway--;
            if (_mustCount)
            {
                _credit = CountedCredit();
                _mustCount = _underway > 0;
            }
        }

        return settled.Task;
    }

    /// <summary>The link's credit changed by so many.</summary>
    public void OnCredit(int change)
    {
        lock (_gate)
        {
            _credit = change > 0 ? CountedCredit() : 0; // less than before: the library starts at none, so do we
            _mustCount = _underway > 0;
        }

        _hasRoom();
        if (_link.IsDraining) _ = EndDrainAsync();
    }

    /// <summary>The consumer said what became of a message.</summary>
    public void OnDisposition(Message message, DeliveryState? state, bool isSettled)
    {
        if (!isSettled && state is not Outcome) return; // still at it
        if (!isSettled) _link.DisposeMessage(message, state, settled: true);
        Delivery delivery;
        lock (_gate)
        {
            if (!_unsettled.Remove(message, out delivery)) return;
        }

        delivery.Settled.SetResult(state switch
        {
            Accepted => new PushResult(PushOutcome.Answered, "accepted"),
            Rejected rejected => new PushResult(PushOutcome.Refused, $"rejected by the consumer: {rejected.Error?.Description ?? rejected.Error?.Condition?.ToString() ?? "no reason given"}"),
            Modified { UndeliverableHere: true } => new PushResult(PushOutcome.Refused, "the consumer says it cannot be delivered"),
            _ => new PushResult(PushOutcome.Failed, "released by the consumer"),
        });
    }

    /// <summary>The link has ended: what is not settled is offered again.</summary>
    public void Gone()
    {
        TaskCompletionSource<PushResult>[] lost;
        lock (_gate)
        {
            _isGone = true;
            lost = [.. _unsettled.Values.Select(d => d.Settled)];
            _unsettled.Clear();
        }

        foreach (var settled in lost) settled.SetResult(new PushResult(PushOutcome.Failed, "the connection to the consumer was lost"));
    }

    /// <summary>What was handed over longer ago than this and is not settled is taken back: others shall have it.</summary>
    /// <returns>How many.</returns>
    public int TakeBack(TimeSpan settleTimeout)
    {
        KeyValuePair<Message, Delivery>[] old;
        lock (_gate)
        {
            old = [.. _unsettled.Where(d => _clock.GetElapsedTime(d.Value.At) > settleTimeout)];
            foreach (var (message, _) in old) _unsettled.Remove(message);
        }

        foreach (var (message, delivery) in old)
        {
            try
            {
                _link.DisposeMessage(message, new Released(), settled: true);
            }
            catch (Exception cause) when (cause is AmqpException or ObjectDisposedException or InvalidOperationException)
            {
                // The link ends, and hears of it there.
            }

            delivery.Settled.SetResult(new PushResult(PushOutcome.Failed, $"not settled by the consumer within {settleTimeout}"));
        }

        return old.Length;
    }

    /// <summary>Ends the link, with the reason.</summary>
    public void Detach(string why) => _ = _link.CloseAsync(TimeSpan.FromSeconds(5), new Error(new Symbol("amqp:link:detach-forced")) { Description = why })
        .ContinueWith(static t => _ = t.Exception, TaskScheduler.Default);

    private async Task EndDrainAsync()
    {
        await Task.Delay(DrainWait);
        lock (_gate) _credit = 0;
        _link.CompleteDrain();
    }

    private int CountedCredit() => Math.Max(0, (int)Credit(_link) - _underway);

    // The library tells its listeners by how much credit changed but not what it is; after two flows that say the same it counts from none again.
    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "get_Credit")]
    private static extern uint Credit(ListenerLink link);
}
