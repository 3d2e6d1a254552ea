using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace IoTDelivery.Registry;

/// <summary>How the receiver of an HTTP action is reached: <c>channel_detail.http_forwarding</c>.</summary>
/// <param name="Url">Absolute, http or https.</param>
/// <param name="CertId">Names the CA that must have signed the receiver's certificate; null for those the machine trusts.</param>
/// <param name="ServerName">The name, with or without a port, that is asked for (SNI, Host header) and that the certificate must carry; null for that of <paramref name="Url"/>.</param>
/// <param name="Token">Signs each POST; null for none.</param>
/// <param name="Login">
/// Credentials of HTTP's Basic authentication, in Base64; null for none. They stand in the address:
/// <c>https://user:password@host/</c>.
/// </param>
public sealed record HttpForwarding(Uri Url, string? CertId = null, string? ServerName = null, string? Token = null, string? Login = null)
{
    /// <summary>The member of <c>channel_detail</c> it is read from.</summary>
    public const string Member = "http_forwarding";

    /// <summary>What an action says, or null if it is of another channel.</summary>
    public static HttpForwarding? Of(RuleAction action)
    {
        if (action.Channel != RuleAction.HttpForwarding || !Uri.TryCreate(action.Url, UriKind.Absolute, out var url)) return null;
        var login = url.UserInfo.Length == 0 ? null : Convert.ToBase64String(Encoding.UTF8.GetBytes(Uri.UnescapeDataString(url.UserInfo)));
        url = new Uri(WithoutLogin(action.Url!));
        using var detail = JsonDocument.Parse(action.ChannelDetail);
        if (!detail.RootElement.TryGetProperty(Member, out var http)) return new HttpForwarding(url, Login: login);
        return new HttpForwarding(
            url, Text("cert_id"), Is("sni_enable") ? Text("cn_name") : null, Is("signature_enable") ? Text("token") : null, login);

        string? Text(string name) => http.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

        bool Is(string name) => http.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.True;
    }

    /// <summary>The <c>channel_detail</c> of an action as it may be shown: its address without user and password.</summary>
    public static string Shown(RuleAction action)
    {
        if (action.Url is not { } address || WithoutLogin(address) == address || JsonNode.Parse(action.ChannelDetail) is not { } detail)
        {
            return action.ChannelDetail;
        }

        if (detail[Member] is JsonObject http) http["url"] = WithoutLogin(address);
        return detail.ToJsonString(AsGiven);
    }

    private static readonly JsonSerializerOptions AsGiven = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    // Cut out of the text as it was given: a Uri spells user and password its own way.
    private static string WithoutLogin(string address)
    {
        var start = address.IndexOf("://", StringComparison.Ordinal) + 3;
        var length = address.AsSpan(start).IndexOfAny("/\\?#");
        var authority = length < 0 ? address.AsSpan(start) : address.AsSpan(start, length);
        var at = authority.LastIndexOf('@');
        return at < 0 ? address : string.Concat(address.AsSpan(0, start), address.AsSpan(start + at + 1));
    }

    // A printed record must not show the token.
    public override string ToString() => Url.ToString();
}
