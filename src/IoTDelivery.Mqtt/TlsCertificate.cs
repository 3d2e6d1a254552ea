using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;

namespace IoTDelivery.Mqtt;

/// <summary>
/// The certificate that every TLS listener of this node shows to new connections. Connections that exist keep the one
/// they were shown.
/// </summary>
public sealed class TlsCertificate
{
    // It takes milliseconds where the machine is not overloaded.
    private static readonly TimeSpan TrialTimeout = TimeSpan.FromSeconds(5);

    private readonly CipherSuitesPolicy? _suites;
    private volatile ServerCertificate _current;
    private string _digest; // of the files it was made of

    /// <exception cref="ArgumentException">The files cannot serve; the message names the setting.</exception>
    public TlsCertificate(TlsOptions options, DateTimeOffset now)
    {
        Options = options;
        _suites = options.CipherSuites == CipherSuites.Vendor && !OperatingSystem.IsWindows()
            ? new CipherSuitesPolicy(VendorSuites)
            : null;
        var files = CertificateFiles.Read(options);
        (_current, _digest) = (Usable(files, now), files.Digest);
    }

    public TlsOptions Options { get; }

    /// <summary>What a new connection is shown.</summary>
    public ServerCertificate Current => _current;

    // The node chooses, the first comes first. Three are of TLS 1.3; the last four are what Modern does not have.
    private static TlsCipherSuite[] VendorSuites =>
    [
        TlsCipherSuite.TLS_AES_256_GCM_SHA384,
        TlsCipherSuite.TLS_CHACHA20_POLY1305_SHA256,
        TlsCipherSuite.TLS_AES_128_GCM_SHA256,
        TlsCipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        TlsCipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        TlsCipherSuite.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        TlsCipherSuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        TlsCipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384,
        TlsCipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
        TlsCipherSuite.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384,
        TlsCipherSuite.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
        TlsCipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
        TlsCipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
        TlsCipherSuite.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
        TlsCipherSuite.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
    ];

    /// <summary>New connections are shown what these files hold. False: they are shown it already.</summary>
    /// <exception cref="ArgumentException">
    /// The files cannot serve, and the certificate in use stays; the message names the setting.
    /// </exception>
    public bool Use(CertificateFiles files, DateTimeOffset now)
    {
        if (files.Digest == _digest) return false;
        (_current, _digest) = (Usable(files, now), files.Digest);
        return true;
    }

    /// <summary>How a handshake is done that begins now.</summary>
    public void Apply(SslServerAuthenticationOptions handshake) => Apply(handshake, _current);

    private void Apply(SslServerAuthenticationOptions handshake, ServerCertificate certificate)
    {
        handshake.EnabledSslProtocols = SslProtocols.Tls12 | SslProtocols.Tls13;
        handshake.ServerCertificateContext = certificate.Context;
        handshake.CipherSuitesPolicy = _suites;
    }

    private ServerCertificate Usable(CertificateFiles files, DateTimeOffset now)
    {
        var certificate = ServerCertificate.Of(files, Options, now);
        Try(certificate);
        return certificate;
    }

    // What OpenSSL refuses at the machine's security level (a short key, SHA-1 in a signature), it refuses in a
    // handshake only, and then in every one.
    private void Try(ServerCertificate certificate)
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        using var client = new TcpClient();
        client.Connect((IPEndPoint)listener.LocalEndpoint);
        using var server = listener.AcceptTcpClient();
        server.ReceiveTimeout = (int)TrialTimeout.TotalMilliseconds;
        using var there = new SslStream(client.GetStream(), false, (_, _, _, _) => true);
        using var here = new SslStream(server.GetStream());
        var handshake = new SslServerAuthenticationOptions();
        Apply(handshake, certificate);
        _ = there.AuthenticateAsClientAsync(
            new SslClientAuthenticationOptions { TargetHost = "localhost", AllowTlsResume = false });
        try
        {
            here.AuthenticateAsServer(handshake);
        }
        catch (Exception cause) when (cause is AuthenticationException or IOException)
        {
            throw new ArgumentException(
                $"Tls:CertificateFile: TLS cannot be spoken with the certificate in {Options.CertificateFile}. "
                + $"{cause.GetBaseException().Message}");
        }
    }
}
