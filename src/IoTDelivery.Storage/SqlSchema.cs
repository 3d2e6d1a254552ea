using System.Data.Common;
using System.Text;
using System.Text.RegularExpressions;
using LinqToDB.Data;

namespace IoTDelivery.Storage;

/// <summary>The whole schema as a script, and the look whether somebody ran it: for sites where the program may not create tables.</summary>
public static partial class SqlSchema
{
    internal const string VersionColumns = "box {id} not null, version {int} not null, applied_at {bigint} not null, primary key (box, version)";

    /// <summary>What makes every table in an empty database. One section per step, each with its name, so that a later release's steps can be taken alone.</summary>
    public static string Script(DatabaseProvider provider, IReadOnlyList<Migration> migrations)
    {
        var dialect = SqlDialect.Of(provider);
        var script = new StringBuilder(
            $"""
            -- Every table of IoTDelivery.Akka on {provider}. Made by `dotnet IoTDelivery.Host.dll schema --provider {provider}`: do not edit.
            -- For sites where the program may not create tables (Storage:CreateTables=false). The owner of an empty database runs it as a whole; when a later
            -- release misses steps, its start names them: run the sections with these names, in this order. The program's user needs select, insert, update and
            -- delete on all tables, nothing else.
            {dialect.Begin};
            create table schema_version ({dialect.Write(VersionColumns)});

            """);
        foreach (var migration in migrations.GroupBy(m => m.Box).SelectMany(box => box.OrderBy(m => m.Version)))
        {
            script.AppendLine().AppendLine($"-- {Name(migration)}");
            foreach (var statement in migration.Statements) script.AppendLine($"{dialect.Write(statement)};");
            script.AppendLine($"insert into schema_version (box, version, applied_at) values ('{migration.Box}', {migration.Version}, {dialect.Now});");
        }

        return script.AppendLine().AppendLine("commit;").Replace("\r\n", "\n").ToString();
    }

    internal static async Task CheckAsync(SqlDatabase database, DataConnection db, IReadOnlyList<Migration> migrations, CancellationToken cancel)
    {
        var script = $"deploy/sql/{database.Provider.ToString().ToLowerInvariant()}.sql";
        if (await db.ExecuteAsync<int>(database.Dialect.HasTable, cancel, new DataParameter("name", "schema_version")) == 0)
        {
            throw new InvalidOperationException($"It has no tables, and Storage:CreateTables is off. Run {script} as its owner.");
        }

        await ReadAsync("schema_version");
        var missing = new List<string>();
        foreach (var box in migrations.GroupBy(m => m.Box))
        {
            var stored = await db.ExecuteAsync<int?>("select max(version) from schema_version where box = @box", cancel, new DataParameter("box", box.Key)) ?? 0;
            RefuseNewer(database, box.Key, stored, box.Max(m => m.Version));
            missing.AddRange(box.Where(m => m.Version > stored).OrderBy(m => m.Version).Select(Name));
        }

        if (missing.Count > 0)
        {
            throw new InvalidOperationException(
                $"It lacks tables or columns of this release, and Storage:CreateTables is off. Run these sections of {script} as its owner: {string.Join(", ", missing)}.");
        }

        var statements = migrations.SelectMany(m => m.Statements).ToList();
        foreach (var table in Named(CreateTable(), statements).Except(Named(DropTable(), statements))) await ReadAsync(table);

        async Task ReadAsync(string table)
        {
            try
            {
                await db.ExecuteAsync<int>($"select count(*) from {table} where 1 = 0", cancel);
            }
            catch (DbException cause)
            {
                // Without the cause: whoever prints the innermost message would leave out what to do.
                throw new InvalidOperationException($"The table {table} cannot be read. Grant select, insert, update and delete on all tables of {script}. {cause.Message}");
            }
        }
    }

    internal static void RefuseNewer(SqlDatabase database, string box, int stored, int newest)
    {
        if (stored <= newest) return;
        throw new InvalidOperationException(
            $"The tables of '{box}' in {database.Where} have version {stored}; this release knows {newest}. Start the release that wrote them, or a newer one.");
    }

    private static IEnumerable<string> Named(Regex pattern, IEnumerable<string> statements) =>
        statements.Select(s => pattern.Match(s)).Where(m => m.Success).Select(m => m.Groups[1].Value);

    private static string Name(Migration migration) => $"{migration.Box} {migration.Version}";

    [GeneratedRegex(@"^\s*create table (\w+)")]
    private static partial Regex CreateTable();

    [GeneratedRegex(@"^\s*drop table (\w+)")]
    private static partial Regex DropTable();
}
