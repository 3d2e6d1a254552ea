using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using IoTDelivery.Host.Api.Authentication;

namespace IoTDelivery.Host.Tests.Authentication;

/// <summary>A platform with users and a key pair. A test that fails to log in does so from an address of its own, because failures are counted per source.</summary>
public sealed class LoginPlatform : RunningPlatform
{
    public const string Password = "päss word", AccessKey = "AK1", SecretKey = "a-secret-key";

    protected override string[] Settings =>
    [
        "--Api:Users:0:Name=app", $"--Api:Users:0:PasswordHash={Passwords.Hash(Password)}",
        "--Api:Users:1:Name=tenant", $"--Api:Users:1:PasswordHash={Passwords.Hash(Password)}", "--Api:Users:1:Domain=factory",
        $"--Api:AccessKeys:0:AccessKey={AccessKey}", $"--Api:AccessKeys:0:SecretKey={SecretKey}",
        "--Api:LoginFailuresMax=3", "--Api:LoginFailureWindow=01:00:00",
    ];

    /// <summary>An HTTP client that comes from this loopback address; relative to the root, not to a project.</summary>
    public HttpClient From(string address) => new(new SocketsHttpHandler
    {
        ConnectCallback = async (context, cancel) =>
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            socket.Bind(new IPEndPoint(IPAddress.Parse(address), 0));
            await socket.ConnectAsync(context.DnsEndPoint, cancel);
            return new NetworkStream(socket, ownsSocket: true);
        },
    })
    { BaseAddress = new Uri(Http.BaseAddress!, "/") };

    /// <summary>A login as the manual writes it.</summary>
    public static string Login(string user, string password, string? domain = "account", string? scope = """{"project":{"name":"p1"}}""")
    {
        var who = domain is null ? new { name = user, password } : (object)new { name = user, password, domain = new { name = domain } };
        var identity = JsonSerializer.Serialize(new { methods = new[] { "password" }, password = new { user = who } });
        return $$"""{"auth":{"identity":{{identity}} {{(scope is null ? "" : $",\"scope\":{scope}")}} } }""";
    }

    public static StringContent Json(string body)
    {
        var content = new StringContent(body, Encoding.UTF8);
        content.Headers.Remove("Content-Type");
        content.Headers.TryAddWithoutValidation("Content-Type", "application/json;charset=UTF-8"); // as the SDK writes it, without a space
        return content;
    }

    public static async Task<JsonElement> BodyAsync(HttpResponseMessage response) => JsonSerializer.Deserialize<JsonElement>(await response.Content.ReadAsStringAsync());
}
