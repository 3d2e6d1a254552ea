using System.Net;
using System.Text;
using IoTDelivery.EndToEnd.Harness;

namespace IoTDelivery.EndToEnd;

/// <summary>The life of an application as the vendor's SDK lives it, over real HTTP: signed either way, or with a token for a password.</summary>
public sealed class ApplicationLoginSpec(ApplicationLoginSpec.LoginSite site) : IClassFixture<ApplicationLoginSpec.LoginSite>
{
    private const string AccessKey = "QTWAOYTTINDUT2QVKYUC", SecretKey = "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc", Password = "a password";
    private const string V5 = $"/v5/iot/{Node.Project}";

    /// <summary>One node with a key pair and a user.</summary>
    public sealed class LoginSite : IAsyncLifetime
    {
        public Node Node { get; private set; } = null!;

        public Uri Address => new($"http://127.0.0.1:{Node.RestPort}");

        public async Task InitializeAsync() => Node = await Node.StartAsync(
            $"--Api:AccessKeys:0:AccessKey={AccessKey}", $"--Api:AccessKeys:0:SecretKey={SecretKey}", $"--Api:Projects:0={Node.Project}",
            "--Api:Users:0:Name=app", $"--Api:Users:0:PasswordHash={Host.Api.Authentication.Passwords.Hash(Password)}");

        public async Task DisposeAsync() => await Node.DisposeAsync();
    }

    [Theory]
    [InlineData("plain")]
    [InlineData("derived")]
    [InlineData("token")]
    public async Task An_application_moves_over_and_does_all_it_did(string login)
    {
        using var application = await LoginAsync(login);
        var product = (await ExpectAsync(201, HttpMethod.Post, $"{V5}/products", new
        {
            name = $"lamp {login}",
            device_type = "lamp",
            protocol_type = "MQTT",
            data_format = "json",
            service_capabilities = Array.Empty<object>(),
        })).GetProperty("product_id").GetString();
        var device = (await ExpectAsync(201, HttpMethod.Post, $"{V5}/devices", new { node_id = login, product_id = product, device_name = "hall * 1" })).GetProperty("device_id").GetString();
        var messages = $"{V5}/devices/{device}/messages";

        var sent = await ExpectAsync(201, HttpMethod.Post, messages, new { message = new { text = "grüß dich" }, ttl = 60 });
        var id = sent.GetProperty("message_id").GetString();

        Assert.Equal("PENDING", (await ExpectAsync(200, HttpMethod.Get, $"{messages}/{id}")).GetProperty("status").GetString());
        Assert.Equal(id, Assert.Single((await ExpectAsync(200, HttpMethod.Get, $"{messages}/")).GetProperty("messages").EnumerateArray()).GetProperty("message_id").GetString());
        var found = await ExpectAsync(200, HttpMethod.Get, $"{V5}/devices", query: [("product_id", product!), ("device_name", "hall * 1"), ("limit", "10")]);
        Assert.Equal(device, Assert.Single(found.GetProperty("devices").EnumerateArray()).GetProperty("device_id").GetString());
        await ExpectAsync(204, HttpMethod.Delete, $"{messages}/{id}");
        Assert.Equal(Node.Project, (await ExpectAsync(200, HttpMethod.Get, "/v3/projects", query: [("name", "cn-north-4")])).GetProperty("projects")[0].GetProperty("id").GetString());

        async Task<System.Text.Json.JsonElement> ExpectAsync(int status, HttpMethod method, string path, object? body = null, (string, string)[]? query = null)
        {
            var (answered, answer, response) = await application.SendAsync(method, path, body, query);
            Assert.True(status == (int)answered, $"{method} {path} was answered {(int)answered}: {answer}");
            Assert.True(response.Headers.Contains("X-Request-Id"));
            return answer;
        }
    }

    [Theory]
    [InlineData("plain")]
    [InlineData("derived")]
    public async Task What_was_changed_on_the_way_is_refused(string login)
    {
        using var application = await LoginAsync(login);
        var message = new { message = "hello" };
        (string What, Action<HttpRequestMessage> Change)[] changes =
        [
            ("body", r => r.Content = Like(r.Content!, """{"message":"other"}""")),
            ("body, declared unsigned", r =>
            {
                r.Content = Like(r.Content!, """{"message":"other"}""");
                r.Headers.Add("X-Sdk-Content-Sha256", "UNSIGNED-PAYLOAD");
            }),
            ("path", r => r.RequestUri = new Uri(r.RequestUri!, $"{V5}/devices/other/messages")),
            ("query", r => r.RequestUri = new Uri(r.RequestUri + "?a=b")),
            ("method", r => r.Method = HttpMethod.Put),
            ("instance", r => Set(r, "Instance-Id", "another")),
            ("date", r => Set(r, "X-Sdk-Date", DateTimeOffset.UtcNow.AddMinutes(1).ToString("yyyyMMdd'T'HHmmss'Z'"))),
            ("no date", r => r.Headers.Remove("X-Sdk-Date")),
            ("host", r => r.Headers.Host = "elsewhere"),
            ("key", r => Set(r, "Authorization", r.Headers.NonValidated["Authorization"].ToString().Replace(AccessKey, "Q" + AccessKey))),
        ];
        foreach (var (what, change) in changes)
        {
            var (status, answer, _) = await application.SendAsync(HttpMethod.Post, $"{V5}/devices/any/messages", message, tamper: change);

            Assert.True(status == HttpStatusCode.Unauthorized, $"{what}: {(int)status} {answer}");
            Assert.Equal("IOTDA.000002", answer.GetProperty("error_code").GetString());
        }

        Assert.Equal(HttpStatusCode.NotFound, (await application.SendAsync(HttpMethod.Post, $"{V5}/devices/any/messages", message)).Status); // unchanged it gets in: no such device
    }

    [Theory]
    [InlineData("plain", -16)]
    [InlineData("plain", 16)]
    [InlineData("derived", -16)]
    [InlineData("derived", 16)]
    public async Task A_request_signed_too_long_ago_or_in_the_future_is_refused_and_the_answer_says_so(string login, int minutes)
    {
        using var application = await LoginAsync(login);

        var (status, answer, _) = await application.SendAsync(HttpMethod.Get, $"{V5}/devices", signedAt: DateTimeOffset.UtcNow.AddMinutes(minutes));

        Assert.Equal(HttpStatusCode.Unauthorized, status);
        Assert.Contains("X-Sdk-Date", answer.GetProperty("error_msg").GetString());
    }

    [Fact]
    public async Task A_signed_body_over_1_MB_is_refused_as_any_other()
    {
        using var application = await LoginAsync("plain");

        var (status, answer, _) = await application.SendAsync(
            HttpMethod.Post, $"{V5}/devices/any/messages", new { message = new string('a', 1024 * 1024) });

        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, status);
        Assert.Equal("IOTDA.000008", answer.GetProperty("error_code").GetString());
    }

    [Fact]
    public async Task A_token_outlives_the_process_and_ends_with_the_password()
    {
        var hash = Host.Api.Authentication.Passwords.Hash(Password);
        await using var node = Node.Create("--Api:Users:0:Name=app");
        await node.StartAgainAsync($"--Api:Users:0:PasswordHash={hash}");
        var address = new Uri($"http://127.0.0.1:{node.RestPort}");
        using var application = new Application(address, null, await TokenAsync(address));

        await node.KillAsync();
        await node.StartAgainAsync($"--Api:Users:0:PasswordHash={hash}");
        Assert.Equal(HttpStatusCode.OK, (await application.SendAsync(HttpMethod.Get, $"{V5}/devices")).Status);

        await node.KillAsync();
        await node.StartAgainAsync($"--Api:Users:0:PasswordHash={Host.Api.Authentication.Passwords.Hash("another")}");
        Assert.Equal(HttpStatusCode.Unauthorized, (await application.SendAsync(HttpMethod.Get, $"{V5}/devices")).Status);
    }

    private async Task<Application> LoginAsync(string login) => login switch
    {
        "plain" => new Application(site.Address, new RequestSigner(AccessKey, SecretKey)),
        "derived" => new Application(site.Address, new RequestSigner(AccessKey, SecretKey, isDerived: true)),
        _ => new Application(site.Address, null, await TokenAsync(site.Address)),
    };

    private static async Task<string> TokenAsync(Uri address)
    {
        using var nobody = new Application(address, null);
        var (status, answer, response) = await nobody.SendAsync(HttpMethod.Post, "/v3/auth/tokens", query: [("nocatalog", "true")], body: new
        {
            auth = new
            {
                identity = new { methods = new[] { "password" }, password = new { user = new { name = "app", password = Password, domain = new { name = "account" } } } },
                scope = new { project = new { name = Node.Project } },
            },
        });
        Assert.True(status == HttpStatusCode.Created, answer.ToString());
        return response.Headers.GetValues("X-Subject-Token").Single();
    }

    private static ByteArrayContent Like(HttpContent original, string body)
    {
        var content = new ByteArrayContent(Encoding.UTF8.GetBytes(body));
        content.Headers.TryAddWithoutValidation("Content-Type", original.Headers.NonValidated["Content-Type"].ToString());
        return content;
    }

    private static void Set(HttpRequestMessage request, string name, string value)
    {
        request.Headers.Remove(name);
        request.Headers.TryAddWithoutValidation(name, value);
    }
}
