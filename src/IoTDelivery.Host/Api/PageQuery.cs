using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using IoTDelivery.Registry;

namespace IoTDelivery.Host.Api;

/// <summary><c>limit</c>, <c>marker</c> and <c>offset</c> of a list, as every list of the manual takes them.</summary>
public static class PageQuery
{
    public static bool TryParse(IQueryCollection query, out Page page, [NotNullWhen(false)] out string? problem)
    {
        page = Page.First;
        problem = null;
        if (!Number("limit", 1, 50, page.Limit, out var limit)) problem = "limit must be a whole number from 1 to 50.";
        if (!Number("offset", 0, 500, 0, out var offset)) problem ??= "offset must be a whole number from 0 to 500.";
        var marker = query["marker"].FirstOrDefault() is { Length: > 0 } given ? given.ToLowerInvariant() : Page.NewestMarker;
        if (marker.Length != 24 || !marker.All(char.IsAsciiHexDigit)) problem ??= "marker must have 24 hexadecimal digits.";
        page = new Page(limit, marker, offset);
        return problem is null;

        bool Number(string name, int min, int max, int absent, out int value)
        {
            value = absent;
            return query[name].FirstOrDefault() is not { Length: > 0 } text || (int.TryParse(text, out value) && value >= min && value <= max);
        }
    }

    /// <summary>The <c>page</c> member of a list's answer.</summary>
    public static void Write(Utf8JsonWriter json, int count, string? marker)
    {
        json.WriteStartObject("page");
        json.WriteNumber("count", count);
        if (marker is not null) json.WriteString("marker", marker);
        json.WriteEndObject();
    }
}
