using System.Security.Cryptography;
using IoTDelivery.Host.Api;
using IoTDelivery.Host.Api.Authentication;
using IoTDelivery.Registry;
using IoTDelivery.Storage;

namespace IoTDelivery.Host;

/// <summary>The tokens of the site: configured, or made once, kept encrypted in the database and written where their owner finds them.</summary>
public static class Login
{
    /// <summary>Where a generated token lies, readable by its owner only: <c>api-token</c>, <c>admin-token</c>.</summary>
    public static string TokenFile(SqlDatabase database, string name = "api-token") => Path.Combine(database.DataFolder, name);

    public static async Task PrepareAsync(IServiceProvider services)
    {
        var options = services.GetRequiredService<ApiOptions>();
        services.GetRequiredService<ApiToken>().Value = options.Token ?? await GeneratedAsync(services, "api-token");
        services.GetRequiredService<AdminToken>().Value = options.AdminToken ?? await GeneratedAsync(services, "admin-token");
    }

    private static async Task<string> GeneratedAsync(IServiceProvider services, string name)
    {
        var (database, secrets) = (services.GetRequiredService<SqlDatabase>(), services.GetRequiredService<Secrets>());
        var stored = await services.GetRequiredService<SiteSettings>().GetOrAddAsync(
            name, () => secrets.Protect(RandomNumberGenerator.GetHexString(48, lowercase: true)), CancellationToken.None);
        var (token, file) = (secrets.Unprotect(stored), TokenFile(database, name));
        Directory.CreateDirectory(database.DataFolder);
        if (File.Exists(file) && File.ReadAllText(file) == token) return token;
        File.Delete(file);
        var open = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows()) open.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        await using var writer = new StreamWriter(file, open);
        await writer.WriteAsync(token);
        return token;
    }
}
