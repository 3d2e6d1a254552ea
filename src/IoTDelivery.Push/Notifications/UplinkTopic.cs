using IoTDelivery.Domain;

namespace IoTDelivery.Push;

/// <summary>A topic devices publish on, as far as applications hear of it.</summary>
/// <param name="Name">
/// The topic as applications are told it: without the parameters that were understood (<c>request_id</c>). What else
/// stands behind the question mark stays.
/// </param>
/// <param name="RequestId">
/// The device's own id of the request; null if it gave none, or none that is 1 to 128 letters, digits, '_' or '-'.
/// </param>
/// <param name="IsMessagesUp">True for the system topic of device messages.</param>
/// <param name="IsGzip">True if the payload is compressed: <c>encoding=gzip</c>, as the official SDKs send it.</param>
internal readonly record struct UplinkTopic(
    string Name, string? RequestId, bool IsMessagesUp = false, bool IsGzip = false)
{
    private const string RequestIdName = "request_id=";
    private const string Gzip = "encoding=gzip";

    /// <summary>Null for topics that are the platform's business: properties, events, answers.</summary>
    public static UplinkTopic? Of(DeviceId deviceId, string topic)
    {
        // A question mark there is the device's own.
        if (!topic.StartsWith("$oc/", StringComparison.Ordinal)) return new(topic, null);

        var query = topic.IndexOf('?');
        var path = query < 0 ? topic : topic[..query];
        var ownUser = SystemTopics.User(deviceId, "");
        var isMessagesUp = path == MessagesUp(deviceId);
        if (!isMessagesUp
            && !(path.StartsWith(ownUser, StringComparison.Ordinal) && path.Length > ownUser.Length))
        {
            return null;
        }

        if (query < 0) return new(path, null, isMessagesUp);

        string? requestId = null;
        var parameters = topic[(query + 1)..].Split('&')
            .Where(parameter => !IsRequestId(parameter, ref requestId)).ToArray();
        return new(WithParameters(path, parameters), requestId, isMessagesUp, parameters.Contains(Gzip));
    }

    public static string MessagesUp(DeviceId deviceId) => $"$oc/devices/{deviceId}/sys/messages/up";

    /// <summary>The topic when the payload is not compressed any more.</summary>
    public UplinkTopic Inflated()
    {
        var query = Name.IndexOf('?');
        return this with
        {
            Name = WithParameters(Name[..query], Name[(query + 1)..].Split('&').Where(p => p != Gzip)),
            IsGzip = false,
        };
    }

    private static bool IsRequestId(string parameter, ref string? requestId)
    {
        if (requestId is not null || !parameter.StartsWith(RequestIdName, StringComparison.Ordinal)) return false;
        if (!WireText.IsId(parameter[RequestIdName.Length..], 128)) return false;
        requestId = parameter[RequestIdName.Length..];
        return true;
    }

    private static string WithParameters(string path, IEnumerable<string> parameters) =>
        string.Join('&', parameters) is { Length: > 0 } query ? $"{path}?{query}" : path;
}
