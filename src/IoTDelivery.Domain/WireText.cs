namespace IoTDelivery.Domain;

/// <summary>The alphabets the manual allows.</summary>
public static class WireText
{
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
