using System.Diagnostics.CodeAnalysis;

namespace IoTDelivery.Domain;

/// <summary>A valid message id: 1–128 of <c>A-Z a-z 0-9 _ -</c>, unique per device (API manual, "Delivering a Message").</summary>
public sealed record MessageId
{
    /// <summary>What a message id must look like, for error messages.</summary>
    public const string Pattern = "1 to 128 letters, digits, '_' or '-'";

    private MessageId(string value) => Value = value;

    /// <summary>The id as written on the wire.</summary>
    public string Value { get; }

    /// <summary>The only way to make a MessageId out of text.</summary>
    public static bool TryParse(string? text, [NotNullWhen(true)] out MessageId? messageId)
    {
        messageId = WireText.IsId(text, 128) ? new MessageId(text!) : null;
        return messageId is not null;
    }

    /// <summary>For text that was a MessageId before it was stored or sent.</summary>
    /// <exception cref="FormatException">The text is not a message id.</exception>
    public static MessageId Parse(string text) =>
        TryParse(text, out var messageId) ? messageId : throw new FormatException($"'{text}' is not a message id: {Pattern}.");

    public override string ToString() => Value;
}
