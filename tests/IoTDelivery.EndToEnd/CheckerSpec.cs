using IoTDelivery.Faults.History;

namespace IoTDelivery.EndToEnd;

/// <summary>The checker of fault histories finds what breaks a promise, and nothing where none is broken.</summary>
public sealed class CheckerSpec
{
    private readonly List<Entry> _history =
    [
        new(What.Rule) { Rule = "alpha" }, new(What.Rule) { Rule = "beta" }, new(What.Device) { Device = "lamp", QoS = 1 }, new(What.Device) { Device = "careless", QoS = 0 },
    ];

    private int _posts, _pushes;

    [Fact]
    public void A_message_that_was_answered_PENDING_acknowledged_and_told_in_order_breaks_nothing()
    {
        Accepted("m1");
        Told("m1", "PENDING");
        Arrived("m1");
        Told("m1", "DELIVERED");

        Broken();
    }

    [Fact]
    public void A_message_that_was_answered_DELIVERED_is_told_its_end_only()
    {
        Accepted("m1", "DELIVERED");
        Arrived("m1");
        Told("m1", "DELIVERED");
        Broken();

        Told("m1", "PENDING");
        Broken(Checker.PushMissing, Checker.PushMissing); // at each rule the answer and the pushes disagree
    }

    [Fact]
    public void An_accepted_message_without_an_end_is_lost()
    {
        Accepted("m1");
        Told("m1", "PENDING");

        Broken(Checker.Lost, Checker.Lost);
    }

    [Fact]
    public void A_message_whose_application_never_knew_must_end_too_once_it_was_seen()
    {
        Accepted("m1", status: 0);
        Broken();

        Told("m1", "PENDING");
        Broken(Checker.Lost, Checker.Lost);
    }

    [Fact]
    public void A_message_that_Show_knows_is_accepted()
    {
        Accepted("m1", status: 503);
        Add(new Entry(What.Show) { Device = "lamp", Message = "m1", Word = "PENDING" });

        Broken(Checker.Lost, Checker.Lost);
    }

    [Fact]
    public void TIMEOUT_is_an_end_for_messages_that_are_meant_to_and_a_loss_for_others()
    {
        Accepted("short", ttl: 5);
        Told("short", "PENDING");
        Told("short", "TIMEOUT");
        Broken();

        Accepted("long");
        Told("long", "PENDING");
        Told("long", "TIMEOUT");
        Broken(Checker.Lost, Checker.Lost);
    }

    [Fact]
    public void A_message_that_FAILED_is_lost()
    {
        Accepted("m1", "DELIVERED");
        Told("m1", "FAILED");

        Broken(Checker.Lost, Checker.Lost);
    }

    [Fact]
    public void Two_ends_are_one_too_many()
    {
        Accepted("m1", "DELIVERED", ttl: 5);
        Arrived("m1");
        Told("m1", "DELIVERED");
        Push("m1", "TIMEOUT", "alpha");

        Broken(Checker.EndedTwice);
    }

    [Fact]
    public void One_end_told_under_two_request_ids_is_two_ends()
    {
        Accepted("m1", "DELIVERED");
        Arrived("m1");
        Told("m1", "DELIVERED");
        Push("m1", "DELIVERED", "beta");

        Broken(Checker.EndedTwice);
    }

    [Fact]
    public void A_repetition_is_word_for_word()
    {
        Accepted("m1", "DELIVERED");
        Arrived("m1");
        Push("m1", "DELIVERED", "alpha", request: "r1", hash: "same");
        Push("m1", "DELIVERED", "alpha", request: "r1", hash: "same");
        Push("m1", "DELIVERED", "beta", request: "r1", hash: "same");
        Broken();

        Push("m1", "DELIVERED", "beta", request: "r1", hash: "other");
        Broken(Checker.Differs);
    }

    [Fact]
    public void What_the_receiver_refused_counts_when_it_is_told_again()
    {
        Accepted("m1", "DELIVERED");
        Arrived("m1");
        Push("m1", "DELIVERED", "alpha");
        Push("m1", "DELIVERED", "beta", request: "r1", status: 500);
        Broken(Checker.PushMissing);

        Push("m1", "DELIVERED", "beta", request: "r1");
        Broken();
    }

    [Fact]
    public void DELIVERED_takes_a_PUBACK_at_QoS_1_and_none_at_QoS_0()
    {
        Accepted("m0", "DELIVERED", device: "careless");
        Told("m0", "DELIVERED", device: "careless");
        Broken();

        Accepted("m1", "DELIVERED");
        Arrived("m1", acknowledges: false);
        Told("m1", "DELIVERED");
        Broken(Checker.NotAcknowledged, Checker.NotAcknowledged);
    }

    [Fact]
    public void An_acknowledged_message_that_nobody_was_told_of_is_a_missing_push()
    {
        Accepted("m1", "DELIVERED");
        Arrived("m1");

        Broken(Checker.PushMissing, Checker.PushMissing);
    }

    [Fact]
    public void PENDING_is_told_where_it_was_answered_and_before_the_end()
    {
        Accepted("m1");
        Arrived("m1");
        Told("m1", "DELIVERED");
        Broken(Checker.PushMissing, Checker.PushMissing);

        Told("m1", "PENDING");
        Broken(Checker.PushMissing, Checker.PushMissing);
    }

    [Fact]
    public void A_message_that_overtakes_an_accepted_one_is_out_of_order()
    {
        foreach (var message in (string[])["m1", "m2"]) Accepted(message, "DELIVERED");
        foreach (var message in (string[])["m2", "m1"]) Arrived(message);
        foreach (var message in (string[])["m1", "m2"]) Told(message, "DELIVERED");

        Broken(Checker.OutOfOrder);
    }

    [Fact]
    public void A_repetition_may_come_late_and_what_was_not_yet_answered_may_come_in_any_order()
    {
        var first = Asked("m1");
        Accepted("m2", "DELIVERED");
        foreach (var message in (string[])["m2", "m1", "m2"]) Arrived(message);
        Answered(first, "m1", "DELIVERED");
        foreach (var message in (string[])["m1", "m2"]) Told(message, "DELIVERED");

        Broken();
    }

    [Fact]
    public void Asking_again_is_answered_as_the_first_time()
    {
        Accepted("m1");
        Told("m1", "PENDING");
        Arrived("m1");
        Told("m1", "DELIVERED");
        Accepted("m1");
        Broken();

        Accepted("m1", "DELIVERED");
        Broken(Checker.AnsweredTwice);
    }

    [Fact]
    public void A_cut_off_node_may_go_on_until_the_others_accept_and_then_no_more()
    {
        Add(new Entry(What.Fault) { Node = "node1", Word = "peers" });
        Accepted("m1", "DELIVERED", node: "node1");
        var late = Asked("m2", node: "node1");
        Accepted("m3", "DELIVERED", node: "node2");
        Answered(late, "m2", "DELIVERED", node: "node1"); // asked before: it may have been first
        foreach (var message in (string[])["m1", "m2", "m3"]) Ended(message);
        Broken();

        Accepted("m4", "DELIVERED", node: "node1");
        Ended("m4");
        Broken(Checker.TwoHalves);
    }

    [Fact]
    public void After_a_partition_everybody_may_accept_again()
    {
        Add(new Entry(What.Fault) { Node = "node1", Word = "cut" });
        Accepted("m1", "DELIVERED", node: "node2");
        Add(new Entry(What.Healed) { Node = "node1", Word = "cut" });
        Accepted("m2", "DELIVERED", node: "node1");
        foreach (var message in (string[])["m1", "m2"]) Ended(message);

        Broken();
    }

    [Fact]
    public void A_node_that_was_asked_to_stop_ends_with_0()
    {
        Add(new Entry(What.Ended) { Node = "node1", Word = "kill", Status = 137 });
        Add(new Entry(What.Ended) { Node = "node1", Word = "drain", Status = 0 });
        Broken();

        Add(new Entry(What.Ended) { Node = "node1", Word = "drain", Status = 1 });
        Broken(Checker.BadExit);
    }

    [Fact]
    public void A_history_reads_from_its_file_as_it_was_written()
    {
        var entry = new Entry(What.PubAck) { At = 1.5, Device = "lamp", Message = "m1", Packet = 7, Dup = true, QoS = 1 };

        Assert.Equal(entry, HistoryFile.Parse(HistoryFile.Line(entry)));
    }

    private void Broken(params string[] promises) => Assert.Equal(promises, Checker.Check(_history).Violations.Select(v => v.Promise));

    private void Add(Entry entry) => _history.Add(entry);

    private int Asked(string message, string node = "node1", string device = "lamp", int? ttl = null)
    {
        Add(new Entry(What.Post) { Post = ++_posts, Device = device, Message = message, Node = node, Ttl = ttl });
        return _posts;
    }

    private void Answered(int post, string message, string? word, string node = "node1", string device = "lamp", int status = 201) =>
        Add(new Entry(What.Answer) { Post = post, Device = device, Message = message, Node = node, Status = status, Word = word });

    private void Accepted(string message, string answer = "PENDING", string node = "node1", string device = "lamp", int status = 201, int? ttl = null) =>
        Answered(Asked(message, node, device, ttl), message, status == 201 ? answer : null, node, device, status);

    private void Arrived(string message, bool acknowledges = true)
    {
        Add(new Entry(What.Publish) { Device = "lamp", Message = message, Packet = 1, QoS = 1 });
        if (acknowledges) Add(new Entry(What.PubAck) { Device = "lamp", Message = message, Packet = 1 });
    }

    private void Told(string message, string word, string device = "lamp")
    {
        foreach (var rule in (string[])["alpha", "beta"]) Push(message, word, rule, device);
    }

    private void Push(string message, string word, string rule, string device = "lamp", string? request = null, string hash = "hash", int status = 200) =>
        Add(new Entry(What.Push) { Rule = rule, Device = device, Message = message, Word = word, Request = request ?? $"{++_pushes}", Hash = hash, Status = status });

    private void Ended(string message)
    {
        Arrived(message);
        Told(message, "DELIVERED");
    }
}
