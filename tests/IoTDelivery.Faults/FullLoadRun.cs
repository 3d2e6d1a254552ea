using IoTDelivery.Faults.History;

namespace IoTDelivery.Faults;

/// <summary>As many messages as the site takes: every device has one in flight all the time, nobody disturbs, and no node may take another one for dead.</summary>
public static class FullLoadRun
{
    private const int Devices = 200;
    private static readonly TimeSpan SettlePatience = TimeSpan.FromMinutes(2);

    public static async Task<int> RunAsync(string file, int seed, TimeSpan lasts)
    {
        // Millions of messages: only what happens to the nodes is written down.
        using var history = new Recorder(file, what => what is What.Run or What.Started or What.Ended or What.Note);
        history.Add(new Entry(What.Run) { Text = $"seed {seed}, full load, {lasts}" });
        await using var town = await Town.StartAsync(history, seed, Devices, restless: false);
        using var applications = new Applications(history, town.Site.Nodes, TimeSpan.Zero, seed);
        using var stop = new CancellationTokenSource();
        town.Live();
        var begun = history.Now;
        town.Send((device, number, until) => applications.RunAsync(device.Id, number, until), stop.Token);
        await Task.Delay(lasts);
        var sentFor = history.Now - begun;
        await stop.CancelAsync();
        var open = await town.SettleAsync(() => applications.All, SettlePatience);
        var ended = town.Site.Nodes.Sum(n => n.EndedByItself);
        var unreachable = town.Site.Nodes.Sum(n => File.ReadLines(n.LogFile).Count(l => l.Contains("UNREACHABLE", StringComparison.Ordinal)));
        var late = town.Site.Nodes.Sum(n => File.ReadLines(n.LogFile).Count(l => l.Contains("heartbeat interval is growing too large", StringComparison.Ordinal)));
        Console.WriteLine(
            $"{applications.Accepted} messages in {sentFor:0} s, {applications.Accepted / sentFor:0} a second; {open.Count} lost; {ended} nodes ended by themselves, {unreachable} times a node was taken for unreachable, {late} late heartbeats");
        return open.Count == 0 && ended == 0 && unreachable == 0 ? 0 : 1;
    }
}
