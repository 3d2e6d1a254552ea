using System.Buffers;
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

    private const int StackMax = 1_024;

    private BodyHash _hash;
    private volatile bool _isHashed;
    private int _size; // 1 more than Bytes; 0: not counted yet

    // A copy may be changed: it has a hash and a size of its own.
    private MessageBody(MessageBody original)
    {
        (Name, Content, Properties) = (original.Name, original.Content, original.Properties);
        (Kind, Encoding, Format) = (original.Kind, original.Encoding, original.Format);
        (Topic, Ttl) = (original.Topic, original.Ttl);
    }

    /// <summary>Equal hashes mean: the same message, asked again. It is made when it is asked for.</summary>
    public BodyHash Hash
    {
        get
        {
            if (_isHashed) return _hash;
            _hash = HashOf(this);
            _isHashed = true;
            return _hash;
        }
    }

    /// <summary>Size in bytes of UTF-8, as the limits count it.</summary>
    public int Bytes
    {
        get
        {
            if (_size == 0) _size = 1 + Utf8.GetByteCount(Content) + (Name is null ? 0 : Utf8.GetByteCount(Name));
            return _size - 1;
        }
    }

    public bool Equals(MessageBody? other) =>
        ReferenceEquals(this, other)
        || (other is not null
            && Content == other.Content && Topic == other.Topic && Name == other.Name && Ttl == other.Ttl
            && Kind == other.Kind && Encoding == other.Encoding && Format == other.Format
            && Equals(Properties, other.Properties));

    public override int GetHashCode() => HashCode.Combine(Name, Content, Topic, Ttl);

    private static Encoding Utf8 => System.Text.Encoding.UTF8;

    // Part of the stored layout (ended messages keep only their hash): every field goes in with its own tag and only when it is there,
    // so that a field added later leaves the hashes of older messages alone.
    private static BodyHash HashOf(MessageBody body)
    {
        var length = new Fields(default).AddAll(body);
        byte[]? rented = null;
        var buffer = length <= StackMax ? stackalloc byte[StackMax] : rented = ArrayPool<byte>.Shared.Rent(length);
        new Fields(buffer).AddAll(body);
        Span<byte> digest = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(buffer[..length], digest);
        if (rented is not null) ArrayPool<byte>.Shared.Return(rented);
        return new BodyHash(BinaryPrimitives.ReadUInt64BigEndian(digest), BinaryPrimitives.ReadUInt64BigEndian(digest[8..]));
    }

    // Written one after the other; into an empty buffer they are only counted.
    private ref struct Fields(Span<byte> buffer)
    {
        private readonly Span<byte> _buffer = buffer;
        private int _length;

        public int AddAll(MessageBody body)
        {
            Add(1, body.Name);
            Add(2, body.Content);
            AddNumber(3, (int)body.Kind);
            AddNumber(4, (int)body.Encoding);
            AddNumber(5, (int)body.Format);
            Add(6, body.Topic);
            AddNumber(7, body.Ttl);
            if (body.Properties is not { } properties) return _length;
            Add(8, properties.CorrelationData);
            Add(9, properties.ResponseTopic);
            foreach (var property in properties.UserProperties)
            {
                Add(10, property.Key);
                Add(11, property.Value);
            }

            return _length;
        }

        private void Add(byte tag, string? text)
        {
            if (text is null) return;
            var bytes = Utf8.GetByteCount(text);
            AddNumber(tag, bytes);
            if (!_buffer.IsEmpty) Utf8.GetBytes(text, _buffer[_length..]);
            _length += bytes;
        }

        private void AddNumber(byte tag, int number)
        {
            if (!_buffer.IsEmpty)
            {
                _buffer[_length] = tag;
                BinaryPrimitives.WriteInt32BigEndian(_buffer[(_length + 1)..], number);
            }

            _length += 5;
        }
    }
}
