using System.Text.Json;

namespace IoTDelivery.Registry;

/// <summary>How the receiver of an HTTP action is reached: <c>channel_detail.http_forwarding</c>.</summary>
/// <param name="Url">Absolute, http or https.</param>
/// <param name="CertId">Names the CA that must have signed the receiver's certificate; null for those the machine trusts.</param>
/// <param name="ServerName">The name, with or without a port, that is asked for (SNI, Host header) and that the certificate must carry; null for that of <paramref name="Url"/>.</param>
/// <param name="Token">Signs each POST; null for none.</param>
public sealed record HttpForwarding(Uri Url, string? CertId = null, string? ServerName = null, string? Token = null)
{
    /// <summary>The member of <c>channel_detail</c> it is read from.</summary>
    public const string Member = "http_forwarding";

    /// <summary>What an action says, or null if it is of another channel.</summary>
    public static HttpForwarding? Of(RuleAction action)
    {
        if (action.Channel != RuleAction.HttpForwarding || !Uri.TryCreate(action.Url, UriKind.Absolute, out var url)) return null;
        using var detail = JsonDocument.Parse(action.ChannelDetail);
        if (!detail.RootElement.TryGetProperty(Member, out var http)) return new HttpForwarding(url);
        return new HttpForwarding(
            url, Text("cert_id"), ServerName: Is("sni_enable") ? Text("cn_name") : null, Token: Is("signature_enable") ? Text("token") : null);

        string? Text(string name) => http.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

        bool Is(string name) => http.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.True;
    }

    // A printed record must not show the token.
    public override string ToString() => Url.ToString();
}
