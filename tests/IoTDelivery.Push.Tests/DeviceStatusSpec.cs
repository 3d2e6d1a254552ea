using System.Text;
using IoTDelivery.Registry;

namespace IoTDelivery.Push.Tests;

public sealed class DeviceStatusSpec
{
    private static readonly StatusChange Change = new()
    {
        DeviceId = Given.Lamp.Value,
        Status = StatusChange.Offline,
        ChangedAt = Given.Noon.ToUnixTimeMilliseconds(),
        LastOnlineAt = Given.Noon.AddMinutes(-5).ToUnixTimeMilliseconds(),
    };

    [Theory]
    [InlineData(PushShape.Flat, StatusChange.Offline, "flat-offline.json")]
    [InlineData(PushShape.HeaderBody, StatusChange.Offline, "header-body-offline.json")]
    [InlineData(PushShape.Both, StatusChange.Offline, "both-offline.json")]
    [InlineData(PushShape.Both, StatusChange.Online, "both-online.json")]
    [InlineData(PushShape.Flat, StatusChange.Online, "flat-online.json")]
    [InlineData(PushShape.HeaderBody, StatusChange.Online, "header-body-online.json")]
    public void A_device_came_online_or_went(PushShape shape, string status, string file) => Assert.Equal(
        File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "golden", file)).TrimEnd(),
        Encoding.UTF8.GetString(new DeviceStatus(Change with { Status = status }).Write(Given.Lamp, Given.Header, shape)));

    [Fact]
    public void Two_changes_of_one_millisecond_have_two_numbers() =>
        Assert.NotEqual(DeviceStatus.NumberOf(Change), DeviceStatus.NumberOf(Change with { Status = StatusChange.Online }));
}
