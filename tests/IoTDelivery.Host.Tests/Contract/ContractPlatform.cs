using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using IoTDelivery.Host.Api.Authentication;

namespace IoTDelivery.Host.Tests.Contract;

/// <summary>
/// The whole contract once, step by step, as an application would call it: what went over the wire, request and response, with what differs from run to run named instead
/// of written out. The names stand for the exact format, so a change of the format changes the text.
/// </summary>
public sealed partial class ContractPlatform : RunningPlatform
{
    private const string User = "operator", Password = "correct horse";

    private static readonly string Hash = Passwords.Hash(Password);

    private readonly Dictionary<string, string> _known = new() { ["{user}"] = User, ["{password}"] = Password }; // ids made on the way, by the name they have in the golden files

    /// <summary>What happened in each step, by its name.</summary>
    public Dictionary<string, string> Steps { get; } = [];

    /// <summary>Method and path pattern of everything that was called.</summary>
    public List<(string Method, string Path)> Called { get; } = [];

    protected override string[] Settings =>
        [$"--Api:Users:0:Name={User}", $"--Api:Users:0:PasswordHash={Hash}", "--Batch:PollInterval=00:00:00.1", "--Push:RetryFirst=01:00:00", "--Push:RetryMax=01:00:00"];

    public override async Task InitializeAsync()
    {
        await base.InitializeAsync();

        await StepAsync("token", "POST", "/v3/auth/tokens?nocatalog=true",
            """{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"{user}","password":"{password}","domain":{"name":"account"}}}},"scope":{"project":{"name":"p1"}}}}""", token: null);
        await StepAsync("projects", "GET", "/v3/projects?name=p1");

        await StepAsync("product-create", "POST", "products",
            """{"product_id":"fan","name":"Fan","device_type":"fan","protocol_type":"MQTT","data_format":"binary","manufacturer_name":"m","industry":"i","description":"d","app_id":"app","service_capabilities":[{"service_id":"s"}]}""");
        await StepAsync("product-create-with-a-made-id", "POST", "products", """{"name":"n","device_type":"t","protocol_type":"MQTT","data_format":"json","service_capabilities":[]}""", made: ("product_id", "{product}"));
        await StepAsync("product-create-again", "POST", "products", """{"product_id":"fan","name":"Fan","device_type":"fan","protocol_type":"MQTT","data_format":"json","service_capabilities":[]}""");
        await StepAsync("product-list", "GET", "products?product_name=Fan&limit=5");
        await StepAsync("product-show", "GET", "products/fan");
        await StepAsync("product-update", "PUT", "products/fan", """{"description":"other"}""");
        await StepAsync("product-delete", "DELETE", "products/{product}");
        await StepAsync("product-delete-in-use", "DELETE", "products/lamp");

        await StepAsync("device-create", "POST", "devices",
            """{"product_id":"fan","node_id":"2","device_id":"fan-two","device_name":"Name","description":"d","app_id":"app","auth_info":{"auth_type":"SECRET","secret":"secret-5678"},"extension_info":{"a":1}}""");
        await StepAsync("device-create-with-made-id-and-secret", "POST", "devices", """{"product_id":"fan","node_id":"3"}""");
        await StepAsync("device-create-again", "POST", "devices", """{"product_id":"fan","node_id":"3"}""");
        await StepAsync("device-create-sub-device", "POST", "devices", """{"product_id":"fan","node_id":"blade","gateway_id":"fan-two","auth_info":{"secret":"secret-5678"}}""");
        await StepAsync("device-create-of-an-unknown-product", "POST", "devices", """{"product_id":"nothing","node_id":"3"}""");
        await StepAsync("device-list", "GET", "devices?product_id=fan&limit=2");
        await StepAsync("device-list-of-a-gateway", "GET", "devices?gateway_id=fan-two&is_cascade_query=true");
        await StepAsync("device-show", "GET", "devices/fan-two");
        await StepAsync("device-show-unknown", "GET", "devices/nobody");
        await StepAsync("device-update", "PUT", "devices/fan-two", """{"device_name":"Other","extension_info":{"b":2}}""");
        await StepAsync("device-reset-secret", "POST", "devices/fan-two/action?action_id=resetSecret", """{"secret":"new-secret-1","force_disconnect":true,"secret_type":"SECONDARY"}""");
        await StepAsync("device-freeze", "POST", "devices/fan-two/freeze");
        await StepAsync("device-show-frozen", "GET", "devices/fan-two");
        await StepAsync("device-unfreeze", "POST", "devices/fan-two/unfreeze");

        await StepAsync("message-create", "POST", "devices/lamp_1/messages",
            """{"message_id":"m-1","name":"name","message":"hello","encoding":"none","payload_format":"raw","topic":"custom/one","ttl":60,"properties":{"correlation_data":"c-1","response_topic":"answers/1","user_properties":[{"prop_key":"k","prop_value":"v"}]}}""");
        await StepAsync("message-create-again", "POST", "devices/lamp_1/messages",
            """{"message_id":"m-1","name":"name","message":"hello","encoding":"none","payload_format":"raw","topic":"custom/one","ttl":60,"properties":{"correlation_data":"c-1","response_topic":"answers/1","user_properties":[{"prop_key":"k","prop_value":"v"}]}}""");
        await StepAsync("message-create-other-body-same-id", "POST", "devices/lamp_1/messages", """{"message_id":"m-1","message":"other"}""");
        await StepAsync("message-create-with-a-made-id", "POST", "devices/lamp_1/messages", """{"message":{"on":true,"level":3}}""");
        await StepAsync("message-create-base64-not-cached", "POST", "devices/lamp_1/messages", """{"message_id":"m-2","message":"aGVsbG8=","encoding":"base64","topic_full_name":"some/topic","ttl":0}""");
        await StepAsync("message-create-for-a-sub-device", "POST", "devices/fan_blade/messages", """{"message_id":"m-1","message":"turn"}""");
        await StepAsync("message-create-for-nobody", "POST", "devices/nobody/messages", """{"message":"hello"}""");
        await StepAsync("message-create-wrong-ttl", "POST", "devices/lamp_1/messages", """{"message":"hello","ttl":7}""");
        await StepAsync("message-list", "GET", "devices/lamp_1/messages");
        await StepAsync("message-show", "GET", "devices/lamp_1/messages/m-2");
        await StepAsync("message-show-of-a-sub-device", "GET", "devices/fan_blade/messages/m-1");
        await StepAsync("message-show-unknown", "GET", "devices/lamp_1/messages/nothing");
        await StepAsync("message-delete", "DELETE", "devices/lamp_1/messages/m-1");
        await StepAsync("message-delete-ended", "DELETE", "devices/lamp_1/messages/m-2");
        await StepAsync("message-delete-all", "DELETE", "devices/lamp_1/messages");

        await StepAsync("rule-create", "POST", "routing-rule/rules", """{"rule_name":"r","description":"d","subject":{"resource":"device.message.status","event":"update"},"app_type":"APP","app_id":"app"}""", made: ("rule_id", "{rule}"));
        await StepAsync("rule-create-other-subject", "POST", "routing-rule/rules", """{"subject":{"resource":"device","event":"create"}}""");
        await StepAsync("action-create", "POST", "routing-rule/actions",
            """{"rule_id":"{rule}","channel":"HTTP_FORWARDING","channel_detail":{"http_forwarding":{"url":"http://127.0.0.1:9/status","signature_enable":true,"token":"token123"}}}""", made: ("action_id", "{action}"));
        await StepAsync("rule-activate", "PUT", "routing-rule/rules/{rule}", """{"active":true}""");
        await StepAsync("rule-show", "GET", "routing-rule/rules/{rule}");
        await StepAsync("rule-list", "GET", "routing-rule/rules?resource=device.message.status&active=true");
        await StepAsync("action-show", "GET", "routing-rule/actions/{action}");
        await StepAsync("action-list", "GET", "routing-rule/actions?rule_id={rule}&channel=HTTP_FORWARDING");
        await StepAsync("action-update", "PUT", "routing-rule/actions/{action}", """{"channel":"HTTP_FORWARDING","channel_detail":{"http_forwarding":{"url":"http://127.0.0.1:9/other"}}}""");
        await StepAsync("backlog-show", "GET", "routing-rule/actions/{action}/backlog");
        await StepAsync("dead-letters-list", "GET", "routing-rule/actions/{action}/dead-letters");
        await StepAsync("dead-letters-replay", "POST", "routing-rule/actions/{action}/dead-letters/replay");
        await StepAsync("dead-letters-forget", "DELETE", "routing-rule/actions/{action}/dead-letters?up_to=5");
        await StepAsync("action-delete", "DELETE", "routing-rule/actions/{action}");
        await StepAsync("action-show-unknown", "GET", "routing-rule/actions/{action}");
        await StepAsync("rule-delete", "DELETE", "routing-rule/rules/{rule}");
        await StepAsync("rule-show-unknown", "GET", "routing-rule/rules/{rule}");

        _known["{pem}"] = JsonEncodedText.Encode(Authority()).ToString();
        await StepAsync("certificate-create", "POST", "certificates", """{"content":"{pem}"}""", made: ("certificate_id", "{certificate}"));
        await StepAsync("certificate-create-without-one", "POST", "certificates", """{"content":"no certificate"}""");
        await StepAsync("certificate-list", "GET", "certificates");
        await StepAsync("certificate-delete", "DELETE", "certificates/{certificate}");

        await StepAsync("queue-create", "POST", "amqp-queues", """{"queue_name":"status-queue"}""", made: ("queue_id", "{queue}"));
        await StepAsync("queue-create-again", "POST", "amqp-queues", """{"queue_name":"status-queue"}""");
        await StepAsync("queue-create-short-name", "POST", "amqp-queues", """{"queue_name":"status"}""");
        await StepAsync("queue-list", "GET", "amqp-queues?queue_name=status&limit=5");
        await StepAsync("queue-show", "GET", "amqp-queues/{queue}");
        await StepAsync("access-code-create", "POST", "auth/accesscode", """{"type":"AMQP","force_disconnect":false}""");
        await StepAsync("access-code-create-other-type", "POST", "auth/accesscode", """{"type":"MQTT"}""");
        await StepAsync("rule-create-for-a-queue", "POST", "routing-rule/rules", """{"subject":{"resource":"device.message.status","event":"update"}}""", made: ("rule_id", "{rule2}"));
        await StepAsync("action-create-for-a-queue", "POST", "routing-rule/actions",
            """{"rule_id":"{rule2}","channel":"AMQP_FORWARDING","channel_detail":{"amqp_forwarding":{"queue_name":"status-queue"}}}""", made: ("action_id", "{action2}"));
        await StepAsync("action-create-for-an-unknown-queue", "POST", "routing-rule/actions",
            """{"rule_id":"{rule2}","channel":"AMQP_FORWARDING","channel_detail":{"amqp_forwarding":{"queue_name":"nowhere"}}}""");
        await StepAsync("action-update-to-another-channel", "PUT", "routing-rule/actions/{action2}", """{"channel":"HTTP_FORWARDING","channel_detail":{"http_forwarding":{"url":"http://127.0.0.1:9/other"}}}""");
        await StepAsync("queue-delete-in-use", "DELETE", "amqp-queues/{queue}");
        await StepAsync("rule-delete-of-a-queue", "DELETE", "routing-rule/rules/{rule2}");
        await StepAsync("queue-delete", "DELETE", "amqp-queues/{queue}");
        await StepAsync("queue-delete-unknown", "DELETE", "amqp-queues/{queue}");
        await StepAsync("queue-show-unknown", "GET", "amqp-queues/{queue}");

        await StepAsync("group-create", "POST", "device-group", """{"name":"fans","description":"all fans"}""", made: ("group_id", "{group}"));
        await StepAsync("group-add-device", "POST", "device-group/{group}/action?action_id=addDevice&device_id=fan-two");
        await StepAsync("group-devices", "GET", "device-group/{group}/devices");
        await StepAsync("group-list", "GET", "device-group");
        await StepAsync("group-show", "GET", "device-group/{group}");
        await StepAsync("group-update", "PUT", "device-group/{group}", """{"name":"blowers"}""");

        await StepAsync("batch-create", "POST", "batchtasks",
            """{"task_name":"greet","task_type":"createMessages","targets":["lamp_1","fan-two"],"document":{"message":"hello","name":"n"},"task_policy":{"schedule_time":"{tomorrow}","retry_count":2,"retry_interval":5}}""", made: ("task_id", "{task}"));
        await StepAsync("batch-create-for-a-group", "POST", "batchtasks", """{"task_name":"greet","task_type":"createMessages","targets_filter":{"group_ids":["{group}"]},"document":{"message":"hello"},"task_policy":{"schedule_time":"{tomorrow}"}}""", made: ("task_id", "{task2}"));
        await StepAsync("batch-create-other-type", "POST", "batchtasks", """{"task_name":"greet","task_type":"softwareUpgrade","targets":["lamp_1"],"document":{}}""");
        await UntilAsync("batchtasks/{task}", "\"status\":\"Waitting\"");
        await UntilAsync("batchtasks/{task2}", "\"status\":\"Waitting\"");
        await StepAsync("batch-list", "GET", "batchtasks?task_type=createMessages&limit=1");
        await StepAsync("batch-show", "GET", "batchtasks/{task}");
        await StepAsync("batch-stop", "POST", "batchtasks/{task}/stop", """{"targets":["lamp_1"]}""");
        await StepAsync("batch-retry-waiting", "POST", "batchtasks/{task}/retry");
        await StepAsync("batch-delete-waiting", "DELETE", "batchtasks/{task}");
        await StepAsync("batch-show-unknown", "GET", "batchtasks/ffffffffffffffffffffffff");

        await StepAsync("broadcast", "POST", "broadcast-messages", """{"app_id":"app","topic_full_name":"$oc/broadcast/all","message":"aGVsbG8=","message_id":"b-1"}""");
        await StepAsync("broadcast-not-base64", "POST", "broadcast-messages", """{"topic_full_name":"$oc/broadcast/all","message":"hello!"}""");

        await StepAsync("group-remove-device", "POST", "device-group/{group}/action?action_id=removeDevice&device_id=fan-two");
        await StepAsync("device-delete-with-sub-devices", "DELETE", "devices/fan-two");
        await StepAsync("device-delete", "DELETE", "devices/fan_3");
        await StepAsync("group-delete", "DELETE", "device-group/{group}");

        await StepAsync("error-no-token", "GET", "devices", token: null);
        await StepAsync("error-wrong-token", "GET", "devices", token: "wrong-token");
        await StepAsync("error-no-such-path", "GET", "nothing");
        await StepAsync("error-wrong-method", "PATCH", "devices");
        await StepAsync("error-other-project", "GET", "/v5/iot/elsewhere/devices");
        await StepAsync("error-not-json", "POST", "devices/lamp_1/messages", "{");
        await StepAsync("error-too-large", "POST", "devices/lamp_1/messages", "{\"message\":\"" + new string('x', 300_000) + "\"}", shown: "{\"message\":\"…300,000 letters\"}");
    }

    private async Task StepAsync(string name, string method, string path, string? body = null, string? token = Token, (string Member, string Name)? made = null, string? shown = null)
    {
        var wire = new StringBuilder();
        var target = path.StartsWith('/') ? path : $"/v5/iot/p1/{path}";
        Called.Add((method, target.Split('?')[0]));
        using var request = new HttpRequestMessage(new HttpMethod(method), Written(target));
        if (token is not null) request.Headers.Add("X-Auth-Token", token);
        if (body is not null) request.Content = new StringContent(Written(body), Encoding.UTF8, "application/json");
        wire.AppendLine($"{method} {target}");
        if (token is not null) wire.AppendLine($"X-Auth-Token: {(token == Token ? "{token}" : token)}");
        if (body is not null) wire.AppendLine("Content-Type: application/json").AppendLine().AppendLine(shown ?? body);

        using var response = await Http.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        if (made is var (member, as_) && Regex.Match(text, $"\"{member}\":\"([^\"]+)\"") is { Success: true } match) _known[as_] = match.Groups[1].Value;
        wire.AppendLine().AppendLine($"{(int)response.StatusCode} {response.StatusCode}");
        foreach (var (header, values) in response.Headers.Concat(response.Content.Headers).Where(h => h.Key is not ("Date" or "Server" or "Transfer-Encoding" or "Content-Length")).OrderBy(h => h.Key))
        {
            wire.AppendLine($"{header}: {(header switch { "X-Request-ID" => "{request}", "X-Subject-Token" => "{issued}", _ => string.Join(", ", values) })}");
        }

        if (text.Length > 0) wire.AppendLine().AppendLine(Named(text));
        Steps.Add(name, wire.ToString().ReplaceLineEndings("\n"));
    }

    private static string Authority()
    {
        using var key = RSA.Create(2048);
        var request = new CertificateRequest("CN=site CA", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(certificateAuthority: true, hasPathLengthConstraint: false, pathLengthConstraint: 0, critical: true));
        using var certificate = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(30));
        return certificate.ExportCertificatePem();
    }

    // What the node does by itself is done when an application can see it.
    private async Task UntilAsync(string path, string text)
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        while (true)
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, Written($"/v5/iot/p1/{path}"));
            request.Headers.Add("X-Auth-Token", Token);
            using var response = await Http.SendAsync(request, patience.Token);
            if ((await response.Content.ReadAsStringAsync(patience.Token)).Contains(text)) return;
        }
    }

    private string Written(string text)
    {
        foreach (var (name, value) in _known) text = text.Replace(name, value);
        return text.Replace("{tomorrow}", DateTime.UtcNow.AddDays(1).ToString("yyyyMMdd'T'HHmmss'Z'"));
    }

    private string Named(string text)
    {
        foreach (var (name, value) in _known) text = text.Replace(value, name);
        text = Micros().Replace(text, "{time.micros}");
        text = Millis().Replace(text, "{time.millis}");
        text = Compact().Replace(text, "{time}");
        text = Uuid().Replace(text, "{uuid}");
        text = Access().Replace(text, m => $"\"{m.Groups[1].Value}\":\"{{{m.Groups[2].Length} made letters and digits}}\"");
        text = Secret().Replace(text, "\"secret\":\"{made}\"");
        return RecordId().Replace(text, "\"{24 hex}\"");
    }

    [GeneratedRegex(@"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")]
    private static partial Regex Micros();

    [GeneratedRegex(@"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")]
    private static partial Regex Millis();

    [GeneratedRegex(@"\d{8}T\d{6}Z")]
    private static partial Regex Compact();

    [GeneratedRegex("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")]
    private static partial Regex Uuid();

    [GeneratedRegex("\"(access_key|access_code)\":\"([0-9A-Za-z]+)\"")]
    private static partial Regex Access();

    [GeneratedRegex("\"secret\":\"[0-9a-f]{32}\"")]
    private static partial Regex Secret();

    [GeneratedRegex("\"[0-9a-f]{24}\"")]
    private static partial Regex RecordId();
}
