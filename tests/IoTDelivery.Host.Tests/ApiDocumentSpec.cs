using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using IoTDelivery.Host.Api.Authentication;
using IoTDelivery.Host.Api.Documentation;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace IoTDelivery.Host.Tests;

/// <summary>The OpenAPI document: every endpoint is in it, and what it says is what the API takes and answers.</summary>
public sealed partial class ApiDocumentSpec(ApiDocumentSpec.Platform platform) : IClassFixture<ApiDocumentSpec.Platform>
{
    public sealed class Platform : RunningPlatform
    {
        protected override string[] Settings => ["--Api:Users:0:Name=app", $"--Api:Users:0:PasswordHash={Passwords.Hash("secret")}", "--Api:Users:0:Domain=factory"];
    }

    // Every field the document knows, so that each can be made wrong in turn. (Both topics at once are wrong too, but that is looked at last.)
    private static readonly Dictionary<string, string> FullBodies = new()
    {
        ["CreateToken"] = """{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"app","password":"secret","domain":{"name":"factory"}}}},"scope":{"project":{"id":"p1","name":"p1"}}}}""",
        ["CreateMessage"] = """{"message_id":"m1","name":"n","message":"hello","properties":{"correlation_data":"c","response_topic":"r","user_properties":[{"prop_key":"k","prop_value":"v"}]},"encoding":"none","payload_format":"standard","topic":"t","topic_full_name":"f","ttl":60}""",
        ["AddDevice"] = """{"device_id":"lamp_9","node_id":"9","product_id":"lamp","device_name":"n","description":"d","app_id":"a","gateway_id":"lamp_9","extension_info":{"a":1},"auth_info":{"auth_type":"SECRET","secret":"secret-1234"}}""",
        ["CreateProduct"] = """{"product_id":"sensor","name":"n","device_type":"t","protocol_type":"MQTT","data_format":"json","service_capabilities":[{"service_id":"s"}],"manufacturer_name":"m","industry":"i","description":"d","app_id":"a"}""",
        ["CreateRoutingRule"] = """{"rule_name":"n","description":"d","subject":{"resource":"device.message.status","event":"update"},"app_type":"APP","app_id":"a"}""",
        ["UpdateRoutingRule"] = """{"rule_name":"n","description":"d","active":false}""",
        ["CreateRuleAction"] = """{"rule_id":"RULE","channel":"HTTP_FORWARDING","channel_detail":{"http_forwarding":{"url":"https://127.0.0.1:9/","cert_id":"c","cn_name":"n","sni_enable":true,"signature_enable":true,"token":"abc","shape":"Both"},"amqp_forwarding":{"queue_name":"DefaultQueue","shape":"Flat"}}}""",
        ["UpdateRuleAction"] = """{"channel":"HTTP_FORWARDING","channel_detail":{"http_forwarding":{"url":"https://127.0.0.1:9/","cert_id":"c","cn_name":"n","sni_enable":true,"signature_enable":true,"token":"abc","shape":"Both"},"amqp_forwarding":{"queue_name":"DefaultQueue","shape":"Flat"}}}""",
        ["UpdateDevice"] = """{"device_name":"n2","description":"d","extension_info":{"a":1}}""",
        ["ResetDeviceSecret"] = """{"secret":"secret-5678","secret_type":"SECONDARY","force_disconnect":true}""",
        ["AddCertificate"] = """{"content":"PEM","app_id":"a"}""",
        ["AddQueue"] = """{"queue_name":"queue-one"}""",
        ["CreateAccessCode"] = """{"type":"AMQP","force_disconnect":true}""",
        ["AddDeviceGroup"] = """{"name":"g","description":"d","super_group_id":"s","app_id":"a","group_type":"STATIC"}""",
        ["UpdateDeviceGroup"] = """{"name":"g2","description":"d"}""",
        ["CreateBatchTask"] = """{"app_id":"a","task_name":"t","task_type":"createMessages","targets_filter":{"group_ids":["g"],"product_ids":["lamp"]},"document":{"message":"x"},"task_policy":{"schedule_time":"20151212T121212Z","retry_count":1,"retry_interval":1}}""",
        ["StopBatchTask"] = """{"targets":["lamp_1"]}""",
        ["RetryBatchTask"] = """{"targets":["lamp_1"]}""",
        ["BroadcastMessage"] = """{"app_id":"a","topic_full_name":"$oc/broadcast/t","message":"eA==","ttl":0,"message_id":"b1"}""",
        ["UpdateProduct"] = """{"name":"n2","device_type":"t","protocol_type":"MQTT","data_format":"json","service_capabilities":[],"manufacturer_name":"m","industry":"i","description":"d"}""",
    };

    [Fact]
    public async Task Every_endpoint_is_in_the_document_with_a_summary_its_parameters_types_and_errors()
    {
        var paths = (await DocumentAsync())["paths"]!;
        foreach (var (method, path, parameters) in Endpoints())
        {
            var operation = paths[path]?[method.ToLowerInvariant()];
            Assert.True(operation?["summary"] is not null, $"{method} {path} is not described. Add a row to Api/Documentation/Operations.cs.");
            Assert.Equal(parameters, (operation!["parameters"]?.AsArray() ?? []).Where(p => (string?)p!["in"] == "path").Select(p => (string?)p!["name"]));
            Assert.All((operation["parameters"]?.AsArray() ?? []).Where(p => (string?)p!["in"] == "query"), p => Assert.NotNull(p!["description"]));
            var responses = operation["responses"]!.AsObject();
            var (status, success) = Assert.Single(responses, r => r.Key[0] == '2');
            if (status != "200") Assert.Equal(status == "204", success!["content"] is null);
            foreach (var error in new[] { "401", "403", "500", "503" }) Assert.Contains(error, responses);
            Assert.All(responses.Where(r => r.Key[0] != '2'), r =>
            {
                Assert.StartsWith("IOTDA.", (string?)r.Value!["description"]);
                Assert.Equal("#/components/schemas/ErrorResponse", (string?)r.Value["content"]!["application/json"]!["schema"]!["$ref"]);
            });
        }
    }

    [Fact]
    public void Every_row_of_the_table_is_an_endpoint() => Assert.Empty(Operations.Table.Keys.Except(Endpoints().Select(e => $"{e.Method} {e.Path}")));

    [Fact]
    public async Task What_the_API_answers_is_what_the_document_says()
    {
        var document = await DocumentAsync();
        var rule = (await Expect("CreateRoutingRule", 201, "p1/routing-rule/rules", FullBodies["CreateRoutingRule"]))!["rule_id"]!.ToString();
        var action = (await Expect("CreateRuleAction", 201, "p1/routing-rule/actions", FullBodies["CreateRuleAction"].Replace("RULE", rule).Replace("\"cert_id\":\"c\",", "")))!["action_id"]!.ToString();
        await Expect("ShowRoutingRule", 200, $"p1/routing-rule/rules/{rule}");
        await Expect("UpdateRoutingRule", 200, $"p1/routing-rule/rules/{rule}", FullBodies["UpdateRoutingRule"]);
        await Expect("ListRoutingRules", 200, "p1/routing-rule/rules");
        await Expect("ShowRuleAction", 200, $"p1/routing-rule/actions/{action}");
        await Expect("ListRuleActions", 200, "p1/routing-rule/actions");
        await Expect("UpdateRuleAction", 200, $"p1/routing-rule/actions/{action}", FullBodies["UpdateRuleAction"].Replace("\"cert_id\":\"c\",", ""));
        await Expect("ShowBacklog", 200, $"p1/routing-rule/actions/{action}/backlog");
        await Expect("ListDeadLetters", 200, $"p1/routing-rule/actions/{action}/dead-letters");
        await Expect("ReplayDeadLetters", 200, $"p1/routing-rule/actions/{action}/dead-letters/replay");
        await Expect("ForgetDeadLetters", 200, $"p1/routing-rule/actions/{action}/dead-letters?up_to={0:x24}");
        await Expect("CreateProduct", 201, "p1/products", FullBodies["CreateProduct"]);
        await Expect("ListProducts", 200, "p1/products");
        await Expect("UpdateProduct", 200, "p1/products/sensor", FullBodies["UpdateProduct"]);
        await Expect("ShowProduct", 200, "p1/products/sensor");
        await Expect("DeleteProduct", 204, "p1/products/sensor");
        await Expect("AddDevice", 201, "p1/devices", FullBodies["AddDevice"]);
        await Expect("UpdateDevice", 200, "p1/devices/lamp_9", FullBodies["UpdateDevice"]);
        await Expect("ResetDeviceSecret", 200, "p1/devices/lamp_9/action?action_id=resetSecret", FullBodies["ResetDeviceSecret"]);
        await Expect("ShowDevice", 200, "p1/devices/lamp_9");
        await Expect("FreezeDevice", 204, "p1/devices/lamp_9/freeze");
        await Expect("UnfreezeDevice", 204, "p1/devices/lamp_9/unfreeze");
        await Expect("ListDevices", 200, "p1/devices");
        await Expect("CreateMessage", 201, "p1/devices/lamp_9/messages", FullBodies["CreateMessage"].Replace("\"topic\":\"t\",", ""));
        await Expect("CreateMessage", 201, "p1/devices/lamp_9/messages", """{"message":{"a":1},"message_id":"failed","ttl":0}""");
        await Expect("ShowDeviceMessage", 200, "p1/devices/lamp_9/messages/m1");
        await Expect("ShowDeviceMessage", 200, "p1/devices/lamp_9/messages/failed");
        await Expect("ShowDeviceMessage", 200, "p1/devices/lamp_9/messages/unknown");
        await Expect("ListDeviceMessages", 200, "p1/devices/lamp_9/messages");
        await Expect("CreateToken", 201, "/v3/auth/tokens", FullBodies["CreateToken"]);
        await Expect("ListProjects", 200, "/v3/projects");
        await Expect("CreateMessage", 400, "p1/devices/lamp_9/messages", "{");
        await Expect("CreateMessage", 404, "p1/devices/unknown/messages", """{"message":"x"}""");
        await Expect("DeleteDeviceMessage", 204, "p1/devices/lamp_9/messages/m1");
        await Expect("DeleteDeviceMessage", 404, "p1/devices/lamp_9/messages/m1");
        await Expect("DeleteDeviceMessages", 204, "p1/devices/lamp_9/messages");
        await Expect("DeleteDevice", 204, "p1/devices/lamp_9");
        var certificate = (await Expect("AddCertificate", 201, "p1/certificates", FullBodies["AddCertificate"].Replace("PEM", Pem().ReplaceLineEndings("\\n"))))!["certificate_id"];
        await Expect("ListCertificates", 200, "p1/certificates");
        await Expect("DeleteCertificate", 204, $"p1/certificates/{certificate}");
        var queue = (await Expect("AddQueue", 201, "p1/amqp-queues", FullBodies["AddQueue"]))!["queue_id"];
        await Expect("BatchShowQueue", 200, "p1/amqp-queues");
        await Expect("ShowQueue", 200, $"p1/amqp-queues/{queue}");
        await Expect("DeleteQueue", 204, $"p1/amqp-queues/{queue}");
        await Expect("CreateAccessCode", 201, "p1/auth/accesscode", FullBodies["CreateAccessCode"]);
        var group = (await Expect("AddDeviceGroup", 201, "p1/device-group", FullBodies["AddDeviceGroup"].Replace("\"super_group_id\":\"s\",", "")))!["group_id"]!.ToString();
        await Expect("UpdateDeviceGroup", 200, $"p1/device-group/{group}", FullBodies["UpdateDeviceGroup"]);
        await Expect("ShowDeviceGroup", 200, $"p1/device-group/{group}");
        await Expect("ListDeviceGroups", 200, "p1/device-group");
        await Expect("CreateOrDeleteDeviceInGroup", 200, $"p1/device-group/{group}/action?action_id=addDevice&device_id=lamp_1");
        await Expect("ShowDevicesInGroup", 200, $"p1/device-group/{group}/devices");
        await Expect("DeleteDeviceGroup", 403, $"p1/device-group/{group}");
        var later = DateTimeOffset.UtcNow.AddDays(1).ToString("yyyyMMdd'T'HHmmss'Z'");
        var task = (await Expect("CreateBatchTask", 201, "p1/batchtasks", FullBodies["CreateBatchTask"].Replace("20151212T121212Z", later).Replace("[\"g\"]", $"[\"{group}\"]")))!["task_id"]!.ToString();
        await Expect("CreateBatchTask", 201, "p1/batchtasks", $$"""{"task_name":"t","task_type":"createMessages","targets":["lamp_1"],"document":{"message":"x"},"task_policy":{"schedule_time":"{{later}}"} }""");
        await Expect("ListBatchTasks", 200, "p1/batchtasks?task_type=createMessages");
        await Expect("ShowBatchTask", 200, $"p1/batchtasks/{task}");
        await Expect("DeleteBatchTask", 403, $"p1/batchtasks/{task}");
        await Expect("BroadcastMessage", 201, "p1/broadcast-messages", FullBodies["BroadcastMessage"]);
        await Expect("DeleteRuleAction", 204, $"p1/routing-rule/actions/{action}");
        await Expect("DeleteRoutingRule", 204, $"p1/routing-rule/rules/{rule}");

        async Task<JsonNode?> Expect(string operationId, int status, string path, string? body = null)
        {
            var (method, operation) = Find(document, operationId);
            var (answered, _, response) = await platform.SendAsync(new HttpMethod(method), path, body);
            var text = await response.Content.ReadAsStringAsync();
            Assert.True(status == (int)answered, $"{operationId} was answered {(int)answered}: {text}");
            if (operation["responses"]![status.ToString()]!["content"] is not { } content)
            {
                Assert.Equal("", text);
                return null;
            }

            var json = JsonNode.Parse(text)!;
            Fits(document, content["application/json"]!["schema"]!, json, operationId);
            return json;
        }
    }

    private static string Pem()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var certificate = new CertificateRequest("CN=test", key, HashAlgorithmName.SHA256).CreateSelfSigned(DateTimeOffset.UtcNow, DateTimeOffset.UtcNow.AddDays(1));
        return certificate.ExportCertificatePem();
    }

    [Fact]
    public async Task Every_field_the_document_knows_is_read_and_named_when_it_is_wrong()
    {
        var document = await DocumentAsync();
        var paths = new Dictionary<string, string>
        {
            ["CreateToken"] = "/v3/auth/tokens",
            ["CreateMessage"] = "p1/devices/lamp_1/messages",
            ["AddDevice"] = "p1/devices",
            ["CreateProduct"] = "p1/products",
            ["CreateRoutingRule"] = "p1/routing-rule/rules",
            ["UpdateRoutingRule"] = "p1/routing-rule/rules/any",
            ["CreateRuleAction"] = "p1/routing-rule/actions",
            ["UpdateRuleAction"] = "p1/routing-rule/actions/any",
            ["UpdateDevice"] = "p1/devices/any",
            ["ResetDeviceSecret"] = "p1/devices/any/action?action_id=resetSecret",
            ["UpdateProduct"] = "p1/products/any",
            ["AddCertificate"] = "p1/certificates",
            ["AddQueue"] = "p1/amqp-queues",
            ["CreateAccessCode"] = "p1/auth/accesscode",
            ["AddDeviceGroup"] = "p1/device-group",
            ["UpdateDeviceGroup"] = "p1/device-group/any",
            ["CreateBatchTask"] = "p1/batchtasks",
            ["StopBatchTask"] = "p1/batchtasks/any/stop",
            ["RetryBatchTask"] = "p1/batchtasks/any/retry",
            ["BroadcastMessage"] = "p1/broadcast-messages",
        };
        foreach (var (operationId, full) in FullBodies)
        {
            var (method, operation) = Find(document, operationId);
            foreach (var (field, schema) in Fields(document, operation["requestBody"]!["content"]!["application/json"]!["schema"]!, ""))
            {
                var body = JsonNode.Parse(full)!;
                var isArray = Types(schema).Contains("array");
                Set(body, field, isArray ? JsonNode.Parse("5")! : JsonNode.Parse("[[5]]")!);

                var (status, answer, _) = await platform.SendAsync(new HttpMethod(method), paths[operationId], body.ToJsonString());

                Assert.True(status == HttpStatusCode.BadRequest, $"{operationId}: {field} was made wrong and nobody noticed: {(int)status} {answer}");
                Assert.Contains(field, answer.GetProperty("error_msg").GetString());
            }
        }
    }

    [Fact]
    public async Task The_document_and_its_page_need_no_login_and_load_nothing_from_elsewhere()
    {
        using var http = new HttpClient { BaseAddress = new Uri(platform.Http.BaseAddress!, "/") };
        var page = await http.GetAsync("scalar/");
        var html = await page.Content.ReadAsStringAsync();

        Assert.Equal(HttpStatusCode.OK, page.StatusCode);
        Assert.DoesNotContain("://", html);
        var policy = Assert.Single(page.Headers.GetValues("Content-Security-Policy"));
        Assert.Contains("default-src 'self'", policy);
        Assert.DoesNotMatch(@"https?:|\*|unsafe-eval|connect-src", policy);
        var scripts = Script().Matches(html).Select(m => m.Groups[1].Value).ToList();
        Assert.Contains("scalar.js", scripts);
        foreach (var script in scripts) Assert.Equal("text/javascript", (await http.GetAsync($"scalar/{script}")).Content.Headers.ContentType?.MediaType);
        Assert.Equal(HttpStatusCode.OK, (await http.GetAsync("openapi/v1.json")).StatusCode);
    }

    [Fact]
    public async Task The_document_can_be_switched_off()
    {
        var quiet = new Quiet();
        await quiet.InitializeAsync();
        try
        {
            foreach (var path in new[] { "/openapi/v1.json", "/scalar", "/scalar/" }) Assert.Equal(HttpStatusCode.NotFound, (await quiet.SendAsync(HttpMethod.Get, path)).Status);
        }
        finally
        {
            await quiet.DisposeAsync();
        }
    }

    private sealed class Quiet : RunningPlatform
    {
        protected override string[] Settings => ["--Api:OpenApi=false"];
    }

    private async Task<JsonNode> DocumentAsync() => JsonNode.Parse(await platform.Http.GetStringAsync("/openapi/v1.json"))!;

    private IEnumerable<(string Method, string Path, IEnumerable<string> Parameters)> Endpoints() =>
        from endpoint in platform.Services.GetServices<EndpointDataSource>().SelectMany(s => s.Endpoints).OfType<RouteEndpoint>()
        let path = "/" + endpoint.RoutePattern.RawText!.Trim('/')
        where path.StartsWith("/v3") || path.StartsWith("/v5")
        from method in endpoint.Metadata.GetMetadata<IHttpMethodMetadata>()!.HttpMethods
        select (method, path, endpoint.RoutePattern.Parameters.Select(p => p.Name));

    private static (string Method, JsonNode Operation) Find(JsonNode document, string operationId)
    {
        var found = document["paths"]!.AsObject().SelectMany(p => p.Value!.AsObject()).Single(o => (string?)o.Value!["operationId"] == operationId);
        return (found.Key.ToUpperInvariant(), found.Value!);
    }

    private static JsonNode Resolve(JsonNode document, JsonNode schema)
    {
        if ((string?)schema["oneOf"]?.AsArray().LastOrDefault()?["$ref"] is { } one) return document["components"]!["schemas"]![one.Split('/')[^1]]!; // null or this
        return (string?)schema["$ref"] is { } reference ? document["components"]!["schemas"]![reference.Split('/')[^1]]! : schema;
    }

    private static string[] Types(JsonNode schema) => schema["type"] switch
    {
        JsonArray many => [.. many.Select(t => (string)t!)],
        { } one => [(string)one!],
        null => [],
    };

    // As much of JSON Schema as the document uses.
    private static void Fits(JsonNode document, JsonNode given, JsonNode value, string where)
    {
        var schema = Resolve(document, given);
        var types = Types(schema);
        var kind = value.GetValueKind() switch
        {
            JsonValueKind.Object => "object",
            JsonValueKind.Array => "array",
            JsonValueKind.String => "string",
            JsonValueKind.Number => "integer",
            _ => "boolean",
        };
        Assert.True(types.Length == 0 || types.Contains(kind), $"{where} is a {kind}, the document says {string.Join(" or ", types)}.");
        if (types.Length == 0) return; // any JSON
        if (value is JsonArray items)
        {
            foreach (var item in schema["items"] is null ? [] : items) Fits(document, schema["items"]!, item!, where + "[]"); // without items: any JSON
        }
        else if (value is JsonObject members)
        {
            foreach (var (name, member) in members)
            {
                Assert.True(schema["properties"]?[name] is not null, $"{where}.{name} is answered, but not in the document.");
                Fits(document, schema["properties"]![name]!, member!, $"{where}.{name}");
            }

            foreach (var required in schema["required"]?.AsArray() ?? [])
            {
                Assert.True(members.ContainsKey((string)required!), $"{where}.{required} is required, but was not answered.");
            }
        }
    }

    private static IEnumerable<(string Field, JsonNode Schema)> Fields(JsonNode document, JsonNode given, string path)
    {
        var schema = Resolve(document, given);
        foreach (var (name, property) in schema["properties"]?.AsObject() ?? [])
        {
            var field = path.Length == 0 ? name : $"{path}.{name}";
            var resolved = Resolve(document, property!);
            yield return (field, resolved);
            var inner = Types(resolved).Contains("array") && resolved["items"] is { } items ? (Schema: items, Path: field + "[0]") : (Schema: resolved, Path: field);
            foreach (var nested in Fields(document, inner.Schema, inner.Path)) yield return nested;
        }
    }

    private static void Set(JsonNode body, string field, JsonNode value)
    {
        var node = body;
        var steps = field.Replace("[0]", ".0").Split('.');
        foreach (var step in steps[..^1]) node = (int.TryParse(step, out var index) ? node[index] : node[step]) ?? throw new InvalidOperationException($"The full body has no {field}.");
        node[steps[^1]] = value;
    }

    [GeneratedRegex("<script[^>]* src=\"([^\"]+)\"")]
    private static partial Regex Script();
}
