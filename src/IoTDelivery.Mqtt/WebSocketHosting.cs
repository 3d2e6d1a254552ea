using System.Net.WebSockets;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Microsoft.Extensions.DependencyInjection;

namespace IoTDelivery.Mqtt;

public static class WebSocketHosting
{
    private const string Path = "/mqtt";

    // The first that a client offers too is taken. The second is what clients of MQTT 3.1 ask for: libmosquitto, paho,
    // mqtt.js.
    private static readonly string[] Subprotocols = ["mqtt", "mqttv3.1"];

    /// <summary>
    /// MQTT over WebSocket at <c>/mqtt</c> on every HTTP listener. Comes before the REST API's limits and login: a device proves itself by its CONNECT, and a
    /// connection that lasts for days is no request in progress.
    /// </summary>
    public static void MapMqtt(this WebApplication app) => ((IApplicationBuilder)app).MapWhen(
        http => http.Request.Path == Path,
        mqtt => mqtt.UseWebSockets().Run(ServeAsync));

    private static async Task ServeAsync(HttpContext http)
    {
        if (!http.WebSockets.IsWebSocketRequest)
        {
            (http.Response.StatusCode, http.Response.Headers.Upgrade) = (StatusCodes.Status426UpgradeRequired, "websocket");
            await http.Response.WriteAsync("This is the WebSocket of MQTT devices.");
            return;
        }

        var options = http.RequestServices.GetRequiredService<MqttOptions>();
        var handler = http.RequestServices.GetRequiredService<MqttConnectionHandler>();
        var offered = http.WebSockets.WebSocketRequestedProtocols;
        if (Subprotocols.FirstOrDefault(known => offered.Contains(known, StringComparer.Ordinal))
            is not { } subprotocol)
        {
            handler.RefuseUpgrade(http, "Sec-WebSocket-Protocol offers neither mqtt nor mqttv3.1");
            http.Response.StatusCode = StatusCodes.Status400BadRequest; // [MQTT-6.0.0-3]
            await http.Response.WriteAsync("Sec-WebSocket-Protocol must offer \"mqtt\" or \"mqttv3.1\".");
            return;
        }

        // How slow a device may be is said by MQTT's keep-alive and our own write time-out, as on TCP.
        if (http.Features.Get<IHttpMinResponseDataRateFeature>() is { } rate) rate.MinDataRate = null;

        // [MQTT-6.0.0-4]
        var accept = new WebSocketAcceptContext { SubProtocol = subprotocol, KeepAliveInterval = TimeSpan.Zero };
        using var socket = await http.WebSockets.AcceptWebSocketAsync(accept);
        await WebSocketConnection.RunAsync(http, socket, options.CloseTimeout, handler.OnConnectedAsync);
    }
}
