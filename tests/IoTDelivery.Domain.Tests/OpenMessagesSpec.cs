using CsCheck;
using static IoTDelivery.Domain.Tests.Given;

namespace IoTDelivery.Domain.Tests;

/// <summary>What an outbox is made of answers as a plain list would, whatever comes and goes.</summary>
public sealed class OpenMessagesSpec
{
    // Accepts (with a ttl of so many minutes) or ends the n-th that is open.
    private static readonly Gen<(bool Ends, int Which)[]> Histories =
        Gen.Select(Gen.Bool, Gen.Int[0, 200]).Array[0, 400];

    [Fact]
    public void Open_messages_are_found_in_order_and_by_their_expiry_as_in_a_plain_list() => Histories.Sample(history =>
    {
        var (open, model, number) = (new OpenMessages(), new List<KnownMessage>(), 0L);
        foreach (var (ends, which) in history)
        {
            if (ends && model.Count > 0)
            {
                var message = model[which % model.Count];
                Assert.True(open.Remove(message.MessageId, out var removed));
                Assert.Same(message, removed);
                Assert.False(open.Remove(message.MessageId, out _));
                model.Remove(message);
            }
            else if (!ends)
            {
                number += 1 + which % 3;
                var body = Body(ttl: which % 5, topic: $"t{which % 4}");
                var message = new KnownMessage(
                    number,
                    Id($"m{number}"),
                    body,
                    MessageStatus.Pending,
                    Noon,
                    Noon.AddMinutes(which % 7),
                    MessageStatus.Pending);
                open.Add(message);
                model.Add(message);
            }

            var due = Noon.AddMinutes(which % 9);
            Assert.Equal(model, open);
            Assert.Equal(model.Min(m => (DateTimeOffset?)m.ExpiresAt), open.NextExpiry);
            Assert.Equal(model.Where(m => m.ExpiresAt <= due), open.DueAt(due));
            Assert.Equal(model.Exists(m => m.Body.Ttl == 0), open.HasWithoutTtl);
            Assert.Equal(model.Where(m => m.Number >= which), From(open, which));
            Assert.Equal(model.Where(m => m.Number < which).Reverse(), open.Below(which));
            Assert.Equal(model.Where(m => m.Body.Topic != "t1"), open.OfTopics(t => t != "t1"));
            Assert.Equal(model.Where(m => m.Body.Topic == "t1"), open.OfTopics(t => t == "t1"));
            Assert.Equal(model.Find(m => m.Number == which), open.Find(which));
            Assert.Equal(model.Find(m => m.MessageId == Id($"m{which}")), open.Find(Id($"m{which}")));
        }
    }, iter: 300);

    private static List<KnownMessage> From(OpenMessages open, long number)
    {
        List<KnownMessage> found = [];
        foreach (var message in open.From(number)) found.Add(message);
        return found;
    }

    [Fact]
    public void Remembered_ids_are_found_and_go_oldest_first_as_in_a_plain_list() => Histories.Sample(history =>
    {
        var (ids, model) = (new RememberedIds(), new List<Remembered>());
        foreach (var (goes, which) in history)
        {
            var id = Id($"m{which}");
            if (goes && which % 2 == 0 && model.Count > 0)
            {
                ids.RemoveOldest();
                model.RemoveAt(0);
            }
            else if (goes)
            {
                ids.Remove(id);
                model.RemoveAll(r => r.Id == id.Digest);
            }
            else if (!ids.Contains(id))
            {
                var item = new Remembered(
                    id.Digest,
                    Body($"{which}").Hash,
                    (MessageStatus)(which % 4),
                    Noon.AddTicks(which),
                    Noon.AddTicks(which).AddSeconds(which * 1_000));
                ids.Add(item);
                model.Add(item);
            }

            Assert.Equal(model, ids);
            var known = model.Exists(r => r.Id == id.Digest) ? model.Find(r => r.Id == id.Digest) : (Remembered?)null;
            Assert.Equal(known, ids.Find(id));
            if (model.Count > 0) Assert.Equal(model[0], ids.Oldest);
        }
    }, iter: 300);

    [Fact]
    public void An_end_is_remembered_to_the_next_second_and_never_earlier_than_it_was()
    {
        var ids = new RememberedIds();
        var acceptedAt = Noon.AddTicks(1);
        var endedAt = acceptedAt.AddSeconds(3).AddTicks(1);
        ids.Add(new Remembered(Id("m1").Digest, default, MessageStatus.Failed, acceptedAt, endedAt));

        var read = ids.Oldest;
        Assert.Equal(
            (acceptedAt, acceptedAt.AddSeconds(4), MessageStatus.Failed), (read.AcceptedAt, read.EndedAt, read.Answer));
    }

    [Fact]
    public void What_is_pending_is_copied_by_number_and_goes_from_the_front()
    {
        var pending = new PendingNotifications();
        for (var number = 1; number <= 100; number++)
        {
            pending.Add(new Notification(number, Id($"m{number}"), null, Down, MessageStatus.Pending, Noon));
            if (number % 3 == 0) pending.RemoveUpTo(number / 2);
            Assert.Equal(number - number / 3 * 3 / 2, pending.Count);
            Assert.Equal(number, pending[^1].Number);
        }

        Assert.Equal([60, 61, 62], pending.Between(59, 62).Select(n => n.Number));
        Assert.Equal(Enumerable.Range(50, 51).Select(n => (long)n), pending.Between(0, 1_000).Select(n => n.Number));
        Assert.Empty(pending.Between(100, 200));
        pending.RemoveUpTo(long.MaxValue);
        Assert.True(pending.IsEmpty);
    }
}
