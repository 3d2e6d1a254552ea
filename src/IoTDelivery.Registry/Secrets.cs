using System.Xml.Linq;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Data;
using LinqToDB.Mapping;
using Microsoft.AspNetCore.DataProtection;
using Microsoft.AspNetCore.DataProtection.Repositories;

namespace IoTDelivery.Registry;

/// <summary>Device secrets at rest: encrypted by ASP.NET Data Protection with a key ring that every node of the site reads from the database.</summary>
public sealed class Secrets(IDataProtectionProvider protection)
{
    private readonly IDataProtector _protector = protection.CreateProtector("device-secret");

    /// <summary>For the table.</summary>
    public string Protect(string secret) => _protector.Protect(secret);

    /// <summary>Out of the table.</summary>
    public string Unprotect(string stored) => _protector.Unprotect(stored);

    /// <summary>A device for the table.</summary>
    internal Device Protect(Device device) => device with { Secret = Protect(device.Secret), SecondarySecret = device.SecondarySecret is { } second ? Protect(second) : null };

    /// <summary>A device out of the table.</summary>
    internal Device Unprotect(Device row) => row with { Secret = Unprotect(row.Secret), SecondarySecret = row.SecondarySecret is { } second ? Unprotect(second) : null };
}

/// <summary>The key ring of the site, in its database, so that the second node reads what the first one wrote.</summary>
public sealed class KeyRing(SqlDatabase database) : IXmlRepository
{
    public IReadOnlyCollection<XElement> GetAllElements()
    {
        using var db = database.Open();
        return [.. db.GetTable<KeyRow>().ToList().Select(row => XElement.Parse(row.Xml))];
    }

    public void StoreElement(XElement element, string friendlyName)
    {
        using var db = database.Open();
        db.Insert(new KeyRow { Name = friendlyName, Xml = element.ToString(SaveOptions.DisableFormatting) });
    }

    [Table("data_key")]
    private sealed record KeyRow
    {
        [Column("name"), PrimaryKey] public required string Name { get; init; }
        [Column("xml")] public required string Xml { get; init; }
    }
}
