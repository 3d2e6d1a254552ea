using System.Net;
using IoTDelivery.EndToEnd.Harness;
using LinqToDB.Data;

namespace IoTDelivery.EndToEnd;

/// <summary>
/// The first start on data that an older release wrote (commit 12a7189, <c>Data/12a7189/make.py</c>): it gave packet
/// ids out from 1 on each time, and stored none.
/// </summary>
public sealed class OldDataSpec
{
    private const ushort OldPacketOfM2 = 2;
    private const int FirstNewId = 16_385;

    private static string OldData { get; } =
        Path.Combine(AppContext.BaseDirectory, "Data", "12a7189", "iotdelivery.db");

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_PUBACK_for_a_packet_of_the_older_release_ends_nothing_and_what_waits_has_new_ids(bool isAtOnce)
    {
        await using var receiver = await Receiver.StartAsync();
        await using var node = await OnOldDataAsync(receiver.Url);
        using (var client = await LastingClient.ConnectAsync(node.MqttPort, "kept", v5: false))
        {
            Assert.False(client.SessionPresent); // nobody knows what its packet ids mean
            if (isAtOnce) await client.AcknowledgeAsync(OldPacketOfM2);
            await client.SubscribeAsync(Device.DownTopic("kept"));
            Received[] came = [await client.NextAsync(), await client.NextAsync()];
            Assert.Equal(["m2", "m3"], came.Select(c => c.Id));
            Assert.Equal(["content of m2", "content of m3"], came.Select(c => c.Content));
            Assert.All(came, c => Assert.True(c is { PacketId: >= FirstNewId, Dup: false }, $"{c}"));

            await client.AcknowledgeAsync(OldPacketOfM2);
            await client.AcknowledgeAsync(came[1].PacketId);
            await DeliveredAsync("m3"); // acknowledgements count in their order
            Assert.Empty(receiver.StatusesOf("m2"));
            await client.AcknowledgeAsync(came[0].PacketId);
            await DeliveredAsync("m2");
        }

        using var again = await LastingClient.ConnectAsync(node.MqttPort, "kept", v5: false);
        Assert.True(again.SessionPresent); // once was enough
        Api.Expect(HttpStatusCode.Created, await node.Api.SendMessageAsync("kept", "hello", "m4"));
        var m4 = await again.NextAsync();
        Assert.Equal("m4", m4.Id);
        Assert.True(m4.PacketId > FirstNewId + 1, $"{m4.PacketId} was given out before.");

        Task DeliveredAsync(string message) => ToldAsync(receiver, message, "DELIVERED");
    }

    [Fact]
    public async Task What_the_older_release_pending_is_told_and_its_wake_up_calls_ring_as_reminders()
    {
        await using var receiver = await Receiver.StartAsync();
        await using var node = await OnOldDataAsync(receiver.Url);
        await ToldAsync(receiver, "asleep-1", "TIMEOUT"); // its reminder was on file
        await ToldAsync(receiver, "owing-1", "PENDING"); // a killed process pending it
        Assert.Equal(["PENDING"], receiver.StatusesOf("owing-1"));
        Assert.Equal(["TIMEOUT"], receiver.StatusesOf("asleep-1")); // there was no rule when it was accepted

        await using var db = node.Database().Open();
        Assert.Equal(0, await db.ExecuteAsync<long>("select count(*) from sqlite_master where name = 'wake_up'"));
        Assert.Equal(1, await db.ExecuteAsync<long>("select count(*) from reminder where device_id = 'later'"));
        Api.Expect(HttpStatusCode.OK, await node.Api.GetAsync("devices/later/messages/later-1"));
        await using var later = await Device.OnlineAsync(node.MqttPort, "later");
        Assert.Equal("later-1", (await later.NextAsync()).Id);
        await ToldAsync(receiver, "later-1", "DELIVERED");
    }

    private static Task ToldAsync(Receiver receiver, string message, string status) => receiver.UntilAsync(
        all => all.Any(p => (p.MessageId, p.Status) == (message, status)), $"{status} of {message}");

    private static async Task<Node> OnOldDataAsync(string webhook)
    {
        var node = Node.Create(
            "--Devices:SleepAfter=00:00:00.2", "--Reminders:PollInterval=00:00:00.2", "--Push:RetryFirst=00:00:00.2",
            "--Push:RetryFor=3650.00:00:00",
            "--Delivery:RepeatInterval=00:01:00", "--Delivery:RoundInterval=00:10:00");
        Directory.CreateDirectory(Path.Combine(node.Folder, "data"));
        File.Copy(OldData, Path.Combine(node.Folder, "data", "iotdelivery.db"));
        await using (var db = node.Database().Open())
        {
            // What the test is about is there.
            Assert.Equal(
                ["asleep", "kept", "later", "owing"],
                (await db.QueryToListAsync<string>("select device_id from wake_up")).Order());
            var detail = $$$"""{"http_forwarding":{"url":"{{{webhook}}}"}}""";
            await db.ExecuteAsync(
                "update routing_action set url = @url, channel_detail = @detail", new { url = webhook, detail });
        }

        await node.StartAgainAsync();
        return node;
    }
}
