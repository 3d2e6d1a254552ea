using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Xunit;

namespace IoTDelivery.Mqtt.Tests;

public sealed class MqttOptionsSpec
{
    [Fact]
    public void The_defaults_are_sound() => Assert.Null(new MqttOptions().Problem());

    [Fact]
    public void A_setting_out_of_bounds_stops_the_start_and_is_named()
    {
        var settings = new ConfigurationBuilder().AddInMemoryCollection([new("Mqtt:SubscriptionsMax", "0")]).Build();

        var problem = Assert.Throws<OptionsValidationException>(() => new ServiceCollection().AddMqtt(settings));

        Assert.Contains("Mqtt:SubscriptionsMax", problem.Message);
    }

    [Fact]
    public void Settings_are_read_from_the_section_Mqtt()
    {
        var settings = new ConfigurationBuilder().AddInMemoryCollection(
            [new("Mqtt:KeepAliveMin", "00:00:05"), new("Mqtt:Port", "0"), new("Mqtt:ImplicitSubscriptionOf:lamp", "true")]).Build();

        var options = new ServiceCollection().AddMqtt(settings).BuildServiceProvider().GetRequiredService<MqttOptions>();

        Assert.Equal(new Dictionary<string, bool> { ["lamp"] = true }, options.ImplicitSubscriptionOf);
        Assert.Equal(new MqttOptions { KeepAliveMin = TimeSpan.FromSeconds(5), Port = 0, ImplicitSubscriptionOf = options.ImplicitSubscriptionOf }, options);
    }

    [Fact]
    public void A_longest_keep_alive_below_the_shortest_is_a_problem() =>
        Assert.Contains("Mqtt:KeepAliveMax", new MqttOptions { KeepAliveMax = TimeSpan.FromSeconds(1) }.Problem());

    // We rely on it (small packets, no batching by the kernel) and do not set it.
    [Fact]
    public void Kestrel_sets_TCP_NODELAY() => Assert.True(new SocketTransportOptions().NoDelay);

    // What is told to a device that waits for its recovery lies in memory, for each of a hundred thousand connections.
    [Fact]
    public void Who_waits_for_minutes_is_told_less_and_less_often()
    {
        var options = new MqttOptions { Chance = new Random(1) };
        var (attempts, waited) = (0, TimeSpan.Zero);
        while (waited < TimeSpan.FromMinutes(5)) waited += options.NextAttachWait(++attempts);

        Assert.InRange(attempts, 20, 50);
        Assert.All(Enumerable.Range(1, 8), attempt => Assert.True(options.NextAttachWait(attempt) <= options.AttachRetryMax));
    }
}
