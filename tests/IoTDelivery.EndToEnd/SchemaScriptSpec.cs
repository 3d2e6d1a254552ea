using System.Net;
using IoTDelivery.EndToEnd.Harness;
using IoTDelivery.Storage;
using IoTDelivery.Tests.Databases;
using Microsoft.Data.Sqlite;
using Npgsql;

namespace IoTDelivery.EndToEnd;

/// <summary>A site where the program may not create tables: somebody else runs the script of deploy/sql, and then a node lives on it.</summary>
public sealed class SchemaScriptSpec(PostgreSqlDatabase database) : IClassFixture<PostgreSqlDatabase>
{
    [SkippableFact]
    public async Task On_PostgreSQL_a_node_lives_on_the_script_alone_as_a_user_who_may_not_create_tables()
    {
        Skip.If(database.SkipReason is not null, database.SkipReason);
        var storage = await database.CreateAsync();
        await using var owner = new NpgsqlConnection(storage.ConnectionString);
        await owner.OpenAsync();
        await ExecuteAsync("create role program login; revoke create on schema public from public");
        var settings = $"--Storage:ConnectionString={new NpgsqlConnectionStringBuilder(storage.ConnectionString) { Username = "program" }}";

        Assert.Contains("It has no tables, and Storage:CreateTables is off. Run deploy/sql/postgresql.sql as its owner.", await RefusalAsync(settings));

        await ExecuteAsync(await File.ReadAllTextAsync(Path.Combine(Root, "deploy/sql/postgresql.sql")));
        Assert.Contains("Grant select, insert, update and delete on all tables of deploy/sql/postgresql.sql.", await RefusalAsync(settings));

        await ExecuteAsync("grant select, insert, update, delete on all tables in schema public to program");
        await using (var node = await Node.StartAsync("--Storage:Provider=PostgreSql", "--Storage:CreateTables=false", settings)) await LivesAsync(node);

        await ExecuteAsync("delete from schema_version where box = 'registry' and version = 6");
        Assert.Contains("Run these sections of deploy/sql/postgresql.sql as its owner: registry 6.", await RefusalAsync(settings));

        await using var refused = new NpgsqlCommand("create table of_its_own (id int)", new NpgsqlConnection(settings.Split('=', 2)[1]));
        await refused.Connection!.OpenAsync();
        Assert.Equal(PostgresErrorCodes.InsufficientPrivilege, (await Assert.ThrowsAsync<PostgresException>(() => refused.ExecuteNonQueryAsync())).SqlState);

        async Task ExecuteAsync(string sql)
        {
            await using var command = new NpgsqlCommand(sql, owner);
            await command.ExecuteNonQueryAsync();
        }
    }

    [Fact]
    public async Task On_SQLite_a_node_lives_on_the_script_alone()
    {
        await using var node = Node.Create("--Storage:CreateTables=false");
        Directory.CreateDirectory(Path.Combine(node.Folder, "data"));
        await using (var connection = new SqliteConnection($"Data Source={Path.Combine(node.Folder, "data", "iotdelivery.db")}"))
        {
            await connection.OpenAsync();
            await using var script = new SqliteCommand(await File.ReadAllTextAsync(Path.Combine(Root, "deploy/sql/sqlite.sql")), connection);
            await script.ExecuteNonQueryAsync();
        }

        await node.StartAgainAsync();

        await LivesAsync(node);
    }

    private static string Root => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(Node.HostDll)!, "../../../../.."));

    // A message, its acknowledgement and what a restart still knows: the registry, the journal, the reminders.
    private static async Task LivesAsync(Node node)
    {
        await node.Api.CreateProductAsync();
        await node.Api.CreateDeviceAsync("lamp_1");
        Assert.Equal("PENDING", Api.Expect(HttpStatusCode.Created, await node.Api.SendMessageAsync("lamp_1", messageId: "hello")).MessageStatus);
        await node.KillAsync();
        await node.StartAgainAsync();
        await using var device = await Device.OnlineAsync(node.MqttPort, "lamp_1");
        Assert.Equal("hello", (await device.NextAsync()).Id);
    }

    private static async Task<string> RefusalAsync(string connectionString)
    {
        var folder = Directory.CreateTempSubdirectory("iotdelivery-e2e-").FullName;
        await using var host = Command.Host(folder, "--urls=http://127.0.0.1:0", "--Mqtt:Port=0", "--Storage:Provider=PostgreSql", "--Storage:CreateTables=false", connectionString);
        Assert.Equal(1, await host.ExitAsync());
        Directory.Delete(folder, recursive: true);
        return host.Errors;
    }
}
