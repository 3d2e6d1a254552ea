using System.Security.Cryptography;
using System.Text;
using IoTDelivery.Storage;
using LinqToDB;
using LinqToDB.Async;
using LinqToDB.Mapping;

namespace IoTDelivery.Registry;

/// <summary>What AMQP consumers of a project log in with. Of the code only the hash is stored: it is random, so a plain one is enough.</summary>
[Table("amqp_access")]
public sealed record AccessCode
{
    [Column("project_id"), PrimaryKey] public required string ProjectId { get; init; }
    [Column("access_key")] public required string AccessKey { get; init; }
    [Column("code_hash")] public required string CodeHash { get; init; }

    /// <summary>How often everybody was disconnected: who logged in at a smaller number has to go.</summary>
    [Column("disconnects")] public int Disconnects { get; init; }
    [Column("created_at")] public required long CreatedAt { get; init; }

    /// <summary>Compares in constant time.</summary>
    public bool Matches(string code) => CryptographicOperations.FixedTimeEquals(Encoding.ASCII.GetBytes(CodeHash), Encoding.ASCII.GetBytes(Hash(code)));

    internal static string Hash(string code) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(code)));
}

/// <summary>The access codes of this site, one per project.</summary>
public sealed class AccessCodes(SqlDatabase database, TimeProvider? clock = null)
{
    private const string Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

    private readonly TimeProvider _clock = clock ?? TimeProvider.System;

    /// <summary>A new code for a project; the one before is void. The key stays as it was.</summary>
    public async Task<(string AccessKey, string Code)> CreateAsync(string projectId, bool disconnect, CancellationToken cancel)
    {
        var code = RandomNumberGenerator.GetString(Alphabet, 32);
        var fresh = new AccessCode
        {
            ProjectId = projectId,
            AccessKey = RandomNumberGenerator.GetString(Alphabet, 8),
            CodeHash = AccessCode.Hash(code),
            CreatedAt = _clock.GetUtcNow().ToUnixTimeMilliseconds(),
        };
        await using var db = database.Open();
        var isFirst = await UniqueInsert.TryAsync(
            () => db.InsertAsync(fresh, token: cancel),
            () => db.GetTable<AccessCode>().AnyAsync(a => a.ProjectId == projectId, cancel));
        if (isFirst) return (fresh.AccessKey, code);
        await db.GetTable<AccessCode>().Where(a => a.ProjectId == projectId)
            .Set(a => a.CodeHash, fresh.CodeHash).Set(a => a.CreatedAt, fresh.CreatedAt).Set(a => a.Disconnects, a => a.Disconnects + (disconnect ? 1 : 0)).UpdateAsync(cancel);
        return (await db.GetTable<AccessCode>().Where(a => a.ProjectId == projectId).Select(a => a.AccessKey).FirstAsync(cancel), code);
    }

    /// <summary>Whose key it is, or null.</summary>
    public async Task<AccessCode?> FindAsync(string accessKey, CancellationToken cancel)
    {
        await using var db = database.Open();
        return await db.GetTable<AccessCode>().FirstOrDefaultAsync(a => a.AccessKey == accessKey, cancel);
    }
}
