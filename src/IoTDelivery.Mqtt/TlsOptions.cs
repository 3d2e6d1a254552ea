using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace IoTDelivery.Mqtt;

/// <summary>Section <c>Tls</c>: the one certificate of this node, for every listener that speaks TLS (1.2 and 1.3; one device SDK is pinned to 1.2).</summary>
public sealed record TlsOptions
{
    /// <summary>Name of the section in <c>appsettings.json</c>.</summary>
    public const string Section = "Tls";

    /// <summary>The certificate, PEM (intermediates behind it) or PFX. Default: none, and nothing listens with TLS.</summary>
    public string? CertificateFile { get; init; }

    /// <summary>Its private key, PEM. Default: none; the key lies in <see cref="CertificateFile"/>.</summary>
    public string? KeyFile { get; init; }

    /// <summary>What the key or the PFX is encrypted with. Default: nothing.</summary>
    public string? Password { get; init; }
}

/// <summary>What every TLS listener of this node shows.</summary>
/// <param name="Certificate">With its private key.</param>
/// <param name="Chain">Intermediates, for clients that know the root only.</param>
public sealed record ServerCertificate(X509Certificate2 Certificate, X509Certificate2Collection Chain)
{
    /// <summary>Reads what the settings name. <paramref name="neededBy"/> is the setting that asks for TLS, for the sentence when there is no certificate.</summary>
    /// <exception cref="ArgumentException">It cannot be used; the message names the setting.</exception>
    public static ServerCertificate Read(TlsOptions options, string neededBy, DateTimeOffset now)
    {
        if (options.CertificateFile is not { Length: > 0 } file) throw new ArgumentException($"Tls:CertificateFile is missing: {neededBy} needs a certificate.");

        var all = Read(options, file);
        if (all.Certificate is not { HasPrivateKey: true } certificate) throw new ArgumentException($"Tls:CertificateFile: {file} holds no certificate with a private key.");
        if (now > certificate.NotAfter) throw new ArgumentException($"Tls:CertificateFile: the certificate in {file} expired at {certificate.NotAfter.ToUniversalTime():u}.");
        if (now < certificate.NotBefore) throw new ArgumentException($"Tls:CertificateFile: the certificate in {file} is valid from {certificate.NotBefore.ToUniversalTime():u}.");
        return all;
    }

    private static ServerCertificate Read(TlsOptions options, string file)
    {
        var bytes = Bytes(file, "Tls:CertificateFile");
        var isPem = bytes.AsSpan().IndexOf("-----BEGIN "u8) >= 0;
        try
        {
            return isPem ? ReadPem(options, file) : Of(X509CertificateLoader.LoadPkcs12Collection(bytes, options.Password));
        }
        catch (CryptographicException cause)
        {
            throw new ArgumentException($"Tls:CertificateFile: {file} cannot be read as {(isPem ? "PEM" : "PFX")} (Tls:Password fits what is encrypted). {cause.Message}");
        }
    }

    private static ServerCertificate ReadPem(TlsOptions options, string file)
    {
        var chain = new X509Certificate2Collection();
        chain.ImportFromPemFile(file);
        if (chain.Count == 0) throw new ArgumentException($"Tls:CertificateFile: {file} holds no certificate.");
        if (options.KeyFile is { Length: > 0 } keyFile) _ = Bytes(keyFile, "Tls:KeyFile");

        var keySetting = options.KeyFile is { Length: > 0 } ? $"Tls:KeyFile: {options.KeyFile}" : $"Tls:CertificateFile (there is no Tls:KeyFile): {file}";
        try
        {
            using var certificate = options.Password is { Length: > 0 } password
                ? X509Certificate2.CreateFromEncryptedPemFile(file, password, options.KeyFile)
                : X509Certificate2.CreateFromPemFile(file, options.KeyFile);

            // Windows does not serve with a key that was never imported.
            return new ServerCertificate(X509CertificateLoader.LoadPkcs12(certificate.Export(X509ContentType.Pkcs12), password: null), [.. chain.Skip(1)]);
        }
        catch (Exception cause) when (cause is CryptographicException or ArgumentException)
        {
            throw new ArgumentException($"{keySetting} holds no private key that fits the certificate in {file}, or Tls:Password does not open it. {cause.Message}");
        }
    }

    private static ServerCertificate Of(X509Certificate2Collection all)
    {
        var certificate = all.FirstOrDefault(c => c.HasPrivateKey) ?? all.FirstOrDefault() ?? throw new CryptographicException("It is empty.");
        return new ServerCertificate(certificate, [.. all.Where(c => !ReferenceEquals(c, certificate))]);
    }

    private static byte[] Bytes(string file, string setting)
    {
        try
        {
            return File.ReadAllBytes(file);
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new ArgumentException($"{setting}: {file} cannot be read. {cause.Message}");
        }
    }
}
