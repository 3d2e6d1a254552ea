using System.Buffers.Text;
using System.Text;

namespace IoTDelivery.Benchmarks.Load;

/// <summary>Ids of equal length, so that requests are encoded once and only their digits are written anew.</summary>
public static class Names
{
    public const int MessageDigits = 12, DeviceDigits = 6;

    /// <summary>Size of a message's content in bytes.</summary>
    public const int ContentBytes = 200;

    public static readonly string Content = new('x', ContentBytes);

    public static string Device(int number) => $"lamp_{number:D6}";

    public static string Message(long number) => $"b{number:D12}";

    public static void Write(Span<byte> digits, long number)
    {
        for (var i = digits.Length - 1; i >= 0; i--, number /= 10) digits[i] = (byte)('0' + (number % 10));
    }

    /// <summary>The number in a message id; -1 if it is none of ours.</summary>
    public static long MessageNumber(ReadOnlySpan<byte> id) =>
        id.Length == MessageDigits + 1 && id[0] == 'b' && Utf8Parser.TryParse(id[1..], out long number, out var used) && used == MessageDigits ? number : -1;

    public static byte[] Utf8(string text) => Encoding.UTF8.GetBytes(text);
}
