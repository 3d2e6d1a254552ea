using System.Buffers;
using System.IO.Pipelines;
using IoTDelivery.Mqtt;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http.Features;
using MQTTnet.Formatter;
using MQTTnet.Packets;

namespace IoTDelivery.Simulation;

/// <summary>
/// One TCP connection, as the stage of the node and as the device see it. In order, late, and at some moment broken: then what is under way is lost, and each side
/// learns of it in its own time.
/// </summary>
internal sealed class Wire : ConnectionContext, IDuplexPipe
{
    private static readonly PipeOptions Inline = new(readerScheduler: PipeScheduler.Inline, writerScheduler: PipeScheduler.Inline, useSynchronizationContext: false);

    private const ushort Shared = Domain.PacketIds.Max + 1;

    private readonly World _world;
    private readonly MqttProtocolVersion _version;
    private readonly Pipe _up = new(Inline), _down = new(Inline);
    private DateTimeOffset _lastUp, _lastDown;
    private ushort _shared; // what the node means by the id that all sub-devices share, if that rule is broken
    private bool _isBroken; // nothing passes any more
    private bool _isClosed; // the server has been told, or has ended it

    public Wire(World world, SimulatedDevice device, Node node, MqttProtocolVersion version, Guid id, Wire? former)
    {
        (_world, Device, Node, _version, Id) = (world, device, node, version, id);
        (OpenedAt, SinceFormer) = (world.Now, former is null ? TimeSpan.MaxValue : world.Now - former.OpenedAt);
        Transport = this;
    }

    public SimulatedDevice Device { get; }

    public Node Node { get; }

    public DateTimeOffset OpenedAt { get; }

    /// <summary>How much younger it is than the device's connection before.</summary>
    public TimeSpan SinceFormer { get; }

    public Guid Id { get; }

    public PipeReader Input => _up.Reader;

    public PipeWriter Output => _down.Writer;

    public override IDuplexPipe Transport { get; set; }

    public override string ConnectionId { get; set; } = "";

    public override IFeatureCollection Features { get; } = new FeatureCollection();

    public override IDictionary<object, object?> Items { get; set; } = new Dictionary<object, object?>();

    // Packet ids the device has not answered, and the message each one carried.
    public Dictionary<ushort, string> Unanswered { get; } = [];

    // Packet ids of an earlier connection that the device has answered on this one.
    public Dictionary<ushort, string> AnsweredAhead { get; } = [];

    /// <summary>What the node writes is read from here on.</summary>
    public void Open() => Pump();

    /// <summary>The device sends a packet.</summary>
    /// <param name="arrived">Runs when the node has it, if it ever does.</param>
    public void Send(MqttPacket packet, Action? arrived = null)
    {
        if (_isBroken) return;
        _lastUp = Later(_lastUp);
        _world.After(_lastUp - _world.Now, () =>
        {
            if (_isBroken || _isClosed) return;
            if (_world.Broken == BrokenRule.PubAckOfAnotherPacket && packet is MqttPubAckPacket && Unanswered.Count > 0)
            {
                packet = new MqttPubAckPacket { PacketIdentifier = Unanswered.Keys.Min() };
            }

            arrived?.Invoke();
            if (_shared != 0 && packet is MqttPubAckPacket { PacketIdentifier: Shared }) packet = new MqttPubAckPacket { PacketIdentifier = _shared };
            MqttFraming.Write(_up.Writer, packet, _version);
            _ = _up.Writer.FlushAsync();
        });
    }

    /// <summary>Nothing passes any more. The node hears of it after a while, or finds out by itself (null).</summary>
    public void Break(TimeSpan? nodeHears)
    {
        _isBroken = true;
        if (nodeHears is { } delay) _world.After(delay, Close);
    }

    /// <summary>The stage has ended; what it wrote may still arrive.</summary>
    public void ServerEnded()
    {
        _isClosed = true;
        if (_isBroken) return;
        _lastDown = Later(_lastDown);
        _world.After(_lastDown - _world.Now, () =>
        {
            if (!_isBroken) Device.Lost(this);
            _isBroken = true;
        });
    }

    public override void Abort() => Close();

    public override void Abort(ConnectionAbortedException abortReason) => Close();

    private void Close()
    {
        if (_isClosed) return;
        _isClosed = true;
        _up.Writer.Complete();
    }

    // Whatever the transport takes is the device's to receive: here it is cut into packets and put on its way.
    private void Pump()
    {
        while (true)
        {
            var reading = _down.Reader.ReadAsync().GetAwaiter();
            if (!reading.IsCompleted)
            {
                reading.UnsafeOnCompleted(() =>
                {
                    Take(reading.GetResult());
                    Pump();
                });
                return;
            }

            Take(reading.GetResult());
        }
    }

    private void Take(ReadResult result)
    {
        var bytes = result.Buffer;
        while (MqttFraming.TryRead(ref bytes, _version, int.MaxValue, out var packet) == Frame.Packet)
        {
            if (packet is MqttPublishPacket publish)
            {
                if (_world.Broken == BrokenRule.SubDeviceIdShared && publish.PacketIdentifier >= Shared) (_shared, publish.PacketIdentifier) = (publish.PacketIdentifier, Shared);
                Device.Written(publish);
            }

            if (_isBroken) continue;
            _lastDown = Later(_lastDown);
            _world.After(_lastDown - _world.Now, () =>
            {
                if (!_isBroken) Device.On(packet!, this);
            });
        }

        _down.Reader.AdvanceTo(bytes.Start, bytes.End);
    }

    private DateTimeOffset Later(DateTimeOffset last)
    {
        var at = _world.Now + TimeSpan.FromMilliseconds(0.5 + 8 * _world.Random.NextDouble());
        return at > last ? at : last.AddTicks(1);
    }
}
