using System.Text;
using IoTDelivery.Domain;
using IoTDelivery.Registry;

namespace IoTDelivery.Push.Tests;

public sealed class StatusNotificationSpec
{
    private static readonly Notification Delivered =
        new(7, MessageId.Parse("message-1"), "Größe \"XL\"", "$oc/devices/lamp/sys/messages/down", MessageStatus.Delivered, Given.Noon);

    private static readonly Notification Failed = Delivered with { Number = 8, Name = null, Status = MessageStatus.Failed, Error = ErrorInfo.NotSubscribed };

    [Fact]
    public void A_delivered_message_in_flat_shape() => IsGolden("flat-delivered.json", Write(Delivered, PushShape.Flat));

    [Fact]
    public void A_failed_message_in_flat_shape_says_why_and_has_no_name_if_none_was_given() => IsGolden("flat-failed.json", Write(Failed, PushShape.Flat));

    [Fact]
    public void A_delivered_message_in_header_and_body_shape() => IsGolden("header-body-delivered.json", Write(Delivered, PushShape.HeaderBody));

    [Fact]
    public void A_failed_message_in_header_and_body_shape_says_why() => IsGolden("header-body-failed.json", Write(Failed, PushShape.HeaderBody));

    [Fact]
    public void A_delivered_message_in_both_shapes_at_once() =>
        IsGolden("both-delivered.json", Write(Delivered, PushShape.Both));

    [Fact]
    public void A_failed_message_in_both_shapes_at_once() =>
        IsGolden("both-failed.json", Write(Failed, PushShape.Both));

    [Fact]
    public void A_device_of_no_resource_space_has_an_empty_app_id() => Assert.Contains(
        "\"header\":{\"app_id\":\"\",\"device_id\":\"lamp\"",
        Encoding.UTF8.GetString(StatusNotification.Write(
            Given.Lamp, Delivered, Given.Header with { AppId = null }, PushShape.HeaderBody)));

    [Fact]
    public void Times_are_utc_wherever_the_node_stands() =>
        Assert.Equal(Write(Delivered, PushShape.Flat), Write(Delivered with { At = Given.Noon.ToOffset(TimeSpan.FromHours(8)) }, PushShape.Flat));

    [Fact]
    public void The_request_id_is_the_notifications_own()
    {
        Assert.Equal(StatusNotification.RequestId(Given.Lamp, 7), StatusNotification.RequestId(DeviceId.Parse("lamp"), 7));
        Assert.NotEqual(StatusNotification.RequestId(Given.Lamp, 7), StatusNotification.RequestId(Given.Lamp, 8));
        Assert.NotEqual(StatusNotification.RequestId(Given.Lamp, 7), StatusNotification.RequestId(DeviceId.Parse("lamp2"), 7));
    }

    [Fact]
    public void The_longest_device_id_and_the_largest_number_have_a_request_id() =>
        Assert.NotEqual(Guid.Empty, StatusNotification.RequestId(DeviceId.Parse(new string('d', 128)), long.MaxValue));

    private static byte[] Write(Notification notification, PushShape shape) => StatusNotification.Write(Given.Lamp, notification, Given.Header, shape);

    // What a receiver parses today it must be able to parse tomorrow: a golden file is never edited.
    private static void IsGolden(string file, byte[] written) =>
        Assert.Equal(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "golden", file)).TrimEnd(), Encoding.UTF8.GetString(written));
}
