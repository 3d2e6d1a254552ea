using System.Runtime.CompilerServices;
using Akka.Actor;
using Akka.Configuration;
using Akka.Dispatch;
using Akka.Event;

namespace IoTDelivery.Simulation;

/// <summary>
/// Time and work of everything simulated. Actors do not run on threads of their own: their dispatchers queue here, their timers wait here, and whoever calls
/// <see cref="RunUntil"/> does it all, one thing after the other, always in the same order.
/// </summary>
//
//   ready: mailboxes and continuations, first in first out          timers: by due time, then by age
//      └── run one (it costs a microsecond) ──► … none left ──────────► the clock jumps to the next one
//
internal sealed class OneThread : TimeProvider
{
    private const long WorkTicks = 10; // one microsecond per piece of work: two things never happen at the same instant
    private static readonly DateTimeOffset Start = new(2026, 1, 1, 12, 0, 0, TimeSpan.Zero);

    private readonly Queue<(Lane? Lane, IRunnable Work)> _ready = new();
    private readonly PriorityQueue<Timer, (long At, long Age)> _timers = new();
    private long _ages;

    /// <summary>One process simulates one history at a time; Akka makes its dispatchers and scheduler by reflection and finds it here.</summary>
    public static readonly OneThread Instance = new();

    private OneThread() { }

    /// <summary>Since the history began.</summary>
    public long Ticks { get; private set; }

    public DateTimeOffset Now => Start.AddTicks(Ticks);

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    /// <summary>A process: while it is paused (SIGSTOP), its work waits.</summary>
    public sealed class Lane
    {
        private readonly List<IRunnable> _held = [];

        public bool IsPaused { get; private set; }

        public void Pause() => IsPaused = true;

        public void Resume()
        {
            IsPaused = false;
            foreach (var work in _held) Instance._ready.Enqueue((this, work));
            _held.Clear();
        }

        public void Hold(IRunnable work) => _held.Add(work);
    }

    public override DateTimeOffset GetUtcNow() => Now;

    public override long GetTimestamp() => Ticks;

    public void Enqueue(Lane? lane, IRunnable work) => _ready.Enqueue((lane, work));

    /// <summary>Runs <paramref name="action"/> when its time has come. Dispose to call it off.</summary>
    public IDisposable After(TimeSpan delay, Action action)
    {
        var timer = new Timer(action);
        _timers.Enqueue(timer, (Ticks + Math.Max(0, delay.Ticks), _ages++));
        return timer;
    }

    /// <summary>Does everything that is due up to a time.</summary>
    public void RunUntil(DateTimeOffset time)
    {
        var end = (time - Start).Ticks;
        while (true)
        {
            Drain();
            if (!_timers.TryPeek(out _, out var next) || next.At > end) break;
            var timer = _timers.Dequeue();
            if (next.At > Ticks) Ticks = next.At;
            timer.Run();
        }

        if (end > Ticks) Ticks = end;
    }

    /// <summary>Does what is ready. What the dead still do costs no time: the order in which actors go is the one thing no seed decides.</summary>
    public void Drain(bool isFree = false)
    {
        while (_ready.TryDequeue(out var next))
        {
            if (next.Lane is { IsPaused: true })
            {
                next.Lane.Hold(next.Work);
                continue;
            }

            if (!isFree) Ticks += WorkTicks;
            next.Work.Run();
        }
    }

    /// <summary>Forgets all timers and starts the clock anew: the history is over.</summary>
    public void Clear()
    {
        Drain(isFree: true);
        _timers.Clear();
        QueueingDispatcherConfigurator.LanesByParent.Clear();
        (Ticks, _ages) = (0, 0);
    }

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) => new ClockTimer(callback, state, dueTime, period);

    private sealed class Timer(Action action) : IDisposable
    {
        private Action? _action = action;

        public void Run() => _action?.Invoke();

        public void Dispose() => _action = null;
    }

    private sealed class ClockTimer : ITimer
    {
        private readonly TimerCallback _callback;
        private readonly object? _state;
        private IDisposable? _next;
        private TimeSpan _period;

        public ClockTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            (_callback, _state) = (callback, state);
            Change(dueTime, period);
        }

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            _next?.Dispose();
            _period = period;
            _next = dueTime == Timeout.InfiniteTimeSpan ? null : Instance.After(dueTime, Fire);
            return true;
        }

        public void Dispose() => _next?.Dispose();

        public ValueTask DisposeAsync()
        {
            Dispose();
            return ValueTask.CompletedTask;
        }

        private void Fire()
        {
            if (_period > TimeSpan.Zero) _next = Instance.After(_period, Fire);
            _callback(_state);
        }
    }
}

/// <summary>Akka's scheduler in virtual time. Named in the simulation's HOCON.</summary>
internal sealed class VirtualScheduler(Config config, ILoggingAdapter log) : SchedulerBase(config, log)
{
    public override TimeSpan MonotonicClock => TimeSpan.FromTicks(OneThread.Instance.Ticks);

    public override TimeSpan HighResMonotonicClock => MonotonicClock;

    protected override DateTimeOffset TimeNow => OneThread.Instance.Now;

    protected override void InternalScheduleTellOnce(TimeSpan delay, ICanTell receiver, object message, IActorRef sender, ICancelable? cancelable) =>
        Once(delay, () => receiver.Tell(message, sender), cancelable);

    protected override void InternalScheduleTellRepeatedly(
        TimeSpan initialDelay, TimeSpan interval, ICanTell receiver, object message, IActorRef sender, ICancelable? cancelable) =>
        Repeatedly(initialDelay, interval, () => receiver.Tell(message, sender), cancelable);

    protected override void InternalScheduleOnce(TimeSpan delay, Action action, ICancelable? cancelable) => Once(delay, action, cancelable);

    protected override void InternalScheduleOnce(TimeSpan delay, IRunnable action, ICancelable? cancelable) => Once(delay, action.Run, cancelable);

    protected override void InternalScheduleRepeatedly(TimeSpan initialDelay, TimeSpan interval, Action action, ICancelable? cancelable) =>
        Repeatedly(initialDelay, interval, action, cancelable);

    protected override void InternalScheduleRepeatedly(TimeSpan initialDelay, TimeSpan interval, IRunnable action, ICancelable? cancelable) =>
        Repeatedly(initialDelay, interval, action.Run, cancelable);

    private static void Once(TimeSpan delay, Action action, ICancelable? cancelable) => OneThread.Instance.After(delay, () =>
    {
        if (cancelable is not { IsCancellationRequested: true }) action();
    });

    private static void Repeatedly(TimeSpan delay, TimeSpan interval, Action action, ICancelable? cancelable) => OneThread.Instance.After(delay, () =>
    {
        if (cancelable is { IsCancellationRequested: true }) return;
        Repeatedly(interval, interval, action, cancelable);
        action();
    });
}

/// <summary>Makes dispatchers that queue at <see cref="OneThread"/>. Those of a node's actors share a <see cref="OneThread.Lane"/>.</summary>
internal sealed class QueueingDispatcherConfigurator : MessageDispatcherConfigurator
{
    /// <summary>By dispatcher id; others belong to no node.</summary>
    public static readonly Dictionary<string, OneThread.Lane> Lanes = [];

    /// <summary>By the parent of an actor that was started without a dispatcher of its node.</summary>
    public static readonly Dictionary<ActorPath, OneThread.Lane> LanesByParent = [];

    private readonly QueueingDispatcher _dispatcher;

    public QueueingDispatcherConfigurator(Config config, IDispatcherPrerequisites prerequisites)
        : base(config, prerequisites) => _dispatcher = new QueueingDispatcher(this, Lanes.GetValueOrDefault(config.GetString("id", "")));

    public override MessageDispatcher Dispatcher() => _dispatcher;

    private sealed class QueueingDispatcher(MessageDispatcherConfigurator configurator, OneThread.Lane? lane) : MessageDispatcher(configurator)
    {
        protected override void ExecuteTask(IRunnable run) => OneThread.Instance.Enqueue(lane ?? LaneOf(run), run);

        private static OneThread.Lane? LaneOf(IRunnable run)
        {
            if (LanesByParent.Count == 0 || run is not Mailbox mailbox || ActorOf(mailbox) is not { } actor) return null;
            return LanesByParent.GetValueOrDefault(actor.Self.Path) ?? LanesByParent.GetValueOrDefault(actor.Self.Path.Parent);
        }

        [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "get_Actor")]
        private static extern ActorCell? ActorOf(Mailbox mailbox);

        protected override void Shutdown() { }
    }
}
