using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;
using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using MQTTnet.Packets;
using Xunit;

namespace IoTDelivery.Mqtt.Tests.Connection;

/// <summary>A gateway asks about its sub-devices, and is told what changes without it.</summary>
public sealed class GatewayDialogueSpec : StageSpec
{
    private static readonly string EventsDown = $"$oc/devices/{Given.DeviceId}/sys/events/down";

    private readonly Registry _registry = new();

    public GatewayDialogueSpec() => GatewayRequests = _registry;

    [Fact]
    public async Task A_list_comes_in_order_ten_at_a_time_each_part_with_the_version_of_its_last_change()
    {
        for (var n = 1; n <= 25; n++) _registry.Add($"d{n}");
        _registry.Delete("d3"); // version 26
        _registry.Add("d26"); // 27
        var running = await Open();

        await SendAsync(running, "sub_device_sync_request", """{"version":12}""");
        Assert.Equal("add 22: d13 d14 d15 d16 d17 d18 d19 d20 d21 d22", await NoticeAsync(running));
        Assert.Equal("add 25: d23 d24 d25", await NoticeAsync(running));
        Assert.Equal("delete 26: d3", await NoticeAsync(running));
        Assert.Equal("add 27: d26", await NoticeAsync(running));

        await SendAsync(running, "sub_device_sync_request", """{"version":27}"""); // nothing is new: nothing is said
        await SendAsync(running, "sub_device_sync_request", "{}");

        // And nothing of what was deleted.
        Assert.Equal("add 11: d1 d2 d4 d5 d6 d7 d8 d9 d10 d11", await NoticeAsync(running));
    }

    [Fact]
    public async Task A_long_list_waits_for_the_wire_and_what_changes_meanwhile_comes_behind_it()
    {
        for (var n = 1; n <= 1_000; n++) _registry.Add($"d{n}");
        var running = await Open(window: 4 * 1024);
        await SendAsync(running, "sub_device_sync_request", "{}");
        var heard = new List<string> { await NoticeAsync(running) };
        Assert.True(_registry.PagesRead < 10, "it reads on although nobody takes it");

        _registry.Add("late");
        _registry.Delete("d1");
        running.Stage.Tell(new ToConnection.SubDevicesChanged(_registry.Version), CreateTestProbe().Ref);
        while (heard[^1] != "delete 1002: d1") heard.Add(await NoticeAsync(running));
        var added = heard.Where(h => h.StartsWith("add")).SelectMany(h => h[(h.IndexOf(':') + 2)..].Split(' '));
        Assert.Equal([.. Enumerable.Range(1, 1_000).Select(n => $"d{n}"), "late"], added);
    }

    [Fact]
    public async Task What_an_application_adds_or_deletes_is_told_once_and_who_told_us_is_answered()
    {
        var running = await Open();
        var asker = CreateTestProbe();
        _registry.Add("plug");
        running.Stage.Tell(new ToConnection.SubDevicesChanged(1), asker.Ref);
        Assert.IsType<OutboxReply.Done>(await asker.ExpectMsgAsync<OutboxReply>());
        Assert.Equal("add 1: plug", await NoticeAsync(running));

        running.Stage.Tell(new ToConnection.SubDevicesChanged(1), asker.Ref); // repeated
        _registry.Add("bulb");
        _registry.Delete("plug");
        running.Stage.Tell(new ToConnection.SubDevicesChanged(3), asker.Ref); // the one for 2 was lost
        Assert.Equal("add 2: bulb", await NoticeAsync(running));
        Assert.Equal("delete 3: plug", await NoticeAsync(running));
    }

    [Fact]
    public async Task Who_told_us_is_answered_when_the_gateway_knows()
    {
        var running = await Open();
        var asker = CreateTestProbe();
        _registry.Add("plug");
        _registry.HoldsChanges = new TaskCompletionSource();
        running.Stage.Tell(new ToConnection.SubDevicesChanged(1), asker.Ref);
        await asker.ExpectNoMsgAsync(TimeSpan.FromMilliseconds(200));

        _registry.HoldsChanges.SetResult();
        Assert.IsType<OutboxReply.Done>(await asker.ExpectMsgAsync<OutboxReply>());
        Assert.Equal("add 1: plug", await NoticeAsync(running));
    }

    [Theory]
    [InlineData("e-1", "e-1")]
    [InlineData("", null)]
    public async Task Each_request_is_answered_under_its_event_id_with_what_was_done_and_what_was_not(
        string eventId, string? expected)
    {
        var running = await Open();
        await SendAsync(
            running,
            "add_sub_device_request",
            """{"devices":[{"node_id":"plug","product_id":"p"},{"node_id":"bad","product_id":"p"},7]}""",
            eventId);
        var added = await AnswerAsync(running, "add_sub_device_response", expected);
        Assert.Equal(
            "plug",
            Assert.Single(added.GetProperty("successful_devices").EnumerateArray())
                .GetProperty("device_id").GetString());
        Assert.Equal(
            ["bad p E", "  E"],
            added.GetProperty("failed_devices").EnumerateArray().Select(
                f => $"{f.GetProperty("node_id")} {f.GetProperty("product_id")} {f.GetProperty("error_code")}"));

        await SendAsync(
            running,
            "sub_device_update_status",
            """{"device_statuses":[{"device_id":"plug","status":"ONLINE"},{"device_id":"bad","status":"ONLINE"}]}""",
            eventId);
        var updated = await AnswerAsync(running, "sub_device_update_status_response", expected);
        Assert.Equal(
            """{"device_id":"plug","status":"ONLINE"}""",
            Assert.Single(updated.GetProperty("successful_devices").EnumerateArray()).GetRawText());
        Assert.Equal(
            "bad",
            Assert.Single(updated.GetProperty("failed_devices").EnumerateArray()).GetProperty("device_id").GetString());
        Assert.Equal((running.Connect.ConnectionId, "plug", "ONLINE"), Assert.Single(_registry.Reported));

        await SendAsync(running, "delete_sub_device_request", """{"devices":["plug","bad"]}""", eventId);
        var deleted = await AnswerAsync(running, "delete_sub_device_response", expected);
        Assert.Equal("plug", Assert.Single(deleted.GetProperty("successful_devices").EnumerateArray()).GetString());
        Assert.Equal(
            "bad",
            Assert.Single(deleted.GetProperty("failed_devices").EnumerateArray()).GetProperty("device_id").GetString());
    }

    [Fact]
    public async Task More_than_may_be_in_one_request_is_refused_and_the_rest_is_done()
    {
        var running = await Open();
        var devices = string.Join(
            ',', Enumerable.Range(1, 52).Select(n => $$"""{"node_id":"d{{n}}","product_id":"p"}"""));
        await SendAsync(running, "add_sub_device_request", $$"""{"devices":[{{devices}}]}""", "e");
        var added = await AnswerAsync(running, "add_sub_device_response", "e");
        Assert.Equal(
            (50, 2),
            (
                added.GetProperty("successful_devices").GetArrayLength(),
                added.GetProperty("failed_devices").GetArrayLength()));
        Assert.Equal("devices 50", added.GetProperty("failed_devices")[0].GetProperty("error_msg").GetString());
    }

    [Fact]
    public async Task While_the_database_is_away_a_request_is_answered_as_failed_and_a_list_comes_later()
    {
        _registry.Add("plug");
        _registry.Fails = true;
        var running = await Open(options: Options with
        {
            AttachRetryMax = TimeSpan.FromMilliseconds(20),
            AttachRetryMin = TimeSpan.FromMilliseconds(20),
        });
        await SendAsync(running, "delete_sub_device_request", """{"devices":["plug"]}""", "e");
        var failed = (await AnswerAsync(running, "delete_sub_device_response", "e")).GetProperty("failed_devices")[0];
        Assert.Equal("Unavailable", failed.GetProperty("error_code").GetString());

        await SendAsync(running, "sub_device_sync_request", "{}");
        await _registry.Failed.Task.WaitAsync(TimeSpan.FromSeconds(10));
        _registry.Fails = false;
        Assert.Equal("add 1: plug", await NoticeAsync(running));
    }

    [Fact]
    public async Task Who_asks_more_than_is_answered_is_told_so_and_the_connection_stays()
    {
        var running = await Open();
        _registry.Holds = new TaskCompletionSource();
        for (var n = 0; n <= GatewayDialogue.WaitingMax + 1; n++)
        {
            await SendAsync(running, "delete_sub_device_request", """{"devices":["nobody"]}""", $"e{n}");
        }

        var refused = await AnswerAsync(running, "delete_sub_device_response", $"e{GatewayDialogue.WaitingMax + 1}");
        Assert.Equal("TooMuchAtOnce", refused.GetProperty("failed_devices")[0].GetProperty("error_code").GetString());
        _registry.Holds.SetResult();
        for (var n = 0; n <= GatewayDialogue.WaitingMax; n++)
        {
            await AnswerAsync(running, "delete_sub_device_response", $"e{n}");
        }

        Assert.False(running.Ended.IsCompleted);
    }

    private static Task SendAsync(Running running, string type, string paras, string eventId = "") =>
        running.Client.SendAsync(new MqttPublishPacket
        {
            Topic = $"$oc/devices/{Given.DeviceId}/sys/events/up",
            PayloadSegment = Encoding.UTF8.GetBytes(
                $$"""{"services":[{"service_id":"$sub_device_manager","event_type":"{{type}}","event_id":"{{eventId}}","paras":{{paras}}}]}"""),
        });

    private static async Task<JsonElement> ServiceAsync(Running running)
    {
        var publish = await running.Client.ReceiveAsync<MqttPublishPacket>();
        Assert.Equal(EventsDown, publish.Topic);
        var root = JsonDocument.Parse(Encoding.UTF8.GetString(publish.Payload)).RootElement;
        Assert.Equal(Given.DeviceId.Value, root.GetProperty("object_device_id").GetString());
        var service = Assert.Single(root.GetProperty("services").EnumerateArray());
        Assert.Equal("$sub_device_manager", service.GetProperty("service_id").GetString());
        return service;
    }

    private static async Task<string> NoticeAsync(Running running)
    {
        var service = await ServiceAsync(running);
        Assert.False(service.TryGetProperty("event_id", out _));
        var paras = service.GetProperty("paras");

        // Before the devices: the C SDK takes the first one it finds.
        Assert.StartsWith("{\"version\":", paras.GetRawText());
        var devices = paras.GetProperty("devices").EnumerateArray().Select(d => d.GetProperty("device_id").GetString());
        var type = service.GetProperty("event_type").GetString()!;
        return $"{type.Replace("_sub_device_notify", "")} {paras.GetProperty("version")}: {string.Join(' ', devices)}";
    }

    private static async Task<JsonElement> AnswerAsync(Running running, string type, string? eventId)
    {
        var service = await ServiceAsync(running);
        Assert.Equal(type, service.GetProperty("event_type").GetString());
        var given = service.GetProperty("event_id").GetString();
        if (eventId is null) Assert.True(Guid.TryParse(given, out _));
        else Assert.Equal(eventId, given);
        return service.GetProperty("paras");
    }

    // What the registry does, in memory.
    private sealed class Registry : IGatewayRequests
    {
        private readonly Lock _gate = new();
        private readonly Dictionary<string, SubDeviceChanged> _list = [];
        private int _pagesRead;

        public long Version { get; private set; }

        public int PagesRead => Volatile.Read(ref _pagesRead);

        public volatile bool Fails;

        public TaskCompletionSource Failed { get; } = new();

        public TaskCompletionSource? Holds { get; set; }

        public TaskCompletionSource? HoldsChanges { get; set; }

        public ConcurrentQueue<(Guid Connection, string Device, string Status)> Reported { get; } = [];

        public void Add(string id) =>
            Note(id, new SubDeviceInfo("hub", id, id, "p", null, new string('x', 200), "INACTIVE"));

        public void Delete(string id) => Note(id, null);

        public SubDeviceError TooMuchAtOnce { get; } = new("TooMuchAtOnce", "");

        public SubDeviceError Unavailable { get; } = new("Unavailable", "");

        public SubDeviceError TooMany(string member, int max) => new("TooMany", $"{member} {max}");

        public Task<(long Version, long DeletionsBehind)> BeginAsync(
            DeviceId gateway, long version, CancellationToken cancel) =>
            Task.FromResult((version, version == 0 ? Version : 0));

        public async Task<IReadOnlyList<SubDeviceChanged>> ChangesAsync(
            DeviceId gateway, long version, long deletionsBehind, int limit, CancellationToken cancel)
        {
            if (Fails)
            {
                Failed.TrySetResult();
                throw new TimeoutException("away");
            }

            if (HoldsChanges is { } holds) await holds.Task;
            Interlocked.Increment(ref _pagesRead);
            lock (_gate)
            {
                var changes = _list.Values
                    .Where(c => c.Version > version && (c.Info is not null || c.Version > deletionsBehind))
                    .OrderBy(c => c.Version);
                return [.. changes.Take(limit)];
            }
        }

        public Task<(SubDeviceInfo? Added, SubDeviceError? Error)> AddAsync(
            DeviceId gateway, JsonElement device, CancellationToken cancel)
        {
            var id = device.ValueKind == JsonValueKind.Object ? device.GetProperty("node_id").GetString()! : "bad";
            (SubDeviceInfo?, SubDeviceError?) done = id == "bad"
                ? (null, new SubDeviceError("E", "bad"))
                : (new SubDeviceInfo("hub", id, id, "p", null, null, "INACTIVE"), null);
            return Task.FromResult(done);
        }

        public async Task<SubDeviceError?> DeleteAsync(DeviceId gateway, string deviceId, CancellationToken cancel)
        {
            if (Fails) throw new TimeoutException("away");
            if (Holds is { } holds) await holds.Task;
            return deviceId == "plug" ? null : new SubDeviceError("E", "bad");
        }

        public Task<SubDeviceError?> ReportAsync(
            DeviceId gateway, Guid connectionId, SubDeviceStatus status, CancellationToken cancel)
        {
            if (status.DeviceId != "plug") return Task.FromResult<SubDeviceError?>(new SubDeviceError("E", "bad"));
            Reported.Enqueue((connectionId, status.DeviceId, status.Status));
            return Task.FromResult<SubDeviceError?>(null);
        }

        private void Note(string id, SubDeviceInfo? info)
        {
            lock (_gate) _list[id] = new SubDeviceChanged(++Version, id, id, "hub", info);
        }
    }
}
