using IoTDelivery.Benchmarks.Load;
using IoTDelivery.EndToEnd.Harness;
using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;
using Microsoft.Data.Sqlite;
using Npgsql;

namespace IoTDelivery.Benchmarks;

/// <summary>The server that is measured, with default settings in a process of its own, and its database, new and empty.</summary>
public sealed class Site : IAsyncDisposable
{
    private readonly PostgreSqlDatabase? _server;
    private readonly int _databaseProcess;
    private readonly string _insideFile;

    private Site(Node node, string insideFile, PostgreSqlDatabase? server, string? connection, string version, int databaseProcess)
    {
        (Node, _insideFile, _server, Version, _databaseProcess) = (node, insideFile, server, version, databaseProcess);
        Rows = connection is null ? new SqliteRows(Path.Combine(node.Folder, "data/iotdelivery.db")) : new PostgreSqlRows(connection);
    }

    public Node Node { get; }

    public RowCounter Rows { get; }

    /// <summary>Of the database.</summary>
    public string Version { get; }

    public static async Task<Site> StartAsync(DatabaseProvider provider)
    {
        var insideFile = Path.Combine(Path.GetTempPath(), $"iotdelivery-inside-{Guid.NewGuid():N}");
        if (provider == DatabaseProvider.Sqlite)
        {
            var node = await ProcessFigures.WithHookAsync(insideFile, () => Node.StartAsync());
            await using var connection = new SqliteConnection("Data Source=:memory:");
            return new Site(node, insideFile, null, null, $"SQLite {connection.ServerVersion}", 0);
        }

        var server = new PostgreSqlDatabase();
        await server.InitializeAsync();
        if (server.SkipReason is { } reason) throw new InvalidOperationException(reason);
        try
        {
            var storage = await server.CreateAsync();
            var node = await ProcessFigures.WithHookAsync(insideFile, () => Node.StartAsync("--Storage:Provider=PostgreSql", $"--Storage:ConnectionString={storage.ConnectionString}"));
            await using var connection = new NpgsqlConnection(storage.ConnectionString);
            await connection.OpenAsync();
            return new Site(node, insideFile, server, storage.ConnectionString, $"PostgreSQL {connection.PostgreSqlVersion}", ProcessFigures.ParentOf(connection.ProcessID));
        }
        catch (Exception)
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>A product, its devices and, if there is somebody to tell, a rule that tells.</summary>
    public async Task FillAsync(int devices, string? webhook)
    {
        await Node.Api.CreateProductAsync();
        await Parallel.ForEachAsync(
            Enumerable.Range(0, devices), new ParallelOptions { MaxDegreeOfParallelism = 32 }, async (number, _) => await Node.Api.CreateDeviceAsync(Names.Device(number)));
        if (webhook is not null) await Node.Api.PushToAsync(webhook);
    }

    public Usage Usage() => new(
        DeliveryLoad.Now, ProcessFigures.CpuSeconds(Node.ProcessId), _databaseProcess == 0 ? 0 : ProcessFigures.CpuSecondsWithChildren(_databaseProcess),
        ProcessFigures.CpuSeconds(Environment.ProcessId), ProcessFigures.InsideOf(Node.ProcessId, _insideFile));

    public async ValueTask DisposeAsync()
    {
        await Node.DisposeAsync();
        File.Delete(_insideFile);
        if (_server is not null) await _server.DisposeAsync();
    }
}

/// <summary>What everybody had used at a moment.</summary>
public readonly record struct Usage(long At, double ServerCpu, double DatabaseCpu, double GeneratorCpu, Inside Inside);
