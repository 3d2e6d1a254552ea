using System.Collections.Concurrent;
using System.Diagnostics;
using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Devices.Tests;
using IoTDelivery.Domain;
using IoTDelivery.Storage;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging.Abstractions;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;
using Xunit.Abstractions;

namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>
/// Between CONNACK and the first SUBSCRIBE nothing is spent: the real stage and the real device actor on a real journal, and between them a region that loses,
/// repeats and delays, devices that are killed, and clients that come, subscribe, go and come again. The seed is printed; <c>IOTDELIVERY_SEED</c> repeats it.
/// </summary>
public sealed class ImplicitSpec(ITestOutputHelper output)
{
    private const int Histories = 80;
    private static readonly TimeSpan Grace = TimeSpan.FromMilliseconds(400);

    [Fact]
    public async Task A_device_that_subscribes_within_the_grace_or_ever_asked_for_QoS_1_gets_no_implicit_copy()
    {
        var seed = int.TryParse(Environment.GetEnvironmentVariable("IOTDELIVERY_SEED"), out var given) ? given : Random.Shared.Next();
        output.WriteLine($"IOTDELIVERY_SEED={seed}");
        var folder = Directory.CreateTempSubdirectory("iotdelivery-implicit-").FullName;
        await using (var node = await DeviceNode.StartAsync(new StorageOptions { DataFolder = folder }))
        {
            var region = node.System.ActorOf(Props.Create(typeof(Unreliable), node.Devices, seed));
            var options = new MqttOptions { ImplicitSubscriptionGrace = Grace, AttachRetryMin = TimeSpan.FromMilliseconds(50), AttachRetryMax = TimeSpan.FromMilliseconds(200) };
            var connections = new MqttConnections(
                node.System, new DeviceGateway(() => region), (_, _) => Task.FromResult<IReadOnlyList<DeviceId>>([]), options, TimeProvider.System, NullLogger<MqttConnections>.Instance);
            var histories = Enumerable.Range(0, Histories).Select(i => new History(node, connections, i, new Random(seed + i))).ToArray();

            await Task.WhenAll(histories.Select(h => Task.Run(h.LiveAsync))).WaitAsync(TimeSpan.FromSeconds(60));

            output.WriteLine(string.Join(", ", histories.SelectMany(h => h.Counts).GroupBy(c => c).OrderBy(g => g.Key).Select(g => $"{g.Key} {g.Count()}")));
            var violations = histories.SelectMany(h => h.Violations).ToArray();
            Assert.True(violations.Length == 0, $"Seed {seed}:\n{string.Join('\n', violations.Take(20))}");
            Assert.All(["implicit copies", "subscribed in time", "asked for QoS 1 before", "killed"], what => Assert.Contains(histories, h => h.Counts.Contains(what))); // it happened at all
        }

        SqliteConnection.ClearAllPools();
        Directory.Delete(folder, recursive: true);
    }

    // One device's life: it connects a few times, and everything else happens around it.
    private sealed class History(DeviceNode node, MqttConnections connections, int number, Random random)
    {
        private readonly DeviceId _id = DeviceId.Parse($"lamp_{number}");
        private int _messages;
        private bool _askedForQoS1; // and has its SUBACK

        public ConcurrentQueue<string> Violations { get; } = [];

        public ConcurrentQueue<string> Counts { get; } = [];

        private string Down => SystemTopics.MessagesDown(_id);

        public async Task LiveAsync()
        {
            var lives = random.Next(2, 5);
            for (var i = 0; i < lives; i++)
            {
                if (random.Next(2) == 0) await AcceptAsync();
                await ConnectAsync($"{_id}, connection {i + 1}");
            }
        }

        private async Task ConnectAsync(string name)
        {
            var (version, isClean) = (random.Next(2) == 0 ? MqttProtocolVersion.V311 : MqttProtocolVersion.V500, random.Next(4) > 0);
            var (subscribes, isInTime, qos, unsubscribes, hangsUp) = (random.Next(3) > 0, random.Next(3) > 0, random.Next(2), random.Next(4) == 0, random.Next(3) > 0);
            var subscribeAt = isInTime ? Grace * random.NextDouble() * 0.8 : Grace * (1.05 + random.NextDouble() / 2);
            var moments = new SortedList<double, Func<Task>>();
            for (var i = random.Next(1, 4); i > 0; i--) moments.Add(random.NextDouble() * 2, AcceptAsync);
            if (random.Next(2) == 0) moments.Add(random.NextDouble() * 2, KillAsync);

            var askedBefore = _askedForQoS1;
            if (askedBefore) Counts.Enqueue("asked for QoS 1 before");
            var clock = Stopwatch.StartNew(); // before the grace begins
            var (client, mouth, isGone) = (new Client(version), new SemaphoreSlim(1), false);
            var connect = new AcceptedConnect(
                _id, Guid.NewGuid(), DateTimeOffset.UtcNow, version, TimeSpan.FromMinutes(2), StartsClean: isClean, isClean ? 0 : uint.MaxValue, IsImplicit: true);
            var served = ServeAsync(client, connect);
            var said = TimeSpan.MaxValue; // when the SUBSCRIBE was said
            var reading = Task.Run(ReadAsync);
            var happening = Task.Run(async () =>
            {
                foreach (var (at, what) in moments)
                {
                    await UntilAsync(Grace * at);
                    await what();
                }
            });

            if (subscribes)
            {
                await UntilAsync(subscribeAt);
                await SayAsync(new MqttSubscribePacket
                {
                    PacketIdentifier = 1,
                    TopicFilters = [new MqttTopicFilter { Topic = random.Next(2) == 0 ? Down : SystemTopics.AllSystem(_id), QualityOfServiceLevel = (MqttQualityOfServiceLevel)qos }],
                });
                said = clock.Elapsed;
                if (said < Grace) Counts.Enqueue("subscribed in time");
            }

            if (unsubscribes && subscribes) await SayAsync(new MqttUnsubscribePacket { PacketIdentifier = 2, TopicFilters = [Down, SystemTopics.AllSystem(_id)] });
            await UntilAsync(Grace * 2.2);
            await happening;
            if (!hangsUp) return; // the next connection takes over, if there is one
            await SayAsync();
            await served;
            await reading;

            // One at a time; without a packet it hangs up, and says nothing more.
            async Task SayAsync(params MqttPacket[] packets)
            {
                await mouth.WaitAsync();
                if (packets.Length > 0 && !isGone) await client.SendAsync(packets);
                if (packets.Length == 0) await client.HangUpAsync();
                isGone |= packets.Length == 0;
                mouth.Release();
            }

            async Task ReadAsync()
            {
                while (await client.ReceiveAsync() is { } packet)
                {
                    if (packet is MqttSubAckPacket && qos == 1) _askedForQoS1 = true;
                    if (packet is not MqttPublishPacket publish) continue;
                    if (publish.QualityOfServiceLevel == MqttQualityOfServiceLevel.AtLeastOnce)
                    {
                        await SayAsync(new MqttPubAckPacket { PacketIdentifier = publish.PacketIdentifier });
                        continue;
                    }

                    var at = clock.Elapsed;
                    var why = isClean && at < Grace && at < said ? "before the grace was over and nothing was subscribed"
                        : isClean && said < Grace && qos == 1 ? "though it subscribed at QoS 1 within the grace"
                        : askedBefore && !(subscribes && qos == 0) && isClean ? "though it once asked for QoS 1"
                        : null;
                    if (why is not null) Violations.Enqueue($"{name} got a QoS 0 copy after {at.TotalMilliseconds:0} ms (subscribed after {said.TotalMilliseconds:0} ms) {why}.");
                    else if (at < said) Counts.Enqueue("implicit copies");
                }
            }

            async Task UntilAsync(TimeSpan at)
            {
                if (at - clock.Elapsed is { Ticks: > 0 } left) await Task.Delay(left);
            }
        }

        private async Task ServeAsync(Client client, AcceptedConnect connect)
        {
            await connections.RunAsync(client.Connection, connect);
            await client.Connection.Transport.Output.CompleteAsync();
        }

        private Task AcceptAsync()
        {
            var body = new MessageBody(null, "hello", ContentKind.Text, ContentEncoding.None, PayloadFormat.Standard, Down, DeliveryPolicy.TtlDefault);
            return node.Devices.AskAsync(new ToDevice.Command(_id, new OutboxCommand.Accept(MessageId.Parse($"m{Interlocked.Increment(ref _messages)}"), body)), default);
        }

        private Task KillAsync()
        {
            Counts.Enqueue("killed");
            node.System.ActorSelection($"/system/sharding/device/*/{_id}").Tell(Kill.Instance);
            return Task.CompletedTask;
        }
    }

    /// <summary>The way to the devices while shards move: an Attach or Detach may be lost, come twice, or come late.</summary>
    private sealed class Unreliable(DeviceGateway devices, int seed) : UntypedActor
    {
        private readonly Dictionary<DeviceId, Random> _fates = [];

        protected override void OnReceive(object message)
        {
            var (to, sender) = ((ToDevice)message, Sender);
            if (!_fates.TryGetValue(to.DeviceId, out var fate)) _fates[to.DeviceId] = fate = new Random(seed ^ int.Parse(to.DeviceId.Value["lamp_".Length..]));
            var draw = to is ToDevice.Attach or ToDevice.Detach ? fate.Next(10) : 9;
            if (draw < 2) return;
            if (draw is 2 or 3) devices.Tell(to, sender);
            if (draw is 3 or 4) Context.System.Scheduler.Advanced.ScheduleOnce(fate.Next(150), () => devices.Tell(to, sender));
            else devices.Tell(to, sender);
        }
    }
}
