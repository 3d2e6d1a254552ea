using System.Collections.Immutable;
using System.Runtime.CompilerServices;
using Akka.Actor;
using Akka.Cluster;
using Akka.Cluster.Sharding;
using IoTDelivery.Devices.Membership;

namespace IoTDelivery.Host.Admin;

/// <summary>A member of the cluster as this node knows it. <paramref name="Address"/> is <c>host:port</c>.</summary>
public sealed record ClusterMember(
    string Address, string Status, IReadOnlyList<string> Roles, string AppVersion, IReadOnlyList<string> UnreachableBy, bool IsLeader, bool IsOldest, bool IsSelf)
{
    /// <summary>True unless some member has lost it.</summary>
    public bool IsReachable => UnreachableBy.Count == 0;
}

/// <summary>The shards of one type on one node, and how many entities are awake in each. <paramref name="Unanswered"/>: shards that did not answer in time.</summary>
public sealed record ShardRegionView(string Type, string Address, IReadOnlyDictionary<string, int> Shards, IReadOnlyList<string> Unanswered);

/// <summary>What an operator sees of the cluster, and the two things an operator may do to it.</summary>
public sealed class ClusterView(ActorSystem system)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    private Cluster Cluster => Cluster.Get(system);

    /// <summary>The members, oldest first.</summary>
    public IReadOnlyList<ClusterMember> Members()
    {
        var state = Cluster.State;
        var observers = ObserversOf(Cluster);
        var byAge = state.Members.OrderBy(m => m, Comparer<Member>.Create((a, b) => a.Equals(b) ? 0 : a.IsOlderThan(b) ? -1 : 1)).ToList();
        var oldest = byAge.Find(m => m.Status is MemberStatus.Up or MemberStatus.Leaving or MemberStatus.Exiting);
        return [.. byAge.Select(m => new ClusterMember(
            NodeMembership.Endpoint(m.Address), m.Status.ToString(), [.. m.Roles.Order()], m.AppVersion.Version,
            observers.TryGetValue(m.UniqueAddress, out var by) ? [.. by.Select(o => NodeMembership.Endpoint(o.Address)).Order()] : [],
            m.Address.Equals(state.Leader), m.Equals(oldest), m.UniqueAddress.Equals(Cluster.SelfUniqueAddress)))];
    }

    /// <summary>Which node carries which shards. Asks every node, each has a few seconds.</summary>
    /// <exception cref="AskTimeoutException">Whoever knows the nodes' shards does not answer: it is just moving to another node, or out of reach.</exception>
    public async Task<IReadOnlyList<ShardRegionView>> ShardsAsync(CancellationToken cancel)
    {
        var sharding = ClusterSharding.Get(system);
        var views = new List<ShardRegionView>();
        foreach (var type in sharding.ShardTypeNames.Order())
        {
            var stats = await sharding.ShardRegion(type).Ask<ClusterShardingStats>(new GetClusterShardingStats(Patience), Patience + TimeSpan.FromSeconds(1), cancel);
            views.AddRange(stats.Regions.Select(r => new ShardRegionView(
                type, NodeMembership.Endpoint(r.Key), r.Value.Stats.OrderBy(s => s.Key.Length).ThenBy(s => s.Key).ToDictionary(), [.. r.Value.Failed.Order()])));
        }

        return [.. views.OrderBy(v => v.Type).ThenBy(v => v.Address)];
    }

    /// <summary>Takes a member out that will not come back. Returns why not; null if it is asked for.</summary>
    public string? Down(ClusterMember member)
    {
        if (member.Status == nameof(MemberStatus.Down)) return $"{member.Address} is Down already.";
        if (member.IsReachable && member.Status is nameof(MemberStatus.Up) or nameof(MemberStatus.WeaklyUp))
        {
            return $"{member.Address} is {member.Status} and reachable: it would go on working beside the others. Let it leave instead.";
        }

        Cluster.Down(AddressOf(member));
        return null;
    }

    /// <summary>Lets a member hand its work over and go. Returns why not; null if it is asked for.</summary>
    public string? Leave(ClusterMember member)
    {
        if (member.Status is not (nameof(MemberStatus.Up) or nameof(MemberStatus.WeaklyUp) or nameof(MemberStatus.Joining))) return $"{member.Address} is {member.Status} already.";
        if (!member.IsReachable) return $"{member.Address} is unreachable and would not hear of it. If it will not come back, down it.";
        Cluster.Leave(AddressOf(member));
        return null;
    }

    private Address AddressOf(ClusterMember member) => Cluster.State.Members.Select(m => m.Address).First(a => NodeMembership.Endpoint(a) == member.Address);

    // Who lost whom is gossiped, and Akka's own log tells it, but the public state only says that somebody did. ClusterApiSpec notices if a new Akka has it elsewhere.
    private static ImmutableDictionary<UniqueAddress, ImmutableHashSet<UniqueAddress>> ObserversOf(Cluster cluster) => Observers(Reachability(ReadView(cluster)));

    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "get_ReadView")]
    [return: UnsafeAccessorType("Akka.Cluster.ClusterReadView, Akka.Cluster")]
    private static extern object ReadView(Cluster cluster);

    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "get_Reachability")]
    [return: UnsafeAccessorType("Akka.Cluster.Reachability, Akka.Cluster")]
    private static extern object Reachability([UnsafeAccessorType("Akka.Cluster.ClusterReadView, Akka.Cluster")] object view);

    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "get_ObserversGroupedByUnreachable")]
    private static extern ImmutableDictionary<UniqueAddress, ImmutableHashSet<UniqueAddress>> Observers([UnsafeAccessorType("Akka.Cluster.Reachability, Akka.Cluster")] object reachability);
}
