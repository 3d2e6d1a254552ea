using System.Net;
using System.Text;
using System.Text.Json;

namespace IoTDelivery.Host.Tests;

/// <summary>Whatever an application gets wrong, the answer is JSON, names the field and the limit, and nothing is stored.</summary>
public sealed class BadInputSpec(RunningPlatform platform) : IClassFixture<RunningPlatform>
{
    private const string Messages = "p1/devices/lamp_1/messages";

    [Theory]
    [InlineData("""{"message":""", "IOTDA.000008", "malformed")]
    [InlineData("""[]""", "IOTDA.000006", "JSON object")]
    [InlineData("""{}""", "IOTDA.000006", "message is missing")]
    [InlineData("""{"message":null}""", "IOTDA.000006", "message is missing")]
    [InlineData("""{"message":5}""", "IOTDA.000006", "message must be a string or a JSON object")]
    [InlineData("""{"message":["a"]}""", "IOTDA.000006", "message must be a string or a JSON object")]
    [InlineData("""{"message":"x","message_id":"with space"}""", "IOTDA.000006", "message_id may only contain")]
    [InlineData("""{"message":"x","message_id":5}""", "IOTDA.000006", "message_id must be a string")]
    [InlineData("""{"message":"x","message_id":""}""", "IOTDA.000006", "message_id must have 1 to 128 characters")]
    [InlineData("""{"message":"x","name":"bad\u0001name"}""", "IOTDA.000006", "name may only contain")]
    [InlineData("""{"message":"x","ttl":1445}""", "IOTDA.000006", "ttl must be a whole number from 0 to 1440")]
    [InlineData("""{"message":"x","ttl":7}""", "IOTDA.000006", "a multiple of 5")]
    [InlineData("""{"message":"x","ttl":-5}""", "IOTDA.000006", "ttl must be")]
    [InlineData("""{"message":"x","ttl":"5"}""", "IOTDA.000006", "ttl must be")]
    [InlineData("""{"message":"x","ttl":5.5}""", "IOTDA.000006", "ttl must be")]
    [InlineData("""{"message":"x","topic":"a","topic_full_name":"b"}""", "IOTDA.000006", "topic and topic_full_name exclude each other")]
    [InlineData("""{"message":"x","topic":"a/#"}""", "IOTDA.000006", "topic must be a topic name")]
    [InlineData("""{"message":"x","topic_full_name":"+/a"}""", "IOTDA.000006", "topic_full_name must be a topic name")]
    [InlineData("""{"message":"x","encoding":"gzip"}""", "IOTDA.000006", "encoding must be one of none, base64")]
    [InlineData("""{"message":"%%%","encoding":"base64"}""", "IOTDA.000006", "message must be a Base64 string")]
    [InlineData("""{"message":"x","payload_format":"xml"}""", "IOTDA.000006", "payload_format must be one of standard, raw")]
    [InlineData("""{"message":"x","properties":[]}""", "IOTDA.000006", "properties must be a JSON object")]
    [InlineData("""{"message":"x","properties":{"correlation_data":"a b"}}""", "IOTDA.000006", "properties.correlation_data may only contain")]
    [InlineData("""{"message":"x","properties":{"user_properties":[{"prop_key":"k"}]}}""", "IOTDA.000006", "properties.user_properties[0].prop_value is missing")]
    public async Task A_message_that_is_wrong_is_refused_and_the_answer_names_the_field(string body, string code, string says)
    {
        var (status, answer, response) = await platform.SendAsync(HttpMethod.Post, Messages, body);

        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Equal(code, answer.GetProperty("error_code").GetString());
        Assert.Contains(says, answer.GetProperty("error_msg").GetString());
        Assert.Equal("application/json", response.Content.Headers.ContentType!.MediaType);
        Assert.True(response.Headers.Contains("X-Request-Id"));
        var list = (await platform.SendAsync(HttpMethod.Get, Messages)).Body;
        Assert.DoesNotContain(list.GetProperty("messages").EnumerateArray(), m => m.GetProperty("message").ToString() == "%%%");
    }

    [Fact]
    public async Task The_256_KB_limit_is_on_the_bytes_of_the_message_and_not_on_its_characters()
    {
        var atLimit = new string('ü', 128 * 1024);

        var fits = await platform.SendAsync(HttpMethod.Post, Messages, JsonSerializer.Serialize(new { message = atLimit, ttl = 0 }));
        var over = await platform.SendAsync(HttpMethod.Post, Messages, JsonSerializer.Serialize(new { message = atLimit + "a", ttl = 0 }));

        Assert.Equal(HttpStatusCode.Created, fits.Status);
        Assert.Equal(HttpStatusCode.BadRequest, over.Status);
        Assert.Contains("262144 bytes", over.Body.GetProperty("error_msg").GetString());
    }

    [Fact]
    public async Task A_body_over_1_MB_is_refused_before_it_is_read()
    {
        var (status, answer, _) = await platform.SendAsync(HttpMethod.Post, Messages, $$"""{"message":"{{new string('a', 2 * 1024 * 1024)}}"}""");

        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, status);
        Assert.Contains("1048576", answer.GetProperty("error_msg").GetString());
    }

    [Theory]
    [InlineData("POST", "p1/devices/unknown/messages", """{"message":"x"}""", 404, "IOTDA.014000")]
    [InlineData("GET", "p1/devices/unknown/messages", null, 404, "IOTDA.014000")]
    [InlineData("GET", "p1/devices/unknown/messages/m1", null, 404, "IOTDA.014000")]
    [InlineData("DELETE", "p1/devices/unknown/messages/m1", null, 404, "IOTDA.014000")]
    [InlineData("GET", "p1/devices/unknown", null, 404, "IOTDA.014000")]
    [InlineData("DELETE", "p1/devices/unknown", null, 404, "IOTDA.014000")]
    [InlineData("POST", "p1/devices/not$valid/messages", """{"message":"x"}""", 400, "IOTDA.000006")]
    [InlineData("GET", "p1/devices/lamp_1/messages/not%20valid", null, 400, "IOTDA.000006")]
    [InlineData("DELETE", "p1/devices/lamp_1/messages/unknown", null, 404, "IOTDA.000029")]
    [InlineData("POST", "p9/devices/lamp_1/messages", """{"message":"x"}""", 404, "IOTDA.000029")]
    [InlineData("POST", "p2/devices/lamp_1/messages", """{"message":"x"}""", 404, "IOTDA.014000")] // another project's device
    [InlineData("GET", "p2/devices/lamp_1", null, 404, "IOTDA.014000")]
    [InlineData("POST", "p2/devices", """{"product_id":"lamp","node_id":"2"}""", 404, "IOTDA.014204")] // another project's product
    [InlineData("GET", "p1/nothing", null, 404, "IOTDA.000029")]
    [InlineData("PATCH", "p1/devices", null, 405, "IOTDA.000029")]
    [InlineData("GET", "p1/devices?limit=51", null, 400, "IOTDA.000006")]
    [InlineData("GET", "p1/devices?marker=xyz", null, 400, "IOTDA.000006")]
    [InlineData("POST", "p1/devices", """{"product_id":"lamp","node_id":"1"}""", 400, "IOTDA.014031")]
    [InlineData("POST", "p1/devices", """{"product_id":"lamp","node_id":"3","auth_info":{"secret":"short"}}""", 400, "IOTDA.000006")]
    [InlineData("POST", "p1/devices", """{"product_id":"lamp"}""", 400, "IOTDA.000006")]
    [InlineData("POST", "p1/products", """{"name":"x","device_type":"y","protocol_type":"SMTP"}""", 400, "IOTDA.000006")]
    [InlineData("POST", "p1/products", """{"product_id":"lamp","name":"x","device_type":"y","protocol_type":"MQTT"}""", 400, "IOTDA.000006")]
    [InlineData("PUT", "p1/routing-rule/rules/unknown", """{"active":true}""", 404, "IOTDA.010002")]
    [InlineData("DELETE", "p1/routing-rule/rules/unknown", null, 404, "IOTDA.010002")]
    [InlineData("DELETE", "p1/routing-rule/actions/unknown", null, 404, "IOTDA.010002")]
    [InlineData("POST", "p1/routing-rule/rules", """{"subject":{"resource":"weather","event":"update"}}""", 400, "IOTDA.000006")]
    [InlineData("POST", "p1/routing-rule/rules", """{"subject":{"resource":"device.message.status","event":"update"},"where":"notify_data.header.product_id = 'x'"}""", 400, "IOTDA.000006")]
    [InlineData("POST", "p1/routing-rule/actions", """{"rule_id":"unknown","channel":"HTTP_FORWARDING","channel_detail":{"http_forwarding":{"url":"http://127.0.0.1:9/"}}}""", 404, "IOTDA.010002")]
    [InlineData("POST", "p1/routing-rule/actions", """{"rule_id":"unknown","channel":"HTTP_FORWARDING","channel_detail":{"http_forwarding":{"url":"ftp://x"}}}""", 400, "IOTDA.000006")]
    public async Task Every_error_is_JSON_with_a_code(string method, string path, string? body, int status, string code)
    {
        var answer = await platform.SendAsync(new HttpMethod(method), path, body);

        Assert.Equal(status, (int)answer.Status);
        Assert.Equal(code, answer.Body.GetProperty("error_code").GetString());
        Assert.NotEmpty(answer.Body.GetProperty("error_msg").GetString()!);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("wrong")]
    [InlineData(RunningPlatform.Token + "x")]
    public async Task Without_the_right_token_nothing_is_answered_but_401(string? token)
    {
        var (status, answer, _) = await platform.SendAsync(HttpMethod.Get, "p1/devices", token: token);

        Assert.Equal(HttpStatusCode.Unauthorized, status);
        Assert.Equal("IOTDA.000002", answer.GetProperty("error_code").GetString());
    }

    [Fact]
    public async Task Another_media_type_is_refused()
    {
        var (status, answer, _) = await platform.SendAsync(HttpMethod.Post, Messages, "message=x", contentType: "application/x-www-form-urlencoded");

        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains("application/json", answer.GetProperty("error_msg").GetString());
    }

    [Fact]
    public async Task Show_of_an_unknown_message_of_a_known_device_is_a_200_without_message_id()
    {
        var (status, answer, _) = await platform.SendAsync(HttpMethod.Get, $"{Messages}/unknown");

        Assert.Equal(HttpStatusCode.OK, status);
        Assert.False(answer.TryGetProperty("message_id", out _));
    }
}
