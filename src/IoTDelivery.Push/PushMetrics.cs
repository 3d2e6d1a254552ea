using System.Collections.Concurrent;
using System.Diagnostics.Metrics;

namespace IoTDelivery.Push;

/// <summary>The meter of this box.</summary>
public sealed class PushMetrics : IDisposable
{
    /// <summary>The name of the meter.</summary>
    public const string MeterName = "IoTDelivery.Push";

    private readonly Meter _meter = new(MeterName);
    private readonly Counter<long> _pushed;
    private readonly Counter<long> _failed;
    private readonly Counter<long> _rows;
    private readonly Counter<long> _deadLetters;
    private readonly Counter<long> _refused;
    private readonly ConcurrentDictionary<string, long> _backlog = new();

    public PushMetrics()
    {
        _pushed = _meter.CreateCounter<long>("iotdelivery.push.pushed", description: "Notifications answered 200.");
        _failed = _meter.CreateCounter<long>("iotdelivery.push.failed", description: "POSTs that failed and are repeated.");
        _rows = _meter.CreateCounter<long>("iotdelivery.push.backlog.written", description: "Notifications written to the backlog.");
        _deadLetters = _meter.CreateCounter<long>("iotdelivery.push.dead_letters", description: "Notifications given up: refused, too old, or beyond the bytes of an action.");
        _refused = _meter.CreateCounter<long>("iotdelivery.push.backlog.refused",
            description: "Writes to the backlog that the database refused although it answers; they are tried again alone.");
        _meter.CreateObservableGauge("iotdelivery.push.backlog.rows", () => _backlog.Select(b => new Measurement<long>(b.Value, KeyValuePair.Create<string, object?>("action_id", b.Key))),
            description: "Notifications in the backlog at its last check, told by the node that sends it.");
    }

    internal void Pushed() => _pushed.Add(1);

    internal void Failed() => _failed.Add(1);

    internal void RowsWritten(int rows) => _rows.Add(rows);

    internal void RowRefused() => _refused.Add(1);

    internal void DeadLetters(int letters) => _deadLetters.Add(letters);

    internal void Backlog(string actionId, long rows) => _backlog[actionId] = rows;

    internal void NoBacklog(string actionId) => _backlog.TryRemove(actionId, out _);

    public void Dispose() => _meter.Dispose();
}
