using System.Net;

namespace IoTDelivery.Push;

/// <summary>Where AMQP 1.0 consumers connect to. Section <c>Amqp</c>.</summary>
public sealed record AmqpOptions
{
    /// <summary>Name of the section in <c>appsettings.json</c>.</summary>
    public const string Section = "Amqp";

    /// <summary>Port without TLS; 0 is off. Default 0; the usual one is 5672.</summary>
    public int Port { get; init; }

    /// <summary>Port with TLS; 0 is off. Default 0; the usual one is 5671.</summary>
    public int TlsPort { get; init; }

    /// <summary>Address of this machine both ports listen on. Default 127.0.0.1.</summary>
    public string Address { get; init; } = "127.0.0.1";

    /// <summary>
    /// True: every connection to both ports begins with a PROXY header (version 1 or 2) of a proxy among
    /// <c>Proxy:TrustedAddresses</c>, before TLS; what does not is closed. Default false.
    /// </summary>
    public bool ProxyProtocol { get; init; }

    /// <summary>How far the <c>timestamp</c> of a user name may be from this node's clock. Default 5 min (manual).</summary>
    public TimeSpan ClockSkew { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>How long a connection may be without a receiver link, login included. Default 15 s (manual).</summary>
    public TimeSpan LinkTimeout { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>
    /// How long a consumer may be silent; then its connection is ended. Half of it is announced, so that a consumer
    /// sends empty frames in time (AMQP 1.0, 2.4.5). From 1 s to 1 h. Default 1 min: ours, the manual names none.
    /// </summary>
    public TimeSpan IdleTimeout { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>
    /// How long a consumer may leave a delivery unsettled; then it is taken back (released) and offered again. Default
    /// 10 min: ours, the manual names none.
    /// </summary>
    public TimeSpan SettleTimeout { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>Receiver links per connection. Default 10 (manual).</summary>
    public int LinksMax { get; init; } = 10;

    /// <summary>Connections per access key on this node. Default 32 (manual).</summary>
    public int ConnectionsPerKeyMax { get; init; } = 32;

    /// <summary>Connections of this node, those that have not logged in included. Default 1,000.</summary>
    public int ConnectionsMax { get; init; } = 1000;

    /// <summary>What is wrong with these settings, naming the setting; null if nothing is.</summary>
    public string? Problem() => this switch
    {
        { Port: < 0 or > 65535 } => "Amqp:Port must be from 0 to 65535.",
        { TlsPort: < 0 or > 65535 } => "Amqp:TlsPort must be from 0 to 65535.",
        _ when Port > 0 && Port == TlsPort => "Amqp:TlsPort must not be Amqp:Port.",
        _ when !IPAddress.TryParse(Address, out _) => "Amqp:Address must be an IP address.",
        { ClockSkew.Ticks: <= 0 } => "Amqp:ClockSkew must be more than zero.",
        { LinkTimeout.Ticks: <= 0 } => "Amqp:LinkTimeout must be more than zero.",
        { IdleTimeout.TotalSeconds: < 1 or > 3600 } => "Amqp:IdleTimeout must be from 1 s to 1 h.",
        { SettleTimeout.Ticks: <= 0 } => "Amqp:SettleTimeout must be more than zero.",
        { LinksMax: < 1 } => "Amqp:LinksMax must be 1 or more.",
        { ConnectionsPerKeyMax: < 1 } => "Amqp:ConnectionsPerKeyMax must be 1 or more.",
        { ConnectionsMax: < 1 } => "Amqp:ConnectionsMax must be 1 or more.",
        _ => null,
    };
}
