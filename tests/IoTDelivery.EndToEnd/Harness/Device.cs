using System.Text;
using System.Text.Json;
using System.Threading.Channels;
using IoTDelivery.Mqtt;
using MQTTnet;
using MQTTnet.Formatter;
using MQTTnet.Protocol;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>A message as the device got it.</summary>
public sealed record Received(string Id, string Content, string Topic, int QoS, bool Dup, ushort PacketId, DateTimeOffset At, string? ObjectDeviceId = null);

/// <summary>A device: somebody else's MQTT client, logged in as the manual says.</summary>
public sealed class Device : IAsyncDisposable
{
    public const string Secret = "device-secret-1";
    private const string Stamp = "2026010100";

    private readonly IMqttClient _client = new MqttClientFactory().CreateMqttClient();
    private readonly Channel<Received> _received = Channel.CreateUnbounded<Received>();
    private readonly string _id;

    private Device(string id)
    {
        _id = id;
        _client.ApplicationMessageReceivedAsync += TakeAsync;
    }

    /// <summary>Whether it acknowledges what it gets. Default: at once.</summary>
    public Func<Received, Task<bool>> Acknowledge { get; set; } = _ => Task.FromResult(true);

    public IMqttClient Client => _client;

    public static string DownTopic(string id) => $"$oc/devices/{id}/sys/messages/down";

    /// <summary>The three words a device logs in with.</summary>
    public static (string ClientId, string UserName, string Password) Login(string id) => ($"{id}_0_0_{Stamp}", id, DeviceLogin.Password(Secret, Stamp));

    /// <summary>Connects, without subscribing.</summary>
    public static async Task<Device> ConnectAsync(
        int port, string id, MqttProtocolVersion version = MqttProtocolVersion.V311, bool clean = true, Func<Received, Task<bool>>? acknowledge = null, Action<MqttClientOptionsBuilder>? more = null,
        string? webSocket = null, Action<MqttClientConnectResult>? connected = null)
    {
        var device = new Device(id);
        if (acknowledge is not null) device.Acknowledge = acknowledge;
        var (clientId, user, password) = Login(id);
        var options = new MqttClientOptionsBuilder()
            .WithProtocolVersion(version).WithClientId(clientId).WithCredentials(user, password)
            .WithKeepAlivePeriod(TimeSpan.FromSeconds(60)).WithTimeout(TimeSpan.FromSeconds(30)).WithCleanSession(clean);
        if (webSocket is null) options.WithTcpServer("127.0.0.1", port);
        else options.WithWebSocketServer(w => w.WithUri(webSocket));
        more?.Invoke(options);
        var result = await device._client.ConnectAsync(options.Build());
        connected?.Invoke(result);
        return device;
    }

    /// <summary>Connects and subscribes the down topic.</summary>
    public static async Task<Device> OnlineAsync(int port, string id, int qos = 1, MqttProtocolVersion version = MqttProtocolVersion.V311, Func<Received, Task<bool>>? acknowledge = null)
    {
        var device = await ConnectAsync(port, id, version, acknowledge: acknowledge);
        await device.SubscribeAsync(qos);
        return device;
    }

    public Task SubscribeAsync(int qos = 1) => _client.SubscribeAsync(DownTopic(_id), (MqttQualityOfServiceLevel)qos);

    /// <summary>The next message, repetitions included.</summary>
    public async Task<Received> NextAsync(TimeSpan? patience = null)
    {
        using var limit = new CancellationTokenSource(patience ?? TimeSpan.FromSeconds(30));
        return await _received.Reader.ReadAsync(limit.Token);
    }

    /// <summary>Messages that came and were not asked for yet.</summary>
    public int Waiting => _received.Reader.Count;

    public async ValueTask DisposeAsync()
    {
        if (_client.IsConnected) await _client.DisconnectAsync();
        _client.Dispose();
    }

    private async Task TakeAsync(MqttApplicationMessageReceivedEventArgs args)
    {
        args.AutoAcknowledge = false;
        var message = args.ApplicationMessage;
        var text = Encoding.UTF8.GetString(message.Payload);
        var (id, content, target) = ("", text, (string?)null);
        try
        {
            var json = JsonDocument.Parse(text).RootElement;
            (id, content, target) = (json.GetProperty("id").GetString()!, json.GetProperty("content").GetString()!, json.GetProperty("object_device_id").GetString());
        }
        catch (Exception cause) when (cause is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            // A raw message: its text is all there is.
        }

        var received = new Received(id, content, message.Topic, (int)message.QualityOfServiceLevel, message.Dup, args.PacketIdentifier, DateTimeOffset.UtcNow, target);
        _received.Writer.TryWrite(received);
        if (await Acknowledge(received)) await args.AcknowledgeAsync(CancellationToken.None);
    }
}
