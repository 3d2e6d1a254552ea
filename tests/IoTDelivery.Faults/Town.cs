using IoTDelivery.Faults.History;

namespace IoTDelivery.Faults;

/// <summary>The site with everybody around it: devices, applications, webhooks.</summary>
public sealed class Town : IAsyncDisposable
{
    private readonly CancellationTokenSource _settle = new(), _over = new();
    private Task _sending = Task.CompletedTask, _living = Task.CompletedTask;

    private Town(Recorder history, Site site, Webhooks webhooks, Ends ends, int seed)
    {
        (History, Site, Webhooks, Ends, Seed) = (history, site, webhooks, ends, seed);
    }

    public Recorder History { get; }

    public Site Site { get; }

    public Webhooks Webhooks { get; }

    public Ends Ends { get; }

    public int Seed { get; }

    public IReadOnlyList<SiteDevice> Devices { get; private set; } = [];

    public IReadOnlyList<string> Ids => [.. Devices.Select(d => d.Id)];

    public static async Task<Town> StartAsync(Recorder history, int seed, int devices, bool restless = true, Action<string>? arrived = null, TimeSpan? skew = null)
    {
        var ends = new Ends();
        var site = await Site.StartAsync(history, skew);
        var town = new Town(history, site, await Webhooks.StartAsync(history, ends), ends, seed)
        {
            Devices = [.. Enumerable.Range(0, devices).Select(i => new SiteDevice(history, site.Nodes, $"lamp_{i}", i, seed) { Arrived = arrived, IsRestless = restless })],
        };
        await site.FillAsync(town.Ids, Webhooks.Rules.Select(Webhooks.UrlOf));
        foreach (var device in town.Devices) history.Add(new Entry(What.Device) { Device = device.Id, QoS = device.QoS });
        if (await site.WholeAsync(town.Ids, TimeSpan.FromMinutes(2), CancellationToken.None) is null) throw new InvalidOperationException("The three nodes never became one cluster.");
        return town;
    }

    /// <summary>The devices begin to come and go.</summary>
    public void Live() => _living = Task.WhenAll(Devices.Select(d => d.RunAsync(_settle.Token, _over.Token)));

    /// <summary>The applications begin to send; ends when all of them have stopped.</summary>
    public void Send(Func<SiteDevice, int, CancellationToken, Task> application, CancellationToken stop) =>
        _sending = Task.WhenAll(Devices.Select((device, number) => Task.Run(() => application(device, number, stop), CancellationToken.None)));

    /// <summary>
    /// Waits for the applications to end, keeps the devices connected and waits until all that was accepted has ended at every rule; gives up when nothing has
    /// ended for <paramref name="patience"/>. Tells what has not.
    /// </summary>
    public async Task<IReadOnlyList<string>> SettleAsync(Func<IReadOnlyCollection<string>> accepted, TimeSpan patience)
    {
        await _settle.CancelAsync();
        await _sending;
        var (least, since) = (int.MaxValue, History.Now);
        while (true)
        {
            var open = accepted().Where(message => !Ends.Has(message)).ToList();
            if (open.Count < least) (least, since) = (open.Count, History.Now);
            if (open.Count == 0 || History.Now - since > patience.TotalSeconds) return open;
            await Task.Delay(500);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _over.CancelAsync();
        await _living;
        await Webhooks.DisposeAsync();
        await Site.DisposeAsync();
    }
}
