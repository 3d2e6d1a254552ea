using IoTDelivery.Domain;

namespace IoTDelivery.Push.Tests;

internal static class Given
{
    public const string Project = "project-1";

    public static readonly DateTimeOffset Noon = new(2026, 3, 1, 12, 0, 0, 345, TimeSpan.Zero);

    public static readonly DeviceHeader Header = new(Project, "app-1", "node-1", "product-1", "gateway-1");

    public static readonly DeviceId Lamp = DeviceId.Parse("lamp");

    public static DeviceId Device(int number) => DeviceId.Parse($"device-{number}");

    public static Notification Notification(long number, DateTimeOffset at, MessageStatus status = MessageStatus.Delivered) =>
        new(number, MessageId.Parse($"m{number}"), null, "$oc/devices/lamp/sys/messages/down", status, at);
}

/// <summary>Wakes whoever waits for something to become true, each time something happened.</summary>
internal sealed class Happening
{
    private TaskCompletionSource _next = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public void Pulse() => Interlocked.Exchange(ref _next, new(TaskCreationOptions.RunContinuationsAsynchronously)).SetResult();

    public async Task UntilAsync(Func<bool> isTrue, Func<string> instead, TimeSpan? within = null)
    {
        using var deadline = new CancellationTokenSource(within ?? TimeSpan.FromSeconds(20));
        while (true)
        {
            var next = Volatile.Read(ref _next).Task;
            if (isTrue()) return;
            try
            {
                await next.WaitAsync(deadline.Token);
            }
            catch (OperationCanceledException)
            {
                throw new TimeoutException($"Did not happen in time. Instead: {instead()}");
            }
        }
    }
}

/// <summary>The machine's time, and what a test adds to it.</summary>
internal sealed class MovableClock : TimeProvider
{
    private long _ahead;

    public override DateTimeOffset GetUtcNow() => base.GetUtcNow().AddTicks(Interlocked.Read(ref _ahead));

    public override long GetTimestamp() => base.GetTimestamp() + Interlocked.Read(ref _ahead) * (TimestampFrequency / TimeSpan.TicksPerSecond);

    public void Move(TimeSpan by) => Interlocked.Add(ref _ahead, by.Ticks);
}
