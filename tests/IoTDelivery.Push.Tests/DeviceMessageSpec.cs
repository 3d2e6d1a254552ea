using System.Text;
using IoTDelivery.Domain;

namespace IoTDelivery.Push.Tests;

public sealed class DeviceMessageSpec
{
    private static readonly string Up = $"$oc/devices/{Given.Lamp}/sys/messages/up";

    [Theory]
    [InlineData("{\"object_device_id\":\"\\ud800\",\"content\":\"hello\"}")]
    [InlineData("{\"object_device_id\":\"\\udc00x\"}")]
    [InlineData("{\"object_device_id\":5}")]
    [InlineData("{\"object_device_id\":null}")]
    [InlineData("{\"object_device_id\":\"\"}")]
    [InlineData("{\"\\ud800\":1,\"object_device_id\":\"a/b\"}")]
    public void An_object_device_id_that_is_no_valid_text_is_just_not_one(string payload)
    {
        var topic = new UplinkTopic(UplinkTopic.MessagesUp(Given.Lamp), null);
        var message = new DeviceMessage(Given.Lamp, 1, topic, System.Text.Encoding.UTF8.GetBytes(payload), Given.Noon);
        Assert.Null(message.ObjectDeviceId);
        foreach (var shape in Enum.GetValues<PushShape>()) Assert.NotEmpty(message.Write(Given.Lamp, Given.Header, shape));
    }

    [Theory]
    [InlineData(PushShape.Flat, "flat-message-json.json")]
    [InlineData(PushShape.HeaderBody, "header-body-message-json.json")]
    public void A_JSON_object_is_content_as_it_is_and_text_in_the_flat_shape(PushShape shape, string file) =>
        IsGolden(file, Write(Up + "?request_id=device-1", " {\"temperature\": 21.5, \"room\":\"Küche\"}\n"u8, shape));

    [Theory]
    [InlineData(PushShape.Flat, "flat-message-text.json")]
    [InlineData(PushShape.HeaderBody, "header-body-message-text.json")]
    public void Text_is_a_string(PushShape shape, string file) => IsGolden(file, Write($"$oc/devices/{Given.Lamp}/user/alarm", "too \"warm\""u8, shape));

    [Theory]
    [InlineData(PushShape.Flat, "flat-message-binary.json")]
    [InlineData(PushShape.HeaderBody, "header-body-message-binary.json")]
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
    [InlineData("$oc/devices/lamp/sys/messages/up?encoding=gzip&request_id=a", "$oc/devices/lamp/sys/messages/up", "a")]
    [InlineData("$oc/devices/lamp/sys/messages/up?request_id=a b", "$oc/devices/lamp/sys/messages/up", null)]
    [InlineData("$oc/devices/lamp/user/a/b?request_id=1", "$oc/devices/lamp/user/a/b", "1")]
    [InlineData("lamps/hall?request_id=1", "lamps/hall?request_id=1", null)]
    public void Messages_user_topics_and_topics_of_nobody_are_for_applications(string topic, string name, string? requestId) =>
        Assert.Equal(new UplinkTopic(name, requestId), UplinkTopic.Of(Given.Lamp, topic));

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

    private static byte[] Write(string topic, ReadOnlySpan<byte> payload, PushShape shape) => Message(topic, payload.ToArray()).Write(Given.Lamp, Given.Header, shape);

    private static void IsGolden(string file, byte[] written) =>
        Assert.Equal(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "golden", file)).TrimEnd(), Encoding.UTF8.GetString(written));
}
