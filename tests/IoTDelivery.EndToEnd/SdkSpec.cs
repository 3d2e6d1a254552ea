using System.Buffers;
using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Threading.Channels;
using IoTDelivery.EndToEnd.Harness;
using MQTTnet;
using MQTTnet.Formatter;
using MQTTnet.Packets;
using MQTTnet.Protocol;

namespace IoTDelivery.EndToEnd;

/// <summary>A site whose devices may be of those that never subscribe.</summary>
public sealed class ImplicitSite() : Site("--Mqtt:ImplicitSubscriptionOf:lamp=true", "--Mqtt:ImplicitSubscriptionGrace=00:00:00.300");

/// <summary>
/// Devices as the official SDKs behave (contract, section 8): their client ids and stamps, their keep-alive, what they subscribe, what they say first, and
/// how they tell a standard message from a raw one.
/// </summary>
public sealed class SdkSpec(ImplicitSite site) : IClassFixture<ImplicitSite>
{
    // ---- never subscribes (Python, Java, Go; README of C)

    [Fact]
    public async Task A_device_that_never_subscribes_gets_every_form_once_at_QoS_0_and_reconnects_with_a_fresh_stamp()
    {
        var lamp = await site.NewDeviceAsync();
        await SendAsync(lamp, new { message_id = $"s-{lamp}", name = "greeting", message = "hello" });
        await SendAsync(lamp, new { message_id = $"j-{lamp}", message = new { on = true } });
        await SendAsync(lamp, new { message_id = $"r-{lamp}", message = "plain", payload_format = "raw" });
        await SendAsync(lamp, new { message_id = $"b-{lamp}", message = "AP8K", encoding = "base64" });

        await using (var device = await SdkDevice.ConnectAsync(site.Node.MqttPort, lamp, signType: 1, DateTime.UtcNow, MqttProtocolVersion.V311))
        {
            var standard = await device.NextAsync();
            Assert.Equal(("greeting", $"s-{lamp}", "hello", 0), (standard.Text("name"), standard.Text("id"), standard.Text("content"), standard.QoS));
            Assert.Equal(lamp, standard.Text("object_device_id"));
            Assert.Equal("""{"on":true}""", (await device.NextAsync()).Text("content")); // text, or the SDK takes the message for a raw one
            var raw = await device.NextAsync();
            Assert.False(raw.IsStandard);
            Assert.Equal("plain", Encoding.UTF8.GetString(raw.Payload));
            Assert.Equal([0, 0xFF, 0x0A], (await device.NextAsync()).Payload);
        }

        foreach (var form in new[] { "s", "j", "r", "b" })
        {
            await site.ToldAsync($"{form}-{lamp}", "DELIVERED");
            Assert.Equal("DELIVERED", await site.StatusAsync(lamp, $"{form}-{lamp}"));
        }

        await using var again = await SdkDevice.ConnectAsync(site.Node.MqttPort, lamp, signType: 1, DateTime.UtcNow, MqttProtocolVersion.V311);
        await again.PublishAsync("sys/messages/up", "{}"); // and the grace goes by
        await SendAsync(lamp, new { message_id = $"again-{lamp}", message = "again" });
        Assert.Equal($"again-{lamp}", (await again.NextAsync()).Text("id")); // nothing came twice before it
    }

    [Fact]
    public async Task A_stamp_of_fourteen_hours_ago_is_refused_with_sign_type_1_and_none_of_ours_with_sign_type_0()
    {
        var lamp = await site.NewDeviceAsync();

        await Assert.ThrowsAnyAsync<Exception>(() => SdkDevice.ConnectAsync(site.Node.MqttPort, lamp, signType: 1, DateTime.UtcNow.AddHours(-14), MqttProtocolVersion.V311));
        await using var device = await SdkDevice.ConnectAsync(site.Node.MqttPort, lamp, signType: 0, DateTime.UtcNow.AddHours(-14), MqttProtocolVersion.V311);
    }

    // ---- subscribes six filters at QoS 0 (C#), MQTT 5

    [Fact]
    public async Task A_device_of_MQTT_5_that_subscribes_six_filters_at_QoS_0_gets_its_messages_and_their_properties()
    {
        var lamp = await site.NewDeviceAsync();
        await using var device = await SdkDevice.ConnectAsync(site.Node.MqttPort, lamp, signType: 1, DateTime.UtcNow, MqttProtocolVersion.V500);
        await device.SubscribeAsync(0, "sys/messages/down", "sys/commands/#", "sys/shadow/get/response/#", "sys/properties/set/#", "sys/properties/get/#", "sys/events/down");
        await device.PublishAsync("sys/events/up", SdkInfo(lamp, "C#_1.3.4"));

        await SendAsync(lamp, new
        {
            message_id = $"p-{lamp}",
            message = "hello",
            ttl = 60,
            properties = new { correlation_data = "c-1", response_topic = "answers/here", user_properties = new[] { new { prop_key = "k", prop_value = "v" } } },
        });

        var got = await device.NextAsync();
        Assert.Equal(("hello", 0, "c-1", "answers/here"), (got.Text("content"), got.QoS, got.CorrelationData, got.ResponseTopic));
        Assert.Equal("k=v", Assert.Single(got.UserProperties));
        Assert.InRange(got.MessageExpiry, 3590u, 3600u);
        await site.ToldAsync($"p-{lamp}", "DELIVERED");
        var shown = await ShowUntilAsync(lamp, d => d.TryGetProperty("device_sdk_version", out _));
        Assert.Equal(("C#_1.3.4", "sw-1", "fw-1"), (Text(shown, "device_sdk_version"), Text(shown, "sw_version"), Text(shown, "fw_version")));
    }

    // ---- says much before it hears anything (Java, Go, C demos)

    [Theory]
    [InlineData(MqttProtocolVersion.V311)]
    [InlineData(MqttProtocolVersion.V500)]
    public async Task A_device_that_publishes_right_after_CONNACK_has_all_its_PUBACKs_and_the_time(MqttProtocolVersion version)
    {
        var lamp = await site.NewDeviceAsync();
        await using var device = await SdkDevice.ConnectAsync(site.Node.MqttPort, lamp, signType: 0, DateTime.Now, version); // Go sends local hours

        await Task.WhenAll(
            device.PublishAsync("sys/events/up", SdkInfo(lamp, "JAVA_v1.2.0")),
            device.PublishAsync("sys/shadow/get/request_id=4711", """{"object_device_id":null,"service_id":null}"""),
            device.PublishAsync("sys/events/up", """{"services":[{"service_id":"$log","event_type":"log_report","paras":{"timestamp":"1","type":"DEVICE_STATUS","content":"login success"}}]}"""),
            device.PublishAsync("sys/events/up", "{ broken"),
            device.PublishAsync("sys/properties/report", """{"services":[]}"""),
            device.PublishAsync("sys/events/up", """{"services":[{"service_id":"$time_sync","event_type":"time_sync_request","event_time":"20260101T000000Z","paras":{"device_send_time":1}}]}"""));

        var answer = await device.NextAsync();
        Assert.Equal($"$oc/devices/{lamp}/sys/events/down", answer.Topic);
        var paras = JsonSerializer.Deserialize<JsonElement>(answer.Payload).GetProperty("services")[0].GetProperty("paras");
        Assert.Equal(1, paras.GetProperty("device_send_time").GetInt64());
        Assert.InRange(paras.GetProperty("server_send_time").GetInt64(), DateTimeOffset.UtcNow.AddMinutes(-1).ToUnixTimeMilliseconds(), DateTimeOffset.UtcNow.ToUnixTimeMilliseconds());
        Assert.True(device.IsConnected);
    }

    [Fact]
    public async Task A_device_that_asks_for_QoS_1_within_the_grace_gets_its_cached_message_at_QoS_1_only()
    {
        var lamp = await site.NewDeviceAsync();
        await SendAsync(lamp, new { message_id = $"q-{lamp}", message = "cached" });

        await using var device = await SdkDevice.ConnectAsync(site.Node.MqttPort, lamp, signType: 0, DateTime.UtcNow, MqttProtocolVersion.V311);
        await device.SubscribeAsync(1, "sys/messages/down");

        Assert.Equal(("cached", 1), (await device.NextAsync()) is var got ? (got.Text("content"), got.QoS) : default);
        await site.ToldAsync($"q-{lamp}", "DELIVERED");
    }

    private async Task SendAsync(string lamp, object body) => Api.Expect(HttpStatusCode.Created, await site.Api.PostAsync($"devices/{lamp}/messages", body));

    // Written behind the connection: only the registry shows when.
    private async Task<JsonElement> ShowUntilAsync(string lamp, Func<JsonElement, bool> enough)
    {
        for (var i = 0; ; i++)
        {
            var shown = (await site.Api.GetAsync($"devices/{lamp}")).Body;
            if (enough(shown)) return shown;
            Assert.True(i < 200, $"Show never said it: {shown}");
            await Task.Delay(50);
        }
    }

    private static string? Text(JsonElement of, string name) => of.GetProperty(name).GetString();

    private static string SdkInfo(string lamp, string version) => JsonSerializer.Serialize(new
    {
        object_device_id = lamp,
        services = new[]
        {
            new { service_id = "$sdk_info", event_type = "sdk_info_report", event_time = "20260101T000000Z", paras = new { device_sdk_version = version, sw_version = "sw-1", fw_version = "fw-1" } },
        },
    });

    /// <summary>A PUBLISH as it came.</summary>
    private sealed record Got(string Topic, int QoS, byte[] Payload, string? CorrelationData, string? ResponseTopic, string[] UserProperties, uint MessageExpiry)
    {
        private static readonly string[] Known = ["object_device_id", "name", "id", "content"];

        /// <summary>The test of the SDKs: no other members, and nothing but strings.</summary>
        public bool IsStandard
        {
            get
            {
                try
                {
                    var json = JsonSerializer.Deserialize<JsonElement>(Payload);
                    return json.ValueKind == JsonValueKind.Object && json.EnumerateObject().All(m => Known.Contains(m.Name) && m.Value.ValueKind is JsonValueKind.String or JsonValueKind.Null);
                }
                catch (JsonException)
                {
                    return false;
                }
            }
        }

        public string? Text(string name)
        {
            Assert.True(IsStandard, Encoding.UTF8.GetString(Payload));
            return JsonSerializer.Deserialize<JsonElement>(Payload).TryGetProperty(name, out var member) ? member.GetString() : null;
        }
    }

    /// <summary>Logs in as an SDK does: clean, keep-alive 120, client id and password made for this very connection.</summary>
    private sealed class SdkDevice : IAsyncDisposable
    {
        private readonly IMqttClient _client = new MqttClientFactory().CreateMqttClient();
        private readonly Channel<Got> _got = Channel.CreateUnbounded<Got>();
        private readonly string _id;

        private SdkDevice(string id) => _id = id;

        public bool IsConnected => _client.IsConnected;

        public static async Task<SdkDevice> ConnectAsync(int port, string id, int signType, DateTime hour, MqttProtocolVersion version)
        {
            var device = new SdkDevice(id);
            device._client.ApplicationMessageReceivedAsync += device.TakeAsync;
            var stamp = hour.ToString("yyyyMMddHH", CultureInfo.InvariantCulture);
            var password = Convert.ToHexStringLower(HMACSHA256.HashData(Encoding.UTF8.GetBytes(stamp), Encoding.UTF8.GetBytes(Device.Secret)));
            await device._client.ConnectAsync(new MqttClientOptionsBuilder()
                .WithTcpServer("127.0.0.1", port).WithProtocolVersion(version).WithCleanSession().WithKeepAlivePeriod(TimeSpan.FromSeconds(120))
                .WithClientId($"{id}_0_{signType}_{stamp}").WithCredentials(id, password).Build());
            return device._client.IsConnected ? device : throw new InvalidOperationException("It was not let in.");
        }

        public async Task SubscribeAsync(int qos, params string[] ends)
        {
            var options = new MqttClientSubscribeOptionsBuilder();
            foreach (var end in ends) options.WithTopicFilter($"$oc/devices/{_id}/{end}", (MqttQualityOfServiceLevel)qos);
            var granted = await _client.SubscribeAsync(options.Build());
            Assert.All(granted.Items, i => Assert.Equal(qos, (int)i.ResultCode));
        }

        /// <summary>At QoS 1; returns with the PUBACK.</summary>
        public async Task PublishAsync(string end, string payload)
        {
            using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(20));
            Assert.True((await _client.PublishStringAsync($"$oc/devices/{_id}/{end}", payload, MqttQualityOfServiceLevel.AtLeastOnce, cancellationToken: patience.Token)).IsSuccess);
        }

        public async Task<Got> NextAsync()
        {
            using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(20));
            return await _got.Reader.ReadAsync(patience.Token);
        }

        public async ValueTask DisposeAsync()
        {
            if (_client.IsConnected) await _client.DisconnectAsync();
            _client.Dispose();
        }

        private Task TakeAsync(MqttApplicationMessageReceivedEventArgs args)
        {
            var message = args.ApplicationMessage;
            _got.Writer.TryWrite(new Got(
                message.Topic,
                (int)message.QualityOfServiceLevel,
                message.Payload.ToArray(),
                message.CorrelationData is { } data ? Encoding.UTF8.GetString(data) : null,
                message.ResponseTopic,
                [.. (message.UserProperties ?? []).Select(p => $"{p.Name}={p.ReadValueAsString()}")],
                message.MessageExpiryInterval));
            return Task.CompletedTask;
        }
    }
}
