using IoTDelivery.Devices;
using IoTDelivery.Domain;

namespace IoTDelivery.Simulation;

/// <summary>
/// The table of devices, and what the host does with it: a device is created, deleted in three steps that each survive a crash, and created again. Its steps are those of
/// DevicesApi and DeviceDeletion in the host.
/// </summary>
//
//   create: row begun, with the number of the life ──► Register ──► row ready          DELETE: row marked ──► Retire ──► row removed          start of a node: reads what stands marked, and finishes one after the other
//
internal sealed class SimulatedRegistry(World world)
{
    private sealed record Row(int Life, bool IsDeleting = false, DateTimeOffset MarkedAt = default, bool IsCreating = false);

    // How long a creation may take before a node finishes it as a deletion.
    private static readonly TimeSpan CreationWithin = TimeSpan.FromSeconds(10);

    private readonly Dictionary<DeviceId, Row> _rows = [];
    private readonly Dictionary<DeviceId, DateTimeOffset> _goneSince = [];
    private readonly Dictionary<DeviceId, DateTimeOffset> _backSince = [];
    private int _lives;
    private int _refs;

    /// <summary>The device was there before the history began.</summary>
    public void Add(DeviceId deviceId) => _rows.Add(deviceId, new Row(0));

    /// <summary>True if the device can be talked to.</summary>
    public bool Has(DeviceId deviceId) => _rows.GetValueOrDefault(deviceId) is { IsDeleting: false, IsCreating: false };

    /// <summary>True if it cannot, or could not at some time since.</summary>
    public bool WasAway(DeviceId deviceId, DateTimeOffset since) =>
        !Has(deviceId) || _goneSince.GetValueOrDefault(deviceId) >= since || _backSince.GetValueOrDefault(deviceId) >= since;

    /// <summary>True if it was deleted at least once.</summary>
    public bool WasEverDeleted(DeviceId deviceId) => _goneSince.ContainsKey(deviceId);

    /// <summary>Which of its lives a device lives, or is being deleted from; null between two of them.</summary>
    public int? LifeOf(DeviceId deviceId) => _rows.GetValueOrDefault(deviceId)?.Life;

    /// <summary>What the notifications of this life say of the device. So the checker knows which deletion a stored fact belongs to.</summary>
    public static DeviceHeader HeaderOf(int life) => World.Header with { NodeId = $"life-{life}" };

    /// <summary>The life a header speaks of.</summary>
    public static int LifeIn(DeviceHeader header) => int.Parse(header.NodeId["life-".Length..], System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>For the push: what a notification says of the device, as long as there is a row.</summary>
    public async ValueTask<DeviceHeader?> FindHeaderAsync(DeviceId deviceId)
    {
        if (world.Chance(0.5))
        {
            var read = new TaskCompletionSource();
            world.After(world.Seconds(0.001, world.Chance(0.4) ? 4 : 0.01), read.SetResult);
            await read.Task;
        }

        return _rows.TryGetValue(deviceId, out var row) ? HeaderOf(row.Life) : world.Happens(Fault.HeaderIsGone, 1) ? null : HeaderOf(0);
    }

    /// <summary>A late Retire, as the one of another life: see <see cref="BrokenRule.RetireOfAnotherLife"/>.</summary>
    public OutboxCommand.Retire Disguised(DeviceId deviceId, OutboxCommand.Retire retire) => Retire(LifeIn(retire.Header), LifeOf(deviceId) ?? 0);

    // ---- what the host does

    /// <summary>DELETE at a node. Answers true (204), false (404) or null (503).</summary>
    public void Delete(Node node, DeviceId deviceId, Action<bool?> answer)
    {
        Row? marked = null;
        world.Disk.Do(
            node,
            "mark deleting",
            () =>
            {
                if (!_rows.TryGetValue(deviceId, out var row) || row.IsCreating) return null;
                _rows[deviceId] = marked = row with { IsDeleting = true, MarkedAt = row.IsDeleting ? row.MarkedAt : world.Now };
                _goneSince[deviceId] = world.Now;
                return null;
            },
            cause =>
            {
                if (cause is not null) answer(null);
                else if (marked is null) answer(false);
                else Finish(node, deviceId, marked, isDone => answer(isDone ? true : null));
            },
            isDoneLate: false);
    }

    /// <summary>A node finishes what stands marked, when it starts and again and again.</summary>
    public void Resume(Node node)
    {
        List<(DeviceId DeviceId, Row Row)> marked = [];
        world.Disk.Do(
            node,
            "read marked devices",
            () =>
            {
                foreach (var (deviceId, row) in _rows.Where(r => r.Value.IsCreating && r.Value.MarkedAt + CreationWithin <= world.Now).ToList())
                {
                    _rows[deviceId] = row with { IsCreating = false, IsDeleting = true, MarkedAt = world.Now };
                }

                marked = [.. _rows.Where(r => r.Value.IsDeleting).Select(r => (r.Key, r.Value))];
                return null;
            },
            cause =>
            {
                if (cause is not null) Again();
                else Next(0);
            });

        void Next(int i)
        {
            if (i == marked.Count) Again();
            else world.After(world.Seconds(0, 4), () => Finish(node, marked[i].DeviceId, marked[i].Row, _ => Next(i + 1)));
        }

        void Again() => world.After(TimeSpan.FromSeconds(5), () =>
        {
            if (node.IsAlive) Resume(node);
        });
    }

    /// <summary>POST of a device at a node. Answers true (201), false (409) or null (503).</summary>
    public void Create(Node node, DeviceId deviceId, Action<bool?> answer)
    {
        Row? begun = null;
        var isTaken = false;
        world.Disk.Do(
            node,
            "begin device",
            () =>
            {
                var row = _rows.GetValueOrDefault(deviceId);
                isTaken = row is { IsDeleting: false, IsCreating: false };
                if (row is null or { IsCreating: true }) _rows[deviceId] = begun = new Row(++_lives, MarkedAt: world.Now, IsCreating: true);
                return null;
            },
            cause =>
            {
                if (cause is not null || (begun is null && !isTaken)) answer(null);
                else if (isTaken) answer(false);
                else Ask(node, deviceId, Register(begun!.Life), reply => Complete(node, deviceId, begun, reply, answer));
            },
            isDoneLate: false);
    }

    private void Complete(Node node, DeviceId deviceId, Row begun, OutboxReply? reply, Action<bool?> answer)
    {
        if (reply is not OutboxReply.Done)
        {
            answer(null);
            return;
        }

        var isReady = false;
        world.Disk.Do(
            node,
            "device is ready",
            () =>
            {
                if (!(isReady = _rows.GetValueOrDefault(deviceId) == begun)) return null;
                _rows[deviceId] = begun with { IsCreating = false };
                _backSince[deviceId] = world.Now;
                world.Trace($"{node} {deviceId} exists, life {begun.Life}");
                world.Promises.Created(deviceId);
                return null;
            },
            cause => answer(cause is null && isReady ? true : null),
            isDoneLate: false);
    }

    private void Finish(Node node, DeviceId deviceId, Row row, Action<bool> answer) => Ask(node, deviceId, Retire(row.Life, row.Life), reply =>
    {
        if (reply is not OutboxReply.Done)
        {
            answer(false);
            return;
        }

        world.Disk.Do(
            node,
            "remove device",
            () =>
            {
                if (_rows.GetValueOrDefault(deviceId) is not { IsDeleting: true } still || still.Life != row.Life) return null;
                _rows.Remove(deviceId);
                world.Trace($"{node} {deviceId} is gone, life {still.Life}");
                world.Promises.Removed(deviceId, still.MarkedAt);
                return null;
            },
            cause => answer(cause is null),
            isDoneLate: false);
    });

    // As DeviceGateway does: again and again for four seconds.
    private void Ask(Node node, DeviceId deviceId, OutboxCommand command, Action<OutboxReply?> answer)
    {
        var until = world.Now + TimeSpan.FromSeconds(4);
        Once();

        void Once()
        {
            if (!node.IsAlive) return;
            var isOver = false;
            var replyTo = new FunctionRef($"registry-{_refs++}", (message, _) =>
            {
                if (!isOver && node is { IsAlive: true, IsPaused: false }) End((OutboxReply)message);
            });
            node.Region.Tell(new ToDevice.Command(deviceId, command), replyTo);
            world.After(TimeSpan.FromSeconds(2), () =>
            {
                if (!isOver) End(null);
            });

            void End(OutboxReply? reply)
            {
                isOver = true;
                var pause = world.Seconds(0.1, 0.3);
                if (reply is not (null or OutboxReply.Refused { Reason: RefusalReason.Unavailable }) || world.Now + 2 * pause > until) answer(reply);
                else world.After(pause, Once);
            }
        }
    }

    // The header names the life for the checker; the record is what the product may tell lives apart by.
    private static OutboxCommand.Retire Retire(int headerOf, int record) => new(HeaderOf(headerOf), record);

    private static OutboxCommand.Register Register(int record) => new(record);
}
