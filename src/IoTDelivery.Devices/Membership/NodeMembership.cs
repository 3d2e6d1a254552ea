using System.Collections.Immutable;
using System.Diagnostics;
using Akka.Actor;
using Akka.Cluster;
using IoTDelivery.Storage;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Devices.Membership;

/// <summary>
/// Makes this node a member, says so in the database while it is one, and ends the process when it is none any more. What is hosted behind it starts only
/// in a member: nothing listens before. Akka's own list of seed nodes stays empty: it would join by itself, and the first of them would form a cluster unasked.
/// </summary>
//
//   start ──► may I form a cluster? ──yes──► join myself, or whoever of the seed nodes answers ──► Up ──► heartbeat ──► leave: row deleted
//     │            ▲    │ no: another cluster is alive on this database                            ▲         │
//     │            │    └──────────► ask the seed nodes to let me in ──────────────────────────────┘         └── downed, or there is an
//     │            └── every two seconds ──┘                                                                     older cluster: exit code 1
//     └── no seed nodes: this node is the cluster, or refuses to start
//
public sealed class NodeMembership(
    ActorSystem system, ClusterNodes nodes, Fencing fence, IHostApplicationLifetime lifetime, ILogger<NodeMembership> logger, IReadOnlyList<string> seedNodes)
    : IHostedLifecycleService
{
    /// <summary>How often a member writes its heartbeat, and one that is not in yet tries again.</summary>
    public static readonly TimeSpan Interval = ClusterNodes.LivenessTimeout / 5;

    // The seed nodes behind the first may form the cluster too, each this much later: a site must come up without its first machine. The database lets one of them.
    private static readonly TimeSpan PerSeed = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan TellAgain = TimeSpan.FromSeconds(10);

    private readonly Cluster _cluster = Cluster.Get(system);
    private readonly ImmutableList<Address> _seeds = [.. seedNodes.Select(s => Address.Parse($"akka.tcp://{system.Name}@{s}"))];
    private readonly CancellationTokenSource _stopping = new();
    private Guid _clusterUid;
    private Task _heartbeat = Task.CompletedTask;

    /// <summary>Why this node refuses to run at all: no seed nodes, and another cluster on the same database.</summary>
    public sealed class RefusedException(string message) : Exception(message);

    /// <summary>True if the others downed this node, or it gave way to an older cluster: whoever supervises the process starts it again.</summary>
    public bool WasDowned { get; private set; }

    private ThisNode This => new(Endpoint(_cluster.SelfAddress), _cluster.SelfUniqueAddress.Uid.ToString());

    /// <summary>The address as operators write it.</summary>
    public static string Endpoint(Address address) => $"{address.Host}:{address.Port}";

    /// <exception cref="RefusedException">This node has no seed nodes, and another cluster is alive on the same database.</exception>
    public async Task StartAsync(CancellationToken cancellationToken)
    {
        var up = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _cluster.RegisterOnMemberUp(() => up.TrySetResult());
        _cluster.RegisterOnMemberRemoved(OnRemoved);
        if (_seeds.IsEmpty) await JoinSelfAsync(cancellationToken);
        else await JoinSeedsAsync(up.Task, cancellationToken);
        await up.Task.WaitAsync(cancellationToken);
        var heartbeat = new Heartbeat(HeartbeatOnceAsync, Interval, logger);
        _heartbeat = Task.Run(() => heartbeat.RunAsync(_stopping.Token), CancellationToken.None);
    }

    public async Task StopAsync(CancellationToken cancellationToken)
    {
        await _stopping.CancelAsync();
        await _heartbeat;
    }

    // Behind everything else: the actors have stopped, nothing of this start can write any more.
    public async Task StoppedAsync(CancellationToken cancellationToken)
    {
        try
        {
            await nodes.ForgetAsync(This.Incarnation, cancellationToken);
        }
        catch (Exception cause) when (SqlErrors.IsUnavailable(cause) || cause is OperationCanceledException)
        {
            // It goes stale by itself.
        }
    }

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    // A node alone that was killed and starts again on another machine waits until its former life is stale.
    private async Task JoinSelfAsync(CancellationToken cancel)
    {
        var patience = Stopwatch.StartNew();
        while (await TryFormAsync(cancel) is { Count: > 0 } others)
        {
            if (patience.Elapsed > ClusterNodes.LivenessTimeout + Interval)
            {
                throw new RefusedException(
                    $"Another cluster is alive on this database ({Told(others)}), and this node has no seed nodes: it would form a second one. " +
                    "Stop the other, or make them one with Cluster:SeedNodes.");
            }

            await Task.Delay(Interval, cancel);
        }

        _cluster.Join(_cluster.SelfAddress);
    }

    private async Task JoinSeedsAsync(Task up, CancellationToken cancel)
    {
        var (place, others) = (_seeds.IndexOf(_cluster.SelfAddress), _seeds.Remove(_cluster.SelfAddress));
        var (waited, told) = (Stopwatch.StartNew(), Stopwatch.StartNew());
        var (isFormer, isAsking) = (false, false);
        while (!up.IsCompleted)
        {
            IReadOnlyList<NodeOnFile> inTheWay = [];
            if (!isFormer && place >= 0 && waited.Elapsed >= place * PerSeed)
            {
                (isFormer, inTheWay) = await MayFormAsync(cancel);
                if (isFormer) _cluster.JoinSeedNodes(others.Insert(0, _cluster.SelfAddress)); // first in the list: asks the others, and joins itself if nobody answers
            }

            if (!isFormer && !isAsking)
            {
                isAsking = true;
                if (!others.IsEmpty) _cluster.JoinSeedNodes(others); // not in the list itself: it can be let in only
                if (inTheWay.Count > 0) logger.DoesNotForm(Told(inTheWay));
            }
            else if (told.Elapsed > TellAgain)
            {
                told.Restart();
                if (inTheWay.Count > 0) logger.DoesNotForm(Told(inTheWay));
                else logger.WaitsForSeeds(string.Join(", ", seedNodes));
            }

            await Task.WhenAny(up, Task.Delay(Interval, cancel));
            cancel.ThrowIfCancellationRequested();
        }
    }

    // Without the database nobody forms a cluster.
    private async Task<(bool, IReadOnlyList<NodeOnFile>)> MayFormAsync(CancellationToken cancel)
    {
        try
        {
            var inTheWay = await TryFormAsync(cancel);
            return (inTheWay.Count == 0, inTheWay);
        }
        catch (Exception cause) when (SqlErrors.IsUnavailable(cause))
        {
            return (false, []);
        }
    }

    private async Task<IReadOnlyList<NodeOnFile>> TryFormAsync(CancellationToken cancel)
    {
        var uid = Guid.CreateVersion7();
        var others = await nodes.FormAsync(This, uid, cancel);
        if (others.Count == 0) _clusterUid = uid;
        return others;
    }

    private async Task HeartbeatOnceAsync(CancellationToken cancel)
    {
        var downed = fence.Downed.ToList();
        foreach (var incarnation in downed) await nodes.DownAsync(incarnation, cancel);

        // Before anything is read: a row that cannot be read must not make this node look dead.
        if (_clusterUid != Guid.Empty) await nodes.HeartbeatAsync(This, _clusterUid, cancel);
        var members = _cluster.State.Members.Select(m => m.UniqueAddress.Uid.ToString()).ToHashSet();
        var onFile = await nodes.ReadAsync(cancel);
        fence.OnFile(downed, onFile.Any(n => n.IsDowned && n.Incarnation != This.Incarnation));

        if (onFile.Any(n => n.Incarnation == This.Incarnation && n.IsDowned))
        {
            End(); // stopped for a while, perhaps: the others have gone on without it
            return;
        }

        // Who was let in learns the cluster's uid from a member that has it.
        var alive = onFile.Where(n => n.Incarnation != This.Incarnation && !n.IsDowned && n.IsAlive).ToList();
        var mine = alive.Where(n => members.Contains(n.Incarnation)).Select(n => n.ClusterUid).Append(_clusterUid).Where(u => u != Guid.Empty).DefaultIfEmpty().Min();
        if (mine == Guid.Empty) return; // none of them has written a heartbeat since it is one
        if (mine != _clusterUid) await nodes.HeartbeatAsync(This, mine, cancel);
        _clusterUid = mine;

        if (alive.FirstOrDefault(n => !members.Contains(n.Incarnation) && n.ClusterUid.CompareTo(mine) < 0) is not { } older) return;
        logger.GivesWay(older.Address, older.ClusterUid, mine);
        WasDowned = true;
        lifetime.StopApplication();
    }

    private void End()
    {
        WasDowned = true;
        logger.WasDowned();
        lifetime.StopApplication();
    }

    // Downed by the others, or asked to leave over the cluster: either way the process has nothing more to do.
    private void OnRemoved()
    {
        if (!lifetime.ApplicationStopping.IsCancellationRequested && CoordinatedShutdown.Get(system).ShutdownReason is null or CoordinatedShutdown.ClusterDowningReason)
        {
            End();
            return;
        }

        lifetime.StopApplication();
    }

    private static string Told(IEnumerable<NodeOnFile> others) => string.Join(", ", others.Select(o => $"{o.Address}, process {o.Process} on {o.Machine}, cluster {o.ClusterUid}"));
}
