namespace IoTDelivery.Push.Tests;

public sealed class AmqpOptionsSpec
{
    [Fact]
    public void What_is_shipped_is_right() => Assert.Null(new AmqpOptions().Problem());

    public static TheoryData<string, AmqpOptions> Wrong => new()
    {
        { "Amqp:Port", new() { Port = 65536 } },
        { "Amqp:TlsPort", new() { TlsPort = -1 } },
        { "Amqp:TlsPort", new() { Port = 5672, TlsPort = 5672 } },
        { "Amqp:Address", new() { Address = "localhost" } },
        { "Amqp:ClockSkew", new() { ClockSkew = TimeSpan.Zero } },
        { "Amqp:LinkTimeout", new() { LinkTimeout = TimeSpan.Zero } },
        { "Amqp:IdleTimeout", new() { IdleTimeout = TimeSpan.FromMilliseconds(999) } },
        { "Amqp:IdleTimeout", new() { IdleTimeout = TimeSpan.FromMinutes(61) } },
        { "Amqp:SettleTimeout", new() { SettleTimeout = TimeSpan.Zero } },
        { "Amqp:LinksMax", new() { LinksMax = 0 } },
        { "Amqp:ConnectionsPerKeyMax", new() { ConnectionsPerKeyMax = 0 } },
        { "Amqp:ConnectionsMax", new() { ConnectionsMax = 0 } },
    };

    [Theory]
    [MemberData(nameof(Wrong), DisableDiscoveryEnumeration = true)]
    public void A_wrong_setting_is_named(string setting, AmqpOptions options) =>
        Assert.StartsWith(setting + " ", options.Problem());
}
