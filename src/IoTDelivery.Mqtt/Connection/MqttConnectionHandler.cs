using System.Buffers;
using System.IO.Pipelines;
using IoTDelivery.Domain;
using IoTDelivery.Registry;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;

namespace IoTDelivery.Mqtt;

/// <summary>
/// Kestrel hands over a connection, its CONNECT is checked, the stage runs. Before the login is proven a connection costs its socket and this method:
/// no actor, no graph, no more than <see cref="MqttOptions.ConnectBytesMax"/> of buffer.
/// </summary>
public sealed class MqttConnectionHandler(
    MqttConnections connections,
    FindDevice findDevice,
    ReportConnection report,
    MqttOptions options,
    TimeProvider clock,
    ILogger<MqttConnectionHandler> logger) : ConnectionHandler
{
    private int _count;

    public override async Task OnConnectedAsync(ConnectionContext connection)
    {
        if (Interlocked.Increment(ref _count) > options.ConnectionsMax)
        {
            Interlocked.Decrement(ref _count);
            Refused(connection, clientId: null, "too many connections", logged: false);
            logger.Full(options.ConnectionsMax, connection.RemoteEndPoint?.ToString());
            return;
        }

        MqttMeters.Connections.Add(1);
        try
        {
            if (await AcceptAsync(connection) is { } connect) await ServeAsync(connection, connect);
            await LetGoAsync(connection);
        }
        finally
        {
            Interlocked.Decrement(ref _count);
            MqttMeters.Connections.Add(-1);
        }
    }

    /// <summary>A WebSocket that was not opened.</summary>
    internal void RefuseUpgrade(HttpContext http, string reason)
    {
        Count("subprotocol");
        logger.Refused($"{http.Connection.RemoteIpAddress}:{http.Connection.RemotePort}", clientId: null, reason);
    }

    /// <summary>A connection that ended before it came here.</summary>
    internal static void CountNotFromProxy() => Count("PROXY header");

    private async Task ServeAsync(ConnectionContext connection, AcceptedConnect connect)
    {
        MqttMeters.Connects.Add(1);
        logger.Connected(connect.DeviceId, connection.RemoteEndPoint?.ToString(), connect.ConnectionId);
        report(connect.DeviceId, connect.ConnectionId, isOnline: true, connect.ConnectedAt);
        try
        {
            var end = await connections.RunAsync(connection, connect);
            MqttMeters.Closed.Add(1, new KeyValuePair<string, object?>("reason", end.Why));
            logger.Ended(connect.DeviceId, connect.ConnectionId, end.Why);
        }
        finally
        {
            report(connect.DeviceId, connect.ConnectionId, isOnline: false, clock.GetUtcNow());
        }
    }

    // Null: not let in, and told so where MQTT has words for it.
    private async Task<AcceptedConnect?> AcceptAsync(ConnectionContext connection)
    {
        using var timeout = new CancellationTokenSource(options.ConnectTimeout, clock);
        var speaks = false;
        try
        {
            speaks = await FirstByte.ComesAsync(connection.Transport.Input, timeout.Token);
            if (!speaks) return null;
            var (frame, version, connect) = await ReadConnectAsync(connection.Transport.Input, timeout.Token);
            if (frame == Frame.UnknownLevel)
            {
                // [MQTT-3.1.2-2] Said in the oldest form: who knows what the client speaks.
                return await RefuseAsync(connection, null, MqttProtocolVersion.V311, MqttConnectReasonCode.UnsupportedProtocolVersion, "protocol level");
            }

            if (connect is null)
            {
                Refused(connection, clientId: null, frame == Frame.TooLarge ? "CONNECT too large" : "no CONNECT"); // [MQTT-3.1.0-1] closed without a word
                return null;
            }

            var (code, accepted) = await CheckAsync(connect, version, timeout.Token);
            return accepted ?? await RefuseAsync(connection, connect, version, code, code.ToString());
        }
        catch (Exception cause) when (cause is OperationCanceledException or IOException or InvalidOperationException)
        {
            Refused(
                connection,
                clientId: null,
                timeout.IsCancellationRequested ? "no CONNECT in time" : "connection lost",
                logged: speaks);
            return null;
        }
    }

    private async ValueTask<(Frame Frame, MqttProtocolVersion Version, MqttConnectPacket? Connect)> ReadConnectAsync(PipeReader input, CancellationToken timeout)
    {
        while (true)
        {
            var result = await input.ReadAsync(timeout);
            var bytes = result.Buffer;
            var frame = MqttFraming.TryReadConnect(ref bytes, options.ConnectBytesMax, out var version, out var connect);
            input.AdvanceTo(bytes.Start, frame == Frame.Incomplete ? bytes.End : bytes.Start);
            if (frame != Frame.Incomplete || result.IsCompleted) return (frame, version, connect);
        }
    }

    private async ValueTask<(MqttConnectReasonCode Code, AcceptedConnect? Accepted)> CheckAsync(
        MqttConnectPacket connect, MqttProtocolVersion version, CancellationToken timeout)
    {
        // The manual answers a keep-alive out of range with the code of a wrong client id; MQTT 5 can tell the client what to keep to instead.
        var isMqtt5 = version == MqttProtocolVersion.V500;
        if (!isMqtt5 && KeepAlive(connect) != TimeSpan.FromSeconds(connect.KeepAlivePeriod)) return (MqttConnectReasonCode.ClientIdentifierNotValid, null);
        if (connect.AuthenticationMethod is not null) return (MqttConnectReasonCode.BadAuthenticationMethod, null);
        if (!DeviceLogin.TryParse(connect.ClientId, out var login)) return (MqttConnectReasonCode.ClientIdentifierNotValid, null);

        var now = clock.GetUtcNow();
        Device? device;
        try
        {
            var found = findDevice(login.DeviceId);
            device = found.IsCompletedSuccessfully ? found.Result : await found.AsTask().WaitAsync(timeout);
        }
        catch (Exception cause)
        {
            logger.RegistryUnavailable(login.DeviceId, cause.Message);
            return (MqttConnectReasonCode.ServerUnavailable, null);
        }

        // An unknown device gets the answer of a wrong password: who asks must not learn which ids exist.
        var isProven = device is not null && login.IsProvenBy(connect.Username, connect.Password, device.Secret, device.SecondarySecret, now, options.ClockSkew);
        return !isProven ? (MqttConnectReasonCode.BadUserNameOrPassword, null)
            : device!.FrozenAt is not null ? (MqttConnectReasonCode.NotAuthorized, null)
            : (MqttConnectReasonCode.Success, Accepted(connect, version, login.DeviceId, device, now));
    }

    // Within the bounds; 0 (none) is above them.
    private TimeSpan KeepAlive(MqttConnectPacket connect) => TimeSpan.FromSeconds(connect.KeepAlivePeriod) switch
    {
        { Ticks: 0 } => options.KeepAliveMax,
        var asked when asked < options.KeepAliveMin => options.KeepAliveMin,
        var asked when asked > options.KeepAliveMax => options.KeepAliveMax,
        var asked => asked,
    };

    private AcceptedConnect Accepted(MqttConnectPacket connect, MqttProtocolVersion version, DeviceId deviceId, Device device, DateTimeOffset now) => new(
        deviceId,
        Guid.CreateVersion7(now),
        now,
        version,
        KeepAlive(connect),
        StartsClean: connect.CleanSession,
        SessionExpiryInterval: version == MqttProtocolVersion.V500 ? connect.SessionExpiryInterval : connect.CleanSession ? 0 : uint.MaxValue,
        ReceiveMaximum: connect.ReceiveMaximum == 0 ? ushort.MaxValue : connect.ReceiveMaximum, // 0 is how the codec says "absent"
        PacketBytesMax: connect.MaximumPacketSize == 0 ? uint.MaxValue : connect.MaximumPacketSize,
        IsGateway: device.GatewaySince is not null,
        ProjectId: device.ProjectId,
        AppId: device.AppId,
        IsKeepAliveOurs: KeepAlive(connect) != TimeSpan.FromSeconds(connect.KeepAlivePeriod),
        IsImplicit: options.IsImplicit(device.ProductId),
        Generation: device.Generation);

    private async Task<AcceptedConnect?> RefuseAsync(
        ConnectionContext connection, MqttConnectPacket? connect, MqttProtocolVersion version, MqttConnectReasonCode code, string reason)
    {
        Refused(connection, connect?.ClientId, reason);
        var bytesMax = connect is { MaximumPacketSize: > 0 } ? connect.MaximumPacketSize : uint.MaxValue;
        var said = connect is null ? 0 : MqttFraming.Write(connection.Transport.Output, ConnAck.Refuse(code, Reason(code)), version, bytesMax);
        if (said == 0) MqttFraming.Write(connection.Transport.Output, ConnAck.Refuse(code, reason: null), version); // [MQTT-3.2.2-19]
        await connection.Transport.Output.FlushAsync();
        return null;
    }

    // Helps whoever sets up the device, and tells nobody which ids exist.
    private static string? Reason(MqttConnectReasonCode code) => code switch
    {
        MqttConnectReasonCode.ClientIdentifierNotValid => "The client id must be {device_id}_0_{sign_type}_{YYYYMMDDHH}.",
        MqttConnectReasonCode.BadUserNameOrPassword => "The user name must be the device id, the password HMAC-SHA256 of the secret with the client id's time as key; with sign type 1 the hour must be now.",
        _ => null,
    };

    private void Refused(ConnectionContext connection, string? clientId, string reason, bool logged = true)
    {
        Count(reason);
        if (logged) logger.Refused(connection.RemoteEndPoint?.ToString(), clientId, reason);
    }

    private static void Count(string reason) =>
        MqttMeters.Refused.Add(1, new KeyValuePair<string, object?>("reason", reason));

    // Our last words leave, then the client has a moment to close; one that does not read cannot hold the socket for ever.
    private async Task LetGoAsync(ConnectionContext connection)
    {
        await connection.Transport.Output.CompleteAsync();
        if (!connection.ConnectionClosed.IsCancellationRequested)
        {
            await Task.Delay(options.CloseTimeout, clock, connection.ConnectionClosed).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        if (!connection.ConnectionClosed.IsCancellationRequested) connection.Abort();
        await connection.Transport.Input.CompleteAsync();
    }
}
