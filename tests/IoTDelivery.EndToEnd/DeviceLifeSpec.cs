using System.Net;
using IoTDelivery.EndToEnd.Harness;
using IoTDelivery.Mqtt;
using MQTTnet;
using MQTTnet.Protocol;

namespace IoTDelivery.EndToEnd;

/// <summary>What an application does to a device besides sending messages, and what the device notices.</summary>
public sealed class DeviceLifeSpec(PlainSite site) : IClassFixture<PlainSite>
{
    [Fact]
    public async Task A_frozen_device_is_disconnected_and_refused_keeps_its_messages_and_gets_them_when_it_is_unfrozen()
    {
        var lamp = await site.NewDeviceAsync();
        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp);
        var gone = new TaskCompletionSource();
        device.Client.DisconnectedAsync += _ =>
        {
            gone.TrySetResult();
            return Task.CompletedTask;
        };

        Api.Expect(HttpStatusCode.NoContent, await site.Node.Api.PostAsync($"devices/{lamp}/freeze", new { }));
        await gone.Task.WaitAsync(TimeSpan.FromSeconds(10));
        Assert.Equal("FROZEN", await StatusAsync(lamp));
        Assert.Equal(MqttClientConnectResultCode.NotAuthorized, await ConnectAsync(lamp, Device.Secret));
        Assert.Equal("PENDING", (await site.Node.Api.SendMessageAsync(lamp, messageId: $"{lamp}-1")).MessageStatus);

        Api.Expect(HttpStatusCode.NoContent, await site.Node.Api.PostAsync($"devices/{lamp}/unfreeze", new { }));
        await using var again = await Device.OnlineAsync(site.Node.MqttPort, lamp);
        Assert.Equal($"{lamp}-1", (await again.NextAsync()).Id);
        Assert.Equal("ONLINE", await StatusAsync(lamp));
    }

    [Fact]
    public async Task A_new_secret_is_valid_at_once_the_old_one_no_longer_and_a_secondary_one_beside_it()
    {
        var lamp = await site.NewDeviceAsync();
        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp);

        var reset = Api.Expect(HttpStatusCode.OK, await site.Node.Api.PostAsync($"devices/{lamp}/action?action_id=resetSecret", new { secret = "another-secret" })).Body;
        Assert.Equal((lamp, "another-secret", "PRIMARY"), (reset.GetProperty("device_id").GetString(), reset.GetProperty("secret").GetString(), reset.GetProperty("secret_type").GetString()));
        Assert.True(device.Client.IsConnected); // only with force_disconnect
        Assert.Equal("DELIVERED", (await site.Node.Api.SendMessageAsync(lamp, messageId: $"{lamp}-1")).MessageStatus);
        Assert.Equal(MqttClientConnectResultCode.BadUserNameOrPassword, await ConnectAsync(lamp, Device.Secret));

        var second = Api.Expect(HttpStatusCode.OK, await site.Node.Api.PostAsync($"devices/{lamp}/action?action_id=resetSecret", new { secret_type = "SECONDARY", force_disconnect = true })).Body;
        Assert.Equal(MqttClientConnectResultCode.Success, await ConnectAsync(lamp, second.GetProperty("secret").GetString()!));
        Assert.Equal(MqttClientConnectResultCode.Success, await ConnectAsync(lamp, "another-secret"));
        Assert.Contains("8 to 32", (await site.Node.Api.PostAsync($"devices/{lamp}/action?action_id=resetSecret", new { secret = "short" })).ErrorMessage);
        Assert.Contains("action_id", (await site.Node.Api.PostAsync($"devices/{lamp}/action?action_id=explode", new { })).ErrorMessage);
    }

    [Fact]
    public async Task A_new_secret_that_disconnects_ends_the_old_connection_and_the_new_one_is_served_at_once()
    {
        var lamp = await site.NewDeviceAsync();
        await using var device = await Device.OnlineAsync(site.Node.MqttPort, lamp);
        var gone = new TaskCompletionSource();
        device.Client.DisconnectedAsync += _ =>
        {
            gone.TrySetResult();
            return Task.CompletedTask;
        };

        var reset = new { secret = "another-secret", force_disconnect = true };
        Api.Expect(HttpStatusCode.OK, await site.Node.Api.PostAsync($"devices/{lamp}/action?action_id=resetSecret", reset));

        await gone.Task.WaitAsync(TimeSpan.FromSeconds(10));
        Assert.Equal(MqttClientConnectResultCode.BadUserNameOrPassword, await ConnectAsync(lamp, Device.Secret));
        Assert.Equal(MqttClientConnectResultCode.Success, await ConnectAsync(lamp, "another-secret"));
    }

    [Fact]
    public async Task A_device_and_a_product_are_changed_field_by_field()
    {
        var lamp = await site.NewDeviceAsync();
        var changed = Api.Expect(HttpStatusCode.OK, await site.Node.Api.PutAsync($"devices/{lamp}", new { device_name = "hall", extension_info = new { floor = 2 } })).Body;
        Assert.Equal(("hall", 2), (changed.GetProperty("device_name").GetString(), changed.GetProperty("extension_info").GetProperty("floor").GetInt32()));
        changed = Api.Expect(HttpStatusCode.OK, await site.Node.Api.PutAsync($"devices/{lamp}", new { description = "by the door" })).Body;
        Assert.Equal(("hall", "by the door"), (changed.GetProperty("device_name").GetString(), changed.GetProperty("description").GetString()));
        Api.Expect(HttpStatusCode.NotFound, await site.Node.Api.PutAsync("devices/nobody", new { description = "x" }));

        await site.Node.Api.CreateProductAsync($"product_{lamp}");
        var product = Api.Expect(HttpStatusCode.OK, await site.Node.Api.PutAsync($"products/product_{lamp}", new { industry = "light" })).Body;
        Assert.Equal(("light", "lamp"), (product.GetProperty("industry").GetString(), product.GetProperty("device_type").GetString()));
        Assert.Equal("light", (await site.Node.Api.GetAsync($"products/product_{lamp}")).Body.GetProperty("industry").GetString());
        await site.Node.Api.CreateDeviceAsync($"of_{lamp}", $"product_{lamp}");
        Assert.Contains("devices", Api.Expect(HttpStatusCode.BadRequest, await site.Node.Api.DeleteAsync($"products/product_{lamp}")).ErrorMessage);
        Api.Expect(HttpStatusCode.NoContent, await site.Node.Api.DeleteAsync($"devices/of_{lamp}"));
        Api.Expect(HttpStatusCode.NoContent, await site.Node.Api.DeleteAsync($"products/product_{lamp}"));
        Api.Expect(HttpStatusCode.NotFound, await site.Node.Api.GetAsync($"products/product_{lamp}"));
    }

    [Fact]
    public async Task Everything_that_waits_is_taken_back_at_once_and_pushed_FAILED()
    {
        var lamp = await site.NewDeviceAsync();
        foreach (var n in (int[])[1, 2, 3]) Api.Expect(HttpStatusCode.Created, await site.Node.Api.SendMessageAsync(lamp, messageId: $"{lamp}-{n}"));

        Api.Expect(HttpStatusCode.NoContent, await site.Node.Api.DeleteAsync($"devices/{lamp}/messages"));
        Assert.Empty((await site.Node.Api.GetAsync($"devices/{lamp}/messages")).Body.GetProperty("messages").EnumerateArray());
        foreach (var n in (int[])[1, 2, 3]) await site.ToldAsync($"{lamp}-{n}", "FAILED");
        Api.Expect(HttpStatusCode.NoContent, await site.Node.Api.DeleteAsync($"devices/{lamp}/messages"));
        Api.Expect(HttpStatusCode.NotFound, await site.Node.Api.DeleteAsync("devices/nobody/messages"));
    }

    [Fact]
    public async Task Devices_are_listed_by_the_time_they_were_created()
    {
        var lamp = await site.NewDeviceAsync();
        var created = (await site.Node.Api.GetAsync($"devices/{lamp}")).Body.GetProperty("create_time").GetString();

        Assert.Contains(lamp, await ListAsync($"start_time={created}&end_time={created}&limit=50"));
        Assert.DoesNotContain(lamp, await ListAsync("end_time=20200101T000000Z"));
        Assert.Contains("start_time", (await site.Node.Api.GetAsync("devices?start_time=yesterday")).ErrorMessage);

        async Task<IEnumerable<string?>> ListAsync(string query) =>
            (await site.Node.Api.GetAsync($"devices?{query}")).Body.GetProperty("devices").EnumerateArray().Select(d => d.GetProperty("device_id").GetString());
    }

    private async Task<string?> StatusAsync(string lamp) => (await site.Node.Api.GetAsync($"devices/{lamp}")).Body.GetProperty("status").GetString();

    private async Task<MqttClientConnectResultCode> ConnectAsync(string lamp, string secret)
    {
        using var client = new MqttClientFactory().CreateMqttClient();
        var (clientId, user, _) = Device.Login(lamp);
        var result = await client.ConnectAsync(new MqttClientOptionsBuilder().WithTcpServer("127.0.0.1", site.Node.MqttPort).WithClientId(clientId)
            .WithCredentials(user, DeviceLogin.Password(secret, clientId[^10..])).WithKeepAlivePeriod(TimeSpan.FromSeconds(60)).Build());
        if (client.IsConnected) await client.DisconnectAsync();
        return result.ResultCode;
    }
}
