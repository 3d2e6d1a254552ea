namespace IoTDelivery.Faults.History;

/// <summary>A promise that a history breaks, and where.</summary>
public sealed record Violation(string Promise, string Text)
{
    public override string ToString() => $"{Promise}: {Text}";
}

/// <summary>What a history shows.</summary>
public sealed record Verdict(IReadOnlyList<Violation> Violations, IReadOnlyDictionary<string, int> Counts);

/// <summary>
/// Reads a history and says which promises of the platform it breaks (docs/ARCHITECTURE.md, "What we promise"). It knows nothing of how the history came about,
/// and it can only be as good as the history is complete: it is to be read after everything had the time to end.
/// </summary>
public static class Checker
{
    /// <summary>Something accepted has no end, or ended otherwise than it may.</summary>
    public const string Lost = "lost";

    /// <summary>A message has two ends.</summary>
    public const string EndedTwice = "ended twice";

    /// <summary>A repetition differs from what it repeats.</summary>
    public const string Differs = "repetition differs";

    /// <summary>A later message came before an earlier one.</summary>
    public const string OutOfOrder = "out of order";

    /// <summary>DELIVERED was told without a PUBACK before it.</summary>
    public const string NotAcknowledged = "DELIVERED without PUBACK";

    /// <summary>A rule was not told what another one was, or what the answer announced.</summary>
    public const string PushMissing = "push missing";

    /// <summary>Both halves of a partition accepted for the same device.</summary>
    public const string TwoHalves = "two halves accept";

    /// <summary>Asking again was answered otherwise than the first time.</summary>
    public const string AnsweredTwice = "answered differently";

    /// <summary>A node that was asked to stop did not end with 0.</summary>
    public const string BadExit = "drain failed";

    /// <summary>Faults that cut a node off from the others.</summary>
    public static readonly string[] Partitions = ["peers", "cut"];

    public static Verdict Check(IEnumerable<Entry> history)
    {
        var world = new World();
        var line = 0;
        foreach (var entry in history) world.Take(entry, ++line);
        world.End();
        return new Verdict(world.Violations, world.Counts);
    }

    private sealed class Message(string id, string device)
    {
        public string Id => id;

        public string Device => device;

        public bool MayTimeOut { get; set; }

        /// <summary>Line of the first POST, and of the first proof that it is stored.</summary>
        public int Posted { get; set; }

        public int Stored { get; set; }

        /// <summary>Whether the application knows: a 201, or Show.</summary>
        public bool IsAccepted { get; set; }

        public string? Answered { get; set; }

        public bool IsAcknowledged { get; set; }

        public int Arrived { get; set; }

        public Dictionary<string, List<Entry>> Told { get; } = [];

        public IEnumerable<Entry> ToldTo(string rule) => Told.TryGetValue(rule, out var pushes) ? pushes : [];
    }

    private sealed class World
    {
        private readonly Dictionary<string, int> _devices = []; // and the QoS each subscribes with
        private readonly List<string> _rules = [];
        private readonly Dictionary<string, Message> _messages = [];
        private readonly Dictionary<string, int> _latest = []; // per device, the line of the latest POST of what has arrived
        private readonly Dictionary<string, string> _latestId = [];
        private readonly Dictionary<long, (Entry Entry, int Line)> _posts = [];
        private readonly Dictionary<(string Rule, string Request), Entry> _requests = [];
        private readonly Dictionary<string, int> _majority = []; // per device, the line of the first 201 from the larger half of the partition
        private (string Node, int Line)? _partition;

        public List<Violation> Violations { get; } = [];

        public Dictionary<string, int> Counts { get; } = [];

        public void Take(Entry entry, int line)
        {
            switch (entry.What)
            {
                case What.Device: _devices[entry.Device!] = entry.QoS ?? 1; break;
                case What.Rule: _rules.Add(entry.Rule!); break;
                case What.Post: OnPost(entry, line); break;
                case What.Answer: OnAnswer(entry, line); break;
                case What.Show when entry.Word is not null: OnStored(Of(entry, line), line, isKnown: true); break;
                case What.Publish: OnPublish(entry, line); break;
                case What.PubAck:
                    Of(entry, line).IsAcknowledged = true;
                    Count("PUBACKs");
                    break;
                case What.Push: OnPush(entry, line); break;
                case What.Fault when Partitions.Contains(entry.Word):
                    _partition = (entry.Node!, line);
                    Count($"faults: {entry.Word}");
                    _majority.Clear();
                    break;
                case What.Fault: Count($"faults: {entry.Word}"); break;
                case What.Healed when entry.Node == _partition?.Node: _partition = null; break;
                case What.Connect: Count("connects"); break;
                case What.Cut: Count("connections ended"); break;
                case What.Refused: Count("connects refused"); break;
                case What.Ended when entry is { Word: "drain" }:
                    if (entry.Status != 0) Broken(BadExit, $"{entry.Node} was asked to stop and ended with {entry.Status} (line {line}).");
                    break;
                case What.Ended when entry is { Word: "itself" }: Count("nodes that ended by themselves"); break;
            }
        }

        public void End()
        {
            foreach (var message in _messages.Values.Where(m => m.Stored > 0))
            {
                Count("messages stored");
                if (!message.IsAccepted) Count("messages stored whose application never knew");
                foreach (var rule in _rules) CheckEnd(message, rule);
            }

            Count("messages never stored", _messages.Values.Count(m => m.Stored == 0));
        }

        private void CheckEnd(Message message, string rule)
        {
            var told = message.ToldTo(rule).ToList();
            var end = told.Find(p => p.Word != "PENDING");
            if (end is null)
            {
                var isKnownElsewhere = message.IsAcknowledged || message.Told.Values.Any(pushes => pushes.Exists(p => p.Word != "PENDING"));
                Broken(isKnownElsewhere ? PushMissing : Lost, $"{message.Id}, stored at line {message.Stored}, was never told to end at {rule}.");
                return;
            }

            if (end.Word != "DELIVERED" && !(end.Word == "TIMEOUT" && message.MayTimeOut)) Broken(Lost, $"{message.Id} ended {end.Word} at {rule}: {end.Text}");
            Count($"ended {end.Word} at {rule}");
            if (message.Answered is null) return;
            var pending = told.FindIndex(p => p.Word == "PENDING");
            if (message.Answered == "PENDING" && pending != 0) Broken(PushMissing, $"{message.Id} was answered PENDING, and {rule} was {(pending < 0 ? "never told so" : "told so after its end")}.");
            if (message.Answered != "PENDING" && pending >= 0) Broken(PushMissing, $"{message.Id} was answered {message.Answered}, and {rule} was told PENDING.");
        }

        private void OnPost(Entry entry, int line)
        {
            var message = Of(entry, line);
            message.MayTimeOut |= entry.Ttl is not null;
            _posts[entry.Post!.Value] = (entry, line);
            Count("POSTs");
        }

        private void OnAnswer(Entry entry, int line)
        {
            if (!_posts.Remove(entry.Post!.Value, out var post)) throw new FormatException($"Line {line} answers POST {entry.Post}, which was never begun or is answered already.");
            Count(entry.Status == 0 ? $"answered nothing: {entry.Text}" : $"answered {entry.Status}");
            if (_partition is { } cut && post.Line > cut.Line && entry.Status is 201 or 503) Count($"in partitions {entry.Status} by {(post.Entry.Node == cut.Node ? "the cut-off node" : "the others")}");
            if (entry.Status != 201) return;
            var message = Of(post.Entry, line);
            OnStored(message, line, isKnown: true);
            message.Answered ??= entry.Word;
            if (message.Answered != entry.Word) Broken(AnsweredTwice, $"{message.Id} was answered {message.Answered} first and {entry.Word} at line {line}.");
            OnAcceptedIn(message, post.Entry.Node!, post.Line, line);
        }

        // The cut-off node may go on with the devices it has until the others have taken them over: once they accept for a device, it must not any more.
        private void OnAcceptedIn(Message message, string node, int posted, int line)
        {
            if (_partition is not { } cut || posted < cut.Line) return;
            if (node != cut.Node) _majority.TryAdd(message.Device, line);
            else if (_majority.TryGetValue(message.Device, out var since) && posted > since)
            {
                Broken(TwoHalves, $"{message.Device}: {cut.Node}, cut off at line {cut.Line}, accepted {message.Id} at line {line}, asked after the others had accepted at line {since}.");
            }
        }

        private void OnPublish(Entry entry, int line)
        {
            var message = Of(entry, line);
            OnStored(message, line, isKnown: false);
            Count("PUBLISHs");
            if (message.Arrived > 0)
            {
                Count("PUBLISHs repeated");
                return;
            }

            message.Arrived = line;
            Count("messages arrived");

            // Its 201 was read before the POST of one that is here already was begun.
            if (message.IsAccepted && _latest.TryGetValue(message.Device, out var posted) && message.Stored < posted)
            {
                Broken(OutOfOrder, $"{message.Id}, accepted at line {message.Stored}, came at line {line}, after {_latestId[message.Device]}, which was sent at line {posted}.");
            }

            if (message.Posted > _latest.GetValueOrDefault(message.Device)) (_latest[message.Device], _latestId[message.Device]) = (message.Posted, message.Id);
        }

        private void OnPush(Entry entry, int line)
        {
            var message = Of(entry, line);
            OnStored(message, line, isKnown: false);
            Count($"pushes answered {entry.Status}");
            var rule = entry.Rule!;
            if (!_requests.TryAdd((rule, entry.Request!), entry))
            {
                Count("pushes repeated");
                var first = _requests[(rule, entry.Request!)];
                if (first.Hash != entry.Hash) Broken(Differs, $"{entry.Request} to {rule} at line {line} is not what it was first.");
                if (first.Status == 200 || entry.Status != 200) return;
                _requests[(rule, entry.Request!)] = entry; // refused before: told only now
            }

            if (entry is { Word: "DELIVERED" } && _devices.GetValueOrDefault(message.Device, 1) > 0 && !message.IsAcknowledged)
            {
                Broken(NotAcknowledged, $"{message.Id} was told DELIVERED at line {line}, and {message.Device} had not acknowledged it.");
            }

            if (entry.Status != 200) return;
            if (!message.Told.TryGetValue(rule, out var told)) message.Told[rule] = told = [];
            if (told.Exists(p => p.Word == entry.Word)) Broken(EndedTwice, $"{message.Id} was told {entry.Word} twice at {rule}, with two request_ids (line {line}).");
            else if (entry.Word != "PENDING" && told.Find(p => p.Word != "PENDING") is { } end) Broken(EndedTwice, $"{message.Id} ended {end.Word} and then {entry.Word} at {rule} (line {line}).");
            told.Add(entry);
        }

        private static void OnStored(Message message, int line, bool isKnown)
        {
            if (message.Stored == 0 || (isKnown && !message.IsAccepted)) message.Stored = line;
            message.IsAccepted |= isKnown;
        }

        private Message Of(Entry entry, int line)
        {
            if (!_messages.TryGetValue(entry.Message!, out var message)) _messages[entry.Message!] = message = new Message(entry.Message!, entry.Device!) { Posted = line };
            return message;
        }

        private void Broken(string promise, string text)
        {
            Violations.Add(new Violation(promise, text));
            Count($"VIOLATIONS: {promise}");
        }

        private int Count(string what, int more = 1) => Counts[what] = Counts.GetValueOrDefault(what) + more;
    }
}
