using System.Net;
using System.Reflection;
using IoTDelivery.Devices;
using IoTDelivery.Mqtt;

namespace IoTDelivery.Host;

/// <summary>What this node does and whom it works with. Section <c>Cluster</c>; everything else of Akka's stands in <c>akka.hocon</c>.</summary>
public sealed class ClusterSettings
{
    /// <summary>The name of the section in <c>appsettings.json</c>.</summary>
    public const string Section = "Cluster";

    /// <summary>Akka's name of the cluster, part of every address.</summary>
    public const string SystemName = "iotdelivery";

    /// <summary>Where nodes with seed nodes listen for each other, unless told otherwise.</summary>
    public const int DefaultPort = 4053;

    /// <summary>The role of nodes that applications send their requests to.</summary>
    public const string ApiRole = "api";

    private static readonly string[] All = [DevicesHosting.Role, MqttHosting.Role, ApiRole];

    /// <summary>
    /// What this node does: <c>device</c> (carries devices), <c>mqtt</c> (listens for devices), <c>api</c> (listens for applications). Default all. A node listens on its
    /// REST port in any case: health and the commands of operators are answered there.
    /// </summary>
    public string[] Roles { get; set; } = [];

    /// <summary>
    /// The nodes that a starting node asks to let it in, <c>host:port</c> each: the same list on every node, this one among them. Default none: this node is the cluster.
    /// If none of them answers and no cluster is alive on the database, the first of them that runs forms it.
    /// </summary>
    public string[] SeedNodes { get; set; } = [];

    /// <summary>How the other nodes reach this one: a name or an address. Default 127.0.0.1.</summary>
    public string Hostname { get; set; } = "127.0.0.1";

    /// <summary>The TCP port of the nodes' talk with each other. Default 4053 with seed nodes, any free one without.</summary>
    public int? Port { get; set; }

    /// <summary>The address to listen on for it. Default: all addresses if <see cref="Hostname"/> is not this machine's loopback.</summary>
    public string? BindAddress { get; set; }

    /// <summary>Which side of a partition goes on. Default the one with more nodes.</summary>
    public Downing Downing { get; set; } = Downing.KeepMajority;

    /// <summary>With <see cref="Downing.StaticQuorum"/>: how many nodes a side must have to go on; more than half of all there will ever be.</summary>
    public int QuorumSize { get; set; }

    /// <summary>The roles to take.</summary>
    internal string[] RolesTaken => Roles.Length > 0 ? [.. Roles.Distinct()] : All;

    /// <summary>What is wrong with these settings, naming the setting; null if nothing is.</summary>
    public string? Problem() =>
        Roles.FirstOrDefault(r => !All.Contains(r)) is { } unknown ? $"Cluster:Roles: '{unknown}' is none of {string.Join(", ", All)}."
        : Array.FindIndex(SeedNodes, s => !IsEndpoint(s)) is var i and >= 0 ? $"Cluster:SeedNodes:{i}: '{SeedNodes[i]}' is not host:port, such as node1:{DefaultPort}."
        : string.IsNullOrWhiteSpace(Hostname) || Uri.CheckHostName(Hostname) == UriHostNameType.Unknown ? $"Cluster:Hostname: '{Hostname}' is no host name and no address."
        : Port is < 0 or > 65_535 ? "Cluster:Port must be from 0 to 65535."
        : BindAddress is not null && !IPAddress.TryParse(BindAddress, out _) ? $"Cluster:BindAddress: '{BindAddress}' is no IP address."
        : !Enum.IsDefined(Downing) ? $"Cluster:Downing must be one of {string.Join(", ", Enum.GetNames<Downing>())}."
        : Downing == Downing.StaticQuorum && QuorumSize < 1 ? "Cluster:QuorumSize must be at least 1 with Cluster:Downing=StaticQuorum: more than half of all nodes there will ever be."
        : null;

    /// <summary>The same in Akka's words. What is not set stays as <c>akka.hocon</c> has it.</summary>
    public string ToHocon()
    {
        var bind = BindAddress ?? (IsLoopback(Hostname) ? Hostname : "0.0.0.0");
        var port = Port ?? (SeedNodes.Length > 0 ? DefaultPort : 0);
        return $$"""
            akka.remote.dot-netty.tcp { hostname = "{{bind}}", public-hostname = "{{Hostname}}", port = {{port}} }
            akka.cluster.app-version = "{{Version}}"
            {{(Downing == Downing.StaticQuorum ? $"akka.cluster.split-brain-resolver {{ active-strategy = static-quorum, static-quorum.quorum-size = {QuorumSize} }}" : "")}}
            """;
    }

    // While nodes of two releases run side by side, shards go to the newer ones only.
    private static string Version => typeof(ClusterSettings).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion.Split('+')[0];

    private static bool IsEndpoint(string text) =>
        text.LastIndexOf(':') is var colon and > 0 && int.TryParse(text.AsSpan(colon + 1), out var port) && port is > 0 and <= 65_535
        && Uri.CheckHostName(text[..colon]) != UriHostNameType.Unknown;

    private static bool IsLoopback(string host) => host == "localhost" || (IPAddress.TryParse(host, out var ip) && IPAddress.IsLoopback(ip));
}

/// <summary>Which side of a partition goes on; the other one ends. SQL's unique key stops what slips through.</summary>
public enum Downing
{
    /// <summary>The side with more of the nodes last seen; of two equal ones the one with the lowest address.</summary>
    KeepMajority = 0,

    /// <summary>The side that has at least <see cref="ClusterSettings.QuorumSize"/> nodes: for sites whose number of nodes is fixed.</summary>
    StaticQuorum = 1,
}
