using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using IoTDelivery.Push;

namespace IoTDelivery.Simulation;

/// <summary>The application: sends messages, asks again with the same id as long as it has no answer, takes some back, and is told by webhook.</summary>
internal sealed class Application(World world)
{
    private static readonly TimeSpan AskTimeout = TimeSpan.FromSeconds(2);
    private static readonly int[] Ttls = [0, 5, 5, 10, 10, 20];
    private static readonly int[] LongTtls = [0, 5, 10, 20, 60, 60]; // long enough to be ended by a clock

    private readonly Dictionary<string, (double From, double To, DateTimeOffset Until)> _slow = []; // by action: how long it takes, in seconds
    private readonly Dictionary<string, (DeviceId DeviceId, MessageBody Body)> _sent = [];
    private readonly Dictionary<string, DateTimeOffset> _sentAt = [];
    private readonly Dictionary<string, DateTimeOffset> _downUntil = [];
    private readonly HashSet<(string ActionId, Guid RequestId)> _refused = [];
    private readonly List<string> _ids = [];
    private int _unanswered;
    private readonly HashSet<DeviceId> _beingDeleted = [];
    private int _refs;

    /// <summary>Every POST has an answer, and every device that was to be deleted, or to exist again, is, or does.</summary>
    public bool IsDone => _unanswered == 0 && _beingDeleted.Count == 0;

    public int Messages => _ids.Count;

    public void Begin(TimeSpan duration)
    {
        var count = world.Random.Next(5, 40);
        var at = TimeSpan.Zero;
        for (var i = 0; i < count; i++)
        {
            if (!world.Chance(0.4)) at = world.Seconds(0, duration.TotalSeconds); // else right behind the one before
            var number = i;
            world.After(at, () => Send($"m{number}"));
        }
    }

    public void GoDown(TimeSpan duration) => _downUntil[world.Actions[world.Random.Next(world.Actions.Count)]] = world.Now + duration;

    public void Calm()
    {
        _downUntil.Clear();
        if (world.Sleepers.Count > 0) SendToSleepers();
        foreach (var device in world.Addressees.Where(d => world.Registry.WasEverDeleted(d.Id))) // what exists must be able to take something
        {
            _unanswered++;
            world.After(world.Seconds(20, 30), () =>
            {
                _unanswered--;
                if (world.Registry.Has(device.Id)) Send($"m{_ids.Count + 200}", device);
            });
        }
    }

    /// <summary>Whom this message is for.</summary>
    public Addressee AddresseeOf(string id) => world.AddresseeOf(_sent[id].DeviceId);

    /// <summary>An action takes its time with every answer.</summary>
    public void GetSlow(TimeSpan duration) =>
        _slow[world.Actions[world.Random.Next(world.Actions.Count)]] = world.Chance(0.5) ? (5, 14, world.Now + duration) : (5, 60, world.Now + duration);

    /// <summary>How long an action takes with its answer.</summary>
    public TimeSpan ThinkTime(string actionId) =>
        _slow.TryGetValue(actionId, out var slow) && world.Now < slow.Until ? world.Seconds(slow.From, slow.To) : TimeSpan.Zero;

    /// <summary>What a message says to a device.</summary>
    public static string Text(string id, int version) => $"{id}|{version}";

    /// <summary>
    /// A node is taken for dead and is not: what the application says to it, and a look at the new home, come at the worst time.
    /// </summary>
    public void Press(Node former)
    {
        foreach (var device in world.Devices)
        {
            if (!world.Chance(0.5)) continue;
            world.After(world.Seconds(0, 3), () => world.AnyNode()?.Region.Tell(new ToDevice.Show(device.Id, MessageId.Parse("none")), ActorRefs.NoSender));
            world.After(world.Seconds(1, 5), () => Send($"m{_ids.Count + 100}", device, former));
        }
    }

    // Slow, but not so slow that the breaker takes them for down.
    private void SendToSleepers()
    {
        foreach (var actionId in world.Actions) _slow[actionId] = (3, 14, world.Now + TimeSpan.FromSeconds(120));
        for (var i = 0; i < world.Sleepers.Count; i++)
        {
            var (id, sleeper) = ($"m{400 + i}", world.Sleepers[i]);
            _unanswered++;
            world.After(TimeSpan.FromSeconds(10 + 0.1 * i), () =>
            {
                _unanswered--;
                Send(id, sleeper, ttl: 10);
            });
        }
    }

    // ---- devices

    /// <summary>DELETE until it is answered, and again a POST of the same device, most of the time.</summary>
    public void DeleteDevice(Addressee device)
    {
        if (device is SimulatedDevice { SubDevices.Count: > 0 } || !_beingDeleted.Add(device.Id)) return;
        world.Trace($"application: deletes {device.Id}");
        var isGone = false;
        Once();
        if (world.Happens(Fault.DeletionRepeated, 0.5)) world.After(world.Seconds(0, world.Chance(0.7) ? 0.02 : 2), () => Registry(node => world.Registry.Delete(node, device.Id, _ => { })));

        void Once() => Until(
            (node, answer) => world.Registry.Delete(node, device.Id, answer),
            isDeleted =>
            {
                if (isDeleted is null) Once();
                else if (!isGone) Gone();
            });

        void Gone()
        {
            isGone = true;
            world.Trace($"application: {device.Id} is deleted");
            if (world.Chance(0.15)) _beingDeleted.Remove(device.Id); // for good
            else world.After(world.Chance(0.5) ? TimeSpan.FromMilliseconds(1) : world.Seconds(0, 15), Create);
        }

        void Create() => Until(
            (node, answer) => world.Registry.Create(node, device.Id, answer),
            isCreated =>
            {
                if (isCreated is null || (isCreated is false && !world.Registry.Has(device.Id)))
                {
                    Create();
                    return;
                }

                world.Trace($"application: {device.Id} exists again");
                _beingDeleted.Remove(device.Id);
                for (var i = world.Random.Next(3); i > 0; i--) world.After(world.Seconds(0, 6), () => Send($"m{_ids.Count + 300}", device));
            });

        void Registry(Action<Node> call)
        {
            if (world.AnyNode() is { IsPaused: false } node) call(node);
        }

        // A request has ten seconds; then it is sent again, to any node.
        void Until(Action<Node, Action<bool?>> call, Action<bool?> then)
        {
            var isOver = false;
            Registry(node => call(node, End));
            world.After(TimeSpan.FromSeconds(10), () => End(null));

            void End(bool? answer)
            {
                if (isOver) return;
                isOver = true;
                world.After(answer is null ? world.Seconds(0.1, 1) : TimeSpan.Zero, () => then(answer));
            }
        }
    }

    // ---- REST

    private void Send(string id, Addressee? device = null, Node? at = null, int? ttl = null)
    {
        device ??= world.Addressees[world.Random.Next(world.Addressees.Count)];
        var topic = device.Topics[world.Chance(0.75) ? 0 : ^1];
        var ttls = world.MayJump ? LongTtls : Ttls;
        _sentAt.Add(id, world.Now);
        _sent.Add(id, (device.Id, Body(id, 1, topic, ttl ?? ttls[world.Random.Next(ttls.Length)])));
        _ids.Add(id);
        Post(id, isFirst: true, at);
        if (world.Chance(0.1)) world.After(world.Seconds(0.1, 15), () => Delete(id));
        if (world.Chance(0.1)) world.After(world.Seconds(0.1, 15), () => PostOther(id));
    }

    private static MessageBody Body(string id, int version, string topic, int ttl) =>
        new(null, Text(id, version), ContentKind.Text, ContentEncoding.None, PayloadFormat.Raw, topic, ttl);

    // Asks until it has an answer, each time at any node, as often as it takes.
    private void Post(string id, bool isFirst, Node? at = null)
    {
        var (deviceId, body) = _sent[id];
        if (isFirst) _unanswered++;
        var answered = false;
        Ask(deviceId, new OutboxCommand.Accept(MessageId.Parse(id), body), reply =>
        {
            if (answered) return;
            answered = true;
            if (reply is null or OutboxReply.Refused { Reason: RefusalReason.Unavailable } || (isFirst && world.Happens(Fault.PostRepeated, 0.05)))
            {
                world.After(world.Seconds(0.1, world.IsCalm ? 1 : 3), () => Post(id, isFirst: false));
                return;
            }

            _unanswered--;
            if (world.IsTracing) world.Trace($"application: {id} answered {reply}");
            if (reply is OutboxReply.Accepted accepted) world.Promises.Answered(deviceId, id, accepted);
            else if (!IsTooMuchOrGone(id, reply)) world.Promises.Break($"the POST of {id} was answered {reply}");
            if (reply is OutboxReply.Accepted && world.Happens(Fault.PostRepeated, 0.1)) world.After(world.Seconds(0, 20), () => PostAgain(id));
        }, at);
    }

    private void PostAgain(string id) => Ask(_sent[id].DeviceId, new OutboxCommand.Accept(MessageId.Parse(id), _sent[id].Body), reply =>
    {
        if (reply is OutboxReply.Accepted accepted) world.Promises.Answered(_sent[id].DeviceId, id, accepted);
        else if (reply is not (null or OutboxReply.Refused { Reason: RefusalReason.Unavailable }) && !IsTooMuchOrGone(id, reply)) world.Promises.Break($"a repeated POST of {id} was answered {reply}");
    });

    private bool IsTooMuchOrGone(string id, OutboxReply? reply) =>
        reply is OutboxReply.Refused { Reason: RefusalReason.TooMuchAtOnce }
        || (reply is OutboxReply.Refused { Reason: RefusalReason.NoSuchDevice } && world.Registry.WasAway(_sent[id].DeviceId, _sentAt[id]));

    // The same id with another body: an error once the first is accepted, and never delivered.
    private void PostOther(string id)
    {
        var (deviceId, body) = _sent[id];
        if (!world.Promises.IsAnswered(deviceId, id) || world.Registry.WasEverDeleted(deviceId)) return;
        Ask(deviceId, new OutboxCommand.Accept(MessageId.Parse(id), Body(id, 2, body.Topic, body.Ttl)), reply =>
        {
            // A device that was deleted meanwhile and exists again knows nothing of the first body.
            if (reply is not (null or OutboxReply.Refused { Reason: RefusalReason.IdConflict or RefusalReason.Unavailable })
                && !IsTooMuchOrGone(id, reply) && !world.Registry.WasEverDeleted(deviceId))
            {
                world.Promises.Break($"a POST with the id of {id} and another body was answered {reply}");
            }
        });
    }

    private void Delete(string id)
    {
        var deviceId = _sent[id].DeviceId;
        Ask(deviceId, new OutboxCommand.Delete(MessageId.Parse(id)), reply =>
        {
            if (reply is OutboxReply.Done) world.Promises.Deleted(deviceId, id);
        });
    }

    private void Ask(DeviceId deviceId, OutboxCommand command, Action<OutboxReply?> answer, Node? at = null)
    {
        var isOver = false;
        if (command is OutboxCommand.Accept && !world.Registry.Has(deviceId))
        {
            world.After(TimeSpan.FromMilliseconds(1), () => answer(new OutboxReply.Refused(RefusalReason.NoSuchDevice))); // the API looks into the registry first
            return;
        }

        if ((at is { IsAlive: true } ? at : world.AnyNode()) is { } node)
        {
            var replyTo = new FunctionRef($"application-{_refs++}", (message, _) =>
            {
                if (!isOver && node is { IsAlive: true, IsPaused: false }) End((OutboxReply)message);
            });
            if (command is OutboxCommand.Accept && world.AddresseeOf(deviceId).Gateway is { } gateway) AttachFirst(node, gateway.Id, deviceId, attempts: 2, Tell);
            else Tell();

            void Tell()
            {
                if (!node.IsPaused) node.Region.Tell(new ToDevice.Command(deviceId, command), replyTo);
                else world.After(world.Seconds(0.1, 1), () => node.Region.Tell(new ToDevice.Command(deviceId, command), replyTo)); // what had reached it before it stood still
            }
        }

        world.After(AskTimeout + (world.AddresseeOf(deviceId).Gateway is null ? TimeSpan.Zero : AskTimeout), () =>
        {
            if (!isOver) End(null);
        });

        void End(OutboxReply? reply)
        {
            isOver = true;
            answer(reply);
        }
    }

    // As DeviceGateway does: the connection of the gateway carries the sub-device, if there is one, before anything is sent to it.
    private void AttachFirst(Node node, DeviceId gateway, DeviceId subDevice, int attempts, Action then)
    {
        if (!node.IsAlive) return;
        if (attempts == 0)
        {
            then();
            return;
        }

        var isOver = false;
        node.Region.Tell(new ToDevice.AttachSubDevice(gateway, subDevice), new FunctionRef($"attach-{_refs++}", (_, _) => End(then)));
        world.After(AskTimeout / 2, () => End(() => AttachFirst(node, gateway, subDevice, attempts - 1, then)));

        void End(Action next)
        {
            if (isOver || !node.IsAlive) return;
            isOver = true;
            next();
        }
    }

    // ---- webhook

    /// <summary>A POST arrives, or not.</summary>
    public PushResult Hear(string actionId, byte[] body)
    {
        if (world.Now < _downUntil.GetValueOrDefault(actionId) || world.Happens(Fault.WebhookFails, 0.05)) return new(PushOutcome.Failed, "not reached");
        var told = Told.Read(body);
        world.Promises.Told(actionId, told);
        if (_refused.Contains((actionId, told.RequestId)) || world.Happens(Fault.WebhookRefuses, 0.01))
        {
            _refused.Add((actionId, told.RequestId));
            return new(PushOutcome.Refused, "HTTP 400");
        }

        world.Promises.AnsweredTo(actionId, told);
        return world.Happens(Fault.WebhookAnswerLost, 0.03) ? new(PushOutcome.Failed, "no answer in time") : PushResult.Answered;
    }
}
