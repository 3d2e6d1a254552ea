using System.Text;

namespace IoTDelivery.Domain;

/// <summary>What text on the wire may hold: the alphabets of the manual, and the characters of MQTT.</summary>
public static class WireText
{
    /// <summary>Where the first U+0000 is, which no database column and no MQTT packet carries; null if there is none.</summary>
    public static int? Null(string text) => text.IndexOf('\0') is >= 0 and var at ? at : null;

    /// <summary>
    /// The first character for which a receiver may close the connection (MQTT 3.1.1 and 5, 1.5.4): control characters, halves
    /// of surrogate pairs, non-characters. Mosquitto does. Null if there is none.
    /// </summary>
    public static (int At, int Code)? Forbidden(string text)
    {
        for (var at = 0; at < text.Length; at++)
        {
            if (char.IsAsciiLetterOrDigit(text[at])) continue;
            if (!Rune.TryGetRuneAt(text, at, out var rune)) return (at, text[at]);
            var code = rune.Value;
            var isControl = code is <= 0x1F or (>= 0x7F and <= 0x9F);
            var isNoCharacter = (code & 0xFFFE) == 0xFFFE || code is >= 0xFDD0 and <= 0xFDEF;
            if (isControl || isNoCharacter) return (at, code);
            at += rune.Utf16SequenceLength - 1;
        }

        return null;
    }

    /// <summary>
    /// Text of a stranger for a column or a log: control characters and halves of surrogate pairs are U+FFFD, and what is
    /// longer than <paramref name="lengthMax"/> characters is cut off.
    /// </summary>
    public static string Clean(string text, int lengthMax)
    {
        if (text.Length <= lengthMax && Forbidden(text) is null) return text;
        var clean = new StringBuilder(Math.Min(text.Length, lengthMax));
        foreach (var rune in text.EnumerateRunes()) // a half is one of U+FFFD
        {
            if (clean.Length + rune.Utf16SequenceLength > lengthMax) break;
            clean.Append(Rune.IsControl(rune) ? "\uFFFD" : rune.ToString());
        }

        return clean.ToString();
    }

    /// <summary>True for 1 to <paramref name="lengthMax"/> characters out of <c>A-Z a-z 0-9 _ -</c>.</summary>
    public static bool IsId(string? text, int lengthMax)
    {
        if (string.IsNullOrEmpty(text) || text.Length > lengthMax) return false;
        foreach (var c in text)
        {
            if (!char.IsAsciiLetterOrDigit(c) && c is not ('_' or '-')) return false;
        }

        return true;
    }
}
