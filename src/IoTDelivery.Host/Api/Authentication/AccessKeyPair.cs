using IoTDelivery.Domain;

namespace IoTDelivery.Host.Api.Authentication;

/// <summary>What an application signs its requests with (AK/SK). One entry of <c>Api:AccessKeys</c>.</summary>
public sealed class AccessKeyPair
{
    /// <summary>Who signs: 1 to 64 letters, digits, '_' or '-'. It travels with the request.</summary>
    public string AccessKey { get; set; } = "";

    /// <summary>What it signs with: 8 or more visible ASCII characters. It never travels.</summary>
    public string SecretKey { get; set; } = "";

    /// <summary>What is wrong with these pairs, naming the setting; null if nothing is.</summary>
    public static string? Problem(AccessKeyPair[] pairs)
    {
        for (var i = 0; i < pairs.Length; i++)
        {
            var (key, secret) = (pairs[i].AccessKey, pairs[i].SecretKey);
            if (!WireText.IsId(key, 64)) return $"Api:AccessKeys:{i}:AccessKey must have 1 to 64 letters, digits, '_' or '-'.";
            if (secret.Length < 8 || secret.Any(c => c is < '!' or > '~')) return $"Api:AccessKeys:{i}:SecretKey must have 8 or more visible ASCII characters.";
            if (pairs.Take(i).Any(p => p.AccessKey == key)) return $"Api:AccessKeys:{i}:AccessKey '{key}' is there twice.";
        }

        return null;
    }
}
