using System.Buffers;
using System.Text;
using IoTDelivery.Registry;

namespace IoTDelivery.Mqtt.Tests;

/// <summary>Manual, "Platform events": what a device may say on sys/events/up.</summary>
public sealed class EventsUpSpec
{
    private static readonly string Topic = $"$oc/devices/{Given.DeviceId}/sys/events/up";

    [Theory]
    [InlineData("")]
    [InlineData("?request_id=1")]
    public void A_request_for_the_time_is_understood(string suffix) => Assert.Equal(
        new EventsUp(new TimeSyncRequest("product_node-1", 1582685678789), null),
        Read(
            """{"object_device_id":"product_node-1","services":[{"service_id":"$time_sync","event_type":"time_sync_request","event_time":"20151212T121212Z","paras":{"device_send_time":1582685678789}}]}""",
            Topic + suffix));

    [Fact]
    public void A_report_of_the_software_is_understood() => Assert.Equal(
        new EventsUp(null, new SdkInfo("C_v1.2.0", "v1.0", null)),
        Read("""{"services":[{"service_id":"$sdk_info","event_type":"sdk_info_report","paras":{"device_sdk_version":"C_v1.2.0","sw_version":"v1.0","fw_version":null}}]}"""));

    [Fact]
    public void Both_may_come_together_with_others_between_them() => Assert.Equal(
        new EventsUp(new TimeSyncRequest(null, 5), new SdkInfo(null, null, "f")),
        Read("""{"services":[{"service_id":"$log"},7,{"service_id":"$sdk_info","event_type":"sdk_info_report","paras":{"fw_version":"f"}},{"service_id":"$time_sync","event_type":"time_sync_request","paras":{"device_send_time":5}}]}"""));

    [Theory]
    [InlineData("$sub_device_manager", """{"version":7}""", 7)]
    [InlineData("sub_device_manager", """{"version":7}""", 7)] // as the Java SDK says it
    [InlineData("$sub_device_manager", """{}""", 0)]
    [InlineData("$sub_device_manager", """{"version":null}""", 0)]
    [InlineData("$sub_device_manager", """{"version":"7"}""", 0)]
    [InlineData("$sub_device_manager", "null", 0)]
    public void A_gateway_asks_for_its_list(string service, string paras, long version) =>
        Assert.Equal([new GatewayRequest.Sync(null, version)], Asked("sub_device_sync_request", paras, service));

    [Theory]
    [InlineData("\"e-1\"", "e-1")]
    [InlineData("\"\"", null)] // as the Python SDK says that it has none
    [InlineData("null", null)]
    [InlineData("5", null)]
    public void A_gateway_asks_to_add_and_delete_and_says_who_is_there(string given, string? eventId)
    {
        var add = Assert.IsType<GatewayRequest.Add>(Assert.Single(
            Asked("add_sub_device_request", """{"devices":[{"node_id":"n"},5]}""", eventId: given)));
        Assert.Equal(
            (eventId, 2, "n"),
            (add.EventId, add.Devices.Length, add.Devices[0].GetProperty("node_id").GetString()));

        var delete = Assert.IsType<GatewayRequest.Delete>(Assert.Single(
            Asked("delete_sub_device_request", """{"devices":["a",null,{},"\ud800"]}""", eventId: given)));
        Assert.Equal(eventId, delete.EventId);
        Assert.Equal((string[])["a", "", "", ""], delete.DeviceIds);

        var update = Assert.IsType<GatewayRequest.UpdateStatus>(Assert.Single(
            Asked(
                "sub_device_update_status",
                """{"device_statuses":[{"device_id":"a","status":"ONLINE"},{"status":"OFF"},7]}""",
                eventId: given)));
        Assert.Equal(eventId, update.EventId);
        Assert.Equal((SubDeviceStatus[])[new("a", "ONLINE"), new("", "OFF"), new("", "")], update.Statuses);
    }

    [Theory]
    [InlineData("add_sub_device_request")]
    [InlineData("delete_sub_device_request")]
    [InlineData("sub_device_update_status")]
    public void A_request_without_its_list_is_one_about_nobody(string type)
    {
        foreach (var paras in (string[])["null", "{}", "5", """{"devices":5,"device_statuses":{}}"""])
        {
            Assert.Single(Asked(type, paras));
        }
    }

    private static IReadOnlyList<GatewayRequest> Asked(
        string type, string paras, string service = "$sub_device_manager", string eventId = "null") =>
        Read($$"""{"services":[{"service_id":"{{service}}","event_type":"{{type}}","event_id":{{eventId}},"paras":{{paras}}}]}""").Gateway!;

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("not JSON")]
    [InlineData("[]")]
    [InlineData("null")]
    [InlineData("""{"services":5}""")]
    [InlineData("""{"services":[5,null,"x",[]]}""")]
    [InlineData("""{"services":[{"service_id":5,"event_type":{}}]}""")]
    [InlineData("""{"services":[{"service_id":"$log","event_type":"log_report","paras":{"type":"DEVICE_STATUS"}}]}""")]
    [InlineData("""{"services":[{"service_id":"$ota","event_type":"version_report"}]}""")]
    [InlineData("""{"services":[{"service_id":"$time_sync","event_type":"time_sync_request","paras":{"device_send_time":"now"}}]}""")]
    [InlineData("""{"services":[{"service_id":"$time_sync","event_type":"time_sync_request","paras":{"device_send_time":1e400}}]}""")]
    [InlineData("""{"services":[{"service_id":"$time_sync","event_type":"time_sync_request"}]}""")]
    [InlineData("""{"object_device_id":"a-sub-device","services":[{"service_id":"$sdk_info","event_type":"sdk_info_report","paras":{"sw_version":"1"}}]}""")]
    public void Everything_else_is_passed_over(string payload) => Assert.Equal(default, Read(payload));

    [Fact]
    public void What_is_deeper_or_longer_than_an_event_is_not_parsed()
    {
        const string request = """{"service_id":"$time_sync","event_type":"time_sync_request","paras":{"device_send_time":5}}""";

        Assert.Equal(default, Read($$"""{"deep":{{new string('[', 20)}}{{new string(']', 20)}},"services":[{{request}}]}"""));
        Assert.Equal(default, Read($$"""{"long":"{{new string('x', 256 * 1024)}}","services":[{{request}}]}"""));
        Assert.Equal(default, Read($$"""{"services":[{{string.Join(',', Enumerable.Repeat("{}", 32))}},{{request}}]}"""));
        Assert.Null(Read($$$"""{"services":[{"service_id":"$sdk_info","event_type":"sdk_info_report","paras":{"sw_version":"{{{new string('v', 257)}}}"}}]}""").SdkInfo!.SwVersion);
    }

    [Fact]
    public void Text_that_is_no_UTF_8_is_passed_over()
    {
        byte[] payload = [.. "{\"services\":[{\"service_id\":\""u8, 0xFF, 0xFE, .. "\"}]}"u8];

        Assert.Equal(default, EventsUp.Read(Given.DeviceId, Topic, new ReadOnlySequence<byte>(payload)));
    }

    // Half a surrogate pair, a byte that is no UTF-8 (0xFF stands for 'ÿ' here), U+0000.
    [Theory]
    [InlineData("\\ud83d")]
    [InlineData("\\udc00\\ud800")]
    [InlineData("ÿ")]
    [InlineData("a\\u0000b")]
    public void Text_that_is_none_counts_as_not_said_and_the_rest_of_the_event_stands(string text)
    {
        var payload = $$$"""
            {"object_device_id":"{{{text}}}","services":[
              {"service_id":"$sdk_info","event_type":"sdk_info_report","paras":{"device_sdk_version":"{{{text}}}","sw_version":"v1"}},
              {"service_id":"{{{text}}}","event_type":"time_sync_request"},
              {"service_id":"$time_sync","event_type":"time_sync_request","paras":{"device_send_time":5}}]}
            """;

        var events = EventsUp.Read(Given.DeviceId, Topic, new ReadOnlySequence<byte>(Encoding.Latin1.GetBytes(payload)));

        Assert.Equal(new EventsUp(new TimeSyncRequest(null, 5), new SdkInfo(null, "v1", null)), events);
    }

    [Theory]
    [InlineData("""{"\ud800":1,"services":[]}""")]
    [InlineData("""{"services":[{"\udfff":1,"service_id":"$time_sync"}]}""")]
    public void Names_that_are_no_text_are_passed_over(string payload) => Assert.Equal(default, Read(payload));

    [Theory]
    [InlineData("sys/messages/up")]
    [InlineData("sys/events/upper")]
    [InlineData("sys/events/down")]
    public void Other_topics_are_not_looked_into(string topic) => Assert.Equal(
        default,
        Read("""{"services":[{"service_id":"$time_sync","event_type":"time_sync_request","paras":{"device_send_time":5}}]}""", $"$oc/devices/{Given.DeviceId}/{topic}"));

    private static EventsUp Read(string payload, string? topic = null) => EventsUp.Read(Given.DeviceId, topic ?? Topic, new ReadOnlySequence<byte>(Encoding.UTF8.GetBytes(payload)));
}
