using System.Net;

namespace IoTDelivery.Mqtt;

/// <summary>Section <c>Proxy</c>: what stands in front of this node and may say where a client is.</summary>
public sealed record ProxyOptions
{
    /// <summary>Name of the section in <c>appsettings.json</c>.</summary>
    public const string Section = "Proxy";

    /// <summary>
    /// Addresses and networks (<c>10.0.0.5</c>, <c>10.0.0.0/8</c>, <c>fd00::/8</c>) of the proxies that are believed.
    /// Default: none; <c>Mqtt:ProxyProtocol</c>, <c>Amqp:ProxyProtocol</c> and <c>Api:ForwardedHeaders</c> need one or
    /// more.
    /// </summary>
    public string[] TrustedAddresses { get; init; } = [];
}

/// <summary>The proxies that are believed.</summary>
public sealed record TrustedProxies(IReadOnlyList<IPNetwork> Networks)
{
    /// <exception cref="ArgumentException">
    /// The setting is wrong or empty; the message names it, and what needs it.
    /// </exception>
    public static TrustedProxies Read(ProxyOptions options, string neededBy)
    {
        if (options.TrustedAddresses is [])
        {
            throw new ArgumentException(
                $"Proxy:TrustedAddresses is missing: {neededBy} needs to know who may say where a client is.");
        }

        return new TrustedProxies([.. options.TrustedAddresses.Select(Parse)]);
    }

    /// <summary>True if this is a proxy's address.</summary>
    public bool Contains(IPAddress address)
    {
        var plain = address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address; // how a listener on [::] sees IPv4
        return Networks.Any(network => network.Contains(plain));
    }

    private static IPNetwork Parse(string text)
    {
        if (IPAddress.TryParse(text, out var address))
        {
            return new IPNetwork(address, address.GetAddressBytes().Length * 8);
        }

        if (IPNetwork.TryParse(text, out var network)) return network;
        throw new ArgumentException(
            $"Proxy:TrustedAddresses: '{text}' is neither an address, such as 10.0.0.5, nor a network, such as "
            + "10.0.0.0/8.");
    }
}
