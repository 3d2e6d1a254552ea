using System.Collections.Immutable;
using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;

namespace IoTDelivery.Mqtt;

/// <summary>
/// The connection of one sub-device, as far as its device actor is concerned. One message on the wire at a time: the gateway
/// has many of these.
/// </summary>
internal sealed class SubDevice : UntypedActor, IWithTimers
{
    // How long the device may leave an acknowledgement unconfirmed before it is told again.
    private static readonly TimeSpan ConfirmWithin = TimeSpan.FromSeconds(2);

    private readonly DeviceId _deviceId;
    private readonly AcceptedConnect _connect;
    private readonly MqttServices _services;
    private readonly long _acceptedAt;
    private readonly DeviceAttachment _attachment;
    private readonly List<IActorRef> _askers = [];
    private ImmutableArray<Subscription> _subscriptions;
    private ImmutableArray<Subscription> _unconfirmed = [];

    public SubDevice(DeviceId deviceId, AcceptedConnect connect, ImmutableArray<Subscription> subscriptions, MqttServices services, long acceptedAt)
    {
        (_deviceId, _connect, _subscriptions, _services, _acceptedAt) = (deviceId, connect, subscriptions, services, acceptedAt);
        _attachment = new DeviceAttachment(deviceId, connect.ConnectionId, services.Options.OutgoingMax);
    }

    /// <summary>For <see cref="SubDevices"/>: who transmitted so far is gone, its tags mean nothing any more.</summary>
    public sealed record Moved
    {
        public static readonly Moved Instance = new();
    }

    private sealed record AttachAgain
    {
        public static readonly AttachAgain Instance = new();
    }

    private sealed record AcknowledgeAgain
    {
        public static readonly AcknowledgeAgain Instance = new();
    }

    public ITimerScheduler Timers { get; set; } = null!;

    protected override void PreStart() => Attach();

    protected override void PostStop()
    {
        Answer();
        var detach = new ToDevice.Detach(_deviceId, _connect.ConnectionId);
        if (_attachment.Device is { } device)
        {
            TellUnconfirmed(device);
            device.Tell(detach, Self);
        }
        else
        {
            _services.Devices.Tell(detach, Self);
        }
    }

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case ToConnection.AttachSubDevice when _attachment.IsConfirmed:
                Sender.Tell(OutboxReply.Done.Instance);
                break;
            case ToConnection.AttachSubDevice:
                _askers.Add(Sender); // bounded by the requests the node works on at once
                break;
            case ToConnection.Challenged challenged:
                _attachment.Challenge = challenged.Challenge;
                Attach();
                break;
            case ToConnection.Attached attached:
                OnAttached(attached);
                break;
            case ToConnection.Transmit packet:
                OnTransmit(packet);
                break;
            case ToConnection.AcknowledgementsTaken taken when Sender.Equals(_attachment.Device):
                _attachment.Taken(taken.Epoch, taken.UpTo);
                break;
            case ToConnection.Evicted: // connected by itself, carried by a younger connection, or deleted
                Context.Stop(Self);
                break;
            case SubDevices.Subscribed subscribed:
                _subscriptions = subscribed.Subscriptions;
                _unconfirmed = [.. _unconfirmed.Where(u => !subscribed.New.Any(n => n.TopicFilter == u.TopicFilter)), .. subscribed.New];
                _attachment.Revise();
                Attach();
                break;
            case SubDevices.Acknowledged acknowledged:
                Acknowledge(acknowledged);
                break;
            case Terminated gone when gone.ActorRef.Equals(_attachment.Device):
                LoseDevice();
                AttachLater();
                break;
            case AttachAgain:
                Attach();
                break;
            case AcknowledgeAgain when _attachment.HasUnconfirmed:
                if (_attachment.Device is { } device) TellUnconfirmed(device);
                Timers.StartSingleTimer(AcknowledgeAgain.Instance, AcknowledgeAgain.Instance, ConfirmWithin);
                break;
        }
    }

    private void OnAttached(ToConnection.Attached attached)
    {
        var isNew = _attachment.Device is null;
        switch (_attachment.Confirm(Sender, attached.Revision, out var released))
        {
            case AttachVerdict.Stale:
                return;
            case AttachVerdict.Restart:
                StartOver();
                return;
        }

        if (isNew)
        {
            Context.Watch(Sender);
            foreach (var packet in released) Context.Parent.Tell(packet);
            TellUnconfirmed(Sender);
        }

        if (!_attachment.IsConfirmed) return;
        _unconfirmed = [];
        Timers.Cancel(AttachAgain.Instance);
        Answer();
    }

    private void OnTransmit(ToConnection.Transmit packet)
    {
        switch (_attachment.Receive(Sender, packet))
        {
            case TransmitVerdict.Deliver: Context.Parent.Tell(packet); break;
            case TransmitVerdict.Gap: StartOver(); break;
        }
    }

    private void Acknowledge(SubDevices.Acknowledged acknowledged)
    {
        var told = _attachment.Acknowledge(acknowledged.PacketId, acknowledged.QoS, acknowledged.ReasonCode, acknowledged.IsSkipped);
        if (told is not null) _attachment.Device!.Tell(told);
        if (!Timers.IsTimerActive(AcknowledgeAgain.Instance))
        {
            Timers.StartSingleTimer(AcknowledgeAgain.Instance, AcknowledgeAgain.Instance, ConfirmWithin);
        }
    }

    private void TellUnconfirmed(IActorRef device)
    {
        foreach (var acknowledged in _attachment.Unconfirmed()) device.Tell(acknowledged, Self);
    }

    private void StartOver()
    {
        LoseDevice();
        Attach();
    }

    private void LoseDevice()
    {
        if (_attachment.Device is { } device) Context.Unwatch(device);
        _attachment.Lose();
        Context.Parent.Tell(Moved.Instance);
    }

    private void Attach()
    {
        var wire = new WireConnection(ForbidsRepeats: _connect.IsMqtt5, ReceiveMaximum: ushort.MaxValue, MessagesMax: 1);
        _services.Devices.Tell(
            new ToDevice.Attach(
                _deviceId,
                _connect.ConnectionId,
                _connect.ConnectedAt,
                wire,
                SessionExpiry: TimeSpan.Zero,
                StartsClean: false,
                _attachment.Revision,
                _subscriptions,
                _unconfirmed,
                Implicit: false,
                Self,
                _attachment.Epoch,
                _services.Clock.GetElapsedTime(_acceptedAt),
                _attachment.Challenge),
            Self);
        MqttMeters.Attaches.Add(1);
        AttachLater();
    }

    private void AttachLater() => Timers.StartSingleTimer(
        AttachAgain.Instance, AttachAgain.Instance, _services.Options.NextAttachWait(++_attachment.Attempts));

    private void Answer()
    {
        foreach (var asker in _askers) asker.Tell(OutboxReply.Done.Instance);
        _askers.Clear();
    }
}
