using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>A small certificate authority and what it signed for this machine, as files an operator would have.</summary>
public sealed class Certificates : IDisposable
{
    private const string Password = "certificate-password";

    public Certificates(DateTimeOffset? validFrom = null, DateTimeOffset? validTo = null)
    {
        var (from, to) = (validFrom ?? DateTimeOffset.UtcNow.AddHours(-1), validTo ?? DateTimeOffset.UtcNow.AddDays(1));
        using var rootKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=IoTDelivery test CA", rootKey, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(certificateAuthority: true, false, 0, critical: true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign, critical: true));
        Root = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddYears(-2), DateTimeOffset.UtcNow.AddYears(2));

        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var server = new CertificateRequest("CN=localhost", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName("localhost");
        names.AddIpAddress(IPAddress.Loopback);
        server.CertificateExtensions.Add(names.Build());
        server.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid("1.3.6.1.5.5.7.3.1")], critical: false));
        using var signed = server.Create(Root, from, to, RandomNumberGenerator.GetBytes(8));
        using var withKey = signed.CopyWithPrivateKey(key);
        using var otherKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        Write("server.pem", withKey.ExportCertificatePem());
        Write("server.key", key.ExportPkcs8PrivateKeyPem());
        Write("encrypted.key", key.ExportEncryptedPkcs8PrivateKeyPem(Password, new PbeParameters(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, 1000)));
        Write("other.key", otherKey.ExportPkcs8PrivateKeyPem());
        Write("garbage.pem", "this is no certificate");
        System.IO.File.WriteAllBytes(File("server.pfx"), withKey.Export(X509ContentType.Pkcs12, Password));
        System.IO.File.WriteAllBytes(File("garbage.pfx"), [1, 2, 3]);

        void Write(string name, string text) => System.IO.File.WriteAllText(File(name), text);
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
        Directory.Delete(Folder, recursive: true);
    }
}
