using Microsoft.Extensions.Configuration;

namespace IoTDelivery.Mqtt;

/// <summary>What TLS 1.2 may be spoken with. The suites of TLS 1.3 are always allowed.</summary>
public enum CipherSuites
{
    /// <summary>
    /// .NET's own: ECDHE with AES-GCM, and with AES-CBC and SHA-2. A <c>CipherString</c> in the machine's
    /// <c>openssl.cnf</c> takes their place.
    /// </summary>
    Modern = 0,

    /// <summary>
    /// Those of <see cref="Modern"/>, and the vendor's list: ECDHE-RSA and ECDHE-ECDSA with AES128-SHA and AES256-SHA,
    /// which old modems know and nothing else.
    /// </summary>
    Vendor = 1,
}

/// <summary>Section <c>Tls</c>: the one certificate of this node, for every listener that speaks TLS (1.2 and 1.3; one device SDK is pinned to 1.2).</summary>
public sealed record TlsOptions
{
    /// <summary>Name of the section in <c>appsettings.json</c>.</summary>
    public const string Section = "Tls";

    /// <summary>
    /// The certificate, PEM (intermediates behind it) or PFX. Default: none, and nothing listens with TLS. A renewed
    /// file is used while the node runs.
    /// </summary>
    public string? CertificateFile { get; init; }

    /// <summary>Its private key, PEM. Default: none; the key lies in <see cref="CertificateFile"/>.</summary>
    public string? KeyFile { get; init; }

    /// <summary>What the key or the PFX is encrypted with. Default: nothing.</summary>
    public string? Password { get; init; }

    /// <summary>What TLS 1.2 may be spoken with. Default <see cref="CipherSuites.Modern"/>.</summary>
    public CipherSuites CipherSuites { get; init; }

    /// <summary>Reads the section.</summary>
    /// <exception cref="ArgumentException">A value is wrong; the message names the setting.</exception>
    public static TlsOptions Read(IConfiguration configuration)
    {
        var section = configuration.GetSection(Section);
        var suites = section[nameof(CipherSuites)];
        if (suites is { Length: > 0 }
            && !Enum.GetNames<CipherSuites>().Contains(suites, StringComparer.OrdinalIgnoreCase))
        {
            throw new ArgumentException(
                $"Tls:CipherSuites must be one of {string.Join(", ", Enum.GetNames<CipherSuites>())}.");
        }

        var options = section.Get<TlsOptions>() ?? new TlsOptions();
        if (options.CipherSuites != CipherSuites.Modern && OperatingSystem.IsWindows())
        {
            throw new ArgumentException(
                $"Tls:CipherSuites must be {CipherSuites.Modern} on Windows, where the machine's own list decides.");
        }

        return options;
    }
}
