using System.Buffers;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>
/// Takes what devices publish. A message some rule may forward is taken when it is settled; until then the device gets no acknowledgement and will send it
/// again. All else is taken at once, whether the database answers or not: for that question the rules of half a second ago are good enough.
/// </summary>
public sealed class UplinkNotifications : IAsyncDisposable
{
    private static readonly TimeSpan RulesAge = TimeSpan.FromMilliseconds(500);

    private readonly VolatileNotifications _volatile;
    private readonly RuleBook _rules;
    private readonly TimeProvider _clock;
    private readonly CancellationTokenSource _disposed = new();
    private readonly Task _reading;

    public UplinkNotifications(VolatileNotifications notifications, RuleBook rules, TimeProvider clock)
    {
        (_volatile, _rules, _clock) = (notifications, rules, clock);
        _reading = Task.Run(ReadRulesAsync);
    }

    /// <summary>Completes when the device may be told that its message is taken. The payload is copied before this returns.</summary>
    public ValueTask TakeAsync(DeviceId deviceId, string topic, ReadOnlySequence<byte> payload)
    {
        var rules = _rules.Newest;
        var mayMatch = rules.LoadedFrom == long.MinValue || rules.Knows(DeviceMessage.Subject, DeviceMessage.SubjectEvent);
        if (!mayMatch || UplinkTopic.Of(deviceId, topic) is not { } uplink) return ValueTask.CompletedTask;
        var number = Random.Shared.NextInt64();
        var message = new DeviceMessage(deviceId, number, uplink, payload.ToArray(), _clock.GetUtcNow());
        return new ValueTask(_volatile.SettleAsync(message));
    }

    public async ValueTask DisposeAsync()
    {
        await _disposed.CancelAsync();
        await _reading;
        _disposed.Dispose();
    }

    private async Task ReadRulesAsync()
    {
        var stop = _disposed.Token;
        try
        {
            while (true)
            {
                await _rules.LoadedAfterAsync(_clock.GetTimestamp(), stop);
                await Task.Delay(RulesAge, stop);
            }
        }
        catch (Exception) when (stop.IsCancellationRequested)
        {
            // The node goes down.
        }
    }
}
