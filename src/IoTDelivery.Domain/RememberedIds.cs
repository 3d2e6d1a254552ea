using System.Collections;
using System.Runtime.InteropServices;

namespace IoTDelivery.Domain;

/// <summary>96 bits of the SHA-256 of a message id.</summary>
public readonly record struct IdDigest(ulong High, uint Low);

/// <summary>
/// What stays of an ended message for <see cref="DeliveryPolicy.IdempotencyWindow"/>: enough to answer a repeated POST
/// as the first time.
/// </summary>
/// <param name="EndedAt">Rounded up to the whole second after <paramref name="AcceptedAt"/>.</param>
public readonly record struct Remembered(
    IdDigest Id, BodyHash Hash, MessageStatus Answer, DateTimeOffset AcceptedAt, DateTimeOffset EndedAt);

/// <summary>
/// Ended messages whose id is still answered for, in the order they ended: 39 bytes each, however long their ids are.
/// </summary>
//
//   a ring in two arrays   ids    the first 64 bits of each, looked through at once
//                          rest   what only the one that is found is asked
//
public sealed class RememberedIds : IReadOnlyCollection<Remembered>
{
    // 194 days in seconds. A message lives that long only with a unit of ttl above three hours; its id is then
    // forgotten by the window after that.
    private const long LifeMax = (1 << 24) - 1;

    private const int AnswerBits = 2;

    [StructLayout(LayoutKind.Sequential, Pack = 1)]
    private struct Rest
    {
        public uint IdLow;
        public ulong HashHigh;
        public ulong HashLow;
        public ulong AcceptedAtAndAnswer; // ticks are below 2^62
        public ushort LifeLow;            // whole seconds from acceptance to the end
        public byte LifeHigh;
    }

    private ulong[] _ids = [];
    private Rest[] _rest = [];
    private int _from;

    public int Count { get; private set; }

    /// <summary>The oldest one; there must be one.</summary>
    public Remembered Oldest => At(_from);

    /// <summary>True if this id is remembered.</summary>
    public bool Contains(MessageId id) => PlaceOf(id.Digest) >= 0;

    /// <summary>What is remembered of this id, or null.</summary>
    public Remembered? Find(MessageId id) => PlaceOf(id.Digest) is var place and >= 0 ? At(place) : null;

    public IEnumerator<Remembered> GetEnumerator()
    {
        for (var i = 0; i < Count; i++) yield return At((_from + i) % _ids.Length);
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    internal void Add(Remembered item)
    {
        if (Count == _ids.Length) Grow();
        var place = (_from + Count++) % _ids.Length;
        var ticks = (item.EndedAt - item.AcceptedAt).Ticks;
        var life = Math.Clamp((ticks + TimeSpan.TicksPerSecond - 1) / TimeSpan.TicksPerSecond, 0, LifeMax);
        _ids[place] = item.Id.High;
        _rest[place] = new Rest
        {
            IdLow = item.Id.Low,
            HashHigh = item.Hash.High,
            HashLow = item.Hash.Low,
            AcceptedAtAndAnswer = ((ulong)item.AcceptedAt.UtcTicks << AnswerBits) | (uint)item.Answer,
            LifeLow = (ushort)life,
            LifeHigh = (byte)(life >> 16),
        };
    }

    internal void RemoveOldest()
    {
        _from = (_from + 1) % _ids.Length;
        Count--;
    }

    internal void Remove(MessageId id)
    {
        var place = Count == 0 ? -1 : PlaceOf(id.Digest);
        if (place < 0) return;
        for (var end = (_from + Count - 1) % _ids.Length; place != end;)
        {
            var next = (place + 1) % _ids.Length;
            (_ids[place], _rest[place]) = (_ids[next], _rest[next]);
            place = next;
        }

        Count--;
    }

    internal void Clear() => (_ids, _rest, _from, Count) = ([], [], 0, 0);

    private Remembered At(int place)
    {
        ref var rest = ref _rest[place];
        var acceptedAt = new DateTimeOffset((long)(rest.AcceptedAtAndAnswer >> AnswerBits), TimeSpan.Zero);
        return new Remembered(
            new IdDigest(_ids[place], rest.IdLow),
            new BodyHash(rest.HashHigh, rest.HashLow),
            (MessageStatus)(rest.AcceptedAtAndAnswer & ((1 << AnswerBits) - 1)),
            acceptedAt,
            acceptedAt.AddTicks((rest.LifeLow | (long)rest.LifeHigh << 16) * TimeSpan.TicksPerSecond));
    }

    private int PlaceOf(IdDigest id)
    {
        var front = Math.Min(Count, _ids.Length - _from);
        var place = PlaceOf(id, _from, front);
        return place >= 0 ? place : PlaceOf(id, 0, Count - front);
    }

    private int PlaceOf(IdDigest id, int from, int count)
    {
        while (count > 0)
        {
            var skipped = _ids.AsSpan(from, count).IndexOf(id.High);
            if (skipped < 0) return -1;
            if (_rest[from + skipped].IdLow == id.Low) return from + skipped;
            (from, count) = (from + skipped + 1, count - skipped - 1);
        }

        return -1;
    }

    private void Grow()
    {
        var length = Math.Max(4, Count * 2);
        var (ids, rest) = (new ulong[length], new Rest[length]);
        for (var i = 0; i < Count; i++)
        {
            var place = (_from + i) % _ids.Length;
            (ids[i], rest[i]) = (_ids[place], _rest[place]);
        }

        (_ids, _rest, _from) = (ids, rest, 0);
    }
}
