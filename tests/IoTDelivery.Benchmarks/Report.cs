using System.Text;

namespace IoTDelivery.Benchmarks;

/// <summary>The figures as Markdown, with machine, method and date: a number without them is no number.</summary>
public static class Report
{
    public static string Delivery(IReadOnlyList<DeliveryFigures> all, Machine machine, TimeSpan time)
    {
        var text = new StringBuilder();
        text.AppendLine($"## Delivery, {DateTime.UtcNow:yyyy-MM-dd}").AppendLine();
        text.AppendLine($"Machine: {machine}. Databases: {string.Join(", ", all.Where(f => f.Busy is not null).Select(f => f.Name))}.").AppendLine();
        text.AppendLine($"| |{string.Concat(all.Select(f => $" {f.Name} |"))}").AppendLine($"|---|{string.Concat(all.Select(_ => "---:|"))}");

        Row("devices", f => $"{f.Devices:N0}");
        Row($"**saturated**, {DeliveryBenchmark.InFlight} in flight: messages/s", f => $"**{f.Saturated.PerSecond:N0}**");
        Row("server CPU seconds per million messages", f => $"{f.Saturated.ServerCpuPerMillion:N0}");
        Row("database server CPU seconds per million", f => f.Saturated.DatabaseCpuPerMillion > 0 ? $"{f.Saturated.DatabaseCpuPerMillion:N0}" : "–");
        Row("generator CPU seconds per million", f => $"{f.Saturated.GeneratorCpuPerMillion:N0}");
        Row("cores used: server / database / generator", f => $"{f.Saturated.ServerCores:0.00} / {f.Saturated.DatabaseCores:0.00} / {f.Saturated.GeneratorCores:0.00}");
        Row("server RSS, MB", f => $"{f.Saturated.ResidentMb:N0}");
        Row("allocated per message, KB", f => f.Saturated.AllocatedPerMessage is { } bytes ? $"{bytes / 1024:0.0}" : "–");
        Row("time stopped by the garbage collector, %", f => f.Saturated.PausePercent is { } percent ? $"{percent:0.0}" : "–");
        Row("cores used by the just-in-time compiler meanwhile", f => f.Saturated.CompilingCores is { } cores ? $"{cores:0.00}" : "–");
        Row("send → end p50 / p99 / max, ms", f => Of(f.Saturated.Ended));
        Row("**half load**: messages/s, fixed schedule", f => $"{f.Half.PerSecond:N0}");
        Row("due → 201 p50 / p99 / max, ms", f => Of(f.Half.Created));
        Row("due → PUBLISH at the device p50 / p99 / max, ms", f => Of(f.Half.Published));
        Row("due → DELIVERED webhook p50 / p99 / max, ms", f => f.Busy is null ? "–" : Of(f.Half.Told));
        Row("**writes per message**, busy device: journal / snapshot / reminder / push_backlog", f => Of(f.Busy));
        Row("commits per message, busy", f => f.Busy?.Commits is { } commits ? $"{commits:0.000}" : "–");
        Row("bytes to the disk per message, busy", f => f.Busy is { } busy ? $"{busy.Bytes:N0}" : "–");
        Row("sleeping device, accepted and asleep again: journal / snapshot / reminder / push_backlog", f => Of(f.Stored));
        Row("sleeping device, whole life until asleep again", f => Of(f.Slept));
        Row("**accepted / without an end**", f => $"{f.Loss.Accepted:N0} / **{f.Loss.Missing:N0}**");
        Row("POSTs not answered 201", f => $"{f.Loss.Refused:N0}");
        Row("DELIVERED twice with different request_id", f => $"{f.Loss.ToldTwice:N0}");
        Row("repetitions: PUBLISH / webhook", f => $"{f.Loss.PublishedAgain:N0} / {f.Loss.ToldAgain:N0}");

        text.AppendLine().AppendLine(
            $"""
            Method. `IoTDelivery.Benchmarks -- delivery`: the server is the Release build with default settings (workstation GC, one node) in a process of its own, on a new and
            empty database; PostgreSQL is a cluster of its own with fsync on, on the same machine. The generator is a third process, one thread on epoll, and shares the cores
            with both: what it uses is in the table. Everything talks over loopback with TCP_NODELAY. Content is {Load.Names.ContentBytes} bytes; the application gives `message_id` itself;
            devices are MQTT 3.1.1, QoS 1, subscribed, get messages in turn and acknowledge at once; the webhook answers 200 at once.
            Saturated: closed loop. A message is in flight from its POST until its DELIVERED webhook has arrived; {DeliveryBenchmark.WarmUp.TotalSeconds:0} s of warm-up, then {time.TotalSeconds:0} s are measured,
            at the arrival of the webhook. CPU is utime + stime from /proc. Half load: open loop, a fixed schedule at half of the saturated rate, {DeliveryBenchmark.HalfWarmUp.TotalSeconds:0} s of
            warm-up and {time.TotalSeconds:0} s measured; every time counts from when the message was due, so that a stalled server is not spared. Writes are rows inserted, updated
            and deleted, counted on {DeliveryBenchmark.BusyMessages:N0} further messages (busy) and on one message each for {DeliveryBenchmark.SleepingDevices} devices that are away, sleep, connect, receive and sleep again. Bytes are
            WAL (PostgreSQL) or what the server process sent to the disk (SQLite, with the triggers that count). Single run.
            """);
        if (all.Any(f => f.Busy is null))
        {
            text.AppendLine().AppendLine(
                $"""
                MQTTnet.Server is here to compare: the same generator publishes the same payload at QoS 1 from {DeliveryBenchmark.InFlight} MQTT connections and a message ends when the device has it. It does **not**
                do what the others do: no REST, nothing stored before the acknowledgement (a crash loses all of it), no status of a message, no webhook, no login.
                """);
        }

        return text.ToString();

        void Row(string what, Func<DeliveryFigures, string> value) => text.AppendLine($"| {what} |{string.Concat(all.Select(f => $" {value(f)} |"))}");
    }

    public static string Connect(IReadOnlyList<ConnectFigures> all, Machine machine)
    {
        var text = new StringBuilder();
        text.AppendLine($"## Connections, {DateTime.UtcNow:yyyy-MM-dd}").AppendLine().AppendLine($"Machine: {machine}.").AppendLine();
        text.AppendLine("| | devices | connects/s | server CPU s per 1,000 | RSS per connection, KB: just connected | idle |").AppendLine("|---|---:|---:|---:|---:|---:|");
        foreach (var f in all)
        {
            text.AppendLine(
                $"| {f.Name} | {f.Devices:N0} | {f.PerSecond:N0} | {f.ServerCpuPerThousand:0.00} | {f.ResidentKbPerConnection:0.0} | {f.ResidentKbPerIdleConnection:0.0} |");
        }

        text.AppendLine().AppendLine(
            $"""
            Method. `IoTDelivery.Benchmarks -- connect`: plain TCP over loopback, MQTT 3.1.1; a connect is TCP connect, CONNECT with a right password, CONNACK, SUBSCRIBE, SUBACK, and the
            device's actor recovered from the journal; at most {DeliveryBenchmark.ConnectingMax} at once; 500 devices connect before for warm-up. RSS is that of the server process, less what it was before, by the
            number of connections: once right after the last one, once after 45 s of silence. The generator shares the cores. Single run.
            """);
        return text.ToString();
    }

    private static string Of(Latency latency) => $"{latency.P50:0.0} / {latency.P99:0.0} / {latency.Max:0}";

    private static string Of(Written? written) =>
        written is { } w ? $"{w.Journal:0.00} / {w.Snapshot:0.00} / {w.Reminder:0.00} / {w.Backlog:0.00}" : "–";
}
