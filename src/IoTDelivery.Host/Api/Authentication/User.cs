namespace IoTDelivery.Host.Api.Authentication;

/// <summary>Who may ask for a token with a password. One entry of <c>Api:Users</c>.</summary>
public sealed class User
{
    /// <summary>The name in the login, 1 to 64 printable characters.</summary>
    public string Name { get; set; } = "";

    /// <summary>What the command <c>hash-password</c> printed. The password itself stands nowhere.</summary>
    public string PasswordHash { get; set; } = "";

    /// <summary>The domain (account) the login must name. Default none: whatever it names is right.</summary>
    public string? Domain { get; set; }

    /// <summary>What is wrong with these users, naming the setting; null if nothing is.</summary>
    public static string? Problem(User[] users)
    {
        for (var i = 0; i < users.Length; i++)
        {
            var name = users[i].Name;
            if (name.Length is 0 or > 64 || name.Any(char.IsControl)) return $"Api:Users:{i}:Name must have 1 to 64 printable characters.";
            if (!Passwords.IsHash(users[i].PasswordHash)) return $"Api:Users:{i}:PasswordHash is not what the command hash-password prints.";
            if (users.Take(i).Any(u => u.Name == name)) return $"Api:Users:{i}:Name '{name}' is there twice.";
        }

        return null;
    }
}
