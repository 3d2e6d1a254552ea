using IoTDelivery.Domain;

namespace IoTDelivery.Host.Api;

/// <summary>Who may call the REST API and how much at once. Section <c>Api</c>.</summary>
public sealed class ApiOptions
{
    /// <summary>The name of the section in <c>appsettings.json</c>.</summary>
    public const string Section = "Api";

    /// <summary>Largest request body: 1 MB (product description, "Limitations").</summary>
    public const int BodyBytesMax = 1024 * 1024;

    /// <summary>A fixed application token. Default: one is generated at the first start, stored with the site and written to <c>api-token</c> in the data folder.</summary>
    public string? Token { get; set; }

    /// <summary>The <c>project_id</c>s this site knows. Default none: any well-formed id.</summary>
    public string[] Projects { get; set; } = [];

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
        { ConcurrencyMax: < 1 } => "Api:ConcurrencyMax must be 1 or more.",
        { BroadcastsPerMinute: < 1 } => "Api:BroadcastsPerMinute must be 1 or more.",
        { QueueMax: < 0 } => "Api:QueueMax must be 0 or more.",
        _ when Projects.FirstOrDefault(p => !WireText.IsId(p, 64)) is { } bad => $"Api:Projects: '{bad}' is not a project_id (1 to 64 letters, digits, '_' or '-').",
        _ => null,
    };
}
