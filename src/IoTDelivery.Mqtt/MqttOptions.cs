using System.Net;

namespace IoTDelivery.Mqtt;

/// <summary>Section <c>Mqtt</c>. "Manual" is the limits page of the cloud ("Limitations", "MQTT(S) Protocol").</summary>
public sealed record MqttOptions
{
    /// <summary>Name of the section in <c>appsettings.json</c>.</summary>
    public const string Section = "Mqtt";

    /// <summary>Address to listen on. Default 127.0.0.1: a node is opened to the network by whoever runs it.</summary>
    public string Address { get; init; } = "127.0.0.1";

    /// <summary>TCP port for plain MQTT; 0 takes any free one (<see cref="MqttEndpoint.BoundTo"/> tells which). Default 1883.</summary>
    public int Port { get; init; } = 1883;

    /// <summary>TCP port for MQTT over TLS, with the certificate of section <c>Tls</c>; the usual one is 8883. Default 0: off.</summary>
    public int TlsPort { get; init; }

    /// <summary>
    /// True: every connection to <see cref="Port"/> and <see cref="TlsPort"/> begins with a PROXY header (version 1
    /// or 2) of a proxy among <c>Proxy:TrustedAddresses</c>, before TLS; what does not is closed. Limits and logs then
    /// know the client behind the proxy. Default false.
    /// </summary>
    public bool ProxyProtocol { get; init; }

    /// <summary>
    /// Connections of this node at once, those that have not logged in included. One more is closed unheard. Default 100,000 (about 14 KB each when idle).
    /// </summary>
    public int ConnectionsMax { get; init; } = 100_000;

    /// <summary>How long a new connection may take to send its CONNECT, and the registry to answer for it. Default 10 s.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Largest CONNECT, in bytes: nobody is known yet, so less is buffered than later. Default 16 KB.</summary>
    public int ConnectBytesMax { get; init; } = 16 * 1024;

    /// <summary>Largest packet of a device after its CONNECT, in bytes, headers included. Default 1 MB (manual) and 4 KB for topic and headers.</summary>
    public int PacketBytesMax { get; init; } = 1024 * 1024 + 4096;

    /// <summary>
    /// Shortest keep-alive a CONNECT may ask for; 0 (none) is outside. Default 30 s (manual). An MQTT 5 client that asks for less is told this one
    /// (Server Keep Alive), an MQTT 3.1.1 client is refused, as the manual says.
    /// </summary>
    public TimeSpan KeepAliveMin { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Longest keep-alive a CONNECT may ask for, 0 included; MQTT 5 and 3.1.1 as above. Default 1,200 s (manual).</summary>
    public TimeSpan KeepAliveMax { get; init; } = TimeSpan.FromSeconds(1200);

    /// <summary>How far the hour in a client id of sign type 1 may be from the clock, to either side. Default 1 h; the manual does not say.</summary>
    public TimeSpan ClockSkew { get; init; } = TimeSpan.FromHours(1);

    /// <summary>How long the transport may refuse to take bytes before a client that never reads is closed. Default 30 s.</summary>
    public TimeSpan WriteTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long a connection may linger after our last word before it is cut. Default 2 s.</summary>
    public TimeSpan CloseTimeout { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>How many connections a second a stopping node sends to the others (MQTT 5 DISCONNECT 0x9C "use another server"; 3.1.1 knows none and is closed). Default 500.</summary>
    public int HandOverPerSecond { get; init; } = 500;

    /// <summary>How long it takes for that at most; if there are more, they go faster. Default 10 s.</summary>
    public TimeSpan HandOverWithin { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Topic filters per connection. Default 100 (manual, 2024-07).</summary>
    public int SubscriptionsMax { get; init; } = 100;

    /// <summary>QoS 2 publishes of a device that await their PUBREL, and publishes that nobody has taken yet; told to MQTT 5 clients as Receive Maximum (3.2.2.3.3). Default 100.</summary>
    public int ReceiveMax { get; init; } = 100;

    /// <summary>
    /// Payload of what devices published that nobody has taken yet, in bytes, of all connections of this node. Beyond it a connection reads on only when nothing
    /// of its own waits. Default 64 MB. One connection is bounded by <see cref="ReceiveMax"/> and <see cref="PacketBytesMax"/> besides.
    /// </summary>
    public long UplinkBytesMax { get; init; } = 64 * 1024 * 1024;

    /// <summary>
    /// Topic aliases an MQTT 5 client may use for what it publishes, told in CONNACK (3.2.2.3.8). Each holds one topic name, of 64 KB at most, as long as the
    /// connection lasts. Default 10; 0: none.
    /// </summary>
    public int TopicAliasMax { get; init; } = 10;

    /// <summary>
    /// Packets for one device that wait for the transport. Its window is smaller, so one more means something is wrong: the connection is closed.
    /// Default 1,024.
    /// </summary>
    public int OutgoingMax { get; init; } = 1024;

    /// <summary>
    /// True counts the down topics as subscribed at QoS 0 for a client that never subscribes, as several official SDKs rely on. Default false:
    /// the manual's page asks for a SUBSCRIBE.
    /// </summary>
    public bool ImplicitSubscription { get; init; }

    /// <summary>The same for the devices of single products, by <c>product_id</c>; it goes before <see cref="ImplicitSubscription"/>. Default: none.</summary>
    public Dictionary<string, bool> ImplicitSubscriptionOf { get; init; } = [];

    /// <summary>How long an explicit SUBSCRIBE may take to win over the implicit one. Default 1 s.</summary>
    public TimeSpan ImplicitSubscriptionGrace { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Shortest wait before a device that did not answer is told again that a connection is there. Default 0.2 s.</summary>
    public TimeSpan AttachRetryMin { get; init; } = TimeSpan.FromMilliseconds(200);

    /// <summary>Longest such wait; what lies between is drawn by lot, so that a moved shard is not asked by everybody at once. Default 5 s.</summary>
    public TimeSpan AttachRetryMax { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Sub-devices one gateway connection carries at once; more wait until one of these has nothing to do. Default 500.</summary>
    public int SubDevicesMax { get; init; } = 500;

    private const int PatientAfter = 8; // attempts: about fifteen seconds, which is what a fail-over takes
    private const int PatienceFactor = 4;

    /// <summary>Where the lots come from; the simulation puts a seeded one here.</summary>
    internal Random Chance { get; init; } = Random.Shared;

    /// <summary>
    /// How long to wait for an answer to the attempt of this number (from 1): by lot between the shortest wait and a growing
    /// bound. A device that does not answer for so long is waiting to be recovered with many others: it is asked less often
    /// then, for all it is told lies in memory until it is.
    /// </summary>
    internal TimeSpan NextAttachWait(int attempt)
    {
        var max = attempt > PatientAfter ? PatienceFactor * AttachRetryMax : AttachRetryMax;
        var bound = AttachRetryMin * Math.Pow(2, Math.Min(attempt, 16));
        if (bound > max) bound = max;
        return AttachRetryMin + (bound - AttachRetryMin) * Chance.NextDouble();
    }

    /// <summary>Whether devices of this product count as subscribed without asking.</summary>
    public bool IsImplicit(string productId) => ImplicitSubscriptionOf.TryGetValue(productId, out var own) ? own : ImplicitSubscription;

    /// <summary>What is wrong with these numbers, naming the setting; null if nothing is.</summary>
    public string? Problem() => this switch
    {
        _ when !IPAddress.TryParse(Address, out _) => "Mqtt:Address must be an IP address, such as 127.0.0.1 or 0.0.0.0.",
        { Port: < 0 or > 65535 } => "Mqtt:Port must be from 0 to 65535.",
        { TlsPort: < 0 or > 65535 } => "Mqtt:TlsPort must be from 0 to 65535.",
        { TlsPort: > 0 } when TlsPort == Port => "Mqtt:TlsPort and Mqtt:Port must differ.",
        { ConnectionsMax: < 1 } => "Mqtt:ConnectionsMax must be 1 or more.",
        { ConnectTimeout.Ticks: <= 0 } => "Mqtt:ConnectTimeout must be more than zero.",
        { ConnectBytesMax: < 1024 } => "Mqtt:ConnectBytesMax must be 1024 or more.",
        { PacketBytesMax: < 1024 } => "Mqtt:PacketBytesMax must be 1024 or more.",
        { KeepAliveMin.Ticks: <= 0 } => "Mqtt:KeepAliveMin must be more than zero.",
        { KeepAliveMax.TotalSeconds: > ushort.MaxValue } => "Mqtt:KeepAliveMax must be 65535 s or less.",
        _ when KeepAliveMax < KeepAliveMin => "Mqtt:KeepAliveMax must be Mqtt:KeepAliveMin or more.",
        { ClockSkew.Ticks: < 0 } => "Mqtt:ClockSkew must be zero or more.",
        { WriteTimeout.Ticks: <= 0 } => "Mqtt:WriteTimeout must be more than zero.",
        { CloseTimeout.Ticks: <= 0 } => "Mqtt:CloseTimeout must be more than zero.",
        { HandOverPerSecond: < 1 } => "Mqtt:HandOverPerSecond must be 1 or more.",
        _ when HandOverWithin < TimeSpan.Zero || HandOverWithin > TimeSpan.FromSeconds(20) => "Mqtt:HandOverWithin must be from zero to 20 s: the whole exit has 30.",
        { SubscriptionsMax: < 1 } => "Mqtt:SubscriptionsMax must be 1 or more.",
        { ReceiveMax: < 1 or > 65535 } => "Mqtt:ReceiveMax must be from 1 to 65535.",
        { UplinkBytesMax: < 0 } => "Mqtt:UplinkBytesMax must be 0 or more.",
        { TopicAliasMax: < 0 or > 65535 } => "Mqtt:TopicAliasMax must be from 0 to 65535.",
        { OutgoingMax: < 1 } => "Mqtt:OutgoingMax must be 1 or more.",
        { ImplicitSubscriptionGrace.Ticks: < 0 } => "Mqtt:ImplicitSubscriptionGrace must be zero or more.",
        { AttachRetryMin.Ticks: <= 0 } => "Mqtt:AttachRetryMin must be more than zero.",
        _ when SubDevicesMax < 1 || SubDevicesMax > OutgoingMax / 2 => "Mqtt:SubDevicesMax must be from 1 to half of Mqtt:OutgoingMax.",
        _ when AttachRetryMax < AttachRetryMin => "Mqtt:AttachRetryMax must be Mqtt:AttachRetryMin or more.",
        _ => null,
    };
}
