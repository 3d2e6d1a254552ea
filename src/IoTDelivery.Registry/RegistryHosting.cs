using IoTDelivery.Storage;
using Microsoft.AspNetCore.DataProtection;
using Microsoft.AspNetCore.DataProtection.KeyManagement;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;

namespace IoTDelivery.Registry;

public static class RegistryHosting
{
    /// <summary>Products, devices, secrets and rules, in the site's database.</summary>
    public static IServiceCollection AddRegistry(this IServiceCollection services)
    {
        foreach (var migration in RegistryMigrations.All) services.AddSingleton(migration);
        services.AddDataProtection().SetApplicationName("IoTDelivery");
        services.AddSingleton<IConfigureOptions<KeyManagementOptions>>(s =>
            new ConfigureOptions<KeyManagementOptions>(o => o.XmlRepository = new KeyRing(s.GetRequiredService<SqlDatabase>())));
        return services
            .AddSingleton<SiteSettings>()
            .AddSingleton<Secrets>()
            .AddSingleton<DeviceCache>()
            .AddSingleton<ConnectionLog>()
            .AddSingleton<SdkInfoLog>()
            .AddSingleton<Products>()
            .AddSingleton<DeviceGroups>()
            .AddSingleton<Devices>()
            .AddSingleton<SubDeviceList>()
            .AddSingleton<Rules>()
            .AddSingleton<RuleBook>()
            .AddSingleton<StatusChanges>()
            .AddSingleton<Certificates>()
            .AddSingleton<AmqpQueues>()
            .AddSingleton<AccessCodes>();
    }
}
