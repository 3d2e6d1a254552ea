using System.Data.Common;
using System.Globalization;
using System.Text;
using LinqToDB.Data;

namespace IoTDelivery.Storage;

/// <summary>
/// A table of values that travels with a statement, so that a thousand rows cost one round trip and not a thousand. The
/// statement names it <c>{rows}</c>: a table with the columns given here and a column <c>place</c>, the row's place
/// from 1. PostgreSQL takes one array per column; SQL Server a list of parameters, some hundred rows at a time; SQLite
/// has no round trips and runs the prepared statement once per row.
/// </summary>
public sealed class SqlRows
{
    private const int SqlServerParametersMax = 2000; // the server takes 2,100

    private readonly SqlDatabase _database;
    private readonly (string Name, Array Values)[] _columns;
    private readonly int _count;

    /// <param name="columns">Names and values of the columns, all of one length; of type <see cref="string"/>, <see
    /// cref="long"/>, <see cref="int"/> or an array of bytes.</param>
    public SqlRows(SqlDatabase database, params (string Name, Array Values)[] columns) =>
        (_database, _columns, _count) = (database, columns, columns[0].Values.Length);

    /// <summary>Runs a statement that changes something.</summary>
    /// <returns>How many rows it changed.</returns>
    public Task<int> ExecuteAsync(DataConnection db, string statement, CancellationToken cancel) =>
        ForEachChunkAsync(db, statement, static (command, stop) => command.ExecuteNonQueryAsync(stop), cancel);

    /// <summary>Runs a query whose only column is a <c>place</c>.</summary>
    public async Task<HashSet<long>> PlacesAsync(DataConnection db, string query, CancellationToken cancel)
    {
        var places = new HashSet<long>();
        await ForEachChunkAsync(db, query, async (command, stop) =>
        {
            await using var reader = await command.ExecuteReaderAsync(stop);
            while (await reader.ReadAsync(stop))
            {
                places.Add(Convert.ToInt64(reader.GetValue(0), CultureInfo.InvariantCulture));
            }

            return 0;
        }, cancel);
        return places;
    }

    private async Task<int> ForEachChunkAsync(
        DataConnection db, string statement, Func<DbCommand, CancellationToken, Task<int>> run, CancellationToken cancel)
    {
        var max = _database.Provider switch
        {
            DatabaseProvider.Sqlite => 1,
            DatabaseProvider.PostgreSql => int.MaxValue,
            _ => SqlServerParametersMax / (_columns.Length + 1),
        };
        var connection = await db.OpenDbConnectionAsync(cancel);
        var (result, prepared) = (0, (DbCommand?)null);
        try
        {
            for (var from = 0; from < _count; from += Math.Min(max, _count - from))
            {
                var count = Math.Min(max, _count - from);
                if (prepared is null || count < max)
                {
                    if (prepared is not null) await prepared.DisposeAsync();
                    prepared = Command(connection, db.Transaction, statement, count);
                }

                Fill(prepared, from, count);
                result += await run(prepared, cancel);
            }
        }
        finally
        {
            if (prepared is not null) await prepared.DisposeAsync();
        }

        return result;
    }

    private DbCommand Command(DbConnection connection, DbTransaction? transaction, string statement, int count)
    {
        var command = connection.CreateCommand();
        command.Transaction = transaction;
        var perRow = _database.Provider == DatabaseProvider.PostgreSql ? 1 : count;
        for (var row = 0; row < perRow; row++)
        {
            foreach (var (name, _) in _columns) Add(command, $"{name}_{row}");
            if (perRow > 1 || _database.Provider != DatabaseProvider.PostgreSql) Add(command, $"place_{row}");
        }

        command.CommandText = statement.Replace("{rows}", Source(count));
        return command;

        static void Add(DbCommand command, string name)
        {
            var parameter = command.CreateParameter();
            parameter.ParameterName = name;
            command.Parameters.Add(parameter);
        }
    }

    private string Source(int count)
    {
        var names = string.Join(", ", _columns.Select(c => c.Name));
        if (_database.Provider == DatabaseProvider.PostgreSql)
        {
            var arrays = string.Join(", ", _columns.Select(c => $"@{c.Name}_0"));
            return $"unnest({arrays}) with ordinality as rows({names}, place)";
        }

        if (_database.Provider == DatabaseProvider.Sqlite)
        {
            var one = string.Join(", ", _columns.Select(c => $"@{c.Name}_0 as {c.Name}"));
            return $"(select {one}, @place_0 as place) as rows";
        }

        var values = new StringBuilder("(values ");
        for (var row = 0; row < count; row++)
        {
            var parameters = string.Join(", ", _columns.Select(c => $"@{c.Name}_{row}"));
            values.Append(row == 0 ? "" : ", ").Append(CultureInfo.InvariantCulture, $"({parameters}, @place_{row})");
        }

        return values.Append($") as rows({names}, place)").ToString();
    }

    private void Fill(DbCommand command, int from, int count)
    {
        var next = 0;
        if (_database.Provider == DatabaseProvider.PostgreSql)
        {
            foreach (var (_, values) in _columns) command.Parameters[next++].Value = values;
            return;
        }

        for (var row = from; row < from + count; row++)
        {
            foreach (var (_, values) in _columns) command.Parameters[next++].Value = values.GetValue(row);
            command.Parameters[next++].Value = row + 1L;
        }
    }
}
