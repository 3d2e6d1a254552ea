using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Security.Cryptography;
using System.Text;

namespace IoTDelivery.Domain;

/// <summary>How the application wrote <c>message</c>: as a JSON string or as a JSON value.</summary>
public enum ContentKind
{
    /// <summary>A JSON string; <see cref="MessageBody.Content"/> is its text.</summary>
    Text = 0,

    /// <summary>A JSON object; <see cref="MessageBody.Content"/> is its compact JSON text.</summary>
    Json = 1,
}

/// <summary><c>encoding</c> of the manual.</summary>
public enum ContentEncoding
{
    /// <summary>The content is text.</summary>
    None = 0,

    /// <summary>The content is Base64; the device gets the decoded bytes.</summary>
    Base64 = 1,
}

/// <summary><c>payload_format</c> of the manual; it counts only without an encoding.</summary>
public enum PayloadFormat
{
    /// <summary>The device gets a JSON object around the content.</summary>
    Standard = 0,

    /// <summary>The device gets the content itself.</summary>
    Raw = 1,
}

/// <summary>One MQTT 5 user property.</summary>
public sealed record UserProperty(string Key, string Value);

/// <summary>MQTT 5 properties of the PUBLISH; a 3.1.1 device does not see them.</summary>
public sealed record MessageProperties(string? CorrelationData, string? ResponseTopic, ImmutableArray<UserProperty> UserProperties);

/// <summary>128 bits over everything the application said of a message: the same id with another hash is another message.</summary>
public readonly record struct BodyHash(ulong High, ulong Low);

/// <summary>What the application wants the device to get. <see cref="Topic"/> is always the full topic; <see cref="Ttl"/> counts in units of <see cref="DeliveryPolicy.TtlUnit"/>.</summary>
public sealed record MessageBody(
    string? Name,
    string Content,
    ContentKind Kind,
    ContentEncoding Encoding,
    PayloadFormat Format,
    string Topic,
    int Ttl,
    MessageProperties? Properties = null)
{
    /// <summary>The manual's limit for one message, in bytes of UTF-8.</summary>
    public const int ContentBytesMax = 256 * 1024;

    /// <summary>Equal hashes mean: the same message, asked again.</summary>
    public BodyHash Hash { get; } = HashOf(Name, Content, Kind, Encoding, Format, Topic, Ttl, Properties);

    /// <summary>Size in bytes of UTF-8, as the limits count it.</summary>
    public int Bytes { get; } = Utf8.GetByteCount(Content) + (Name is null ? 0 : Utf8.GetByteCount(Name));

    private static Encoding Utf8 => System.Text.Encoding.UTF8;

    // Part of the stored layout (ended messages keep only their hash): every field goes in with its own tag and only when it is there,
    // so that a field added later leaves the hashes of older messages alone.
    private static BodyHash HashOf(
        string? name, string content, ContentKind kind, ContentEncoding encoding, PayloadFormat format, string topic, int ttl, MessageProperties? properties)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Add(1, name);
        Add(2, content);
        AddNumber(3, (int)kind);
        AddNumber(4, (int)encoding);
        AddNumber(5, (int)format);
        Add(6, topic);
        AddNumber(7, ttl);
        Add(8, properties?.CorrelationData);
        Add(9, properties?.ResponseTopic);
        foreach (var property in properties?.UserProperties ?? [])
        {
            Add(10, property.Key);
            Add(11, property.Value);
        }

        Span<byte> digest = stackalloc byte[32];
        hash.GetHashAndReset(digest);
        return new BodyHash(BinaryPrimitives.ReadUInt64BigEndian(digest), BinaryPrimitives.ReadUInt64BigEndian(digest[8..]));

        void Add(byte tag, string? text)
        {
            if (text is null) return;
            var bytes = Utf8.GetBytes(text);
            AddNumber(tag, bytes.Length);
            hash.AppendData(bytes);
        }

        void AddNumber(byte tag, int number)
        {
            Span<byte> field = stackalloc byte[5];
            field[0] = tag;
            BinaryPrimitives.WriteInt32BigEndian(field[1..], number);
            hash.AppendData(field);
        }
    }
}
