using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>
/// A notification from its offer until every matching action has answered, or has a row or a dead letter.
/// </summary>
internal sealed class PendingNotification
{
    private readonly Notification? _notification;
    private DeviceId _about;
    private byte[]? _body; // as the last one wanted it who asked; null while no action has matched
    private PushShape _shape;

    public PendingNotification(DeviceNotifications device, Notification notification, TimeSpan arrivedAt)
    {
        (Device, _about, _notification, ArrivedAt) = (device, device.DeviceId, notification, arrivedAt);
        (Number, At, Header) = (notification.Number, notification.At, notification.Header);
        IsUnresolved = Header is null;
    }

    public PendingNotification(DeviceNotifications device, VolatileNotification source, TimeSpan arrivedAt)
    {
        (Device, _about, Volatile, ArrivedAt) = (device, device.DeviceId, source, arrivedAt);
        (Number, At, ObjectDeviceId) = (source.Number, source.At, source.ObjectDeviceId);
    }

    /// <summary>In whose order it stands.</summary>
    public DeviceNotifications Device { get; }

    /// <summary>Its source, if it is not in an outbox.</summary>
    public VolatileNotification? Volatile { get; }

    public long Number { get; }

    public DateTimeOffset At { get; }

    public string Resource => Volatile?.Resource ?? StatusNotification.Resource;

    public string Event => Volatile?.Event ?? StatusNotification.Event;

    /// <summary>Whose it is; null while that is not known, or if nobody knows.</summary>
    public DeviceHeader? Header { get; private set; }

    /// <summary>True until it has a header, or the registry has none.</summary>
    public bool IsUnresolved { get; private set; } = true;

    /// <summary>Whom it claims to be about, as long as nobody has looked whether that is so.</summary>
    public DeviceId? ObjectDeviceId { get; private set; }

    /// <summary>When it was offered; from its resolution on when that was. Monotonic.</summary>
    public TimeSpan ArrivedAt { get; set; }

    /// <summary>How many receivers have not settled it; the match itself counts as one.</summary>
    public int Unsettled { get; private set; } = 1;

    /// <summary>What the registry said.</summary>
    public void Resolve(DeviceHeader? header)
    {
        if (!IsUnresolved) return;
        (Header, IsUnresolved) = (header, false);
    }

    /// <summary>
    /// The device was deleted and says whose everything was. What the registry said meanwhile counts no more: it may
    /// have been said of the next device of that id. What is matched is written.
    /// </summary>
    public void Retire(DeviceHeader header)
    {
        if (Unsettled == 1 && _body is null) (Header, IsUnresolved) = (header, false);
    }

    /// <summary>
    /// Who the device is that it claims to be about. A gateway speaks for the devices behind it and for nobody else.
    /// </summary>
    public void ResolveObject(DeviceHeader? header)
    {
        var objectId = ObjectDeviceId!;
        ObjectDeviceId = null;
        if (header is not null && header.GatewayId == Device.DeviceId.Value) (_about, Header) = (objectId, header);
    }

    /// <summary>One more action matches. From now on nothing changes what it says.</summary>
    public void Match(PushShape shape)
    {
        Body(shape);
        Unsettled++;
    }

    /// <summary>
    /// The body of the POST. Mostly all receivers want one shape; where they do not, it is written anew, to the same
    /// bytes.
    /// </summary>
    public byte[] Body(PushShape shape)
    {
        if (_body is not null && _shape == shape) return _body;
        _shape = shape;
        return _body = Volatile is null
            ? StatusNotification.Write(_about, _notification!, Header!, shape)
            : Volatile.Write(_about, Header!, shape);
    }

    /// <summary>The match is over, or a receiver has settled it. True if that was the last.</summary>
    public bool Settle() => --Unsettled == 0;
}
