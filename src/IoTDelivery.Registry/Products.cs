using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Mapping;

namespace IoTDelivery.Registry;

/// <summary>A product: what its devices have in common.</summary>
[Table("product")]
public sealed record Product
{
    [Column("product_id"), PrimaryKey] public required string ProductId { get; init; }
    [Column("record_id")] public required string RecordId { get; init; }
    [Column("project_id")] public required string ProjectId { get; init; }
    [Column("app_id")] public string? AppId { get; init; }
    [Column("name")] public required string Name { get; init; }
    [Column("device_type")] public required string DeviceType { get; init; }
    [Column("protocol_type")] public required string ProtocolType { get; init; }
    [Column("data_format")] public required string DataFormat { get; init; }

    /// <summary>JSON, as given.</summary>
    [Column("service_capabilities")] public required string ServiceCapabilities { get; init; }
    [Column("manufacturer_name")] public string? ManufacturerName { get; init; }
    [Column("industry")] public string? Industry { get; init; }
    [Column("description")] public string? Description { get; init; }

    /// <summary>Milliseconds since 1970, UTC.</summary>
    [Column("created_at")] public required long CreatedAt { get; init; }
}

/// <summary>The products of this site. Ids are unique across projects; another project's product reads as missing.</summary>
public sealed class Products(SqlDatabase database)
{
    /// <summary>False if the id is taken.</summary>
    public async Task<bool> AddAsync(Product product, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await UniqueInsert.TryAsync(
            () => db.InsertAsync(product, token: cancel),
            () => db.GetTable<Product>().AnyAsync(p => p.ProductId == product.ProductId, cancel));
    }

    /// <summary>The product, or null if this project has none of this id.</summary>
    public async Task<Product?> FindAsync(string projectId, string productId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<Product>().FirstOrDefaultAsync(p => p.ProductId == productId && p.ProjectId == projectId, cancel);
    }

    /// <summary>The product as it is afterwards, or null if this project has none of this id.</summary>
    public async Task<Product?> UpdateAsync(string projectId, string productId, Func<Product, Product> change, CancellationToken cancel)
    {
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        if (await db.GetTable<Product>().FirstOrDefaultAsync(p => p.ProductId == productId && p.ProjectId == projectId, cancel) is not { } before) return null;
        var after = change(before);
        await db.UpdateAsync(after, token: cancel);
        await transaction.CommitAsync(cancel);
        return after;
    }

    /// <summary>Removes a product without devices.</summary>
    /// <returns>Null if this project has none of this id; false if it still has devices.</returns>
    public async Task<bool?> RemoveAsync(string projectId, string productId, CancellationToken cancel)
    {
        await using var db = database.Open();
        await using var transaction = await db.BeginTransactionAsync(cancel);
        var own = db.GetTable<Product>().Where(p => p.ProductId == productId && p.ProjectId == projectId);
        if (!await own.AnyAsync(cancel)) return null;
        var devices = db.GetTable<Device>().Where(d => d.ProductId == productId && d.Phase != DevicePhase.Deleting);
        if (await devices.AnyAsync(cancel)) return false;
        await own.DeleteAsync(cancel);
        await transaction.CommitAsync(cancel);
        return true;
    }

    /// <summary>A page of products, newest first, and how many there are in all.</summary>
    public async Task<(IReadOnlyList<Product> Items, int Count)> ListAsync(string projectId, string? name, Page page, CancellationToken cancel)
    {
        await using var db = database.Open();
        var all = db.GetTable<Product>().Where(p => p.ProjectId == projectId);
        if (name is not null) all = all.Where(p => p.Name == name);
        var items = await all.Where(p => p.RecordId.CompareTo(page.Marker) < 0)
            .OrderByDescending(p => p.RecordId).Skip(page.Offset).Take(page.Limit).ToListAsync(cancel);
        return (items, await all.CountAsync(cancel));
    }
}
