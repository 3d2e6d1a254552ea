using System.Collections.Concurrent;
using LinqToDB.Data;

namespace IoTDelivery.Push.Tests;

/// <summary>What linq2db runs on one database from now on.</summary>
internal sealed class Statements : IDisposable
{
    private static readonly ConcurrentDictionary<Statements, bool> All = [];
    private readonly string _connection, _where;
    private readonly TraceOperation? _only;
    private int _count;

    static Statements()
    {
        DataConnection.TurnTraceSwitchOn();
        DataConnection.DefaultOnTraceConnection = info =>
        {
            foreach (var (statements, _) in All) statements.OnTrace(info);
        };
    }

    public Statements(string connection, TraceOperation? only = null, string where = "")
    {
        (_connection, _only, _where) = (connection, only, where);
        All.TryAdd(this, true);
    }

    public int Count => Volatile.Read(ref _count);

    public void Dispose() => All.TryRemove(this, out _);

    private void OnTrace(TraceInfo info)
    {
        if (info.TraceInfoStep != TraceInfoStep.BeforeExecute || info.DataConnection.ConnectionString != _connection) return;
        var isOverhead = info.Operation is TraceOperation.BeginTransaction or TraceOperation.CommitTransaction or TraceOperation.Open;
        if (_only is { } only ? info.Operation != only : isOverhead) return;
        var isIt = info.SqlText?.Contains(_where, StringComparison.OrdinalIgnoreCase) ?? _where.Length == 0;
        if (isIt) Interlocked.Increment(ref _count);
    }
}
