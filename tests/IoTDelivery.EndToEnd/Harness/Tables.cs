using System.Diagnostics;
using IoTDelivery.Storage;
using LinqToDB.Data;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>What lies in the tables of a node on SQLite, read beside it.</summary>
public static class Tables
{
    /// <summary>Its database.</summary>
    public static SqlDatabase Database(this Node node) => new(new StorageOptions { DataFolder = Path.Combine(node.Folder, "data") });

    /// <summary>One number out of its database.</summary>
    public static async Task<long> CountAsync(this Node node, string table)
    {
        await using var db = node.Database().Open();
        return await db.ExecuteAsync<long>($"select count(*) from {table}");
    }

    /// <summary>Waits until a table has so many rows.</summary>
    public static async Task UntilRowsAsync(this Node node, string table, Func<long, bool> enough, string what)
    {
        var clock = Stopwatch.StartNew();
        while (true)
        {
            var count = await node.CountAsync(table);
            if (enough(count)) return;
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60), $"Never: {what}. {table} has {count} rows.\n{node.Output}");
            await Task.Delay(20); // a table tells nobody when it changes
        }
    }
}
