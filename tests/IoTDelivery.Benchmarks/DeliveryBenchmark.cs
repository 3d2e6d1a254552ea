using System.Diagnostics;
using IoTDelivery.Benchmarks.Load;
using IoTDelivery.Storage;

namespace IoTDelivery.Benchmarks;

/// <summary>POST → stored → PUBLISH → PUBACK → webhook, at full and at half load, and what it costs.</summary>
public static class DeliveryBenchmark
{
    public const int InFlight = 256, RestConnections = 512, BusyMessages = 5_000, SleepingDevices = 200;

    /// <summary>A connecting device waits for its SUBACK; so many at once.</summary>
    public const int ConnectingMax = 200;

    // Shorter, and the runtime is still compiling the busy methods while the clock runs: the table tells how much.
    public static readonly TimeSpan WarmUp = TimeSpan.FromSeconds(30), HalfWarmUp = TimeSpan.FromSeconds(5), Patience = TimeSpan.FromSeconds(60);

    // A device without a connection stays awake for two seconds; then it writes what it has to and is gone.
    private static readonly TimeSpan AsleepAfter = TimeSpan.FromSeconds(6);

    // A connected device that was busy writes a last row after half a minute: that must not be counted as the sleepers'.
    private static readonly TimeSpan SettledAfter = TimeSpan.FromSeconds(40);

    public static async Task<DeliveryFigures> RunAsync(DatabaseProvider provider, int devices, TimeSpan time)
    {
        Say($"{provider}: starts, with {devices} devices");
        await using var site = await Site.StartAsync(provider);
        using var poller = new Poller();
        var load = new DeliveryLoad(poller) { Devices = (0, devices) };
        using var webhook = new WebhookServer(poller, load);
        await site.FillAsync(devices + SleepingDevices, webhook.Url);

        using var links = new Links();
        Connect(load, links, devices, number => new DeviceLink(poller, site.Node.MqttPort, number, load));
        for (var i = 0; i < RestConnections; i++)
        {
            var caller = new RestCaller(poller, site.Node.RestPort, load);
            links.Add(caller);
            load.OnReady(caller);
        }

        var saturated = Saturate(load, time, site.Usage, () => site.Node.ResidentBytes);
        var half = HalfLoad(load, saturated.PerSecond / 2, time);

        Say($"{provider}: rows");
        await site.Rows.PrepareAsync();
        var zero = await CountAsync();
        load.Closed(64, Patience, BusyMessages);
        load.Drain(Patience);
        var busy = await CountAsync() - zero;

        load.For(SettledAfter);
        load.Devices = (devices, SleepingDevices);
        zero = await CountAsync();
        load.Closed(int.MaxValue, Patience, SleepingDevices);
        load.Until(() => load.IdleCallers == RestConnections, Patience, "every POST is answered");
        load.For(AsleepAfter);
        var stored = await CountAsync() - zero;
        using (var sleepers = new Links())
        {
            Connect(load, sleepers, SleepingDevices, number => new DeviceLink(poller, site.Node.MqttPort, devices + number, load));
            load.Drain(Patience);
        }

        load.For(AsleepAfter);
        var slept = await CountAsync() - zero;

        load.IgnoreClosed();
        return new DeliveryFigures(
            site.Version, devices, saturated, half, Loss.Of(load.Ledger), busy / BusyMessages, stored / SleepingDevices, slept / SleepingDevices);

        Task<Written> CountAsync()
        {
            load.For(site.Rows.Delay + TimeSpan.FromMilliseconds(500)); // the pusher's answers still come in
            return site.Rows.CountAsync(site.Node.ProcessId);
        }
    }

    /// <summary>Connects devices, a bounded number at a time; returns how long it took.</summary>
    public static TimeSpan Connect(DeliveryLoad load, Links links, int count, Func<int, DeviceLink> connect)
    {
        var (clock, before) = (Stopwatch.StartNew(), load.Online);
        for (var number = 0; number < count; number++)
        {
            links.Add(connect(number));
            load.Until(() => number + 1 - (load.Online - before) < ConnectingMax, Patience, "devices connect");
        }

        load.Until(() => load.Online - before == count, Patience, "all devices are online");
        return clock.Elapsed;
    }

    public static Saturated Saturate(DeliveryLoad load, TimeSpan time, Func<Usage> usage, Func<long> resident)
    {
        Say("saturated");
        load.Closed(InFlight, WarmUp);
        var (start, ended, from) = (usage(), load.Ended, load.Ledger.Count);
        load.Closed(InFlight, time);
        var (end, messages, bytes) = (usage(), load.Ended - ended, resident());
        if (!load.Drain(Patience)) Say($"{load.InFlight} messages never ended");

        var (seconds, millions) = (DeliveryLoad.Time(end.At - start.At).TotalSeconds, messages / 1e6);
        var (server, database, generator) = (end.ServerCpu - start.ServerCpu, end.DatabaseCpu - start.DatabaseCpu, end.GeneratorCpu - start.GeneratorCpu);
        var isKnown = end.Inside.AllocatedBytes > 0;
        var saturated = new Saturated(
            InFlight, messages / seconds, server / millions, database / millions, generator / millions, server / seconds, database / seconds, generator / seconds,
            bytes / 1024.0 / 1024, isKnown ? (double)(end.Inside.AllocatedBytes - start.Inside.AllocatedBytes) / messages : null,
            isKnown ? (end.Inside.PauseSeconds - start.Inside.PauseSeconds) / seconds * 100 : null,
            isKnown ? (end.Inside.CompilingSeconds - start.Inside.CompilingSeconds) / seconds : null, Latency.Of(load.Ledger, from, e => e.Delivered));
        Say($"{saturated.PerSecond:0}/s, {saturated.ServerCpuPerMillion:0} CPU seconds per million, {saturated.AllocatedPerMessage / 1024:0.0} KB per message");
        return saturated;
    }

    public static Half HalfLoad(DeliveryLoad load, double perSecond, TimeSpan time)
    {
        Say($"half load, {perSecond:0}/s");
        load.Open(perSecond, HalfWarmUp);
        var from = load.Ledger.Count;
        load.Open(perSecond, time);
        if (!load.Drain(Patience)) Say($"{load.InFlight} messages never ended");
        var half = new Half(
            perSecond, Latency.Of(load.Ledger, from, e => e.Answered), Latency.Of(load.Ledger, from, e => e.Published), Latency.Of(load.Ledger, from, e => e.Delivered));
        Say($"201 {half.Created}, PUBLISH {half.Published}, webhook {half.Told}");
        return half;
    }

    public static void Say(string what) => Console.Error.WriteLine($"{DateTime.Now:HH:mm:ss} {what}");
}

/// <summary>Connections that are closed together.</summary>
public sealed class Links : IDisposable
{
    private readonly List<Link> _links = [];

    public void Add(Link link) => _links.Add(link);

    public void Dispose()
    {
        foreach (var link in _links) link.Dispose();
    }
}
