using IoTDelivery.Benchmarks.Load;
using IoTDelivery.Storage;

namespace IoTDelivery.Benchmarks;

/// <summary>Devices that connect, subscribe and then do nothing.</summary>
public static class ConnectBenchmark
{
    // Half a minute after its last activity a connected device takes its reminder off and is settled.
    private static readonly TimeSpan IdleFor = TimeSpan.FromSeconds(45);
    private const int WarmUpDevices = 500;

    public static async Task<ConnectFigures> RunAsync(DatabaseProvider provider, int devices)
    {
        DeliveryBenchmark.Say($"{provider}: starts, with {devices} devices");
        await using var site = await Site.StartAsync(provider);
        using var poller = new Poller();
        var load = new DeliveryLoad(poller);
        await site.FillAsync(devices + WarmUpDevices, null);
        using var links = new Links();
        DeliveryBenchmark.Connect(load, links, WarmUpDevices, number => new DeviceLink(poller, site.Node.MqttPort, devices + number, load));
        var (before, start) = (site.Node.ResidentBytes, site.Usage());
        var took = DeliveryBenchmark.Connect(load, links, devices, number => new DeviceLink(poller, site.Node.MqttPort, number, load));
        var (connected, end) = (site.Node.ResidentBytes, site.Usage());
        DeliveryBenchmark.Say("idle");
        load.For(IdleFor);
        var idle = site.Node.ResidentBytes;
        load.IgnoreClosed();
        return new ConnectFigures(
            site.Version, devices, devices / took.TotalSeconds, (end.ServerCpu - start.ServerCpu) / devices * 1000,
            (connected - before) / 1024.0 / devices, (idle - before) / 1024.0 / devices);
    }
}
