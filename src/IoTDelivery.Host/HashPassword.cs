using IoTDelivery.Host.Api.Authentication;

namespace IoTDelivery.Host;

/// <summary>The command <c>hash-password</c>: a password on standard input, its hash for <c>Api:Users</c> on standard output.</summary>
public static class HashPassword
{
    /// <summary>Exit code 0, or 1 with a sentence if there is no password to hash.</summary>
    public static int Run(TextReader input, TextWriter output, TextWriter errors)
    {
        var password = input.ReadLine() ?? "";
        if (password.Length is 0 or > Passwords.LengthMax)
        {
            errors.WriteLine($"Give a password of 1 to {Passwords.LengthMax} characters on standard input, on one line.");
            return 1;
        }

        output.WriteLine(Passwords.Hash(password));
        return 0;
    }
}
