using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;

namespace IoTDelivery.Domain;

/// <summary>A valid message id: 1–128 of <c>A-Z a-z 0-9 _ -</c>, unique per device (API manual, "Delivering a Message").</summary>
public sealed record MessageId
{
    /// <summary>What a message id must look like, for error messages.</summary>
    public const string Pattern = "1 to 128 letters, digits, '_' or '-'";

    private const int LengthMax = 128;

    private IdDigest _digest; // made when it is asked for

    private MessageId(string value) => Value = value;

    /// <summary>The id as written on the wire.</summary>
    public string Value { get; }

    /// <summary>The only way to make a MessageId out of text.</summary>
    public static bool TryParse(string? text, [NotNullWhen(true)] out MessageId? messageId)
    {
        messageId = WireText.IsId(text, LengthMax) ? new MessageId(text!) : null;
        return messageId is not null;
    }

    /// <summary>For text that was a MessageId before it was stored or sent.</summary>
    /// <exception cref="FormatException">The text is not a message id.</exception>
    public static MessageId Parse(string text) =>
        TryParse(text, out var messageId) ? messageId : throw new FormatException($"'{text}' is not a message id: {Pattern}.");

    /// <summary>
    /// What an outbox remembers of the id. Stored in snapshots: it never changes. Asked for by one thread at a time.
    /// </summary>
    public IdDigest Digest => _digest == default ? _digest = DigestOf(Value) : _digest;

    public bool Equals(MessageId? other) => other is not null && Value == other.Value;

    public override int GetHashCode() => Value.GetHashCode();

    public override string ToString() => Value;

    private static IdDigest DigestOf(string value)
    {
        Span<byte> text = stackalloc byte[LengthMax];
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(text[..Encoding.ASCII.GetBytes(value, text)], hash);
        return new IdDigest(
            BinaryPrimitives.ReadUInt64BigEndian(hash),
            BinaryPrimitives.ReadUInt32BigEndian(hash[8..]));
    }
}
