using System.Buffers.Text;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Text;
using System.Text.Json;
using IoTDelivery.Domain;

namespace IoTDelivery.Host.Api;

/// <summary>The body of "Delivering a Message", field by field with the manual's limits.</summary>
public static class CreateMessageRequest
{
    private const string NameAlphabet = "letters, digits, Chinese characters and _?'#().,&%@!-";

    /// <summary>True if the body is a message; else <paramref name="problem"/> names the field and its limit. No id means: one is to be made.</summary>
    public static bool TryParse(
        JsonElement json, DeviceId deviceId, out MessageId? messageId, [NotNullWhen(true)] out MessageBody? body, [NotNullWhen(false)] out string? problem)
    {
        var fields = new RequestFields(json);
        var id = fields.Id("message_id", 128);
        var name = fields.Text("name", 128, c => char.IsLetterOrDigit(c) || "_?'#().,&%@!- ".Contains(c), NameAlphabet);
        var (content, kind) = Content(fields);
        var encoding = fields.OneOf("encoding", ["none", "base64"]) == "base64" ? ContentEncoding.Base64 : ContentEncoding.None;
        var format = fields.OneOf("payload_format", ["standard", "raw"]) == "raw" ? PayloadFormat.Raw : PayloadFormat.Standard;
        var suffix = fields.Text("topic", 128);
        var full = fields.Text("topic_full_name", 128);
        var ttl = fields.Int("ttl", 0, DeliveryPolicy.TtlMax, DeliveryPolicy.TtlStep) ?? DeliveryPolicy.TtlDefault;
        var properties = Properties(fields);

        if (encoding == ContentEncoding.Base64 && content is not null && (kind != ContentKind.Text || !Base64.IsValid(content)))
        {
            fields.Wrong<string>("message", "must be a Base64 string when encoding is base64");
        }

        if (suffix is not null && full is not null) fields.Wrong<string>("topic", "and topic_full_name exclude each other");
        var topic = full ?? (suffix is null ? SystemTopics.MessagesDown(deviceId) : SystemTopics.User(deviceId, suffix));
        if (suffix is not null) fields.Topic("topic", suffix);
        if (full is not null) fields.Topic("topic_full_name", full, bytesMax: 128);

        messageId = id is null ? null : MessageId.Parse(id);
        problem = fields.Problem;
        body = problem is null ? new MessageBody(name, content!, kind, encoding, format, topic, ttl, properties) : null;
        return body is not null;
    }

    private static (string? Content, ContentKind Kind) Content(RequestFields fields)
    {
        if (!fields.Take("message", required: true, out var value)) return default;
        (string? Text, ContentKind) content = value.ValueKind switch
        {
            JsonValueKind.String => (value.GetString()!, ContentKind.Text),
            JsonValueKind.Object => (RequestFields.Compact(value), ContentKind.Json),
            _ => (fields.Wrong<string>("message", "must be a string or a JSON object"), default),
        };
        if (content.Text is not null && Encoding.UTF8.GetByteCount(content.Text) is var bytes && bytes > MessageBody.ContentBytesMax)
        {
            fields.Wrong<string>("message", $"must not be larger than {MessageBody.ContentBytesMax} bytes of UTF-8 (256 KB), not {bytes}");
        }

        return content;
    }

    private static MessageProperties? Properties(RequestFields fields)
    {
        if (fields.Object("properties") is not { } given) return null;
        var correlation = given.Id("correlation_data", 128);
        var response = given.Text("response_topic", 128, c => char.IsAsciiLetterOrDigit(c) || "_-?=$#+/".Contains(c), "letters, digits and _-?=$#+/");
        var user = new List<UserProperty>();
        var items = given.Array("user_properties", 20) ?? [];
        for (var i = 0; i < items.Count; i++)
        {
            var item = new RequestFields(items[i], $"properties.user_properties[{i}].");
            var key = item.Id("prop_key", 128, required: true);
            var value = item.Text("prop_value", 128, c => char.IsLetterOrDigit(c) || "_? '#().,&%@!-".Contains(c), NameAlphabet + " and space", required: true);
            given.Adopt(item);
            if (key is not null && value is not null) user.Add(new UserProperty(key, value));
        }

        fields.Adopt(given);
        return new MessageProperties(correlation, response, user.ToImmutableArray());
    }
}
