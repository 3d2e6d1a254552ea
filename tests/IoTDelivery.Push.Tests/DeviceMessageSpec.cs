using System.IO.Compression;
using System.Text;
using System.Text.Json;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Push.Tests;

public sealed class DeviceMessageSpec
{
    private static readonly string Up = $"$oc/devices/{Given.Lamp}/sys/messages/up";

    private static readonly string NoGzip =
        $$"""
        "error_info":{"error_code":"{{ErrorInfo.NoGzip.Code}}","error_msg":"{{ErrorInfo.NoGzip.Text}}"}
        """;

    [Theory]
    [InlineData("{\"object_device_id\":\"\\ud800\",\"content\":\"hello\"}")]
    [InlineData("{\"object_device_id\":\"\\udc00x\"}")]
    [InlineData("{\"object_device_id\":5}")]
    [InlineData("{\"object_device_id\":null}")]
    [InlineData("{\"object_device_id\":\"\"}")]
    [InlineData("{\"\\ud800\":1,\"object_device_id\":\"a/b\"}")]
    public void An_object_device_id_that_is_no_valid_text_is_just_not_one(string payload)
    {
        var topic = new UplinkTopic(UplinkTopic.MessagesUp(Given.Lamp), null, IsMessagesUp: true);
        var message = new DeviceMessage(Given.Lamp, 1, topic, System.Text.Encoding.UTF8.GetBytes(payload), Given.Noon);
        Assert.Null(message.ObjectDeviceId);
        foreach (var shape in Enum.GetValues<PushShape>()) Assert.NotEmpty(message.Write(Given.Lamp, Given.Header, shape));
    }

    [Theory]
    [InlineData(PushShape.Flat, "flat-message-json.json")]
    [InlineData(PushShape.HeaderBody, "header-body-message-json.json")]
    [InlineData(PushShape.Both, "both-message-json.json")]
    public void A_JSON_object_is_content_as_it_is_and_text_in_the_flat_shape(PushShape shape, string file) =>
        IsGolden(file, Write(Up + "?request_id=device-1", " {\"temperature\": 21.5, \"room\":\"Küche\"}\n"u8, shape));

    [Theory]
    [InlineData(PushShape.Flat, "flat-message-text.json")]
    [InlineData(PushShape.HeaderBody, "header-body-message-text.json")]
    [InlineData(PushShape.Both, "both-message-text.json")]
    public void Text_is_a_string(PushShape shape, string file) => IsGolden(file, Write($"$oc/devices/{Given.Lamp}/user/alarm", "too \"warm\""u8, shape));

    [Theory]
    [InlineData(PushShape.Flat, "flat-message-binary.json")]
    [InlineData(PushShape.HeaderBody, "header-body-message-binary.json")]
    [InlineData(PushShape.Both, "both-message-binary.json")]
    public void Bytes_that_are_no_text_are_Base64(PushShape shape, string file) => IsGolden(file, Write("lamps/hall", [0xFF, 0x00, 0x7B], shape));

    [Theory]
    [InlineData("21.5")]
    [InlineData("\"on\"")]
    [InlineData("{\"open\":")]
    [InlineData("{} {}")]
    [InlineData("")]
    public void What_is_no_JSON_object_or_array_is_text(string payload) => Assert.Contains(
        $"\"content\":{System.Text.Json.JsonSerializer.Serialize(payload, new System.Text.Json.JsonSerializerOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping })}}}",
        Encoding.UTF8.GetString(Write(Up, Encoding.UTF8.GetBytes(payload), PushShape.HeaderBody)));

    [Theory]
    [InlineData("$oc/devices/lamp/sys/messages/up", "$oc/devices/lamp/sys/messages/up", null)]
    [InlineData("$oc/devices/lamp/sys/messages/up?request_id=a_1-2", "$oc/devices/lamp/sys/messages/up", "a_1-2")]
    [InlineData(
        "$oc/devices/lamp/sys/messages/up?encoding=gzip&request_id=a",
        "$oc/devices/lamp/sys/messages/up?encoding=gzip",
        "a")]
    [InlineData(
        "$oc/devices/lamp/sys/messages/up?request_id=a&encoding=br&b",
        "$oc/devices/lamp/sys/messages/up?encoding=br&b",
        "a")]
    [InlineData(
        "$oc/devices/lamp/sys/messages/up?request_id=a b",
        "$oc/devices/lamp/sys/messages/up?request_id=a b",
        null)]
    [InlineData(
        "$oc/devices/lamp/sys/messages/up?request_id=1&request_id=2",
        "$oc/devices/lamp/sys/messages/up?request_id=2",
        "1")]
    [InlineData("$oc/devices/lamp/sys/messages/up?", "$oc/devices/lamp/sys/messages/up", null)]
    [InlineData("$oc/devices/lamp/user/a/b?request_id=1", "$oc/devices/lamp/user/a/b", "1")]
    [InlineData("$oc/devices/lamp/user/a/b?color=red", "$oc/devices/lamp/user/a/b?color=red", null)]
    [InlineData("lamps/hall?request_id=1", "lamps/hall?request_id=1", null)]
    public void Messages_user_topics_and_topics_of_nobody_are_for_applications(
        string topic, string name, string? requestId)
    {
        var uplink = UplinkTopic.Of(Given.Lamp, topic)!.Value;
        Assert.Equal((name, requestId), (uplink.Name, uplink.RequestId));
        Assert.Equal(topic.Contains("messages/up"), uplink.IsMessagesUp);
    }

    public static TheoryData<string, byte[], string> Compressed => new()
    {
        { "up?encoding=gzip", Gzip("""{"a":1}"""), """{"topic":"up","content":{"a":1}}""" },
        { "up?encoding=gzip", Gzip("Grüße"), """{"topic":"up","content":"Grüße"}""" },
        {
            "up?encoding=gzip",
            Convert.FromHexString("1f8b080000000000000303000000000000000000"),
            """{"topic":"up","content":""}"""
        },
        { "up?a=b&encoding=gzip", Gzip("x"), """{"topic":"up?a=b","content":"x"}""" },
        { "up?encoding=gzip", "x"u8.ToArray(), $$"""{"topic":"up?encoding=gzip","content":"x",{{NoGzip}}}""" },
        { "up?encoding=gzip", [], $$"""{"topic":"up?encoding=gzip","content":"",{{NoGzip}}}""" },
        { "up?encoding=gzip", Gzip("a text that is cut off")[..^9], "NoGzip" },
        { "up?encoding=gzip", Gzip("a text that is cut off")[..^1], "NoGzip" },
        { "up?encoding=gzip", Gzip("a text with another checksum", spoiled: true), "NoGzip" },
        { "up?encoding=gzip", Gzip(new string('x', GzipPayload.InflatedMax + 1)), "DELIVERY.000006" },
        { "up?encoding=deflate", "x"u8.ToArray(), """{"topic":"up?encoding=deflate","content":"x"}""" },
    };

    [Theory]
    [MemberData(nameof(Compressed))]
    public void What_was_compressed_is_told_as_it_was_before_and_what_is_no_gzip_as_it_came(
        string topic, byte[] payload, string expected)
    {
        var body = JsonDocument.Parse(Write($"$oc/devices/{Given.Lamp}/sys/messages/{topic}", payload, PushShape.Both))
            .RootElement.GetProperty("notify_data").GetProperty("body");
        if (expected.StartsWith('{'))
        {
            Assert.Equal(expected.Replace("\"up", $"\"$oc/devices/{Given.Lamp}/sys/messages/up"), body.GetRawText());
            return;
        }

        Assert.Equal(Convert.ToBase64String(payload), body.GetProperty("content").GetString());
        var code = body.GetProperty("error_info").GetProperty("error_code").GetString();
        Assert.Equal(expected == "NoGzip" ? ErrorInfo.NoGzip.Code : expected, code);
    }

    [Fact]
    public void As_much_as_a_device_may_publish_at_once_is_decompressed() => Assert.Equal(
        GzipPayload.InflatedMax,
        GzipPayload.Inflate(Gzip(new string('x', GzipPayload.InflatedMax))).Inflated!.Length);

    [Fact]
    public void A_gateway_may_compress_what_it_says_for_a_child() => Assert.Equal(
        "child",
        Message(Up + "?encoding=gzip", Gzip("""{"object_device_id":"child","content":"x"}"""))
            .ObjectDeviceId?.Value);

    [Theory]
    [InlineData("$oc/devices/lamp/sys/events/up")]
    [InlineData("$oc/devices/lamp/sys/properties/report")]
    [InlineData("$oc/devices/lamp/sys/messages/up/more")]
    [InlineData("$oc/devices/lamp/user/")]
    [InlineData("$oc/devices/other/sys/messages/up")]
    public void All_else_is_the_platforms(string topic) => Assert.Null(UplinkTopic.Of(Given.Lamp, topic));

    [Theory]
    [InlineData("""{"object_device_id":"child","content":"x"}""", "child")]
    [InlineData("""{"content":{"object_device_id":"inner"},"object_device_id":"child"}""", "child")]
    [InlineData("""{"content":{"object_device_id":"inner"}}""", null)]
    [InlineData("""{"object_device_id":"lamp"}""", null)]
    [InlineData("""{"object_device_id":"not valid"}""", null)]
    [InlineData("""{"object_device_id":null}""", null)]
    [InlineData("""[{"object_device_id":"child"}]""", null)]
    public void A_gateway_says_whom_it_speaks_for(string payload, string? objectDeviceId) =>
        Assert.Equal(objectDeviceId, Message(Up, Encoding.UTF8.GetBytes(payload)).ObjectDeviceId?.Value);

    private static DeviceMessage Message(string topic, byte[] payload) => new(Given.Lamp, 7, UplinkTopic.Of(Given.Lamp, topic)!.Value, payload, Given.Noon);

    private static byte[] Gzip(string text, bool spoiled = false)
    {
        using var compressed = new MemoryStream();
        using (var gzip = new GZipStream(compressed, CompressionLevel.Optimal))
        {
            gzip.Write(Encoding.UTF8.GetBytes(text));
        }

        var bytes = compressed.ToArray();
        if (spoiled) bytes[^5] ^= 1; // of the checksum
        return bytes;
    }

    private static byte[] Write(string topic, ReadOnlySpan<byte> payload, PushShape shape) => Message(topic, payload.ToArray()).Write(Given.Lamp, Given.Header, shape);

    private static void IsGolden(string file, byte[] written) =>
        Assert.Equal(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "golden", file)).TrimEnd(), Encoding.UTF8.GetString(written));
}
