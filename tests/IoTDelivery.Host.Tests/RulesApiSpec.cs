using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using IoTDelivery.Push;
using IoTDelivery.Registry;
using IoTDelivery.Storage;
using LinqToDB;
using Microsoft.Extensions.DependencyInjection;

namespace IoTDelivery.Host.Tests;

/// <summary>"Data Transfer Rule Management" of the API manual, and our own dead letters.</summary>
public sealed class RulesApiSpec(RunningPlatform platform) : IClassFixture<RunningPlatform>
{
    private const string Rules = "p1/routing-rule/rules", Actions = "p1/routing-rule/actions";

    [Fact]
    public async Task A_rule_is_created_inactive_shown_activated_and_deleted()
    {
        var created = await Post(Rules, """{"rule_name":"one","description":"d","subject":{"resource":"device.message.status","event":"update"},"app_type":"APP","app_id":"app-1"}""");
        var ruleId = Text(created, "rule_id");
        Assert.Equal(
            $$"""{"rule_id":"{{ruleId}}","rule_name":"one","description":"d","subject":{"resource":"device.message.status","event":"update"},"app_type":"APP","app_id":"app-1","active":false}""",
            created.GetRawText());
        Assert.Equal(created.GetRawText(), (await Get($"{Rules}/{ruleId}")).GetRawText());

        var updated = await Put($"{Rules}/{ruleId}", """{"active":true,"rule_name":"two"}""");
        Assert.Equal(("two", "d", true), (Text(updated, "rule_name"), Text(updated, "description"), updated.GetProperty("active").GetBoolean()));

        Assert.Equal(HttpStatusCode.NoContent, (await platform.SendAsync(HttpMethod.Delete, $"{Rules}/{ruleId}")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await platform.SendAsync(HttpMethod.Get, $"{Rules}/{ruleId}")).Status);
    }

    [Fact]
    public async Task An_action_is_created_shown_listed_changed_and_deleted()
    {
        var ruleId = await RuleAsync(appId: "app-2");
        const string detail = """{"http_forwarding":{"url":"http://127.0.0.1:9/a","signature_enable":true,"token":"abc123"}}""";
        var created = await Post(Actions, $$"""{"rule_id":"{{ruleId}}","channel":"HTTP_FORWARDING","channel_detail":{{detail}}}""");
        var actionId = Text(created, "action_id");
        Assert.Equal($$"""{"action_id":"{{actionId}}","rule_id":"{{ruleId}}","channel":"HTTP_FORWARDING","channel_detail":{{detail}}}""", created.GetRawText());
        Assert.Equal(created.GetRawText(), (await Get($"{Actions}/{actionId}")).GetRawText());

        foreach (var filter in new[] { $"rule_id={ruleId}", "app_id=app-2", "app_id=app-2&app_type=APP", "app_id=app-2&channel=HTTP_FORWARDING" })
        {
            var listed = await Get($"{Actions}?{filter}");
            Assert.Equal(actionId, Text(Assert.Single(listed.GetProperty("actions").EnumerateArray()), "action_id"));
            Assert.Equal(1, listed.GetProperty("count").GetInt32());
            Assert.Equal(24, Text(listed, "marker").Length);
        }

        foreach (var filter in new[] { "app_id=app-2&app_type=GLOBAL", "app_id=app-3", $"rule_id={ruleId}&channel=AMQP_FORWARDING" })
        {
            Assert.Equal(0, (await Get($"{Actions}?{filter}")).GetProperty("count").GetInt32());
        }

        var changed = await Put($"{Actions}/{actionId}", """{"channel":"HTTP_FORWARDING","channel_detail":{"http_forwarding":{"url":"http://127.0.0.1:9/b"}}}""");
        Assert.Equal("""{"http_forwarding":{"url":"http://127.0.0.1:9/b"}}""", changed.GetProperty("channel_detail").GetRawText());
        Assert.Equal(HttpStatusCode.NoContent, (await platform.SendAsync(HttpMethod.Delete, $"{Actions}/{actionId}")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await platform.SendAsync(HttpMethod.Put, $"{Actions}/{actionId}", """{"channel_detail":{"http_forwarding":{"url":"http://127.0.0.1:9/b"}}}""")).Status);
    }

    [Theory]
    [InlineData("""{"url":"nowhere"}""", "channel_detail.http_forwarding.url must be an absolute http or https address")]
    [InlineData("""{"url":"http://h/","signature_enable":true}""", "token is missing: signature_enable is true")]
    [InlineData("""{"url":"http://h/","signature_enable":true,"token":"ab"}""", "token must have 3 to 32 characters")]
    [InlineData("""{"url":"http://h/","token":"a-b-c"}""", "token may only contain letters and digits")]
    [InlineData("""{"url":"http://h/","signature_enable":"yes"}""", "signature_enable must be true or false")]
    [InlineData("""{"url":"https://h/","sni_enable":true}""", "cn_name is missing: sni_enable is true")]
    [InlineData("""{"url":"https://h/","cn_name":"a b"}""", "cn_name may only contain")]
    [InlineData("""{"url":"https://h/","cert_id":"unknown"}""", "cert_id must be the certificate_id of a certificate")]
    [InlineData("""{"url":"http://h/","cert_id":"unknown"}""", "cert_id needs an https address")]
    [InlineData(
        """{"url":"http://h/","shape":"Round"}""",
        "channel_detail.http_forwarding.shape must be one of Flat, HeaderBody, Both")]
    [InlineData(
        """{"url":"http://h/","shape":2}""",
        "channel_detail.http_forwarding.shape must be one of Flat, HeaderBody, Both")]
    public async Task An_action_that_is_wrong_is_refused_and_the_answer_names_the_field(string http, string says)
    {
        var body = Action(await RuleAsync(), http);
        var (status, answer, _) = await platform.SendAsync(HttpMethod.Post, Actions, body);
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains(says, answer.GetProperty("error_msg").GetString());
    }

    [Theory]
    [InlineData("""{"resource":"device.property","event":"report"}""", "subject.resource must be one of device.message.status, device.status, device.message.")]
    [InlineData("""{"resource":"device.message.status","event":"create"}""", "subject.event must be one of update")]
    public async Task A_subject_that_is_not_forwarded_is_refused_and_the_answer_names_those_that_are(string subject, string says)
    {
        var (status, answer, _) = await platform.SendAsync(HttpMethod.Post, Rules, $$"""{"subject":{{subject}}}""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains(says, answer.GetProperty("error_msg").GetString());
    }

    [Fact]
    public async Task A_CA_is_uploaded_listed_named_by_an_action_and_deleted()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var ca = new CertificateRequest("CN=our CA, O=us", key, HashAlgorithmName.SHA256).CreateSelfSigned(
            new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero), new DateTimeOffset(2036, 1, 1, 0, 0, 0, TimeSpan.Zero));
        var pem = ca.ExportCertificatePem();
        var created = await Post("p1/certificates", JsonSerializer.Serialize(new { content = pem + "\n" + key.ExportPkcs8PrivateKeyPem(), app_id = "app-9" }));
        var id = Text(created, "certificate_id");
        Assert.Equal(("our CA", "20260101T000000Z", "20360101T000000Z"), (Text(created, "cn_name"), Text(created, "effective_date"), Text(created, "expiry_date")));
        Assert.DoesNotContain("PRIVATE", (await platform.Services.GetRequiredService<Certificates>().FindAsync(id, default))!.Content);

        var listed = await Get("p1/certificates?app_id=app-9");
        Assert.Equal(created.GetRawText(), Assert.Single(listed.GetProperty("certificates").EnumerateArray()).GetRawText());
        Assert.Equal(1, listed.GetProperty("page").GetProperty("count").GetInt32());
        var https = $$"""{"url":"https://h/","cert_id":"{{id}}"}""";
        await Post(Actions, Action(await RuleAsync(), https));
        Assert.Equal(HttpStatusCode.NotFound, (await platform.SendAsync(HttpMethod.Delete, $"p2/certificates/{id}")).Status);
        Assert.Equal(HttpStatusCode.NoContent, (await platform.SendAsync(HttpMethod.Delete, $"p1/certificates/{id}")).Status);
        Assert.Equal(HttpStatusCode.BadRequest, (await platform.SendAsync(HttpMethod.Post, Actions, Action(await RuleAsync(), https))).Status);
        var (status, answer, _) = await platform.SendAsync(HttpMethod.Post, "p1/certificates", """{"content":"no certificate"}""");
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Contains("content must be one or several certificates in PEM", Text(answer, "error_msg"));
    }

    [Fact]
    public async Task Dead_letters_are_listed_in_pages_replayed_and_forgotten()
    {
        var created = await Post(Actions, Action(await RuleAsync(), """{"url":"http://127.0.0.1:9/"}"""));
        var path = $"{Actions}/{Text(created, "action_id")}";
        await GiveUpAsync(Text(created, "action_id"), 3);

        var first = await Get($"{path}/dead-letters?limit=2");
        Assert.Equal((3, 2), (first.GetProperty("count").GetInt32(), first.GetProperty("dead_letters").GetArrayLength()));
        var letter = first.GetProperty("dead_letters")[0];
        Assert.Equal(("lamp_1", "HTTP 410", """{"n":1}"""), (Text(letter, "device_id"), Text(letter, "reason"), letter.GetProperty("notification").GetRawText()));
        var second = await Get($"{path}/dead-letters?limit=2&marker={Text(first, "marker")}");
        Assert.Equal("""{"n":3}""", Assert.Single(second.GetProperty("dead_letters").EnumerateArray()).GetProperty("notification").GetRawText());

        var forgotten = await platform.SendAsync(HttpMethod.Delete, $"{path}/dead-letters?up_to={Text(letter, "dead_letter_id")}");
        Assert.Equal("""{"forgotten":1}""", forgotten.Body.GetRawText());
        Assert.Equal("""{"count":0,"bytes":0}""", (await Get($"{path}/backlog")).GetRawText());
        Assert.Equal("""{"replayed":2}""", (await Send(HttpMethod.Post, $"{path}/dead-letters/replay", null, HttpStatusCode.OK)).GetRawText());
        Assert.Equal("""{"count":2,"bytes":14}""", (await Get($"{path}/backlog")).GetRawText()); // nobody listens on port 9

        Assert.Equal(HttpStatusCode.BadRequest, (await platform.SendAsync(HttpMethod.Delete, $"{path}/dead-letters")).Status);
        Assert.Equal(HttpStatusCode.BadRequest, (await platform.SendAsync(HttpMethod.Get, $"{path}/dead-letters?marker=x")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await platform.SendAsync(HttpMethod.Get, $"{Actions}/unknown/dead-letters")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await platform.SendAsync(HttpMethod.Post, $"{Actions}/unknown/dead-letters/replay")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await platform.SendAsync(HttpMethod.Delete, $"{Actions}/unknown/dead-letters?up_to={Text(letter, "dead_letter_id")}")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await platform.SendAsync(HttpMethod.Get, $"p2/routing-rule/actions/{Text(created, "action_id")}/backlog")).Status);
    }

    [Fact]
    public async Task A_page_of_dead_letters_is_bounded_in_bytes()
    {
        var created = await Post(Actions, Action(await RuleAsync(), """{"url":"http://127.0.0.1:9/"}"""));
        await GiveUpAsync(Text(created, "action_id"), 3, padding: 700_000);

        var page = await Get($"{Actions}/{Text(created, "action_id")}/dead-letters");
        Assert.Equal((3, 1), (page.GetProperty("count").GetInt32(), page.GetProperty("dead_letters").GetArrayLength()));
    }

    private async Task GiveUpAsync(string actionId, int letters, int padding = 0)
    {
        await using var db = platform.Services.GetRequiredService<SqlDatabase>().Open();
        for (var n = 1; n <= letters; n++)
        {
            var body = JsonSerializer.SerializeToUtf8Bytes(padding == 0 ? (object)new { n } : new { n, p = new string('x', padding) });
            await db.InsertAsync(new DeadLetter { ActionId = actionId, DeviceId = "lamp_1", Number = n, Body = body, Bytes = body.Length, CreatedAt = 0, Reason = "HTTP 410", DiedAt = 0 });
        }
    }

    private static string Action(string ruleId, string http) =>
        $$"""{"rule_id":"{{ruleId}}","channel":"HTTP_FORWARDING","channel_detail":{"http_forwarding":""" + http + "}}";

    private async Task<string> RuleAsync(string? appId = null) => Text(
        await Post(Rules, $$"""{"subject":{"resource":"device.message.status","event":"update"}{{(appId is null ? "" : $",\"app_type\":\"APP\",\"app_id\":\"{appId}\"")}}}"""), "rule_id");

    private static string Text(JsonElement json, string name) => json.GetProperty(name).GetString()!;

    private Task<JsonElement> Get(string path) => Send(HttpMethod.Get, path, null, HttpStatusCode.OK);

    private Task<JsonElement> Put(string path, string body) => Send(HttpMethod.Put, path, body, HttpStatusCode.OK);

    private Task<JsonElement> Post(string path, string body) => Send(HttpMethod.Post, path, body, HttpStatusCode.Created);

    private async Task<JsonElement> Send(HttpMethod method, string path, string? body, HttpStatusCode expected)
    {
        var (status, answer, _) = await platform.SendAsync(method, path, body);
        Assert.True(status == expected, $"{status} {answer}");
        return answer;
    }
}
