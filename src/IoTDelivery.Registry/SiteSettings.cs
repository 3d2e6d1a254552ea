using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Mapping;

namespace IoTDelivery.Registry;

/// <summary>Values every node of the site shares and nobody configured, such as the generated application token.</summary>
public sealed class SiteSettings(SqlDatabase database)
{
    /// <summary>The stored value; the first node that asks stores what <paramref name="first"/> makes.</summary>
    public async Task<string> GetOrAddAsync(string name, Func<string> first, CancellationToken cancel)
    {
        await using var db = database.Open();
        var settings = db.GetTable<Setting>();
        if (await settings.FirstOrDefaultAsync(s => s.Name == name, cancel) is { } stored) return stored.Value;
        await UniqueInsert.TryAsync(
            () => db.InsertAsync(new Setting { Name = name, Value = first() }, token: cancel),
            () => settings.AnyAsync(s => s.Name == name, cancel));
        return (await settings.FirstAsync(s => s.Name == name, cancel)).Value;
    }

    [Table("site_setting")]
    private sealed record Setting
    {
        [Column("name"), PrimaryKey] public required string Name { get; init; }
        [Column("value")] public required string Value { get; init; }
    }
}
