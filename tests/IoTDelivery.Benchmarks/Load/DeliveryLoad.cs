using System.Diagnostics;

namespace IoTDelivery.Benchmarks.Load;

/// <summary>
/// Sends messages to devices in turn and watches each until its end: the DELIVERED webhook or, against a plain broker, the device.
/// Closed: a bounded number in flight, the next one goes when one has ended. Open: a fixed schedule, and every time counts from when a message was due.
/// </summary>
public sealed class DeliveryLoad(Poller poller, bool endsAtDevice = false)
{
    private readonly Stack<Caller> _idle = [];
    private bool _isIgnoringClosed;

    public Ledger Ledger { get; } = new();

    /// <summary>The numbers of the devices that get messages: from, and how many.</summary>
    public (int From, int Count) Devices { get; set; }

    public int Online { get; private set; }

    public int InFlight { get; private set; }

    /// <summary>Messages that have ended.</summary>
    public long Ended { get; private set; }

    public int IdleCallers => _idle.Count;

    public static long Now => Stopwatch.GetTimestamp();

    public static long Ticks(TimeSpan time) => (long)(time.TotalSeconds * Stopwatch.Frequency);

    public static TimeSpan Time(long ticks) => TimeSpan.FromSeconds((double)ticks / Stopwatch.Frequency);

    /// <summary>Connections that end from now on are meant to.</summary>
    public void IgnoreClosed() => _isIgnoringClosed = true;

    /// <summary>Handles the network until <paramref name="done"/>, or throws when that takes too long.</summary>
    public void Until(Func<bool> done, TimeSpan patience, string what)
    {
        var end = Now + Ticks(patience);
        while (!done())
        {
            if (Now > end) throw new TimeoutException($"Not after {patience.TotalSeconds:0} s: {what}.");
            poller.Poll(TimeSpan.FromMilliseconds(50));
        }
    }

    /// <summary>Handles the network for a while.</summary>
    public void For(TimeSpan time)
    {
        for (var end = Now + Ticks(time); Now < end;) poller.Poll(Time(end - Now));
    }

    public void Closed(int inFlight, TimeSpan time, long messages = long.MaxValue)
    {
        var end = Now + Ticks(time);
        for (var left = messages; left > 0 && Now < end;)
        {
            while (left > 0 && InFlight < inFlight && _idle.TryPop(out var caller))
            {
                Post(caller, Now);
                left--;
            }

            poller.Poll(Time(end - Now));
        }
    }

    public void Open(double perSecond, TimeSpan time)
    {
        var (start, count, interval) = (Now, (long)(perSecond * time.TotalSeconds), Stopwatch.Frequency / perSecond);
        for (var sent = 0L; sent < count;)
        {
            var due = start + (long)(sent * interval);
            if (due > Now)
            {
                poller.Poll(Time(due - Now));
            }
            else if (_idle.TryPop(out var caller))
            {
                Post(caller, due);
                sent++;
            }
            else
            {
                poller.Poll(TimeSpan.FromMilliseconds(50)); // every connection waits for an answer: the delay counts, because time counts from when it was due
            }
        }
    }

    /// <summary>Waits until nothing is in flight; false if something never ended.</summary>
    public bool Drain(TimeSpan patience)
    {
        for (var end = Now + Ticks(patience); InFlight > 0 && Now < end;) poller.Poll(TimeSpan.FromMilliseconds(50));
        return InFlight == 0;
    }

    public void OnReady(Caller caller) => _idle.Push(caller);

    public void OnOnline() => Online++;

    public void OnDeviceClosed()
    {
        if (!_isIgnoringClosed) throw new InvalidOperationException("The server closed the connection of a device.");
    }

    public void OnClosed(Caller caller, long number)
    {
        // An HTTP server may close a connection that has been idle for long (RFC 9112, 9.5): the next message takes a new one.
        if (!_isIgnoringClosed && number >= 0) throw new InvalidOperationException($"The server closed a connection that sends messages ({caller.GetType().Name}, message {number}).");
    }

    public void OnAnswered(Caller caller, long number, int status)
    {
        _idle.Push(caller);
        ref var entry = ref Ledger[number];
        entry.Answered = Now;
        if (status == 201)
        {
            entry.IsAccepted = true;
            if (entry.Delivered != 0) End();
        }
        else
        {
            Ledger.Refused++;
            InFlight--;
        }
    }

    public void OnPublished(long number, long at)
    {
        if (number < 0 || number >= Ledger.Count) return;
        ref var entry = ref Ledger[number];
        if (entry.Published != 0)
        {
            Ledger.PublishedAgain++;
            return;
        }

        entry.Published = at;
        if (!endsAtDevice) return;
        entry.Delivered = at;
        if (entry.IsAccepted) End();
    }

    public void OnTold(long number, Guid requestId, bool isDelivered)
    {
        if (!isDelivered)
        {
            Ledger.OtherStatuses++;
            return;
        }

        if (number < 0 || number >= Ledger.Count) return;
        ref var entry = ref Ledger[number];
        if (entry.Delivered != 0)
        {
            if (entry.RequestId == requestId) Ledger.ToldAgain++;
            else Ledger.ToldTwice++;
            return;
        }

        (entry.Delivered, entry.RequestId) = (Now, requestId);
        if (entry.IsAccepted) End();
    }

    private void Post(Caller caller, long due)
    {
        var number = Ledger.Add(due);
        InFlight++;
        if (caller.IsClosed) caller = caller.Again();
        caller.Post(number, Devices.From + (int)(number % Devices.Count));
    }

    private void End()
    {
        InFlight--;
        Ended++;
    }
}
