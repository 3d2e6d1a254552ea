using IoTDelivery.Tests.Databases;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>Several real nodes on one PostgreSQL, on this machine's loopback.</summary>
public sealed class ThreeNodes : IAsyncDisposable
{
    private ThreeNodes(Node[] all, string[] storage) => (All, Storage) = (all, storage);

    public Node[] All { get; }

    /// <summary>What another node on the same database is told of it.</summary>
    public string[] Storage { get; }

    public Node this[int index] => All[index];

    /// <summary>Starts them; the settings are everybody's, <paramref name="own"/> those of one.</summary>
    public static async Task<ThreeNodes> StartAsync(PostgreSqlDatabase server, string[] settings, Func<int, string[]>? own = null)
    {
        string[] storage = ["--Storage:Provider=PostgreSql", $"--Storage:ConnectionString={(await server.CreateAsync()).ConnectionString}"];
        var ports = Enumerable.Range(0, 3).Select(_ => Node.FreePort()).ToArray();
        string[] seeds = [.. ports.Select((port, i) => $"--Cluster:SeedNodes:{i}=127.0.0.1:{port}")];
        var nodes = ports.Select((port, i) => Node.Create([.. storage, .. settings, .. seeds, $"--Cluster:Port={port}", .. own?.Invoke(i) ?? []])).ToArray();
        var three = new ThreeNodes(nodes, storage);
        try
        {
            await Task.WhenAll(nodes.Select(n => n.StartAgainAsync()));
            return three;
        }
        catch
        {
            await three.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var node in All) await node.DisposeAsync();
    }
}
