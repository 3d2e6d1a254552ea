using System.Diagnostics;

namespace IoTDelivery.Faults.History;

/// <summary>Writes a history while it happens: whoever comes first is first in the file.</summary>
/// <param name="path">The file.</param>
/// <param name="keeps">What to write; null: everything.</param>
public sealed class Recorder(string path, Func<What, bool>? keeps = null) : IDisposable
{
    private readonly Lock _gate = new();
    private readonly StreamWriter _file = new(path, append: false);
    private readonly long _start = Stopwatch.GetTimestamp();

    public string Path => path;

    /// <summary>Seconds since the first line.</summary>
    public double Now => Stopwatch.GetElapsedTime(_start).TotalSeconds;

    /// <summary>Adds a line. What is told to somebody else afterwards stands in the file after it.</summary>
    public void Add(Entry entry)
    {
        if (keeps?.Invoke(entry.What) == false) return;
        lock (_gate) _file.WriteLine(HistoryFile.Line(entry with { At = Math.Round(Now, 4) }));
    }

    public void Dispose()
    {
        lock (_gate) _file.Dispose();
    }
}
