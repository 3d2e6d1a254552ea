using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Mapping;

namespace IoTDelivery.Registry;

/// <summary>A CA, or several, that the certificate of a receiver must be signed by. Never changes.</summary>
[Table("certificate")]
public sealed record Certificate
{
    /// <summary>What an action names as <c>cert_id</c>.</summary>
    [Column("certificate_id"), PrimaryKey] public required string CertificateId { get; init; }
    [Column("record_id")] public required string RecordId { get; init; }
    [Column("project_id")] public required string ProjectId { get; init; }
    [Column("app_id")] public string? AppId { get; init; }

    /// <summary>PEM: certificates and nothing else.</summary>
    [Column("content")] public required string Content { get; init; }

    /// <summary>Milliseconds since 1970, UTC.</summary>
    [Column("created_at")] public required long CreatedAt { get; init; }

    /// <summary>The certificates in a text, or null if there are none. Other things in it, private keys for example, are left out.</summary>
    public static X509Certificate2Collection? Parse(string pem)
    {
        try
        {
            var certificates = new X509Certificate2Collection();
            certificates.ImportFromPem(pem);
            return certificates.Count > 0 ? certificates : null;
        }
        catch (CryptographicException)
        {
            return null;
        }
    }
}

/// <summary>The certificates of this site; another project's read as missing.</summary>
public sealed class Certificates(SqlDatabase database)
{
    /// <summary>Certificates per project.</summary>
    public const int Max = 100;

    /// <summary>The table. Steps of its own: it stands on none of the registry's.</summary>
    public static readonly IReadOnlyList<Migration> Migrations =
    [
        new("certificate", 1,
            """
            create table certificate (
              certificate_id {id} not null primary key, record_id {id} not null, project_id {id} not null, app_id {id}, content {text} not null, created_at {bigint} not null)
            """,
            "create index certificate_by_record on certificate (project_id, record_id)"),
    ];

    /// <summary>False if the project has <see cref="Max"/> already.</summary>
    public async Task<bool> AddAsync(Certificate certificate, CancellationToken cancel)
    {
        await using var db = database.Open();
        if (await db.GetTable<Certificate>().CountAsync(c => c.ProjectId == certificate.ProjectId, cancel) >= Max) return false;
        await db.InsertAsync(certificate, token: cancel);
        return true;
    }

    /// <summary>The certificate of whatever project, or null.</summary>
    public async Task<Certificate?> FindAsync(string certificateId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<Certificate>().FirstOrDefaultAsync(c => c.CertificateId == certificateId, cancel);
    }

    /// <summary>A page of certificates, newest first, and how many there are in all; null as application means any.</summary>
    public async Task<(IReadOnlyList<Certificate> Items, int Count)> ListAsync(string projectId, string? appId, Page page, CancellationToken cancel)
    {
        await using var db = database.Open();
        var all = db.GetTable<Certificate>().Where(c => c.ProjectId == projectId);
        if (appId is not null) all = all.Where(c => c.AppId == appId);
        var items = await all.Where(c => c.RecordId.CompareTo(page.Marker) < 0)
            .OrderByDescending(c => c.RecordId).Skip(page.Offset).Take(page.Limit).ToListAsync(cancel);
        return (items, await all.CountAsync(cancel));
    }

    /// <summary>False if this project has none of this id. What goes to receivers that need it waits in their backlog from then on.</summary>
    public async Task<bool> RemoveAsync(string projectId, string certificateId, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<Certificate>().Where(c => c.CertificateId == certificateId && c.ProjectId == projectId).DeleteAsync(cancel) > 0;
    }
}
