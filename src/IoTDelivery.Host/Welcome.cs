using IoTDelivery.Host.Api;
using IoTDelivery.Mqtt;
using IoTDelivery.Storage;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;

namespace IoTDelivery.Host;

/// <summary>The first thing somebody reads: where the node listens, where the token lies, and three lines to paste.</summary>
public static class Welcome
{
    public static void Print(WebApplication app)
    {
        var database = app.Services.GetRequiredService<SqlDatabase>();
        var devices = app.Services.GetRequiredService<MqttEndpoint>();
        var mqtt = devices.BoundTo;
        var addresses = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()?.Addresses ?? [];
        var rest = addresses.FirstOrDefault(a => !devices.Owns(a)) ?? "(no REST)";
        var isGenerated = app.Services.GetRequiredService<ApiOptions>().Token is null;
        var token = isGenerated ? $"$(cat {Login.TokenFile(database)})" : "$TOKEN";
        var isAdminGenerated = app.Services.GetRequiredService<ApiOptions>().AdminToken is null;
        const string stamp = "2026010100";
        var password = DeviceLogin.Password("demo-secret", stamp);
        Console.WriteLine(
            $$$"""

            IoTDelivery.Akka is running.
              REST     {{{rest}}}
              MQTT     {{{mqtt?.ToString() ?? "(no MQTT)"}}}{{{(devices.TlsBoundTo is { } tls ? $", with TLS {tls}" : "")}}}
              storage  {{{database.Where}}}
              token    {{{(isGenerated ? Login.TokenFile(database) : "the configured Api:Token")}}}
              admin    {{{(isAdminGenerated ? Login.TokenFile(database, "admin-token") : "the configured Api:AdminToken")}}}

            Three lines to paste, each into a terminal of its own (create a device, be the device, send it a message):

            curl -s -H "X-Auth-Token: {{{token}}}" -H 'Content-Type: application/json' {{{rest}}}/v5/iot/demo/products -d '{"product_id":"lamp","name":"lamp","device_type":"lamp","protocol_type":"MQTT","data_format":"json","service_capabilities":[]}'; curl -s -H "X-Auth-Token: {{{token}}}" -H 'Content-Type: application/json' {{{rest}}}/v5/iot/demo/devices -d '{"product_id":"lamp","node_id":"1","auth_info":{"secret":"demo-secret"}}'

            mosquitto_sub -h {{{mqtt?.Address}}} -p {{{mqtt?.Port}}} -i lamp_1_0_0_{{{stamp}}} -u lamp_1 -P {{{password}}} -q 1 -t '$oc/devices/lamp_1/sys/messages/down'

            curl -s -H "X-Auth-Token: {{{token}}}" -H 'Content-Type: application/json' {{{rest}}}/v5/iot/demo/devices/lamp_1/messages -d '{"message":"hello"}'

            """);
    }
}
