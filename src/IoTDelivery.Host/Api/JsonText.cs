using System.Buffers;
using System.Globalization;
using System.Text.Json;
using System.Text.Unicode;

namespace IoTDelivery.Host.Api;

/// <summary>
/// Looks whether every string of a JSON text is text: bytes that are UTF-8, and escapes that are whole characters. A parser
/// does not look: it throws when somebody asks for the string.
/// </summary>
public static class JsonText
{
    /// <summary>What is wrong: the field, and the byte of the body at which it is wrong. Null if all of it is text.</summary>
    /// <exception cref="JsonException">It is no JSON.</exception>
    public static string? Problem(ReadOnlySpan<byte> json)
    {
        // Nearly every body passes here: escapes of surrogates are what clients write that know ASCII alone.
        if (Utf8.IsValid(json) && json.IndexOf("\\ud"u8) < 0 && json.IndexOf("\\uD"u8) < 0) return null;

        var reader = new Utf8JsonReader(json);
        var path = new FieldPath();
        while (reader.Read())
        {
            path.On(reader);
            if (reader.TokenType is not (JsonTokenType.PropertyName or JsonTokenType.String)) continue;
            var text = reader.ValueSpan;
            var start = reader.TokenStartIndex + 1; // behind the quotation mark
            if (FirstInvalidByte(text) is >= 0 and var at)
            {
                return $"{path} must be UTF-8: byte {start + at} of the body is 0x{text[at]:X2}.";
            }

            if (FirstHalfCharacter(text) is >= 0 and var half)
            {
                var escape = System.Text.Encoding.ASCII.GetString(text.Slice(half, 6));
                return $"{path} must be whole characters: {escape} at byte {start + half} of the body is half a surrogate pair.";
            }

            path.Named(reader);
        }

        return null;
    }

    private static int FirstInvalidByte(ReadOnlySpan<byte> text)
    {
        for (var at = 0; at < text.Length;)
        {
            if (System.Text.Rune.DecodeFromUtf8(text[at..], out _, out var length) != OperationStatus.Done) return at;
            at += length;
        }

        return -1;
    }

    // Escapes are well formed here: the reader has looked.
    private static int FirstHalfCharacter(ReadOnlySpan<byte> text)
    {
        var high = -1; // where the first half of a pair is, if it is just before
        for (var at = 0; at < text.Length;)
        {
            var isEscape = text[at] == '\\';
            var unit = isEscape && text[at + 1] == 'u' ? CodeUnit(text.Slice(at + 2, 4)) : '\0';
            if (char.IsLowSurrogate(unit))
            {
                if (high < 0) return at;
                high = -1;
            }
            else if (high >= 0)
            {
                return high;
            }
            else if (char.IsHighSurrogate(unit))
            {
                high = at;
            }

            at += !isEscape ? 1 : text[at + 1] == 'u' ? 6 : 2;
        }

        return high;
    }

    private static char CodeUnit(ReadOnlySpan<byte> hex) =>
        (char)ushort.Parse(hex, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

    /// <summary>Where in the JSON text the reader is, as errors name a field: <c>properties.user_properties[0].prop_key</c>.</summary>
    private sealed class FieldPath
    {
        private readonly List<Level> _levels = [new()];

        private sealed class Level
        {
            public string? Name { get; set; }
            public int? Index { get; set; }
        }

        /// <summary>Before the token is looked at.</summary>
        public void On(in Utf8JsonReader reader)
        {
            switch (reader.TokenType)
            {
                case JsonTokenType.EndObject or JsonTokenType.EndArray:
                    _levels.RemoveAt(_levels.Count - 1);
                    break;
                case JsonTokenType.PropertyName:
                    _levels[^1].Name = null;
                    break;
                default:
                    if (_levels[^1].Index is { } index) _levels[^1].Index = index + 1;
                    if (reader.TokenType == JsonTokenType.StartObject) _levels.Add(new Level());
                    if (reader.TokenType == JsonTokenType.StartArray) _levels.Add(new Level { Index = -1 });
                    break;
            }
        }

        /// <summary>A name that is text.</summary>
        public void Named(in Utf8JsonReader reader)
        {
            if (reader.TokenType == JsonTokenType.PropertyName) _levels[^1].Name = reader.GetString();
        }

        public override string ToString()
        {
            var path = new System.Text.StringBuilder();
            foreach (var level in _levels.Skip(1))
            {
                if (level.Index is { } index) path.Append('[').Append(index).Append(']');
                else if (level.Name is { } name) path.Append(path.Length == 0 ? "" : ".").Append(name);
                else path.Append(path.Length == 0 ? "a member's name" : ".(a member's name)");
            }

            return path.Length == 0 ? "The body" : path.ToString();
        }
    }
}
