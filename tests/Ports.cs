using System.Net;
using System.Net.Sockets;

namespace IoTDelivery.Tests;

/// <summary>
/// Ports for servers that tests start later, or again. The system hands out others to connections all the time, so a
/// port that it called free may be taken a moment later; these it never hands out (Linux: below 32768), each process
/// has a range of its own, and none comes twice.
/// </summary>
internal static class Ports
{
    private const int First = 10_000, Size = 500, Blocks = 20;

    private static readonly Lock Gate = new();
    private static readonly (int First, FileStream Held) Block = TakeBlock();
    private static int _taken;

    /// <summary>One that nobody listens on, and nobody else of the tests gets.</summary>
    public static int Take()
    {
        lock (Gate)
        {
            for (var tries = 0; tries < Size; tries++)
            {
                var port = Block.First + (_taken++ % Size);
                if (IsFree(port)) return port;
            }
        }

        throw new InvalidOperationException($"No port from {Block.First} to {Block.First + Size - 1} is free.");
    }

    // Held until the process ends, by whatever.
    private static (int First, FileStream Held) TakeBlock()
    {
        for (var block = 0; block < Blocks; block++)
        {
            try
            {
                var path = Path.Combine(Path.GetTempPath(), $"iotdelivery-ports-{block}");
                var held = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
                return (First + (block * Size), held);
            }
            catch (IOException)
            {
                // Another process has it.
            }
        }

        throw new InvalidOperationException($"{Blocks} test processes have all ports.");
    }

    private static bool IsFree(int port)
    {
        try
        {
            using var listener = new TcpListener(IPAddress.Loopback, port);
            listener.Start();
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
