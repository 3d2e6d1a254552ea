using System.Text.Json;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>A node, an application's webhook and a rule between them, for all tests of a class. Every test has devices of its own.</summary>
public abstract class Site(params string[] settings) : IAsyncLifetime
{
    private int _devices;

    public Node Node { get; private set; } = null!;

    public Receiver Receiver { get; private set; } = null!;

    public Api Api => Node.Api;

    public async Task InitializeAsync()
    {
        Receiver = await Receiver.StartAsync();
        Node = await Node.StartAsync(settings);
        await Api.CreateProductAsync();
        await Api.PushToAsync(Receiver.Url);
    }

    public async Task DisposeAsync()
    {
        await Node.DisposeAsync();
        await Receiver.DisposeAsync();
    }

    /// <summary>A device nobody else uses.</summary>
    public Task<string> NewDeviceAsync() => Api.CreateDeviceAsync($"lamp_{Interlocked.Increment(ref _devices)}");

    /// <summary>Waits until the application was told this of the message. Returns the notification.</summary>
    public async Task<Push> ToldAsync(string messageId, string status, TimeSpan? patience = null)
    {
        var pushes = await Receiver.UntilAsync(all => all.Any(p => p.MessageId == messageId && p.Status == status), $"{status} of {messageId}", patience);
        return pushes.First(p => p.MessageId == messageId && p.Status == status);
    }

    /// <summary>What Show says of the message.</summary>
    public async Task<JsonElement> ShowAsync(string deviceId, string messageId) =>
        Api.Expect(System.Net.HttpStatusCode.OK, await Api.GetAsync($"devices/{deviceId}/messages/{messageId}")).Body;

    /// <summary>The status Show says the message has.</summary>
    public async Task<string?> StatusAsync(string deviceId, string messageId) => (await ShowAsync(deviceId, messageId)).GetProperty("status").GetString();
}
