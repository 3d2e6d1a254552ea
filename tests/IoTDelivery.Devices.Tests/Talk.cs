using System.Threading.Channels;
using Akka.Actor;
using IoTDelivery.Domain;

namespace IoTDelivery.Devices.Tests;

/// <summary>An actor of the test that remembers what it is told and can speak for itself; what a TestProbe is, without the TestKit's system.</summary>
public sealed class Ear
{
    private sealed class Listener(ChannelWriter<(object, IActorRef)> heard) : UntypedActor
    {
        private Attaching? _attaching;

        protected override void OnReceive(object message)
        {
            if (message is Speak speak) speak.To.Tell(speak.What, Self);
            else if (message is Attaching attaching) _attaching = attaching;
            else if (message is ToConnection.Challenged challenged && _attaching is { } again) again.Devices.Tell(again.Attach with { Challenge = challenged.Challenge }, Self);
            else heard.TryWrite((message, Sender));
        }
    }

    private sealed record Speak(IActorRef To, object What);

    private sealed record Attaching(DeviceGateway Devices, ToDevice.Attach Attach);

    /// <summary>Attaches, and once more when the device asks for it.</summary>
    public void Attach(DeviceGateway devices, ToDevice.Attach attach)
    {
        Ref.Tell(new Attaching(devices, attach));
        devices.Tell(attach, Ref);
    }

    private readonly Channel<(object Message, IActorRef Sender)> _heard = Channel.CreateUnbounded<(object, IActorRef)>();

    public Ear(ActorSystem system) => Ref = system.ActorOf(Props.Create(typeof(Listener), _heard.Writer));

    public IActorRef Ref { get; }

    public async Task<(T Message, IActorRef Sender)> HearAsync<T>()
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(20));
        while (true)
        {
            var (message, sender) = await _heard.Reader.ReadAsync(patience.Token);
            if (message is T expected) return (expected, sender);
        }
    }

    public bool HasHeard => _heard.Reader.Count > 0;
}

internal static class Talk
{
    public static DeviceId Device(string id) => DeviceId.Parse(id);

    public static MessageBody Body(DeviceId device, string content = "hello", int ttl = DeliveryPolicy.TtlDefault) =>
        new(null, content, ContentKind.Text, ContentEncoding.None, PayloadFormat.Standard, SystemTopics.MessagesDown(device), ttl);

    public static async Task<OutboxReply> SendAsync(this DeviceGateway devices, DeviceId device, string id, string content = "hello", int ttl = DeliveryPolicy.TtlDefault) =>
        await devices.AskAsync(new ToDevice.Command(device, new OutboxCommand.Accept(MessageId.Parse(id), Body(device, content, ttl))), CancellationToken.None);

    public static ToDevice.Attach Attach(DeviceId device, Ear connection, Guid? id = null, DateTimeOffset? at = null, int qos = 1, int revision = 1, bool keeps = false) => new(
        device, id ?? Guid.NewGuid(), at ?? DateTimeOffset.UtcNow, new WireConnection(false, 65535), SessionExpiry: keeps ? TimeSpan.MaxValue : TimeSpan.Zero, StartsClean: !keeps, revision,
        [new Subscription(SystemTopics.MessagesDown(device), qos)], [new Subscription(SystemTopics.MessagesDown(device), qos)], Implicit: false, connection.Ref);
}
