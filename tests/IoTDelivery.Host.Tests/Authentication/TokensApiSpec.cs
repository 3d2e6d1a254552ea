using System.Net;
using static IoTDelivery.Host.Tests.Authentication.LoginPlatform;

namespace IoTDelivery.Host.Tests.Authentication;

/// <summary>A token for a password, and the id of a project (contract, "IAM token").</summary>
public sealed class TokensApiSpec(LoginPlatform platform) : IClassFixture<LoginPlatform>
{
    private static int _sources;

    private const string Tokens = "v3/auth/tokens?nocatalog=true";

    [Fact]
    public async Task A_user_gets_a_token_for_a_day_in_a_header_and_the_token_opens_the_API()
    {
        using var http = platform.From("127.0.0.2");

        using var answer = await http.PostAsync(Tokens, Json(Login("app", Password)));

        Assert.Equal(HttpStatusCode.Created, answer.StatusCode);
        Assert.Equal("application/json", answer.Content.Headers.ContentType!.ToString());
        var said = (await BodyAsync(answer)).GetProperty("token");
        Assert.Equal(TimeSpan.FromHours(24), said.GetProperty("expires_at").GetDateTime() - said.GetProperty("issued_at").GetDateTime());
        Assert.Matches(@"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", said.GetProperty("issued_at").GetString());
        Assert.Equal("password", Assert.Single(said.GetProperty("methods").EnumerateArray()).GetString());
        Assert.Equal(("p1", "p1"), (said.GetProperty("project").GetProperty("id").GetString(), said.GetProperty("project").GetProperty("name").GetString()));
        Assert.Equal("app", said.GetProperty("user").GetProperty("name").GetString());
        var token = Assert.Single(answer.Headers.GetValues("X-Subject-Token"));
        Assert.Equal(HttpStatusCode.OK, (await platform.SendAsync(HttpMethod.Get, "p1/devices", token: token)).Status);
        Assert.Equal(HttpStatusCode.Unauthorized, (await platform.SendAsync(HttpMethod.Get, "p1/devices", token: token[1..])).Status);
    }

    [Theory]
    [InlineData("app", Password, null, null, 201)] // no scope: the token is good for what Api:Projects says, as every login is
    [InlineData("app", Password, "whatever", """{"project":{"id":"p2"}}""", 201)]
    [InlineData("app", Password, "account", """{"domain":{"name":"account"}}""", 201)]
    [InlineData("app", Password, "account", """{"project":{"name":"p9"}}""", 404)]
    [InlineData("app", Password, "account", """{"project":{"id":"p9"}}""", 404)]
    [InlineData("tenant", Password, "factory", null, 201)]
    [InlineData("tenant", Password, "other", null, 401)]
    [InlineData("tenant", Password, null, null, 401)]
    [InlineData("App", Password, null, null, 401)]
    [InlineData("app", Password + " ", null, null, 401)]
    public async Task The_user_the_password_the_domain_and_the_project_must_be_right(string user, string password, string? domain, string? scope, int status)
    {
        using var http = platform.From($"127.0.1.{Interlocked.Increment(ref _sources)}");

        using var answer = await http.PostAsync(Tokens, Json(Login(user, password, domain, scope)));

        Assert.Equal(status, (int)answer.StatusCode);
        Assert.Equal(status == 201, answer.Headers.Contains("X-Subject-Token"));
    }

    [Fact]
    public async Task An_unknown_user_and_a_wrong_password_read_the_same()
    {
        using var http = platform.From("127.0.0.3");

        using var unknown = await http.PostAsync(Tokens, Json(Login("nobody", Password)));
        using var wrong = await http.PostAsync(Tokens, Json(Login("app", "wrong")));

        Assert.Equal((HttpStatusCode.Unauthorized, HttpStatusCode.Unauthorized), (unknown.StatusCode, wrong.StatusCode));
        Assert.Equal(await unknown.Content.ReadAsStringAsync(), await wrong.Content.ReadAsStringAsync());
        Assert.Equal("IOTDA.000002", (await BodyAsync(wrong)).GetProperty("error_code").GetString());
    }

    [Fact]
    public async Task A_source_that_failed_too_often_waits_even_with_the_right_password_and_no_other_source_does()
    {
        using var guesser = platform.From("127.0.0.4");
        using var other = platform.From("127.0.0.5");
        for (var i = 0; i < 3; i++) Assert.Equal(HttpStatusCode.Unauthorized, (await guesser.PostAsync(Tokens, Json(Login("app", $"guess {i}")))).StatusCode);

        using var refused = await guesser.PostAsync(Tokens, Json(Login("app", Password)));
        using var welcome = await other.PostAsync(Tokens, Json(Login("app", Password)));

        Assert.Equal(HttpStatusCode.Forbidden, refused.StatusCode);
        Assert.Equal("IOTDA.021101", (await BodyAsync(refused)).GetProperty("error_code").GetString());
        Assert.InRange(refused.Headers.RetryAfter!.Delta!.Value, TimeSpan.FromSeconds(1), TimeSpan.FromHours(1));
        Assert.Equal(HttpStatusCode.Created, welcome.StatusCode);
    }

    [Fact]
    public async Task Guesses_made_all_at_once_are_counted_too()
    {
        using var guesser = platform.From("127.0.0.6");

        var answers = await Task.WhenAll(Enumerable.Range(0, 20).Select(i => guesser.PostAsync(Tokens, Json(Login("app", $"guess {i}")))));

        var wrong = answers.Count(a => a.StatusCode == HttpStatusCode.Unauthorized);
        Assert.InRange(wrong, 3, 3 + Math.Max(1, Environment.ProcessorCount / 2)); // as many more as are checked at once
        Assert.Equal(20 - wrong, answers.Count(a => a.StatusCode == HttpStatusCode.Forbidden));
    }

    [Theory]
    [InlineData("{}", "auth is missing")]
    [InlineData("""{"auth":5}""", "auth must be a JSON object")]
    [InlineData("""{"auth":{}}""", "auth.identity is missing")]
    [InlineData("""{"auth":{"identity":{"methods":["token"],"password":{"user":{"name":"a","password":"b"}}}}}""", "auth.identity.methods must contain password")]
    [InlineData("""{"auth":{"identity":{"methods":[5],"password":{"user":{"name":"a","password":"b"}}}}}""", "auth.identity.methods must contain password")]
    [InlineData("""{"auth":{"identity":{"methods":["password"]}}}""", "auth.identity.password is missing")]
    [InlineData("""{"auth":{"identity":{"methods":["password"],"password":{}}}}""", "auth.identity.password.user is missing")]
    [InlineData("""{"auth":{"identity":{"methods":["password"],"password":{"user":{"password":"b"}}}}}""", "auth.identity.password.user.name is missing")]
    [InlineData("""{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"a"}}}}}""", "auth.identity.password.user.password is missing")]
    [InlineData("""{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"a","password":"b","domain":"c"}}}}}""", "auth.identity.password.user.domain must be a JSON object")]
    [InlineData("""{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"a","password":"b"}}},"scope":{"project":5}}}""", "auth.scope.project must be a JSON object")]
    public async Task A_login_that_is_wrong_in_itself_is_refused_and_the_answer_names_the_field(string body, string says)
    {
        using var http = platform.From("127.0.0.8");

        using var answer = await http.PostAsync(Tokens, Json(body));

        Assert.Equal(HttpStatusCode.BadRequest, answer.StatusCode);
        Assert.Contains(says, (await BodyAsync(answer)).GetProperty("error_msg").GetString());
    }

    [Theory]
    [InlineData("v3/projects", "p1 p2")]
    [InlineData("v3/projects?name=p2", "p2")]
    [InlineData("v3/projects?name=p9", "")]
    public async Task The_projects_of_the_site_are_found_by_name(string path, string ids)
    {
        using var http = platform.From("127.0.0.9");
        http.DefaultRequestHeaders.Add("X-Auth-Token", RunningPlatform.Token);

        var answer = await BodyAsync(await http.GetAsync(path));

        Assert.Equal(ids, string.Join(' ', answer.GetProperty("projects").EnumerateArray().Select(p => p.GetProperty("id").GetString())));
    }

    [Fact]
    public async Task Projects_are_told_to_nobody_without_a_login()
    {
        using var http = platform.From("127.0.0.10");

        Assert.Equal(HttpStatusCode.Unauthorized, (await http.GetAsync("v3/projects?name=p1")).StatusCode);
    }

    [Fact]
    public async Task An_unknown_access_key_and_a_wrong_signature_read_the_same()
    {
        using var http = platform.From("127.0.0.11");
        var date = DateTimeOffset.UtcNow.ToString("yyyyMMdd'T'HHmmss'Z'");
        var answers = new List<string>();
        foreach (var key in new[] { AccessKey, "unknown" })
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, "v5/iot/p1/devices");
            request.Headers.Add("X-Sdk-Date", date);
            request.Headers.TryAddWithoutValidation("Authorization", $"SDK-HMAC-SHA256 Access={key}, SignedHeaders=host;x-sdk-date, Signature={new string('0', 64)}");
            using var answer = await http.SendAsync(request);
            answers.Add($"{(int)answer.StatusCode} {await answer.Content.ReadAsStringAsync()}");
        }

        Assert.Equal("""401 {"error_code":"IOTDA.000002","error_msg":"Authentication failed: the access key or the signature is wrong."}""", answers[0]);
        Assert.Equal(answers[0], answers[1]);
    }
}
