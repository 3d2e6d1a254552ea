using IoTDelivery.Domain;
using MQTTnet.Formatter;

namespace IoTDelivery.Mqtt;

/// <summary>What a CONNECT settled.</summary>
/// <param name="ConnectionId">Unique among all connections ever.</param>
/// <param name="KeepAlive">One and a half times this without a byte ends the connection.</param>
/// <param name="StartsClean">Clean session, or MQTT 5 clean start.</param>
/// <param name="SessionExpiryInterval">
/// Seconds the session outlives the connection (MQTT 5, 3.1.2.11.2); for ever at <see cref="uint.MaxValue"/>, as with clean
/// session 0.
/// </param>
/// <param name="ReceiveMaximum">Unacknowledged packets the client takes.</param>
/// <param name="PacketBytesMax">Largest packet the client takes (MQTT 5, 3.1.2.11.4).</param>
/// <param name="IsGateway">Sub-devices share this connection.</param>
/// <param name="ProjectId">Whose device it is: broadcasts are for one project.</param>
/// <param name="AppId">Its resource space, if it has one.</param>
/// <param name="IsKeepAliveOurs">The client asked for another one and is told [MQTT-3.1.2-21].</param>
/// <param name="IsImplicit">Its product's devices may count as subscribed without asking.</param>
/// <param name="Generation">Of the row that it was proven against: <see cref="Registry.Device.Generation"/>.</param>
public sealed record AcceptedConnect(
    DeviceId DeviceId,
    Guid ConnectionId,
    DateTimeOffset ConnectedAt,
    MqttProtocolVersion Version,
    TimeSpan KeepAlive,
    bool StartsClean,
    uint SessionExpiryInterval,
    int ReceiveMaximum = ushort.MaxValue,
    uint PacketBytesMax = uint.MaxValue,
    bool IsGateway = false,
    string ProjectId = "",
    string? AppId = null,
    bool IsKeepAliveOurs = false,
    bool IsImplicit = false,
    long? Generation = null)
{
    public bool KeepsSession => SessionExpiryInterval > 0;

    public bool IsMqtt5 => Version == MqttProtocolVersion.V500;
}
