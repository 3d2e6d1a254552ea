using System.Diagnostics;
using System.Net;
using IoTDelivery.Benchmarks.Load;
using IoTDelivery.EndToEnd.Harness;
using MQTTnet.Server;

namespace IoTDelivery.Benchmarks;

/// <summary>MQTTnet's own broker in a process of its own, measured by the same generator: what its users would otherwise run.</summary>
public static class Peer
{
    private static readonly string Version = typeof(MqttServer).Assembly.GetName().Version!.ToString();

    /// <summary>The broker: runs until its input ends.</summary>
    public static async Task<int> ServeAsync(int port)
    {
        var options = new MqttServerOptionsBuilder()
            .WithDefaultEndpoint().WithDefaultEndpointPort(port).WithDefaultEndpointBoundIPAddress(IPAddress.Loopback).WithDefaultEndpointBoundIPV6Address(IPAddress.None)
            .WithMaxPendingMessagesPerClient(10_000).Build();
        using var server = new MqttServerFactory().CreateMqttServer(options);
        await server.StartAsync();
        Console.WriteLine("ready");
        await Console.In.ReadToEndAsync();
        await server.StopAsync();
        return 0;
    }

    public static async Task<DeliveryFigures> RunAsync(int devices, TimeSpan time)
    {
        DeliveryBenchmark.Say($"peer: MQTTnet.Server {Version}, with {devices} devices");
        var port = Node.FreePort();
        var start = new ProcessStartInfo("dotnet") { RedirectStandardInput = true, RedirectStandardOutput = true };
        foreach (var argument in (string[])[typeof(Peer).Assembly.Location, "peer", "--port", $"{port}"]) start.ArgumentList.Add(argument);
        using var process = Process.Start(start)!;
        try
        {
            if (await process.StandardOutput.ReadLineAsync() != "ready") throw new InvalidOperationException("The peer did not start.");
            using var poller = new Poller();
            var load = new DeliveryLoad(poller, endsAtDevice: true) { Devices = (0, devices) };
            using var links = new Links();
            DeliveryBenchmark.Connect(load, links, devices, number => new DeviceLink(poller, port, number, load));
            for (var i = 0; i < DeliveryBenchmark.InFlight; i++) links.Add(new Publisher(poller, port, i, load));
            load.Until(() => load.IdleCallers == DeliveryBenchmark.InFlight, DeliveryBenchmark.Patience, "all publishers are connected");
            var saturated = DeliveryBenchmark.Saturate(
                load, time,
                () => new Usage(DeliveryLoad.Now, ProcessFigures.CpuSeconds(process.Id), 0, ProcessFigures.CpuSeconds(Environment.ProcessId), default),
                () => ProcessFigures.ResidentBytes(process.Id));
            var half = DeliveryBenchmark.HalfLoad(load, saturated.PerSecond / 2, time);
            load.IgnoreClosed();
            return new DeliveryFigures($"MQTTnet.Server {Version}", devices, saturated, half, Loss.Of(load.Ledger), null, null, null);
        }
        finally
        {
            process.Kill();
            await process.WaitForExitAsync();
        }
    }
}
