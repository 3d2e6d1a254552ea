using Akka.Hosting;
#if PETABRIDGE_CMD
using Petabridge.Cmd.Cluster;
using Petabridge.Cmd.Cluster.Sharding;
using Petabridge.Cmd.Host;
#endif

namespace IoTDelivery.Host.Admin;

public static class PetabridgeCmdHosting
{
    /// <summary>Answers <c>pbm cluster</c> and <c>pbm cluster-sharding</c>, if the program was built with <c>-p:PetabridgeCmd=true</c>. Where it listens stands in <c>akka.hocon</c>.</summary>
    public static AkkaConfigurationBuilder WithPetabridgeCmd(this AkkaConfigurationBuilder akka)
    {
#if PETABRIDGE_CMD
        akka.AddPetabridgeCmd(cmd =>
        {
            cmd.RegisterCommandPalette(ClusterCommands.Instance);
            cmd.RegisterCommandPalette(ClusterShardingCommands.Instance);
        });
#endif
        return akka;
    }
}
