using System.Buffers.Binary;
using System.ComponentModel;
using System.Runtime.InteropServices;

namespace IoTDelivery.Benchmarks.Load;

/// <summary>Something with a file descriptor that wants to know when there is something to do.</summary>
public abstract class Watched
{
    public abstract int Descriptor { get; }

    public abstract void OnReadable();

    public abstract void OnWritable();
}

/// <summary>
/// All sockets of the generator on one thread, with epoll itself: the generator shares its cores with the server it measures, and .NET's asynchronous
/// sockets cost a thread hop per read. Linux only, like the figures from /proc.
/// </summary>
public sealed class Poller : IDisposable
{
    private const int Add = 1, Modify = 3, Readable = 1, Writable = 4, EventsMax = 512;

    // The kernel packs the structure on x86-64 and nowhere else.
    private static readonly int EventBytes = RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 12 : 16;
    private static readonly int DataOffset = EventBytes - 8;

    private readonly int _epoll = Checked(epoll_create1(0));
    private readonly byte[] _events = new byte[EventBytes * EventsMax];
    private readonly byte[] _change = new byte[16];
    private Watched?[] _watched = new Watched?[4096];

    public void Watch(Watched watched)
    {
        if (watched.Descriptor >= _watched.Length) Array.Resize(ref _watched, watched.Descriptor * 2);
        _watched[watched.Descriptor] = watched;
        Control(Add, watched.Descriptor, Readable);
    }

    /// <summary>Whether <paramref name="watched"/> waits for room to write, too.</summary>
    public void WatchWrites(Watched watched, bool alsoWrites) => Control(Modify, watched.Descriptor, alsoWrites ? Readable | Writable : Readable);

    /// <summary>To be called before the descriptor is closed, which takes it out of the kernel's set.</summary>
    public void Forget(Watched watched) => _watched[watched.Descriptor] = null;

    /// <summary>Handles what is ready; waits at most <paramref name="patience"/> for it.</summary>
    public void Poll(TimeSpan patience)
    {
        var ticks = Math.Max(0, patience.Ticks);
        long[] timeout = [ticks / TimeSpan.TicksPerSecond, ticks % TimeSpan.TicksPerSecond * 100];
        var count = epoll_pwait2(_epoll, _events, EventsMax, timeout, 0); // its time is in nanoseconds: a schedule of 5,000 a second needs better than milliseconds
        for (var i = 0; i < count; i++)
        {
            var raised = _events.AsSpan(i * EventBytes);
            var what = BinaryPrimitives.ReadInt32LittleEndian(raised);
            var watched = _watched[BinaryPrimitives.ReadInt32LittleEndian(raised[DataOffset..])];
            if (watched is not null && (what & Writable) != 0) watched.OnWritable();
            if (watched is not null && (what & ~Writable) != 0) watched.OnReadable(); // also errors: the read tells which
        }
    }

    public void Dispose() => close(_epoll);

    private void Control(int operation, int descriptor, int what)
    {
        BinaryPrimitives.WriteInt32LittleEndian(_change, what);
        BinaryPrimitives.WriteInt64LittleEndian(_change.AsSpan(DataOffset), descriptor);
        Checked(epoll_ctl(_epoll, operation, descriptor, _change));
    }

    private static int Checked(int result) => result >= 0 ? result : throw new Win32Exception(Marshal.GetLastPInvokeError());

    [DllImport("libc", SetLastError = true)]
    private static extern int epoll_create1(int flags);

    [DllImport("libc", SetLastError = true)]
    private static extern int epoll_ctl(int epoll, int operation, int descriptor, byte[] change);

    [DllImport("libc")]
    private static extern int epoll_pwait2(int epoll, byte[] events, int eventsMax, long[] timeout, nint signals);

    [DllImport("libc")]
    private static extern int close(int descriptor);
}
