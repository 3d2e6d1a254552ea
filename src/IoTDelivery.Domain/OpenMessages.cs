using System.Collections;
using System.Diagnostics.CodeAnalysis;

namespace IoTDelivery.Domain;

/// <summary>
/// Messages that have not ended, in order of acceptance. What is asked per message takes O(1) or O(log n), and what
/// ends costs no copy of the others.
/// </summary>
//
//   slots, by number    · · 17 — 19 20 — — 23      — ended: the slot is skipped, and goes when half of them are such
//   ids                 message id → message
//   topics              topic → its numbers in order; one that ended goes when it comes to the front, as in the heap
//   expiries            a heap; one that ended stays in it until it comes up, or until half of them are such
//
public sealed class OpenMessages : IReadOnlyCollection<KnownMessage>
{
    private const int SlackMax = 32;
    private const int TopicsKept = 2; // without a message: the next one is likely to come to the same

    private readonly record struct Slot(long Number, KnownMessage? Message);

    private readonly record struct Expiry(long Ticks, long Number);

    private sealed class Topic
    {
        public Queue<long> Numbers { get; } = []; // the first one is open, if any is

        public int Count { get; set; }
    }

    private readonly Dictionary<MessageId, KnownMessage> _byId = [];
    private readonly Dictionary<string, Topic> _topics = [];
    private Slot[] _slots = [];
    private int _from; // the first and the last slot in use hold a message
    private int _to;
    private Expiry[] _heap = [];
    private int _heapCount;
    private int _withoutTtl;

    /// <summary>How many there are.</summary>
    public int Count => _byId.Count;

    /// <summary>True if there is none.</summary>
    public bool IsEmpty => Count == 0;

    /// <summary>When the first of them outlives its ttl; null without one.</summary>
    public DateTimeOffset? NextExpiry => _heapCount == 0 ? null : new DateTimeOffset(_heap[0].Ticks, TimeSpan.Zero);

    /// <summary>True if one of them ends with the connection.</summary>
    public bool HasWithoutTtl => _withoutTtl > 0;

    /// <summary>The one of this id, or null.</summary>
    public KnownMessage? Find(MessageId id) => _byId.GetValueOrDefault(id);

    /// <summary>The one of this number, or null.</summary>
    public KnownMessage? Find(long number) =>
        PlaceOf(number) is var place && place < _to && _slots[place].Number == number ? _slots[place].Message : null;

    /// <summary>Those of this number or a higher one. They must not change meanwhile.</summary>
    public Range From(long number) => new(this, PlaceOf(number));

    /// <summary>Those below this number, newest first.</summary>
    public IEnumerable<KnownMessage> Below(long number)
    {
        for (var place = PlaceOf(number) - 1; place >= _from; place--)
        {
            if (_slots[place].Message is { } message) yield return message;
        }
    }

    /// <summary>Those of some topics, in order of acceptance.</summary>
    public IEnumerable<KnownMessage> OfTopics(Func<string, bool> isWanted)
    {
        var first = long.MaxValue;
        foreach (var (name, topic) in _topics)
        {
            if (topic.Count > 0 && isWanted(name)) first = Math.Min(first, topic.Numbers.Peek());
        }

        if (first == long.MaxValue) yield break;
        for (var place = PlaceOf(first); place < _to; place++)
        {
            if (_slots[place].Message is { } message && isWanted(message.Body.Topic)) yield return message;
        }
    }

    /// <summary>Those whose ttl is over, in order of acceptance.</summary>
    public List<KnownMessage> DueAt(DateTimeOffset now)
    {
        List<KnownMessage> due = [];
        Collect(0);
        due.Sort(static (a, b) => a.Number.CompareTo(b.Number));
        return due;

        // Below one that is not due nothing is.
        void Collect(int place)
        {
            if (place >= _heapCount || _heap[place].Ticks > now.UtcTicks) return;
            if (Find(_heap[place].Number) is { } message) due.Add(message);
            Collect(2 * place + 1);
            Collect(2 * place + 2);
        }
    }

    public Range.Enumerator GetEnumerator() => From(0).GetEnumerator();

    IEnumerator<KnownMessage> IEnumerable<KnownMessage>.GetEnumerator()
    {
        for (var place = _from; place < _to; place++)
        {
            if (_slots[place].Message is { } message) yield return message;
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => ((IEnumerable<KnownMessage>)this).GetEnumerator();

    // Its number is higher than all before.
    internal void Add(KnownMessage message)
    {
        _byId.Add(message.MessageId, message);
        if (_to == _slots.Length) Compact(Math.Max(4, Count > _slots.Length / 2 ? _slots.Length * 2 : _slots.Length));
        _slots[_to++] = new Slot(message.Number, message);
        if (message.Body.Ttl == 0) _withoutTtl++;
        if (!_topics.TryGetValue(message.Body.Topic, out var topic)) _topics.Add(message.Body.Topic, topic = new Topic());
        topic.Numbers.Enqueue(message.Number);
        topic.Count++;
        if (_heapCount == _heap.Length) Array.Resize(ref _heap, Math.Max(4, _heapCount * 2));
        Lift(_heapCount++, new Expiry(message.ExpiresAt.UtcTicks, message.Number));
    }

    internal bool Remove(MessageId id, [NotNullWhen(true)] out KnownMessage? message)
    {
        if (!_byId.Remove(id, out message)) return false;
        if (message.Body.Ttl == 0) _withoutTtl--;
        if (IsEmpty)
        {
            Clear();
            return true;
        }

        var place = PlaceOf(message.Number);
        _slots[place] = _slots[place] with { Message = null };
        while (_slots[_from].Message is null) _from++;
        while (_slots[_to - 1].Message is null) _to--;
        if (_to - _from > 2 * Count + SlackMax) Compact(Math.Max(4, Count * 2));

        Leave(message.Body.Topic);
        while (Find(_heap[0].Number) is null) Drop();
        if (_heapCount > 2 * Count + SlackMax) Rebuild();
        return true;
    }

    internal void Clear()
    {
        _byId.Clear();
        if (_topics.Count > TopicsKept) _topics.Clear();
        foreach (var topic in _topics.Values)
        {
            topic.Numbers.Clear();
            if (topic.Numbers.Capacity > SlackMax) topic.Numbers.TrimExcess();
            topic.Count = 0;
        }

        if (_byId.Capacity > SlackMax) _byId.TrimExcess();
        if (_slots.Length > SlackMax) _slots = [];
        else Array.Clear(_slots);
        if (_heap.Length > SlackMax) _heap = [];
        (_from, _to, _heapCount, _withoutTtl) = (0, 0, 0, 0);
    }

    // Where the first one of this number or a higher one stands.
    private int PlaceOf(long number)
    {
        var (low, high) = (_from, _to);
        while (low < high)
        {
            var middle = (low + high) >>> 1;
            if (_slots[middle].Number < number) low = middle + 1;
            else high = middle;
        }

        return low;
    }

    private void Leave(string name)
    {
        var topic = _topics[name];
        if (--topic.Count == 0)
        {
            topic.Numbers.Clear();
            if (_topics.Count > TopicsKept) _topics.Remove(name);
            return;
        }

        while (Find(topic.Numbers.Peek()) is null) topic.Numbers.Dequeue();
        if (topic.Numbers.Count <= 2 * topic.Count + SlackMax) return;
        for (var left = topic.Numbers.Count; left > 0; left--)
        {
            if (topic.Numbers.Dequeue() is var number && Find(number) is not null) topic.Numbers.Enqueue(number);
        }
    }

    private void Compact(int length)
    {
        var slots = new Slot[length];
        var count = 0;
        for (var place = _from; place < _to; place++)
        {
            if (_slots[place].Message is not null) slots[count++] = _slots[place];
        }

        (_slots, _from, _to) = (slots, 0, count);
    }

    // ---- the heap

    private void Lift(int place, Expiry expiry)
    {
        while (place > 0)
        {
            var parent = (place - 1) / 2;
            if (_heap[parent].Ticks <= expiry.Ticks) break;
            _heap[place] = _heap[parent];
            place = parent;
        }

        _heap[place] = expiry;
    }

    private void Drop()
    {
        var last = _heap[--_heapCount];
        if (_heapCount > 0) Sink(0, last);
    }

    private void Sink(int place, Expiry expiry)
    {
        while (2 * place + 1 is var child && child < _heapCount)
        {
            if (child + 1 < _heapCount && _heap[child + 1].Ticks < _heap[child].Ticks) child++;
            if (_heap[child].Ticks >= expiry.Ticks) break;
            _heap[place] = _heap[child];
            place = child;
        }

        _heap[place] = expiry;
    }

    private void Rebuild()
    {
        var heap = new Expiry[Count * 2];
        var count = 0;
        foreach (var message in this) heap[count++] = new Expiry(message.ExpiresAt.UtcTicks, message.Number);
        (_heap, _heapCount) = (heap, count);
        for (var place = count / 2 - 1; place >= 0; place--) Sink(place, _heap[place]);
    }

    /// <summary>Open messages from one of them on, in order of acceptance.</summary>
    public readonly struct Range(OpenMessages messages, int from)
    {
        public Enumerator GetEnumerator() => new(messages, from);

        /// <summary>Skips what has ended.</summary>
        public struct Enumerator(OpenMessages messages, int from)
        {
            private int _next = from;

            public KnownMessage Current { get; private set; } = null!;

            public bool MoveNext()
            {
                while (_next < messages._to)
                {
                    if (messages._slots[_next++].Message is not { } message) continue;
                    Current = message;
                    return true;
                }

                return false;
            }
        }
    }
}
