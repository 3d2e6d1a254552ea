using System.Diagnostics.CodeAnalysis;

namespace IoTDelivery.Domain;

/// <summary>A valid device id: 1–128 of <c>A-Z a-z 0-9 _ -</c> (API manual, "Creating a Device").</summary>
public sealed record DeviceId
{
    /// <summary>What a device id must look like, for error messages.</summary>
    public const string Pattern = "1 to 128 letters, digits, '_' or '-'";

    private DeviceId(string value) => Value = value;

    /// <summary>The id as written on the wire.</summary>
    public string Value { get; }

    /// <summary>The only way to make a DeviceId, so every DeviceId in the system is a valid one.</summary>
    public static bool TryParse(string? text, [NotNullWhen(true)] out DeviceId? deviceId)
    {
        deviceId = WireText.IsId(text, 128) ? new DeviceId(text!) : null;
        return deviceId is not null;
    }

    /// <summary>For text that was a DeviceId before it was stored or sent.</summary>
    /// <exception cref="FormatException">The text is not a device id.</exception>
    public static DeviceId Parse(string text) =>
        TryParse(text, out var deviceId) ? deviceId : throw new FormatException($"'{text}' is not a device id: {Pattern}.");

    public override string ToString() => Value;
}
