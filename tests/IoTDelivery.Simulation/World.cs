using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Devices.Journal;
using IoTDelivery.Devices.Reminders;
using IoTDelivery.Domain;
using IoTDelivery.Mqtt;
using IoTDelivery.Push;
using IoTDelivery.Registry;

namespace IoTDelivery.Simulation;

/// <summary>
/// One history: a site of three nodes and a database, devices and an application, and everything that goes wrong with them for a while. Then the faults stop, and
/// everything has to come to its end. The seed decides all of it.
/// </summary>
internal sealed class World
{
    public static readonly DeliveryPolicy Policy = new() { TtlUnit = TimeSpan.FromSeconds(4), PendingMax = 6, InflightMax = 4, HistoryMax = 5 };

    public static readonly DeviceOptions DeviceOptions = new()
    {
        FlushAfter = TimeSpan.FromSeconds(8),
        ReminderInterval = TimeSpan.FromSeconds(20),
        OfferAgainAfter = TimeSpan.FromSeconds(15),
        SnapshotEvery = 12,
    };

    public static readonly TimeSpan Lease = TimeSpan.FromSeconds(10);

    public static readonly PushOptions PushOptions = new()
    {
        BreakerFailures = 4,
        ProbeInterval = TimeSpan.FromSeconds(10),
        RetryMax = TimeSpan.FromSeconds(8),
        ConcurrencyPerReceiver = 2,
        WaitingMax = 10,
    };

    public static readonly DeviceHeader Header = new("project", null, "node", "product", null);

    /// <summary>
    /// What the product is not ready for: it does not happen unless asked for (<c>--with</c>). Each waits for a rule of the product; whoever mends that takes it off this list.
    /// </summary>
    public static readonly IReadOnlyCollection<Fault> NotYet =
    [
    ];

    private static readonly TimeSpan StableAfter = TimeSpan.FromSeconds(5);

    private readonly HashSet<Fault> _without;
    private readonly List<string>? _trace;
    private readonly Dictionary<IActorRef, Node> _owners = [];
    private readonly Node?[] _nodes = new Node?[Site.Nodes];
    private readonly HashSet<Node> _members = [];
    private readonly Dictionary<DeviceId, Node?> _homes = [];
    private readonly Dictionary<DeviceId, Node> _leaving = []; // from where
    private readonly List<SimulatedDevice> _devices = [];
    private readonly Dictionary<DeviceId, Addressee> _addressees = [];
    private bool _isCalm;

    public World(int seed, BrokenRule broken, HashSet<Fault> without, List<string>? trace)
    {
        (Random, Broken, _without, _trace) = (new Random(seed), broken, without, trace);
        MqttOptions = new() { Chance = Random };
        (Disk, Network, Promises) = (new Disk(this), new Network(this), new Promises(this));
        Actions = [.. Enumerable.Range(0, Random.Next(1, 3)).Select(i => $"action-{i}")];
        (Registry, RuleActions) = (new SimulatedRegistry(this), new SimulatedRules(this));
        Application = new Application(this);
        Clocks = [.. Enumerable.Range(0, Site.Nodes).Select(i => new MachineClock(i))];
        LooksUp = Chance(0.5);
        if (Happens(Fault.SleepersDueTogether, 0.1))
        {
            Sleepers = [.. Enumerable.Range(1, 9).Select(i => DeviceId.Parse($"s{i}")).Select(s => new Addressee(s, [SystemTopics.MessagesDown(s)]))];
        }

        MayJump = Happens(Fault.ClockJumps, 0.3);
        if (!Happens(Fault.ClocksDiffer, 0.4)) return;
        foreach (var clock in Clocks) clock.Skew = Seconds(-1, 1) * MachineClock.SkewMax.TotalSeconds;
        Disk.Skew = Seconds(-1, 1) * MachineClock.SkewMax.TotalSeconds;
        ClockSlack = 2 * MachineClock.SkewMax;
    }

    /// <summary>What of <see cref="NotYet"/> a broken rule is about.</summary>
    public static IReadOnlyCollection<Fault> NeededBy(BrokenRule broken) => broken switch
    {
        BrokenRule.LatePubAckTaken => [Fault.AckOnLaterConnection],
        BrokenRule.SlowReceiverBlocksReminders => [Fault.SleepersDueTogether],
        BrokenRule.RetireOfAnotherLife => [Fault.DeviceIsDeleted, Fault.RetireIsLate],
        _ => [],
    };

    public Random Random { get; }

    /// <summary>By machine. A process that ends and comes again finds the same one.</summary>
    public IReadOnlyList<MachineClock> Clocks { get; }

    /// <summary>True if clocks jump in this history.</summary>
    public bool MayJump { get; }

    /// <summary>How far what two machines take for the same time may have been apart so far.</summary>
    public TimeSpan ClockSlack { get; private set; }

    public MqttOptions MqttOptions { get; }

    public BrokenRule Broken { get; }

    public Disk Disk { get; }

    public Network Network { get; }

    public Promises Promises { get; }

    public Application Application { get; }

    public SimulatedRegistry Registry { get; }

    public IReadOnlyList<string> Actions { get; }

    public SimulatedRules RuleActions { get; }

    /// <summary>Those that connect.</summary>
    public IReadOnlyList<SimulatedDevice> Devices => _devices;

    /// <summary>Whom messages are sent to while things go wrong: those that connect, and the sub-devices.</summary>
    public IReadOnlyList<Addressee> Addressees { get; private set; } = [];

    /// <summary>Who never connects.</summary>
    public IReadOnlyList<Addressee> Sleepers { get; private set; } = [];

    public Addressee AddresseeOf(DeviceId deviceId) => _addressees[deviceId];

    /// <summary>With many sleepers one ring at a time has to do, or they would not be many.</summary>
    public ReminderOptions ReminderOptions => new() { Lease = Lease, Concurrency = Sleepers.Count > 0 ? 1 : 20 };

    /// <summary>True if the journal of this history looks up what became of a commit whose answer is lost; else it counts as failed.</summary>
    public bool LooksUp { get; }

    /// <summary>Where time and chance stand: two runs of one seed end alike.</summary>
    public long Fingerprint => OneThread.Instance.Ticks + Random.Next();

    public SortedDictionary<string, int> Counts { get; } = new(StringComparer.Ordinal);

    public DateTimeOffset Now => OneThread.Instance.Now;

    public bool IsTracing => _trace is not null;

    /// <summary>The faults are over.</summary>
    public bool IsCalm => _isCalm;

    // ---- what everybody uses

    public void Trace(string line) => _trace?.Add($"{Now:mm:ss.fff} {line}");

    public IDisposable After(TimeSpan delay, Action action) => OneThread.Instance.After(delay, action);

    public bool Chance(double probability) => Random.NextDouble() < probability;

    public TimeSpan Seconds(double from, double to) => TimeSpan.FromSeconds(from + (to - from) * Random.NextDouble());

    /// <summary>Whether this goes wrong now.</summary>
    public bool Happens(Fault fault, double probability)
    {
        if (_isCalm || !Chance(probability) || _without.Contains(fault)) return false;
        Count(fault.ToString());
        return true;
    }

    public void Count(string what) => Counts[what] = Counts.GetValueOrDefault(what) + 1;

    public IReadOnlyList<Node> AliveNodes => [.. _nodes.OfType<Node>()];

    public Node? AnyNode() => AliveNodes is { Count: > 0 } alive ? alive[Random.Next(alive.Count)] : null;

    /// <summary>Remembers whose connection it is. False if that was known.</summary>
    public bool Own(IActorRef connection, Node node) => _owners.TryAdd(connection, node);

    public Node? OwnerOf(IActorRef actor) => _owners.GetValueOrDefault(actor);

    /// <summary>For <see cref="BrokenRule.LatePubAckTaken"/>.</summary>
    public Misnumbering Misnumbering { get; } = new();

    /// <summary>The wires by the actor that stands for them on their node.</summary>
    public Dictionary<IActorRef, Wire> Connections { get; } = [];

    /// <summary>The wires by connection id.</summary>
    public Dictionary<Guid, Wire> Wires { get; } = [];

    /// <summary>Something arrived; a broken rule may hold it back to mix up the order.</summary>
    public void Arrived(object message, Action deliver)
    {
        if (Broken != BrokenRule.OrderBrokenOnRepetition || message is not ToConnection.Transmit) deliver();
        else After(TimeSpan.FromMilliseconds(5 * Random.NextDouble()), deliver);
    }

    // ---- the history

    /// <summary>Lives through it; what is broken stands in <see cref="Promises"/>.</summary>
    public void Run()
    {
        Site.Failed = OnError;
        RetryDelay.Chance = Random;
        for (var i = 0; i < Site.Nodes; i++) Boot(i);
        foreach (var sleeper in Sleepers) Add(sleeper);
        for (var i = Random.Next(1, 4); i > 0; i--)
        {
            var device = new SimulatedDevice(this, $"d{i}");
            _devices.Add(device);
            Add(device);
            if (Happens(Fault.GatewayCarries, 0.3)) device.SubDevices = [.. Enumerable.Range(1, Random.Next(1, 4)).Select(n => SubDevice(device, n))];
            device.Begin();
        }

        Addressees = [.. _devices.SelectMany(d => d.SubDevices.Prepend(d))];

        var trouble = Seconds(20, 60);
        Application.Begin(trouble);
        Schedule(0.5, 12, NextFault);
        var calm = Now + trouble;
        while (Now < calm && Promises.Violation is null) OneThread.Instance.RunUntil(Now + TimeSpan.FromSeconds(1));
        if (Promises.Violation is null) Calm();
        var end = Now + TimeSpan.FromSeconds(400) + (MayJump ? TimeSpan.FromSeconds(800) : TimeSpan.Zero); // who saw a jump may wait ten minutes for its correction
        while (Now < end && Promises.Violation is null && !IsSettled())
        {
            if (Now > calm + TimeSpan.FromSeconds(25)) Promises.NobodyIsLate();
            OneThread.Instance.RunUntil(Now + TimeSpan.FromSeconds(Sleepers.Count > 0 ? 1 : 5));
        }

        if (Promises.Violation is null) Promises.AtTheEnd();
    }

    private Addressee SubDevice(SimulatedDevice gateway, int number)
    {
        var subDevice = new Addressee(DeviceId.Parse($"{gateway.Id}-{number}"), gateway.Topics, gateway);
        Add(subDevice);
        return subDevice;
    }

    private void Add(Addressee addressee)
    {
        _addressees.Add(addressee.Id, addressee);
        Registry.Add(addressee.Id);
        SetHome(addressee.Id, _nodes[Random.Next(Site.Nodes)]);
    }

    /// <summary>Leaves nothing behind for the next history.</summary>
    public void Close()
    {
        foreach (var node in AliveNodes) node.Die();
        OneThread.Instance.Clear();
    }

    private bool IsSettled() => Application.IsDone && Promises.IsEverythingTold && Disk.Outboxes.Values.All(o => o.Open.IsEmpty && o.Notifications.IsEmpty) && Disk.Backlog.Count == 0;

    private void OnError(Akka.Event.Error error)
    {
        if (error.Cause is DiskFault or SequenceNumberTakenException or AskTimeoutException || error.Cause?.GetBaseException() is DiskFault) return;
        Promises.Break($"an actor failed: {error.Message} {error.Cause}");
    }

    private void Schedule(double from, double to, Action action) => After(Seconds(from, to), () =>
    {
        if (_isCalm) return;
        action();
        Schedule(from, to, action);
    });

    private void NextFault()
    {
        switch (Random.Next(14))
        {
            case 0 when AllWell() && Happens(Fault.NodeCrashes, 1): Crash(AnyNode()!); break;
            case 1 when AllWell() && Happens(Fault.NodePauses, 0.7): Pause(AnyNode()!); break;
            case 2 when AllWell() && Happens(Fault.NodeIsCutOff, 1): CutOff(AnyNode()!); break;
            case 3 or 4 when Happens(Fault.HomeMoves, 1): MoveHome(Addressees[Random.Next(Addressees.Count)].Id); break;
            case 5 when Happens(Fault.PusherFails, 1): AnyNode()?.StartPusher(); break;
            case 6 when Happens(Fault.DatabaseIsAway, 0.7): Disk.GoAway(Seconds(0.1, 6)); break;
            case 7 when Happens(Fault.DiskIsSlow, 1): Disk.GetSlow(Seconds(1, 8)); break;
            case 8 when Happens(Fault.WebhookIsDown, 1): Application.GoDown(Seconds(1, 25)); break;
            case 9 when AllWell() && Happens(Fault.AllNodesCrash, 0.3): CrashAll(); break;
            case 10: _devices[Random.Next(_devices.Count)].LoseWire(); break;
            case 12 when Happens(Fault.DeviceIsDeleted, 0.4): Application.DeleteDevice(Addressees[Random.Next(Addressees.Count)]); break;
            case 13 when Happens(Fault.WebhookIsSlowForLong, 0.5): Application.GetSlow(Seconds(10, 120)); break;
            case 11 when MayJump: JumpClock(); break;
        }

        // One node in trouble at a time: two of three are no majority.
        bool AllWell() => AliveNodes.Count == Site.Nodes && _members.Count == Site.Nodes && Network.CutOff is null && !AliveNodes.Any(n => n.IsPaused);
    }

    // Within a minute nobody can tell; beyond it two minutes at least, so that what the checker takes for a jump is one.
    private void JumpClock()
    {
        var clock = Clocks[Random.Next(Clocks.Count)];
        var jump = Chance(0.3) ? Seconds(1, 50) : Seconds(150, 3600);
        if (Chance(0.5)) jump = -jump;
        Trace($"the clock of machine {Clocks.ToList().IndexOf(clock)} jumps to {jump.TotalSeconds:+0.0;-0.0} s");
        clock.Jump = jump;
        ClockSlack = 2 * (MachineClock.SkewMax + TimeSpan.FromHours(1));
        After(Seconds(2, 40), () =>
        {
            if (clock.Jump == jump) clock.Jump = TimeSpan.Zero;
        });
    }

    private void Calm()
    {
        Trace("---- the faults are over");
        _isCalm = true;
        foreach (var clock in Clocks) clock.Jump = TimeSpan.Zero;
        if (Network.CutOff is { } cutOff) End(cutOff);
        foreach (var node in AliveNodes.Where(n => n.IsPaused)) End(node);
        Disk.GoAway(TimeSpan.Zero);
        Disk.GetSlow(TimeSpan.Zero);
        Application.GoDown(TimeSpan.Zero);
        foreach (var device in _devices) device.Calm();
        Application.Calm();

        // A node that was away so long that others may have taken its place does not go on: the cluster tells it that it is down.
        void End(Node node)
        {
            if (!_members.Contains(node)) Crash(node);
            else if (node.IsPaused) node.Resume();
            else Heal(node);
        }
    }

    // ---- the cluster

    private void Boot(int index)
    {
        var node = new Node(this, index);
        _nodes[index] = node;
        Trace($"{node} starts");
        foreach (var (device, home) in _homes) node.Region.Learn(device, home);
        foreach (var former in _members.Where(m => m.Index == index).ToList()) TakeForDead(former); // the new life of an address ends the former one at once
        _members.Add(node);
        Elect();
        Registry.Resume(node);
    }

    // One node drains the backlog: the oldest member.
    private void Elect()
    {
        var oldest = _members.FirstOrDefault(m => m.IsAlive && m != Network.CutOff);
        if (oldest is { Drains: false }) After(Seconds(0, 1), () =>
        {
            if (oldest.IsAlive) oldest.StartDrainers();
        });
    }

    private DateTimeOffset _strayEndedAt = DateTimeOffset.MinValue;

    private void Crash(Node node)
    {
        if (!node.IsAlive) return;
        Trace($"{node} crashes");
        if (Network.CutOff == node || !_members.Contains(node)) _strayEndedAt = Now;
        node.Die();
        _nodes[node.Index] = null;
        if (Network.CutOff == node) Network.Heal();
        foreach (var device in _devices) device.NodeDied(node);
        After(StableAfter + Seconds(0, 2), () => TakeForDead(node));
        After(_isCalm ? Seconds(0.5, 2) : Seconds(0.5, 15), () =>
        {
            if (_nodes[node.Index] is null) Boot(node.Index);
        });
    }

    private void CrashAll()
    {
        foreach (var node in AliveNodes) Crash(node);
    }

    /// <summary>Somebody runs who is no member any more, or is cut off; or did so lately, and what it put off is still on file.</summary>
    public bool HasStrayNode => Network.CutOff is not null || Now - _strayEndedAt < DeviceOptions.ReminderInterval || AliveNodes.Any(n => !_members.Contains(n));

    // SIGSTOP: the others take it for dead if it lasts; it knows nothing of that until it has done what it had begun.
    private void Pause(Node node)
    {
        var duration = Seconds(0.2, 40);
        Trace($"{node} stands still for {duration.TotalSeconds:f1} s");
        node.Pause();
        Unreachable(node);
        After(StableAfter + Seconds(0, 2), () =>
        {
            if (node.IsPaused && node.IsAlive && !_isCalm) TakeForDead(node);
        });
        After(duration, () =>
        {
            if (!node.IsAlive || !node.IsPaused) return;
            Trace($"{node} goes on");
            node.Resume();
            if (!_members.Contains(node)) After(Seconds(0, 1), () => Crash(node)); // it learns that it is down
        });
    }

    // Both sides see each other unreachable; the larger one goes on, the smaller one ends itself, a little later at times.
    private void CutOff(Node node)
    {
        var isShort = Chance(0.3);
        Trace($"{node} is cut off{(isShort ? " for a moment" : "")}");
        Network.Cut(node);
        Unreachable(node);
        After(Seconds(3, 4), () => node.Fence.IsOnLosingSide = Network.CutOff == node); // it notices, too
        if (isShort)
        {
            After(Seconds(0.1, 4), () =>
            {
                if (Network.CutOff == node) Heal(node);
            });
            return;
        }

        After(StableAfter + Seconds(0, 2), () =>
        {
            if (Network.CutOff == node) TakeForDead(node);
        });
        After(StableAfter + Seconds(0, 9), () => Crash(node));
    }

    private void Heal(Node node)
    {
        Network.Heal();
        foreach (var (device, home) in _homes) node.Region.Learn(device, home); // what it has missed
        After(Seconds(0, 1), () => node.Fence.IsOnLosingSide = Network.CutOff == node); // it notices that, too
    }

    private void Unreachable(Node node) => After(Seconds(0.5, 2.5), () =>
    {
        foreach (var other in _members.Where(m => m != node)) other.Fence.Raise(2 * StableAfter);
    });

    // The others go on without it: its devices get new homes, behind the fence.
    private void TakeForDead(Node node)
    {
        if (!_members.Remove(node)) return;
        Trace($"{node} is taken for dead");
        foreach (var other in _members)
        {
            other.Fence.Raise(2 * StableAfter);
            other.Lose(node);
        }

        foreach (var device in _homes.Where(h => h.Value == node || (h.Value is null && _leaving.GetValueOrDefault(h.Key) == node)).Select(h => h.Key).ToList())
        {
            SetHome(device, null);
            After(Seconds(0, 2), () => Settle(device));
        }

        if (node.IsAlive) Application.Press(node);
        Elect();
    }

    private void MoveHome(DeviceId device)
    {
        if (_homes[device] is not { } from || !_members.Contains(from) || from == Network.CutOff || from.IsPaused) return;
        Trace($"{device} leaves {from}");
        SetHome(device, null);
        _leaving[device] = from;
        from.Shard.Tell(new Shard.GiveAway(device, () =>
        {
            if (from.IsAlive) After(Seconds(0.01, 1), () => Settle(device));
        }));
    }

    private void Settle(DeviceId device)
    {
        if (_homes[device] is not null) return;
        var able = _members.Where(m => m.IsAlive && m != Network.CutOff).ToList();
        if (able.Count > 0) SetHome(device, able[Random.Next(able.Count)]);
        else After(TimeSpan.FromSeconds(1), () => Settle(device));
    }

    // Every member hears of it, but who is cut off or stands still believes what it knew.
    private void SetHome(DeviceId device, Node? home)
    {
        _homes[device] = home;
        if (home is not null) Trace($"{device} lives on {home}");
        foreach (var node in AliveNodes)
        {
            if (node != Network.CutOff && _members.Contains(node)) node.Region.Learn(device, home);
        }
    }
}
