using System.Globalization;
using System.Text.Json;
using System.Threading.Channels;
using MQTTnet;
using MQTTnet.Formatter;
using MQTTnet.Protocol;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>
/// A gateway as the official SDKs' classes and their samples are written: it subscribes nothing, asks for its list as
/// soon as it is connected, keeps what it is told under a version that only grows, and drops messages for whom it does
/// not know.
/// </summary>
public sealed class OfficialGateway : IAsyncDisposable
{
    private readonly Device _device;
    private readonly string _id;
    private readonly Dictionary<string, JsonElement> _children = []; // by node_id
    private readonly Channel<(string Child, string Content)> _messages = Channel.CreateUnbounded<(string, string)>();
    private readonly Channel<JsonElement> _answers = Channel.CreateUnbounded<JsonElement>();
    private readonly SemaphoreSlim _changed = new(0);
    private readonly Task _reading;
    private readonly CancellationTokenSource _stopped = new();

    private OfficialGateway(Device device, string id, long version)
    {
        (_device, _id, Version) = (device, id, version);
        _reading = ReadAsync();
    }

    /// <summary>That of its list.</summary>
    public long Version { get; private set; }

    /// <summary>Messages for sub-devices it does not know.</summary>
    public int Dropped { get; private set; }

    public IReadOnlyList<string> Children
    {
        get
        {
            lock (_children) return [.. _children.Keys.Order()];
        }
    }

    public static async Task<OfficialGateway> ConnectAsync(int port, string id, long version = 0)
    {
        var gateway = new OfficialGateway(await Device.ConnectAsync(port, id, MqttProtocolVersion.V311), id, version);
        await gateway.SyncAsync();
        return gateway;
    }

    public Task SyncAsync() => SendAsync("sub_device_sync_request", new { version = Version });

    public Task<JsonElement> AddAsync(params object[] devices) =>
        AskAsync("add_sub_device", "add_sub_device_request", new { devices });

    public Task<JsonElement> DeleteAsync(params string[] devices) =>
        AskAsync("delete_sub_device", "delete_sub_device_request", new { devices });

    public Task<JsonElement> UpdateStatusAsync(params (string DeviceId, string Status)[] statuses) => AskAsync(
        "sub_device_update_status", "sub_device_update_status",
        new { device_statuses = statuses.Select(s => new { device_id = s.DeviceId, status = s.Status }) });

    /// <summary>The next message for a sub-device it knows.</summary>
    public async Task<(string Child, string Content)> NextAsync()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        return await _messages.Reader.ReadAsync(limit.Token);
    }

    public async Task UntilAsync(params string[] children)
    {
        var sought = children.Order().ToArray();
        while (!Children.SequenceEqual(sought))
        {
            if (!await _changed.WaitAsync(TimeSpan.FromSeconds(30))) Assert.Equal(sought, Children);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _stopped.CancelAsync();
        await _reading;
        await _device.DisposeAsync();
    }

    private async Task<JsonElement> AskAsync(string name, string type, object paras)
    {
        await SendAsync(type, paras);
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        var answer = await _answers.Reader.ReadAsync(limit.Token);
        Assert.Equal($"{name}_response", answer.GetProperty("event_type").GetString());
        Assert.Equal($"event-{type}", answer.GetProperty("event_id").GetString());
        return answer.GetProperty("paras");
    }

    private Task SendAsync(string type, object paras) => _device.Client.PublishStringAsync(
        $"$oc/devices/{_id}/sys/events/up",
        JsonSerializer.Serialize(new
        {
            object_device_id = _id,
            services = new[]
            {
                new
                {
                    service_id = "$sub_device_manager",
                    event_type = type,
                    event_time = DateTime.UtcNow.ToString("yyyyMMdd'T'HHmmss'Z'", CultureInfo.InvariantCulture),
                    event_id = $"event-{type}",
                    paras,
                },
            },
        }),
        MqttQualityOfServiceLevel.AtLeastOnce);

    private async Task ReadAsync()
    {
        try
        {
            while (true)
            {
                var received = await _device.NextAsync(TimeSpan.FromHours(1)).WaitAsync(_stopped.Token);
                if (received.Topic.EndsWith("/sys/events/down", StringComparison.Ordinal)) OnEvents(received.Content);
                else OnMessage(received);
            }
        }
        catch (OperationCanceledException)
        {
            // It was let go.
        }
    }

    private void OnEvents(string payload)
    {
        foreach (var service in JsonDocument.Parse(payload).RootElement.GetProperty("services").EnumerateArray())
        {
            if (service.GetProperty("service_id").GetString() != "$sub_device_manager") continue;
            var type = service.GetProperty("event_type").GetString();
            if (type is "add_sub_device_notify" or "delete_sub_device_notify")
            {
                Take(service.GetProperty("paras"), type == "add_sub_device_notify");
            }
            else
            {
                _answers.Writer.TryWrite(service);
            }
        }
    }

    // The samples' rule: what is not newer than what is known is not looked at.
    private void Take(JsonElement paras, bool isAdded)
    {
        var version = paras.GetProperty("version").GetInt64();
        if (version <= Version) return;
        lock (_children)
        {
            foreach (var device in paras.GetProperty("devices").EnumerateArray())
            {
                var nodeId = device.GetProperty("node_id").GetString()!;
                if (isAdded) _children[nodeId] = device;
                else _children.Remove(nodeId);
            }
        }

        Version = version;
        _changed.Release();
    }

    // The samples' rule: the node is what stands behind the first '_' of the id.
    private void OnMessage(Received received)
    {
        var id = received.ObjectDeviceId ?? _id;
        var nodeId = id[(id.IndexOf('_') + 1)..];
        if (Children.Contains(nodeId)) _messages.Writer.TryWrite((nodeId, received.Content));
        else Dropped++;
    }
}
