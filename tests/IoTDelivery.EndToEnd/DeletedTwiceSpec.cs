using System.Collections.Concurrent;
using System.Net;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.EndToEnd;

/// <summary>Devices that are deleted twice at once and created again at the first answer.</summary>
public sealed class DeletedTwiceSpec(PlainSite site) : IClassFixture<PlainSite>
{
    private const int Devices = 150;

    // Enough to keep many deletions and creations of one node in flight, few enough for a machine with two cores.
    private const int AtOnce = 32;

    [Fact]
    public async Task Every_device_that_is_there_afterwards_can_be_sent_to_and_stays_connected()
    {
        var ids = Enumerable.Range(0, Devices).Select(i => $"twice_{i}").ToList();
        var wrong = new ConcurrentQueue<string>();
        await Parallel.ForEachAsync(ids, new ParallelOptions { MaxDegreeOfParallelism = AtOnce }, async (id, _) =>
        {
            await site.Api.CreateDeviceAsync(id);
            Api.Expect(HttpStatusCode.Created, await site.Api.SendMessageAsync(id, messageId: $"{id}-former"));
            Task<Answer>[] deletes = [site.Api.DeleteAsync($"devices/{id}"), site.Api.DeleteAsync($"devices/{id}")];
            await Task.WhenAny(deletes); // an application that repeats its DELETE, and goes on at the first 204
            await site.Api.CreateDeviceAsync(id);
            foreach (var answer in await Task.WhenAll(deletes))
            {
                var isRight = answer.Status is HttpStatusCode.NoContent or HttpStatusCode.NotFound;
                if (!isRight) wrong.Enqueue($"DELETE {id}: {answer.Status}");
            }
        });

        await Parallel.ForEachAsync(ids, new ParallelOptions { MaxDegreeOfParallelism = AtOnce }, async (id, _) =>
        {
            // A second DELETE that came after the creation has deleted the device for good.
            if ((await site.Api.GetAsync($"devices/{id}")).Status == HttpStatusCode.NotFound) return;
            var first = await site.Api.SendMessageAsync(id, messageId: $"{id}-first");
            if (first.Status != HttpStatusCode.Created)
            {
                wrong.Enqueue($"GET {id} 200, POST of a message {(int)first.Status}");
                return;
            }

            var evicted = false;
            await using var device = await Device.ConnectAsync(site.Node.MqttPort, id);
            device.Client.DisconnectedAsync += _ =>
            {
                evicted = true;
                return Task.CompletedTask;
            };
            await device.SubscribeAsync();
            await site.Api.SendMessageAsync(id, messageId: $"{id}-second");
            string[] got = [(await device.NextAsync()).Id, (await device.NextAsync()).Id];
            if (!got.SequenceEqual([$"{id}-first", $"{id}-second"])) wrong.Enqueue($"{id} got {string.Join(' ', got)}");
            if (evicted || !device.Client.IsConnected) wrong.Enqueue($"{id} was disconnected");
        });

        Assert.Empty(wrong);
        foreach (var id in ids) await site.ToldAsync($"{id}-former", "FAILED");
    }
}
