namespace IoTDelivery.Devices.Tests.Actor;

/// <summary>What an idle device does before it stops.</summary>
public sealed class IdleDeviceSpec
{
    private static readonly IdleDevice Away = new(
        IsConnected: false, IsUnstored: false, IsSnapshotWorthwhile: false, HasStored: true, Expires: false, HasReminder: false,
        IsReminderSet: false);

    private static readonly IdleDevice Busy = new(
        IsConnected: false, IsUnstored: true, IsSnapshotWorthwhile: true, HasStored: true, Expires: true, HasReminder: true,
        IsReminderSet: false);

    [Fact]
    public void It_takes_one_step_behind_the_other()
    {
        List<string> steps = [];
        var device = Busy;
        for (var step = device.NextStep(); ; step = device.NextStep())
        {
            steps.Add($"{step}");
            if (step is PassivationStep.Passivate) break;
            device = step switch
            {
                PassivationStep.FlushAcknowledged => device with { IsUnstored = false },
                PassivationStep.Snapshot => device with { IsSnapshotWorthwhile = false },
                PassivationStep.MoveReminder => device with { IsReminderSet = true },
                _ => throw new InvalidOperationException($"{step} has nothing to do."),
            };
        }

        Assert.Equal(["FlushAcknowledged", "Snapshot", "MoveReminder", "Passivate"], steps);
    }

    [Fact]
    public void A_reminder_that_nobody_needs_is_deleted() =>
        Assert.Equal(PassivationStep.DeleteReminder, (Away with { HasReminder = true }).NextStep());

    [Fact]
    public void Without_a_reminder_one_is_set_for_what_expires() =>
        Assert.Equal(PassivationStep.MoveReminder, (Away with { Expires = true }).NextStep());

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void An_owner_that_has_stored_nothing_yet_puts_no_reminder_off_before_it_has(bool expires)
    {
        var device = Away with { HasStored = false, Expires = expires, HasReminder = true };
        Assert.Equal(PassivationStep.Fence, device.NextStep());
        var step = (device with { HasStored = true }).NextStep();
        Assert.Equal(expires ? PassivationStep.MoveReminder : PassivationStep.DeleteReminder, step);
    }

    [Fact]
    public void An_owner_that_puts_nothing_off_stores_nothing() =>
        Assert.Equal(PassivationStep.Passivate, (Away with { HasStored = false }).NextStep());

    [Fact]
    public void A_connected_device_tidies_up_and_stays_without_a_snapshot()
    {
        var device = Busy with { IsConnected = true };
        Assert.Equal(PassivationStep.FlushAcknowledged, device.NextStep());
        device = device with { IsUnstored = false };
        Assert.Equal(PassivationStep.MoveReminder, device.NextStep());
        device = device with { IsReminderSet = true };
        Assert.Equal(PassivationStep.Stay, device.NextStep());
    }
}
