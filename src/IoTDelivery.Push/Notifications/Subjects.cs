using IoTDelivery.Registry;

namespace IoTDelivery.Push;

/// <summary>What rules can forward; the manual knows more.</summary>
public static class Subjects
{
    /// <summary>Resource and event, as rules name them.</summary>
    public static readonly IReadOnlyList<(string Resource, string Event)> All =
    [
        (StatusNotification.Resource, StatusNotification.Event),
        (StatusChanges.Resource, StatusChanges.Event),
        (DeviceMessage.Subject, DeviceMessage.SubjectEvent),
    ];
}
