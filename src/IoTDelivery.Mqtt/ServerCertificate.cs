using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace IoTDelivery.Mqtt;

/// <summary>
/// What a TLS listener shows: a certificate with its private key, and the intermediates for clients that know the root
/// only.
/// </summary>
public sealed class ServerCertificate
{
    private const string ServerAuthentication = "1.3.6.1.5.5.7.3.1"; // RFC 5280, 4.2.1.12

    private ServerCertificate(X509Certificate2 certificate, X509Certificate2Collection chain)
    {
        // What the file does not hold is not looked for on the network: a renewal must not wait for it.
        Context = SslStreamCertificateContext.Create(certificate, chain, offline: true);
    }

    /// <summary>The certificate, its key and its intermediates, made ready once for all connections.</summary>
    public SslStreamCertificateContext Context { get; }

    /// <summary>With its private key.</summary>
    public X509Certificate2 Certificate => Context.TargetCertificate;

    /// <summary>As <c>openssl x509 -serial</c> prints it.</summary>
    public string SerialNumber => Certificate.SerialNumber;

    public DateTime ValidTo => Certificate.NotAfter.ToUniversalTime();

    /// <summary>Makes a certificate of what the files hold.</summary>
    /// <exception cref="ArgumentException">It cannot be used; the message names the setting.</exception>
    public static ServerCertificate Of(CertificateFiles files, TlsOptions options, DateTimeOffset now)
    {
        const string setting = "Tls:CertificateFile";
        var file = options.CertificateFile;
        var (certificate, chain) = Parse(files, options);
        if (!certificate.HasPrivateKey)
        {
            throw new ArgumentException($"{setting}: {file} holds no certificate with a private key.");
        }

        if (now > certificate.NotAfter)
        {
            throw new ArgumentException(
                $"{setting}: the certificate in {file} expired at {certificate.NotAfter.ToUniversalTime():u}.");
        }

        if (now < certificate.NotBefore)
        {
            throw new ArgumentException(
                $"{setting}: the certificate in {file} is valid from {certificate.NotBefore.ToUniversalTime():u}.");
        }

        if (certificate.Extensions.OfType<X509EnhancedKeyUsageExtension>().FirstOrDefault() is { } usage
            && usage.EnhancedKeyUsages[ServerAuthentication] is null)
        {
            throw new ArgumentException(
                $"{setting}: the certificate in {file} is not for servers (its extended key usage lacks "
                + $"{ServerAuthentication}).");
        }

        return new ServerCertificate(certificate, chain);
    }

    private static (X509Certificate2 Certificate, X509Certificate2Collection Chain) Parse(
        CertificateFiles files, TlsOptions options)
    {
        try
        {
            return files.IsPem
                ? ParsePem(files, options)
                : Apart(X509CertificateLoader.LoadPkcs12Collection(files.Certificate, options.Password));
        }
        catch (CryptographicException cause)
        {
            var format = files.IsPem ? "PEM" : "PFX";
            throw new ArgumentException(
                $"Tls:CertificateFile: {options.CertificateFile} cannot be read as {format} (Tls:Password fits what is "
                + $"encrypted). {cause.Message}");
        }
    }

    private static (X509Certificate2 Certificate, X509Certificate2Collection Chain) ParsePem(
        CertificateFiles files, TlsOptions options)
    {
        var pem = Encoding.UTF8.GetString(files.Certificate);
        var key = files.Key is { } own ? Encoding.UTF8.GetString(own) : pem;
        var chain = new X509Certificate2Collection();
        chain.ImportFromPem(pem);
        if (chain.Count == 0)
        {
            throw new ArgumentException($"Tls:CertificateFile: {options.CertificateFile} holds no certificate.");
        }

        var setting = files.Key is not null
            ? $"Tls:KeyFile: {options.KeyFile}"
            : $"Tls:CertificateFile (there is no Tls:KeyFile): {options.CertificateFile}";
        try
        {
            using var certificate = options.Password is { Length: > 0 } password
                ? X509Certificate2.CreateFromEncryptedPem(pem, key, password)
                : X509Certificate2.CreateFromPem(pem, key);

            // Windows does not serve with a key that was never imported.
            return (
                X509CertificateLoader.LoadPkcs12(certificate.Export(X509ContentType.Pkcs12), password: null),
                [.. chain.Skip(1)]);
        }
        catch (Exception cause) when (cause is CryptographicException or ArgumentException)
        {
            throw new ArgumentException(
                $"{setting} holds no private key that fits the certificate in {options.CertificateFile}, or "
                + $"Tls:Password does not open it. {cause.Message}");
        }
    }

    private static (X509Certificate2 Certificate, X509Certificate2Collection Chain) Apart(
        X509Certificate2Collection all)
    {
        var certificate = all.FirstOrDefault(c => c.HasPrivateKey)
            ?? all.FirstOrDefault()
            ?? throw new CryptographicException("It is empty.");
        return (certificate, [.. all.Where(c => !ReferenceEquals(c, certificate))]);
    }
}

/// <summary>The bytes of the files that section <c>Tls</c> names, as they were at one moment.</summary>
public sealed class CertificateFiles
{
    private CertificateFiles(byte[] certificate, byte[]? key)
    {
        (Certificate, Key) = (certificate, key);
        Digest = Convert.ToHexString(SHA256.HashData([.. certificate, .. key ?? []]));
    }

    /// <summary>PEM or PFX.</summary>
    public byte[] Certificate { get; }

    /// <summary>PEM; null if it lies in the other file.</summary>
    public byte[]? Key { get; }

    /// <summary>The same for the same bytes.</summary>
    public string Digest { get; }

    public bool IsPem => HoldsPem(Certificate);

    /// <exception cref="ArgumentException">A file cannot be read; the message names the setting.</exception>
    public static CertificateFiles Read(TlsOptions options)
    {
        var certificate = Bytes(options.CertificateFile!, "Tls:CertificateFile");
        return new CertificateFiles(
            certificate,
            HoldsPem(certificate) && options.KeyFile is { Length: > 0 } keyFile
                ? Bytes(keyFile, "Tls:KeyFile")
                : null);
    }

    private static bool HoldsPem(byte[] bytes) => bytes.AsSpan().IndexOf("-----BEGIN "u8) >= 0;

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
