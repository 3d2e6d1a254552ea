using System.Text.Json;

namespace IoTDelivery.Registry;

/// <summary>Where a notification has its members. The manual shows two shapes; public receivers read either.</summary>
public enum PushShape
{
    /// <summary>The user guide's: everything directly in <c>notify_data</c>.</summary>
    Flat = 0,

    /// <summary>The API reference's: <c>header</c> and <c>body</c> in <c>notify_data</c>.</summary>
    HeaderBody = 1,

    /// <summary>
    /// Both in one <c>notify_data</c>: no member of the one has the name of one of the other. What a device published
    /// stands there twice.
    /// </summary>
    Both = 2,
}

/// <summary>
/// The shape an action asks for: <c>shape</c> in its channel's member of <c>channel_detail</c>. Ours, not the manual's.
/// </summary>
public static class PushShapes
{
    /// <summary>The member's name.</summary>
    public const string Member = "shape";

    /// <summary>What an action may ask for, as it is spelled.</summary>
    public static readonly string[] Names = Enum.GetNames<PushShape>();

    /// <summary>What the action asks for; null if it leaves that to the site (<c>Push:Shape</c>).</summary>
    public static PushShape? Of(RuleAction action)
    {
        var channel = action.Channel == RuleAction.HttpForwarding ? HttpForwarding.Member : AmqpForwarding.Member;
        using var detail = JsonDocument.Parse(action.ChannelDetail);
        return detail.RootElement.TryGetProperty(channel, out var of) && of.TryGetProperty(Member, out var shape)
            && shape.ValueKind == JsonValueKind.String
            && Enum.TryParse<PushShape>(shape.GetString(), out var asked)
                ? asked
                : null;
    }
}
