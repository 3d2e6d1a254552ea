using System.Collections;

namespace IoTDelivery.Domain;

/// <summary>Notifications that are not settled yet, in order. Their numbers have no gaps.</summary>
public sealed class PendingNotifications : IReadOnlyList<Notification>
{
    private const int SlackMax = 32;

    private Notification[] _items = [];
    private int _from;

    public int Count { get; private set; }

    /// <summary>True if everything is settled.</summary>
    public bool IsEmpty => Count == 0;

    public Notification this[int index] =>
        (uint)index < (uint)Count ? _items[_from + index] : throw new ArgumentOutOfRangeException(nameof(index));

    /// <summary>A copy of those above one number, up to another one.</summary>
    public Notification[] Between(long above, long upTo)
    {
        if (IsEmpty) return [];
        var first = this[0].Number;
        var from = (int)Math.Clamp(above + 1 - first, 0, Count);
        var to = (int)Math.Clamp(upTo + 1 - first, from, Count);
        return _items.AsSpan(_from + from, to - from).ToArray();
    }

    public IEnumerator<Notification> GetEnumerator()
    {
        for (var i = 0; i < Count; i++) yield return _items[_from + i];
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    internal void Add(Notification notification)
    {
        if (_from + Count == _items.Length)
        {
            // Moved to the front as long as half of the place is free there.
            var items = Count >= _items.Length / 2 ? new Notification[Math.Max(4, _items.Length * 2)] : _items;
            Array.Copy(_items, _from, items, 0, Count);
            if (ReferenceEquals(items, _items)) Array.Clear(items, Count, items.Length - Count);
            (_items, _from) = (items, 0);
        }

        _items[_from + Count++] = notification;
    }

    internal void RemoveUpTo(long number)
    {
        while (Count > 0 && _items[_from].Number <= number)
        {
            _items[_from++] = null!;
            Count--;
        }

        if (Count > 0) return;
        _from = 0;
        if (_items.Length > SlackMax) _items = [];
    }

    // The device is gone from the registry: what is pending carries its header from here on.
    internal void Head(DeviceHeader header)
    {
        for (var i = _from; i < _from + Count; i++) _items[i] = _items[i] with { Header = _items[i].Header ?? header }; // of an earlier life: its own
    }
}
