using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using IoTDelivery.Tests.Databases;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace IoTDelivery.Host.Tests;

/// <summary>The platform on PostgreSQL, which stores no U+0000 and says so late.</summary>
public sealed class PlatformOnPostgreSql : RunningPlatform
{
    private readonly PostgreSqlDatabase _server = new();
    private string _connectionString = "";

    public string? SkipReason => _server.SkipReason;

    protected override string[] Settings =>
        ["--Storage:Provider=PostgreSql", $"--Storage:ConnectionString={_connectionString}", "--Api:AdminToken=admin-token-of-the-tests"];

    public override async Task InitializeAsync()
    {
        await _server.InitializeAsync();
        if (SkipReason is not null) return;
        _connectionString = (await _server.CreateAsync()).ConnectionString!;
        await base.InitializeAsync();
    }

    public override async Task DisposeAsync()
    {
        await base.DisposeAsync();
        if (SkipReason is null) await _server.DisposeAsync();
    }
}

/// <summary>The platform on SQLite.</summary>
public sealed class PlatformOnSqlite : RunningPlatform
{
    protected override string[] Settings => ["--Api:AdminToken=admin-token-of-the-tests"];
}

/// <summary>On SQLite.</summary>
public sealed class SqliteTextSpec(PlatformOnSqlite platform) : TextSpec(platform), IClassFixture<PlatformOnSqlite>;

/// <summary>On PostgreSQL.</summary>
public sealed class PostgreSqlTextSpec : TextSpec, IClassFixture<PlatformOnPostgreSql>
{
    public PostgreSqlTextSpec(PlatformOnPostgreSql platform)
        : base(platform) => Skip.IfNot(platform.SkipReason is null, platform.SkipReason);
}

/// <summary>Text that is none, in every string of every body and in every query: refused, with the field and the place.</summary>
public abstract class TextSpec(RunningPlatform platform)
{
    private const string Mark = "@@here@@";

    /// <summary>Every door a body comes in by, with a body that has all kinds of members. A new door has to stand here.</summary>
    private static readonly Dictionary<string, string> Doors = new()
    {
        ["POST /v3/auth/tokens"] =
            """{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"n","password":"p","domain":{"name":"d"}}}},"scope":{"project":{"id":"p1"}}}}""",
        ["POST /v5/iot/p1/devices/lamp_1/messages"] =
            """{"message_id":"i","name":"n","message":{"a":["b",{"c":"d"}]},"topic":"t","properties":{"correlation_data":"c","response_topic":"r","user_properties":[{"prop_key":"k","prop_value":"v"}]}}""",
        ["POST /v5/iot/p1/devices"] =
            """{"product_id":"lamp","node_id":"9","device_name":"n","description":"d","app_id":"a","gateway_id":"g","extension_info":{"e":"f"},"auth_info":{"auth_type":"SECRET","secret":"secret-5678"}}""",
        ["PUT /v5/iot/p1/devices/lamp_1"] = """{"device_name":"n","description":"d","extension_info":{"e":["f"]}}""",
        ["POST /v5/iot/p1/devices/lamp_1/action?action_id=resetSecret"] = """{"secret":"secret-5678","secret_type":"PRIMARY"}""",
        ["POST /v5/iot/p1/products"] =
            """{"product_id":"p","name":"n","device_type":"d","protocol_type":"MQTT","data_format":"json","manufacturer_name":"m","industry":"i","description":"d","app_id":"a","service_capabilities":[{"service_id":"s"}]}""",
        ["PUT /v5/iot/p1/products/lamp"] = """{"name":"n","device_type":"d","manufacturer_name":"m","industry":"i","description":"d"}""",
        ["POST /v5/iot/p1/device-group"] = """{"name":"n","description":"d","super_group_id":"s","app_id":"a","group_type":"STATIC"}""",
        ["PUT /v5/iot/p1/device-group/unknown"] = """{"name":"n","description":"d"}""",
        ["POST /v5/iot/p1/batchtasks"] =
            """{"app_id":"a","task_name":"n","task_type":"createMessages","targets":["lamp_1"],"targets_filter":{"group_ids":["g"]},"task_policy":{"schedule_time":"20151212T121212Z"},"document":{"message":"m","name":"n"}}""",
        ["POST /v5/iot/p1/batchtasks/unknown/stop"] = """{"targets":["lamp_1"]}""",
        ["POST /v5/iot/p1/batchtasks/unknown/retry"] = """{"targets":["lamp_1"]}""",
        ["POST /v5/iot/p1/broadcast-messages"] = """{"app_id":"a","topic_full_name":"$oc/broadcast/x","message":"eA==","message_id":"i"}""",
        ["POST /v5/iot/p1/routing-rule/rules"] =
            """{"rule_name":"n","description":"d","subject":{"resource":"device.message.status","event":"update"},"app_type":"APP","app_id":"a","select":"*","where":"*"}""",
        ["PUT /v5/iot/p1/routing-rule/rules/unknown"] = """{"rule_name":"n","description":"d","select":"*","where":"*"}""",
        ["POST /v5/iot/p1/routing-rule/actions"] =
            """{"rule_id":"r","channel":"HTTP_FORWARDING","channel_detail":{"http_forwarding":{"url":"http://127.0.0.1:9/","cert_id":"c","cn_name":"n","token":"tok","shape":"Flat"}}}""",
        ["PUT /v5/iot/p1/routing-rule/actions/unknown"] =
            """{"channel":"AMQP_FORWARDING","channel_detail":{"amqp_forwarding":{"queue_name":"q","shape":"Flat"},"http_forwarding":{"url":"http://127.0.0.1:9/"}}}""",
        ["POST /v5/iot/p1/certificates"] = """{"content":"c","app_id":"a"}""",
        ["POST /v5/iot/p1/amqp-queues"] = """{"queue_name":"queue-of-text"}""",
        ["POST /v5/iot/p1/auth/accesscode"] = """{"type":"AMQP"}""",
        ["POST /admin/cluster/down"] = """{"address":"a"}""",
        ["POST /admin/cluster/leave"] = """{"address":"a"}""",
    };

    /// <summary>Doors that read no body.</summary>
    private static readonly string[] Bodyless =
    [
        "POST /v5/iot/{project_id}/routing-rule/actions/{action_id}/dead-letters/replay",
        "POST /v5/iot/{project_id}/device-group/{group_id}/action",
        "POST /v5/iot/{project_id}/devices/{device_id}/freeze", "POST /v5/iot/{project_id}/devices/{device_id}/unfreeze",
    ];

    /// <summary>What is no text, as it stands between quotation marks, and what the answer says of it.</summary>
    private static readonly (byte[] Bytes, string Says)[] NoText =
    [
        ([0xFF], "is 0xFF"), // Latin-1
        ([0xC4, 0xE3, 0xBA, 0xC3], "is 0xC4"), // GBK
        ([0xE4, 0xBD], "is 0xE4"), // cut off in the middle of a character
        ([0xED, 0xA0, 0x80], "is 0xED"), // half a surrogate pair, as Java writes it
        ([0xC0, 0x80], "is 0xC0"), // U+0000, as Java writes it
        ("\\ud83d"u8.ToArray(), "\\ud83d"),
        ("\\uDE00 and more"u8.ToArray(), "\\uDE00"),
        ("\\uD83D\\uD83D\\uDE00"u8.ToArray(), "\\uD83D"),
        ("\\ud83d\\n"u8.ToArray(), "\\ud83d"),
    ];

    public static TheoryData<string> AllDoors => [.. Doors.Keys];

    [SkippableFact]
    public void Every_door_that_reads_a_body_stands_in_the_table()
    {
        var known = Doors.Keys.Select(d => d.Split('?')[0]).ToList();
        var endpoints = platform.Services.GetServices<EndpointDataSource>().SelectMany(s => s.Endpoints).OfType<RouteEndpoint>()
            .SelectMany(e => (e.Metadata.GetMetadata<HttpMethodMetadata>()?.HttpMethods ?? []).Select(m => $"{m} {e.RoutePattern.RawText!.TrimEnd('/')}"))
            .Where(e => e.Split(' ')[0] is "POST" or "PUT" or "PATCH").Except(Bodyless).ToList();
        Assert.NotEmpty(endpoints);
        foreach (var endpoint in endpoints)
        {
            var pattern = "^" + System.Text.RegularExpressions.Regex.Replace(System.Text.RegularExpressions.Regex.Escape(endpoint), @"\\\{[^}]+}", "[^/]+") + "$";
            Assert.True(known.Any(k => System.Text.RegularExpressions.Regex.IsMatch(k, pattern)), endpoint);
        }
    }

    [SkippableTheory]
    [MemberData(nameof(AllDoors))]
    public async Task What_is_no_text_is_refused_and_the_answer_names_field_and_byte(string door)
    {
        foreach (var (template, field) in Marked(JsonNode.Parse(Doors[door])!))
        {
            foreach (var (bytes, says) in NoText)
            {
                var at = Encoding.UTF8.GetByteCount(template[..template.IndexOf(Mark, StringComparison.Ordinal)]);
                byte[] body = [.. Encoding.UTF8.GetBytes(template[..template.IndexOf(Mark, StringComparison.Ordinal)]), .. bytes,
                    .. Encoding.UTF8.GetBytes(template[(template.IndexOf(Mark, StringComparison.Ordinal) + Mark.Length)..])];

                var (status, text) = await SendAsync(door, body);

                Assert.True(status == HttpStatusCode.BadRequest, $"{(int)status} {text} for {says} in {field}");
                Assert.Contains(says, text);
                Assert.Contains($"{field} must be", text);
                Assert.Contains($"byte {at} of the body", text);
            }
        }
    }

    [SkippableTheory]
    [MemberData(nameof(AllDoors))]
    public async Task U_0000_is_stored_where_it_can_be_and_else_refused(string door)
    {
        foreach (var (template, field) in Marked(JsonNode.Parse(Doors[door])!))
        {
            var (status, text) = await SendAsync(door, Encoding.UTF8.GetBytes(template.Replace(Mark, "a\\u0000b")));
            Assert.True((int)status < 500, $"{(int)status} {text} for {field}");
        }
    }

    [SkippableTheory]
    [InlineData("devices?device_name=a%00b", "device_name")]
    [InlineData("devices?product_id=%00", "product_id")]
    [InlineData("devices?node_id=%00", "node_id")]
    [InlineData("products?product_name=%00", "product_name")]
    [InlineData("routing-rule/rules?rule_name=%00", "rule_name")]
    [InlineData("routing-rule/rules?app_id=%00", "app_id")]
    [InlineData("routing-rule/actions?rule_id=%00", "rule_id")]
    [InlineData("batchtasks?task_type=createMessages&app_id=%00", "app_id")]
    [InlineData("device-group?name=%00", "name")]
    [InlineData("amqp-queues?queue_name=%00", "queue_name")]
    [InlineData("devices?device_name=x&%00=x&nothing=%00", "nothing")]
    public async Task U_0000_in_a_query_is_refused_and_the_answer_names_the_parameter(string path, string name)
    {
        var (status, body, _) = await platform.SendAsync(HttpMethod.Get, $"p1/{path}");

        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains($"{name} must not contain U+0000", body.GetProperty("error_msg").GetString());
    }

    [SkippableTheory]
    [InlineData("devices?device_name=%FF")]
    [InlineData("devices?device_name=%ED%A0%80")]
    [InlineData("devices?device_name=%C0%80")]
    [InlineData("products?product_name=%E4%BD")]
    [InlineData("routing-rule/rules?rule_name=%FF&%FF=x")]
    [InlineData("routing-rule/rules/%FF")]
    [InlineData("routing-rule/actions/%ED%A0%80")]
    [InlineData("device-group/%C0%80")]
    [InlineData("amqp-queues/%E4")]
    public async Task Bytes_in_an_address_that_are_no_UTF_8_find_nothing(string path)
    {
        var (status, body, _) = await platform.SendAsync(HttpMethod.Get, $"p1/{path}");

        Assert.True(status is HttpStatusCode.OK or HttpStatusCode.NotFound or HttpStatusCode.BadRequest, $"{status} {body}");
        if (status == HttpStatusCode.OK) Assert.DoesNotContain("lamp", body.ToString());
    }

    [SkippableTheory]
    [InlineData("""{"message":"x","topic":"a\u0001b"}""", "topic must not contain control characters or non-characters: character 2 is U+0001")]
    [InlineData("""{"message":"x","topic_full_name":"\u007f"}""", "topic_full_name must not contain control characters or non-characters: character 1 is U+007F")]
    [InlineData("""{"message":"x","topic":"ab\u0085"}""", "character 3 is U+0085")]
    [InlineData("""{"message":"x","topic":"\ufffe"}""", "character 1 is U+FFFE")]
    [InlineData("""{"message":"x","topic_full_name":"\ufdd0"}""", "character 1 is U+FDD0")]
    [InlineData("""{"message":"x","topic_full_name":"\ud83f\udffe"}""", "character 1 is U+1FFFE")]
    [InlineData("""{"message":"x","topic_full_name":"a\u0000"}""", "topic_full_name must not contain U+0000: it is character 2")]
    public async Task A_topic_for_which_a_client_may_close_its_connection_is_refused(string body, string says)
    {
        var (status, answer, _) = await platform.SendAsync(HttpMethod.Post, "p1/devices/lamp_1/messages", body);

        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains(says, answer.GetProperty("error_msg").GetString());
    }

    [SkippableTheory]
    [InlineData("\"\\ud83d\\uDE00 \\u00fc 你好\"", "😀 ü 你好")]
    [InlineData("\"a\\u0000b\\u0001\\ufffe\"", "a\0b\u0001\ufffe")]
    [InlineData("\"\\\\ud83d \\\\\\\\uDE00\"", "\\ud83d \\\\uDE00")]
    public async Task A_message_of_any_text_is_stored_as_it_is(string json, string content)
    {
        var id = Guid.NewGuid().ToString("N");

        var sent = await platform.SendAsync(HttpMethod.Post, "p1/devices/lamp_1/messages", $$"""{"message_id":"{{id}}","message":{{json}}}""");
        var shown = await platform.SendAsync(HttpMethod.Get, $"p1/devices/lamp_1/messages/{id}");

        Assert.Equal(HttpStatusCode.Created, sent.Status);
        Assert.Equal(content, shown.Body.GetProperty("message").GetString());
    }

    [SkippableFact]
    public async Task A_byte_order_mark_is_no_part_of_the_body()
    {
        byte[] body = [0xEF, 0xBB, 0xBF, .. "{\"message\":\"x\"}"u8];

        var (status, text) = await SendAsync("POST /v5/iot/p1/devices/lamp_1/messages", body);

        Assert.True(status == HttpStatusCode.Created, text);
    }

    // The body once for each string in it, values and names, with the mark in its place; and how an error names that place.
    private static IEnumerable<(string Template, string Field)> Marked(JsonNode root)
    {
        foreach (var (parent, key, path) in Strings(root, ""))
        {
            var copy = JsonNode.Parse(root.ToJsonString())!;
            var at = Strings(copy, "").First(s => s.Path == path && s.Key?.ToString() == key?.ToString());
            if (at.Parent is JsonArray array) array[(int)at.Key!] = Mark;
            else ((JsonObject)at.Parent)[(string)at.Key!] = Mark;
            yield return (copy.ToJsonString(), path);
            if (parent is not JsonObject) continue;
            var above = path.LastIndexOf('.') is >= 0 and var dot ? path[..dot] + ".(a member's name)" : "a member's name";
            yield return (root.ToJsonString().Replace($"\"{key}\":\"{((JsonObject)parent)[(string)key!]}\"", $"\"{Mark}\":\"x\""), above);
        }
    }

    private static IEnumerable<(JsonNode Parent, object? Key, string Path)> Strings(JsonNode node, string path)
    {
        IEnumerable<(object Key, JsonNode? Value, string Path)> children = node switch
        {
            JsonObject members => members.Select(m => ((object)m.Key, m.Value, path.Length == 0 ? m.Key : $"{path}.{m.Key}")),
            JsonArray items => items.Select((item, i) => ((object)i, item, $"{path}[{i}]")),
            _ => [],
        };
        foreach (var (key, value, childPath) in children)
        {
            if (value is JsonValue text && text.GetValueKind() == JsonValueKind.String) yield return (node, key, childPath);
            else if (value is not null) foreach (var inner in Strings(value, childPath)) yield return inner;
        }
    }

    private async Task<(HttpStatusCode Status, string Text)> SendAsync(string door, byte[] body)
    {
        var method = door.Split(' ')[0];
        var path = door[(method.Length + 1)..];
        using var request = new HttpRequestMessage(new HttpMethod(method), new Uri(platform.Http.BaseAddress!, path));
        request.Headers.Add("X-Auth-Token", path.StartsWith("/admin", StringComparison.Ordinal) ? "admin-token-of-the-tests" : RunningPlatform.Token);
        request.Content = new ByteArrayContent(body) { Headers = { ContentType = new MediaTypeHeaderValue("application/json") } };
        using var response = await platform.Http.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        if (response.Content.Headers.ContentType?.MediaType != "application/json") return (response.StatusCode, text);
        var json = text.Length == 0 ? default : JsonSerializer.Deserialize<JsonElement>(text);
        return (response.StatusCode, json.ValueKind == JsonValueKind.Object && json.TryGetProperty("error_msg", out var says) ? says.GetString()! : text);
    }
}
