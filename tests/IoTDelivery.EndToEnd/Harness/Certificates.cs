using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>A small certificate authority and what it signed for this machine, as files an operator would have.</summary>
public sealed class Certificates : IDisposable
{
    public const string ServerAuthentication = "1.3.6.1.5.5.7.3.1", ClientAuthentication = "1.3.6.1.5.5.7.3.2";
    private const string Password = "certificate-password";

    private readonly ECDsa _rootKey;

    public Certificates(DateTimeOffset? validFrom = null, DateTimeOffset? validTo = null)
    {
        _rootKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=IoTDelivery test CA", _rootKey, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(certificateAuthority: true, false, 0, critical: true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign, critical: true));
        Root = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddYears(-2), DateTimeOffset.UtcNow.AddYears(2));

        var server = Issue(from: validFrom, to: validTo);
        using var key = ECDsa.Create();
        key.ImportFromPem(server.Key);
        using var withKey = X509Certificate2.CreateFromPem(server.Certificate, server.Key);
        Write("server.pem", server.Certificate);
        Write("server.key", server.Key);
        Write("encrypted.key", key.ExportEncryptedPkcs8PrivateKeyPem(Password, new PbeParameters(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, 1000)));
        Write("other.key", Issue().Key);
        Write("garbage.pem", "this is no certificate");
        System.IO.File.WriteAllBytes(File("server.pfx"), withKey.Export(X509ContentType.Pkcs12, Password));
        System.IO.File.WriteAllBytes(File("garbage.pfx"), [1, 2, 3]);
    }

    public X509Certificate2 Root { get; }

    public string Folder { get; } = Directory.CreateTempSubdirectory("iotdelivery-tls-").FullName;

    /// <summary>PEM with its key beside it.</summary>
    public string[] Pem => [$"--Tls:CertificateFile={File("server.pem")}", $"--Tls:KeyFile={File("server.key")}"];

    /// <summary>PFX with a password.</summary>
    public string[] Pfx => [$"--Tls:CertificateFile={File("server.pfx")}", $"--Tls:Password={Password}"];

    /// <summary>PEM whose key is encrypted.</summary>
    public string[] EncryptedPem => [$"--Tls:CertificateFile={File("server.pem")}", $"--Tls:KeyFile={File("encrypted.key")}", $"--Tls:Password={Password}"];

    public string File(string name) => Path.Combine(Folder, name);

    /// <summary>Signs a certificate for this machine. Key types: ECDSA, RSA, short RSA (1024 bits).</summary>
    public (string Certificate, string Key, string SerialNumber) Issue(
        string keyType = "ECDSA",
        DateTimeOffset? from = null,
        DateTimeOffset? to = null,
        string usage = ServerAuthentication)
    {
        using AsymmetricAlgorithm key = keyType switch
        {
            "RSA" => RSA.Create(2048),
            "short RSA" => RSA.Create(1024),
            _ => ECDsa.Create(ECCurve.NamedCurves.nistP256),
        };
        var request = key is RSA rsa
            ? new CertificateRequest("CN=localhost", rsa, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
            : new CertificateRequest("CN=localhost", (ECDsa)key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName("localhost");
        names.AddIpAddress(IPAddress.Loopback);
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid(usage)], critical: false));
        var (validFrom, validTo) = (from ?? DateTimeOffset.UtcNow.AddHours(-1), to ?? DateTimeOffset.UtcNow.AddDays(1));
        byte[] serialNumber = [1, .. RandomNumberGenerator.GetBytes(8)];
        using var signed = request.Create(
            Root.SubjectName, X509SignatureGenerator.CreateForECDsa(_rootKey), validFrom, validTo, serialNumber);
        return (signed.ExportCertificatePem(), key.ExportPkcs8PrivateKeyPem(), signed.SerialNumber);
    }

    /// <summary>What a renewal does: it writes the certificate, then its key. Returns the serial number.</summary>
    public string Renew(string keyType = "ECDSA")
    {
        var (certificate, key, serialNumber) = Issue(keyType);
        Write("server.pem", certificate);
        Write("server.key", key);
        return serialNumber;
    }

    public void Write(string name, string text) => System.IO.File.WriteAllText(File(name), text);

    /// <summary>What a client does that trusts this authority and nobody else: name and chain are checked.</summary>
    public bool IsTrusted(X509Certificate? certificate, System.Net.Security.SslPolicyErrors errors)
    {
        if (certificate is null || errors.HasFlag(System.Net.Security.SslPolicyErrors.RemoteCertificateNameMismatch)) return false;
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.Add(Root);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        return chain.Build(new X509Certificate2(certificate));
    }

    public void Dispose()
    {
        Root.Dispose();
        _rootKey.Dispose();
        Directory.Delete(Folder, recursive: true);
    }
}
