using System.Diagnostics;

namespace IoTDelivery.Faults;

/// <summary>
/// A wall clock that lies about the time of day, not about how time passes. A library that is made here (with cc) and loaded
/// before libc: what libfaketime does, too, but that also stands in front of every timed wait, and answers EAGAIN to it while
/// another thread begins one. .NET takes that for the wait's end, and on full cores its timers spin.
/// </summary>
public sealed class NodeClock
{
    // The offset in seconds is the only thing in the file, which every process of the node has mapped.
    private const string Source =
        """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <fcntl.h>
        #include <stdlib.h>
        #include <sys/mman.h>
        #include <sys/time.h>
        #include <time.h>

        static volatile long *offset;
        static int (*real)(clockid_t, struct timespec *);

        __attribute__((constructor)) static void begin(void) {
          const char *name = getenv("NODE_CLOCK_FILE");
          int file = name ? open(name, O_RDONLY) : -1;
          real = dlsym(RTLD_NEXT, "clock_gettime");
          if (file < 0) return;
          void *at = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
          if (at != MAP_FAILED) offset = at;
        }

        int clock_gettime(clockid_t clock, struct timespec *now) {
          if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
          int result = real(clock, now);
          if (!result && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset;
          return result;
        }

        int gettimeofday(struct timeval *now, void *zone) {
          struct timespec at;
          int result = clock_gettime(CLOCK_REALTIME, &at);
          if (now) { now->tv_sec = at.tv_sec; now->tv_usec = at.tv_nsec / 1000; }
          return result;
        }

        time_t time(time_t *now) {
          struct timespec at;
          clock_gettime(CLOCK_REALTIME, &at);
          if (now) *now = at.tv_sec;
          return at.tv_sec;
        }
        """;

    private readonly string _file;
    private readonly string _library;

    private NodeClock(string file, string library) => (_file, _library) = (file, library);

    /// <summary>Makes one in this folder; null if there is no C compiler here.</summary>
    public static async Task<NodeClock?> MakeAsync(string folder, string name)
    {
        var (source, library) = (Path.Combine(folder, "clock.c"), Path.Combine(folder, "clock.so"));
        await File.WriteAllTextAsync(source, Source);
        var (code, said) = await Shell.TryAsync($"cc -shared -fPIC -O1 -o {library} {source} -ldl");
        if (code == 127) return null;
        if (code != 0) throw new InvalidOperationException($"cc ended with {code}: {said}");
        var clock = new NodeClock(Path.Combine(folder, $"clock-{name}"), library);
        await File.WriteAllBytesAsync(clock._file, new byte[sizeof(long)]);
        return clock;
    }

    /// <summary>From now on it is off by this much, for processes that run as well.</summary>
    public void Set(TimeSpan offset)
    {
        using var file = File.OpenHandle(_file, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        RandomAccess.Write(file, BitConverter.GetBytes((long)offset.TotalSeconds), 0);
    }

    /// <summary>For a process that is to have this clock.</summary>
    public void GiveTo(ProcessStartInfo process)
    {
        process.Environment["LD_PRELOAD"] = _library;
        process.Environment["NODE_CLOCK_FILE"] = _file;
    }
}
