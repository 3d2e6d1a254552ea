using IoTDelivery.Domain;
using IoTDelivery.Host.Api.Authentication;

namespace IoTDelivery.Host.Api;

/// <summary>Who may call the REST API and how much at once. Section <c>Api</c>.</summary>
public sealed class ApiOptions
{
    /// <summary>The name of the section in <c>appsettings.json</c>.</summary>
    public const string Section = "Api";

    /// <summary>Largest request body: 1 MB (product description, "Limitations").</summary>
    public const int BodyBytesMax = 1024 * 1024;

    /// <summary>
    /// What is read of a body at most, in bytes: a client that is refused before its body has come still sends, and
    /// would be reset before it reads why. What is beyond <see cref="BodyBytesMax"/>, or nobody looks at, is thrown
    /// away behind the answer. Kestrel gives that five seconds, which cannot be set; 64 MB is what a line of 100 Mbit/s
    /// brings meanwhile.
    /// </summary>
    public const int DrainedBytesMax = 64 * 1024 * 1024;

    /// <summary>
    /// True: a request's <c>X-Forwarded-For</c> says where its client is, if a proxy among
    /// <c>Proxy:TrustedAddresses</c> brings it. The last address counts, which is the one that proxy saw. Default
    /// false: the connection's own address counts.
    /// </summary>
    public bool ForwardedHeaders { get; set; }

    /// <summary>A fixed application token. Default: one is generated at the first start, stored with the site and written to <c>api-token</c> in the data folder.</summary>
    public string? Token { get; set; }

    /// <summary>A fixed token for <c>/admin</c>. Default: one is generated at the first start, stored with the site and written to <c>admin-token</c> in the data folder.</summary>
    public string? AdminToken { get; set; }

    /// <summary>Key pairs that applications sign their requests with (AK/SK). Default none.</summary>
    public AccessKeyPair[] AccessKeys { get; set; } = [];

    /// <summary>How far the <c>X-Sdk-Date</c> of a signed request may be off, either way. Default 15 min, as the vendor's API gateway has it; IoTDA's own figure is not published.</summary>
    public TimeSpan SignatureClockSkew { get; set; } = TimeSpan.FromMinutes(15);

    /// <summary>Who may ask for a token with a password. Default nobody.</summary>
    public User[] Users { get; set; } = [];

    /// <summary>How long a token handed out is valid. Default 24 h, as the manual says.</summary>
    public TimeSpan TokenLifetime { get; set; } = TimeSpan.FromHours(24);

    /// <summary>Failed logins of one source (IPv4 address or IPv6 /64) per <see cref="LoginFailureWindow"/> and node; beyond it the answer is 403 with the rate-limit code. Default 10.</summary>
    public int LoginFailuresMax { get; set; } = 10;

    /// <summary>The time in which failed logins are counted. Default 1 min.</summary>
    public TimeSpan LoginFailureWindow { get; set; } = TimeSpan.FromMinutes(1);

    /// <summary>The <c>project_id</c>s this site knows. Default none: any well-formed id.</summary>
    public string[] Projects { get; set; } = [];

    /// <summary>Serves the OpenAPI document at <c>/openapi/v1.json</c> and its page at <c>/scalar</c>, to anybody. Default true.</summary>
    public bool OpenApi { get; set; } = true;

    /// <summary>Requests worked on at once per node. Default 1,000.</summary>
    public int ConcurrencyMax { get; set; } = 1_000;

    /// <summary>Requests that wait for their turn; beyond it the answer is 403 with the rate-limit code. Default 2,000.</summary>
    public int QueueMax { get; set; } = 2_000;

    /// <summary>Broadcasts per minute and node; beyond it the answer is 403 with the rate-limit code. Default 600; the cloud allows one.</summary>
    public int BroadcastsPerMinute { get; set; } = 600;

    /// <summary>True if requests may name this project.</summary>
    public bool Knows(string projectId) => WireText.IsId(projectId, 64) && (Projects.Length == 0 || Projects.Contains(projectId));

    /// <summary>What is wrong with these settings, naming the setting; null if nothing is.</summary>
    public string? Problem() => this switch
    {
        { Token: { } token } when token.Length < 8 || token.Any(c => c is < '!' or > '~') => "Api:Token must have 8 or more visible ASCII characters.",
        { AdminToken: { } token } when token.Length < 8 || token.Any(c => c is < '!' or > '~') => "Api:AdminToken must have 8 or more visible ASCII characters.",
        { AdminToken: { } admin, Token: { } token } when admin == token => "Api:AdminToken must not be Api:Token: applications would be operators.",
        { ConcurrencyMax: < 1 } => "Api:ConcurrencyMax must be 1 or more.",
        { BroadcastsPerMinute: < 1 } => "Api:BroadcastsPerMinute must be 1 or more.",
        { QueueMax: < 0 } => "Api:QueueMax must be 0 or more.",
        { SignatureClockSkew: var skew } when skew <= TimeSpan.Zero || skew > TimeSpan.FromDays(1) => "Api:SignatureClockSkew must be more than 0 and at most a day.",
        { TokenLifetime: var lifetime } when lifetime <= TimeSpan.Zero || lifetime > TimeSpan.FromDays(365) => "Api:TokenLifetime must be more than 0 and at most 365 days.",
        { LoginFailuresMax: < 1 } => "Api:LoginFailuresMax must be 1 or more.",
        { LoginFailureWindow: var window } when window <= TimeSpan.Zero || window > TimeSpan.FromDays(1) => "Api:LoginFailureWindow must be more than 0 and at most a day.",
        _ when AccessKeyPair.Problem(AccessKeys) is { } bad => bad,
        _ when User.Problem(Users) is { } bad => bad,
        _ when Projects.FirstOrDefault(p => !WireText.IsId(p, 64)) is { } bad => $"Api:Projects: '{bad}' is not a project_id (1 to 64 letters, digits, '_' or '-').",
        _ => null,
    };
}
