using Akka.Actor;
using Akka.Cluster;
using IoTDelivery.Registry;

namespace IoTDelivery.Host;

/// <summary>
/// Tells the other nodes which device changed: a secret that was reset, or a frozen device, must not be let in by a node that still has the old row in its cache.
/// The answer to the application waits for them, for a second at most: a node that cannot be reached sees the change when its entry is old.
/// </summary>
public sealed class RegistryChanges(ActorSystem system)
{
    private const string Name = "registry-changes";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    /// <summary>What this node hears of the others' changes with.</summary>
    public static void Listen(ActorSystem system, DeviceCache cache) => system.ActorOf(Props.Create(typeof(Listener), cache), Name);

    /// <summary>Done when the other nodes have forgotten the device or did not answer.</summary>
    public async Task ForgetAsync(string deviceId)
    {
        var cluster = Cluster.Get(system);
        var others = cluster.State.Members.Where(m => m.Status is MemberStatus.Up or MemberStatus.WeaklyUp or MemberStatus.Leaving && !m.UniqueAddress.Equals(cluster.SelfUniqueAddress));
        await Task.WhenAll(others.Select(ForgetAsync));

        async Task ForgetAsync(Member other)
        {
            try
            {
                await system.ActorSelection(new RootActorPath(other.Address) / "user" / Name).Ask<string>(deviceId, Patience);
            }
            catch (AskTimeoutException)
            {
                // Its entry is 30 s old at most.
            }
        }
    }

    // A device id comes in and goes back as the answer: text needs no serializer of its own.
    private sealed class Listener(DeviceCache cache) : UntypedActor
    {
        protected override void OnReceive(object message)
        {
            if (message is not string deviceId)
            {
                Unhandled(message);
                return;
            }

            cache.Drop(deviceId);
            Sender.Tell(deviceId);
        }
    }
}
