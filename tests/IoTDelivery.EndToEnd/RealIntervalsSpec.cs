using System.Net;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.EndToEnd;

/// <summary>Nothing but the ttl's unit is shortened: two seconds and ten seconds are what the manual says.</summary>
public sealed class SecondsAsTtl() : Site("--Delivery:TtlUnit=00:00:01");

/// <summary>The manual's schedule in the manual's own time, once.</summary>
public sealed class RealIntervalsSpec(SecondsAsTtl site) : IClassFixture<SecondsAsTtl>
{
    [Fact]
    public async Task A_device_that_comes_and_never_acknowledges_gets_five_rounds_10_s_apart_of_four_sends_2_s_apart_and_then_nothing_until_TIMEOUT()
    {
        var lamp = await site.NewDeviceAsync();
        Api.Expect(HttpStatusCode.Created, await site.Api.SendMessageAsync(lamp, messageId: "real", ttl: 55));
        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp, acknowledge: _ => Task.FromResult(false));

        await site.ToldAsync("real", "TIMEOUT", TimeSpan.FromSeconds(90)); // 55 s: a sixth round would have begun at 50 s

        var at = new List<TimeSpan>();
        DateTimeOffset? first = null;
        while (device.Waiting > 0)
        {
            var copy = await device.NextAsync();
            first ??= copy.At;
            at.Add(copy.At - first.Value);
        }

        int[] expected = [0, 2, 4, 6, 10, 12, 14, 16, 20, 22, 24, 26, 30, 32, 34, 36, 40, 42, 44, 46];
        Assert.Equal(expected.Length, at.Count);
        for (var i = 0; i < at.Count; i++) Assert.InRange(at[i].TotalSeconds, expected[i] - 0.5, expected[i] + 1.5);
        Assert.Equal(["PENDING", "TIMEOUT"], site.Receiver.StatusesOf("real"));
    }
}
