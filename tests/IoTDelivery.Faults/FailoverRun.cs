using System.Collections.Concurrent;
using IoTDelivery.Faults.History;

namespace IoTDelivery.Faults;

/// <summary>
/// How long the devices of a killed node wait. At the kill a message is sent to every device, to the nodes that are left, again and again until it is accepted, and
/// its first arrival counts. Who was hosted by the node, another one says just before.
/// </summary>
public static class FailoverRun
{
    private const int Devices = 200;
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(0.9), AskPatience = TimeSpan.FromSeconds(2), Patience = TimeSpan.FromMinutes(2), Calm = TimeSpan.FromSeconds(10);

    public static async Task<int> RunAsync(string file, int seed, int runs)
    {
        var (firsts, alls) = (new List<double>(), new List<double>());
        var arrivals = new ConcurrentDictionary<string, TaskCompletionSource<double>>();
        using var history = new Recorder(file);
        history.Add(new Entry(What.Run) { Text = $"seed {seed}, failover, {runs} runs" });
        await using var town = await Town.StartAsync(history, seed, Devices, restless: false, Arrived);
        using var applications = new Applications(history, town.Site.Nodes, Interval, seed);
        using var stop = new CancellationTokenSource();
        town.Live();
        town.Send((device, number, until) => applications.RunAsync(device.Id, number, until), stop.Token);
        for (var run = 0; run < runs; run++)
        {
            if (await town.Site.WholeAsync(town.Ids, Patience, CancellationToken.None) is null) throw new InvalidOperationException("The three nodes are no cluster.");
            await Task.Delay(Calm);
            var victim = town.Site.Nodes[run % town.Site.Nodes.Count];
            var others = town.Site.Nodes.Where(n => n != victim).ToList();
            var wasThere = town.Devices.Where(d => d.At == victim).Select(d => d.Id).ToHashSet();
            var wasHosted = await town.Site.HostedByAsync(victim, others[0], town.Ids);
            history.Add(new Entry(What.Fault) { Node = victim.Name, Word = Fault.Kill });
            var killed = history.Now;
            await victim.KillAsync();
            using var limit = new CancellationTokenSource(Patience);
            var times = await Task.WhenAll(town.Devices.Select(async device =>
            {
                var message = $"{device.Id}-failover-{run}";
                var arrived = arrivals.GetOrAdd(message, _ => new TaskCompletionSource<double>(TaskCreationOptions.RunContinuationsAsynchronously));
                await applications.InsistAsync(device.Id, message, others, AskPatience, limit.Token);
                return (Id: device.Id, Took: await arrived.Task.WaitAsync(limit.Token) - killed);
            }));
            var hosted = times.Where(t => wasHosted.Contains(t.Id)).OrderBy(t => t.Took).ToList();
            var rest = times.Where(t => !wasHosted.Contains(t.Id)).Select(t => t.Took).DefaultIfEmpty().Max();
            if (hosted.Count == 0) throw new InvalidOperationException($"{victim.Name} hosted nothing.");
            firsts.Add(hosted[0].Took);
            alls.Add(hosted[^1].Took);
            Console.WriteLine(
                $"{victim.Name}: {hosted.Count} of {Devices} devices were there: first {hosted[0].Took:0.0} s, all {hosted[^1].Took:0.0} s ({hosted.Count(h => wasThere.Contains(h.Id))} of them had to connect again); the others at most {rest:0.0} s");
            victim.Start();
            history.Add(new Entry(What.Healed) { Node = victim.Name, Word = Fault.Kill });
        }

        await stop.CancelAsync();
        var open = await town.SettleAsync(() => applications.All, Patience);
        Console.WriteLine($"first: median {Median(firsts):0.0} s, worst {firsts.Max():0.0} s; all: median {Median(alls):0.0} s, worst {alls.Max():0.0} s; {runs} runs, {applications.Accepted} messages accepted, {open.Count} of them lost");
        return open.Count == 0 ? 0 : 1;

        void Arrived(string message)
        {
            if (arrivals.TryGetValue(message, out var waiting)) waiting.TrySetResult(history.Now);
        }
    }

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);
}
