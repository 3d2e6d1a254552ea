using System.Text.Json;
using IoTDelivery.Faults.History;
using IoTDelivery.Mqtt;
using MQTTnet;
using MQTTnet.Formatter;
using MQTTnet.Protocol;

namespace IoTDelivery.Faults;

/// <summary>
/// A device: comes, subscribes, acknowledges, leaves (politely or not), stays away for seconds, and comes back at any node. Cut off, it comes back at once. By its number
/// it speaks 3.1.1 or 5, wants its session kept or not, one in ten subscribes at QoS 0, and one in twenty stays away longer than the shortest ttl lasts.
/// </summary>
public sealed class SiteDevice(Recorder history, IReadOnlyList<SiteNode> nodes, string id, int number, int seed)
{
    private const string Stamp = "2026010100";
    private const double ForgetShare = 0.01, RudeShare = 0.5;
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(5), KeepAlive = TimeSpan.FromSeconds(6);

    private readonly Random _random = new(seed * 10_009 + number);
    private readonly Random _forgets = new(seed * 10_037 + number);
    private readonly HashSet<string> _known = [];

    public string Id => id;

    public int QoS { get; } = number % 10 == 9 ? 0 : 1;

    /// <summary>Called with each message that comes for the first time.</summary>
    public Action<string>? Arrived { get; init; }

    /// <summary>Whether it leaves now and then by itself.</summary>
    public bool IsRestless { get; init; } = true;

    /// <summary>Whether it is connected and subscribed, and where.</summary>
    public SiteNode? At { get; private set; }

    /// <summary>Comes and goes until <paramref name="settle"/>, then stays until <paramref name="over"/>.</summary>
    public async Task RunAsync(CancellationToken settle, CancellationToken over)
    {
        try
        {
            await Task.Delay(_random.Next(0, 2_000), over);
            while (!over.IsCancellationRequested) await StayAsync(settle, over);
        }
        catch (OperationCanceledException)
        {
            // The run is over.
        }
    }

    private async Task StayAsync(CancellationToken settle, CancellationToken over)
    {
        var node = nodes[_random.Next(nodes.Count)];
        var (stays, away, isRude) = (_random.Next(8_000, 40_000), number % 20 == 5 ? _random.Next(20_000, 60_000) : _random.Next(500, 8_000), _random.NextDouble() < RudeShare);
        var ended = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var client = new MqttClientFactory().CreateMqttClient();
        var isOver = false;
        client.DisconnectedAsync += _ =>
        {
            ended.TrySetResult();
            return Task.CompletedTask;
        };
        client.ApplicationMessageReceivedAsync += args => Volatile.Read(ref isOver) ? Ignore(args) : TakeAsync(args);
        var options = new MqttClientOptionsBuilder()
            .WithTcpServer(node.Mqtt.Address.ToString(), node.Mqtt.Port)
            .WithProtocolVersion(number % 2 == 0 ? MqttProtocolVersion.V311 : MqttProtocolVersion.V500)
            .WithClientId($"{id}_0_0_{Stamp}").WithCredentials(id, DeviceLogin.Password(Site.Secret, Stamp))
            .WithCleanSession(number % 4 < 2).WithKeepAlivePeriod(KeepAlive).WithTimeout(Timeout);
        if (number % 4 == 3) options.WithSessionExpiryInterval(3600);
        try
        {
            using (var limit = CancellationTokenSource.CreateLinkedTokenSource(over))
            {
                limit.CancelAfter(Timeout);
                await client.ConnectAsync(options.Build(), limit.Token);
                await client.SubscribeAsync($"$oc/devices/{id}/sys/messages/down", (MqttQualityOfServiceLevel)QoS, limit.Token);
            }

            history.Add(new Entry(What.Connect) { Device = id, Node = node.Name });
            At = node;
            using (var leaves = CancellationTokenSource.CreateLinkedTokenSource(over))
            {
                var planned = IsRestless && !settle.IsCancellationRequested ? Task.Delay(stays, leaves.Token) : Task.Delay(System.Threading.Timeout.Infinite, leaves.Token);
                await Task.WhenAny(ended.Task, planned);
                await leaves.CancelAsync();
            }

            over.ThrowIfCancellationRequested();
            if (!ended.Task.IsCompleted && !isRude) await client.DisconnectAsync(cancellationToken: over);
        }
        catch (Exception cause) when (cause is not OperationCanceledException || !over.IsCancellationRequested)
        {
            // Nobody there, or gone again: the next one, as soon as a device in the field would.
            if (At is null) history.Add(new Entry(What.Refused) { Device = id, Node = node.Name, Text = cause.Message });
            away = _random.Next(200, 1_500);
        }

        var wasCut = ended.Task.IsCompleted;
        Volatile.Write(ref isOver, true);
        client.Dispose();
        if (At is not null) history.Add(new Entry(What.Cut) { Device = id, Node = node.Name, Word = wasCut ? "cut" : "left" });
        At = null;
        using var back = CancellationTokenSource.CreateLinkedTokenSource(settle, over);
        var stay = wasCut || settle.IsCancellationRequested ? Task.Delay(_random.Next(100, 1_000), over) : Task.Delay(away, back.Token);
        await stay.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        over.ThrowIfCancellationRequested();
    }

    private static Task Ignore(MqttApplicationMessageReceivedEventArgs args)
    {
        args.AutoAcknowledge = false;
        return Task.CompletedTask;
    }

    private async Task TakeAsync(MqttApplicationMessageReceivedEventArgs args)
    {
        args.AutoAcknowledge = false;
        var packet = args.ApplicationMessage;
        using var json = JsonDocument.Parse(packet.Payload);
        var message = json.RootElement.GetProperty("id").GetString()!;
        var qos = (int)packet.QualityOfServiceLevel;
        history.Add(new Entry(What.Publish) { Device = id, Message = message, Packet = args.PacketIdentifier, Dup = packet.Dup, QoS = qos });
        var isNew = _known.Add(message);
        if (isNew) Arrived?.Invoke(message);
        if (qos == 0 || (isNew && IsRestless && _forgets.NextDouble() < ForgetShare)) return; // some PUBACKs are never sent: it comes again
        history.Add(new Entry(What.PubAck) { Device = id, Message = message, Packet = args.PacketIdentifier });
        try
        {
            await args.AcknowledgeAsync(CancellationToken.None);
        }
        catch (Exception cause) when (cause is MQTTnet.Exceptions.MqttCommunicationException or InvalidOperationException or ObjectDisposedException or OperationCanceledException)
        {
            // The connection has ended under it.
        }
    }
}
