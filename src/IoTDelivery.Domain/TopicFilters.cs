namespace IoTDelivery.Domain;

/// <summary>What a device subscribed: a topic filter and the granted QoS (0 or 1).</summary>
public sealed record Subscription(string TopicFilter, int QoS)
{
    /// <summary>True if a message on <paramref name="topic"/> goes out through this subscription.</summary>
    public bool Matches(string topic) => TopicFilters.Matches(TopicFilter, topic);
}

/// <summary>Topic names and topic filters, MQTT 3.1.1 and 5 chapter 4.7.</summary>
public static class TopicFilters
{
    /// <summary>[MQTT-4.7.1-1..3] '#' only as the last level, '+' only as a whole level; [MQTT-4.7.3-1..3] not empty, no U+0000, at most 65,535 bytes.</summary>
    public static bool IsValidFilter(string filter)
    {
        if (!IsUsable(filter)) return false;
        for (var i = 0; i < filter.Length; i++)
        {
            if (filter[i] is not ('#' or '+')) continue;
            var wholeLevel = (i == 0 || filter[i - 1] == '/') && (i == filter.Length - 1 || filter[i + 1] == '/');
            if (!wholeLevel || (filter[i] == '#' && i != filter.Length - 1)) return false;
        }

        return true;
    }

    /// <summary>[MQTT-3.3.2-2] A topic to publish on has no wildcards.</summary>
    public static bool IsValidTopic(string topic) => IsUsable(topic) && topic.AsSpan().IndexOfAny('#', '+') < 0;

    /// <summary>[MQTT-4.7.2-1] A filter that starts with a wildcard does not match topics that start with '$'.</summary>
    public static bool Matches(string filter, string topic)
    {
        if (topic is ['$', ..] && filter is ['#' or '+', ..]) return false;

        ReadOnlySpan<char> f = filter, t = topic;
        while (true)
        {
            var level = Level(f);
            if (level is "#") return true;
            var name = Level(t);
            if (level is not "+" && !level.SequenceEqual(name)) return false;
            var (filterEnds, topicEnds) = (level.Length == f.Length, name.Length == t.Length);
            if (topicEnds) return filterEnds || f[(level.Length + 1)..] is "#"; // "sport/#" matches "sport" too
            if (filterEnds) return false;
            f = f[(level.Length + 1)..];
            t = t[(name.Length + 1)..];
        }
    }

    private static ReadOnlySpan<char> Level(ReadOnlySpan<char> text)
    {
        var slash = text.IndexOf('/');
        return slash < 0 ? text : text[..slash];
    }

    private static bool IsUsable(string text) =>
        text.Length > 0 && !text.Contains('\0') && System.Text.Encoding.UTF8.GetByteCount(text) <= 65535;
}
