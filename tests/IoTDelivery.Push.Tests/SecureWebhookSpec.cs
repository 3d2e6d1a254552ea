using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using IoTDelivery.Registry;
using IoTDelivery.Storage;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Push.Tests;

/// <summary>Receivers that want to know who posts, and who must show a certificate of a CA of their own.</summary>
public sealed class SecureWebhookSpec : IAsyncLifetime, IDisposable
{
    private const string Name = "receiver.test";

    private static readonly byte[] Body = "{}"u8.ToArray();

    private readonly string _folder = Directory.CreateTempSubdirectory("push-ca-").FullName;
    private readonly List<(string? Sni, string Host, string? Timestamp, string? Nonce, string? Signature)> _seen = [];
    private readonly X509Certificate2 _ca = Ca("CN=our CA");
    private Certificates _certificates = null!;
    private WebApplication _receiver = null!;
    private Uri _url = null!;

    public async Task InitializeAsync()
    {
        var database = new SqlDatabase(new StorageOptions { DataFolder = _folder });
        await database.MigrateAsync(RegistryMigrations.All);
        _certificates = new Certificates(database);
        await AddAsync("ours", _ca);
        using var other = Ca("CN=another CA");
        await AddAsync("other", other);

        using var issued = Issue(_ca, Name);
        var certificate = X509CertificateLoader.LoadPkcs12(issued.Export(X509ContentType.Pkcs12), null);
        string? sni = null;
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelHttpsConfiguration().ConfigureKestrel(k => k.Listen(IPAddress.Loopback, 0, l => l.UseHttps(h => h.ServerCertificateSelector = (_, name) =>
        {
            sni = name;
            return certificate;
        })));
        _receiver = builder.Build();
        _receiver.Run(context =>
        {
            var headers = context.Request.Headers;
            _seen.Add((sni, headers.Host.ToString(), headers["timestamp"], headers["nonce"], headers["signature"]));
            return Task.CompletedTask;
        });
        await _receiver.StartAsync();
        _url = new Uri(_receiver.Services.GetRequiredService<IServer>().Features.GetRequiredFeature<IServerAddressesFeature>().Addresses.Single());
    }

    public async Task DisposeAsync() => await _receiver.DisposeAsync();

    public void Dispose()
    {
        _ca.Dispose();
        Microsoft.Data.Sqlite.SqliteConnection.ClearAllPools();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task A_receiver_whose_certificate_our_CA_signed_for_the_name_asked_for_is_told()
    {
        Assert.Equal(PushResult.Answered, await PostAsync(new(_url, CertId: "ours", ServerName: $"{Name}:{_url.Port}")));
        Assert.Equal((Name, $"{Name}:{_url.Port}"), (_seen[0].Sni, _seen[0].Host));
    }

    [Fact]
    public async Task One_whose_certificate_is_for_another_name_is_told_nothing()
    {
        Assert.Equal(PushOutcome.Failed, (await PostAsync(new(_url, CertId: "ours"))).Outcome);
        Assert.Empty(_seen);
    }

    [Theory]
    [InlineData("other")] // signed by another CA
    [InlineData(null)] // signed by nobody this machine trusts
    public async Task One_whose_CA_is_not_trusted_is_told_nothing(string? certId)
    {
        Assert.Equal(PushOutcome.Failed, (await PostAsync(new(_url, certId, ServerName: Name))).Outcome);
        Assert.Empty(_seen);
    }

    [Fact]
    public async Task A_CA_nobody_knows_is_named_in_the_reason() => Assert.Equal(
        new PushResult(PushOutcome.Failed, "there is no certificate gone"), await PostAsync(new(_url, CertId: "gone")));

    [Fact]
    public void The_signature_is_the_hash_of_token_timestamp_and_nonce_in_the_order_of_their_characters() => Assert.Equal(
        "99747405532cf4b67a1e522ce106eb8ef916ccf58e39734bd6d734562b52f7e4", PushSignature.Of("Token123", "1767225600000", "0f3a"));

    [Fact]
    public async Task Each_POST_is_signed_anew_and_without_a_token_none_is()
    {
        var clock = new MovableClock();
        var to = new HttpForwarding(_url, CertId: "ours", ServerName: Name, Token: "Token123");
        await PostAsync(to, clock);
        clock.Move(TimeSpan.FromSeconds(1));
        await PostAsync(to, clock);
        await PostAsync(to with { Token = null }, clock);

        Assert.All(_seen.Take(2), s => Assert.Equal(PushSignature.Of("Token123", s.Timestamp!, s.Nonce!), s.Signature));
        Assert.True(long.Parse(_seen[1].Timestamp!) - long.Parse(_seen[0].Timestamp!) >= 1000); // milliseconds
        Assert.NotEqual(_seen[0].Nonce, _seen[1].Nonce);
        Assert.Equal((null, null, null), (_seen[2].Timestamp, _seen[2].Nonce, _seen[2].Signature));
    }

    [Fact]
    public async Task A_certificate_that_was_deleted_is_trusted_no_longer()
    {
        var clock = new MovableClock();
        var to = new HttpForwarding(_url, CertId: "ours", ServerName: Name);
        using var webhook = new Webhook(new PushOptions(), _certificates, clock);
        Assert.Equal(PushResult.Answered, await webhook.PostAsync(to, Body, default));
        Assert.True(await _certificates.RemoveAsync(Given.Project, "ours", default));
        clock.Move(TimeSpan.FromMinutes(1));
        Assert.Equal(new PushResult(PushOutcome.Failed, "there is no certificate ours"), await webhook.PostAsync(to, Body, default));
    }

    private Task AddAsync(string certificateId, X509Certificate2 ca) => _certificates.AddAsync(
        new Certificate { CertificateId = certificateId, RecordId = certificateId, ProjectId = Given.Project, Content = ca.ExportCertificatePem(), CreatedAt = 0 }, default);

    private async Task<PushResult> PostAsync(HttpForwarding to, TimeProvider? clock = null)
    {
        using var webhook = new Webhook(new PushOptions(), _certificates, clock);
        return await webhook.PostAsync(to, Body, default);
    }

    private static X509Certificate2 Ca(string name)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest(name, key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(certificateAuthority: true, hasPathLengthConstraint: false, pathLengthConstraint: 0, critical: true));
        return request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
    }

    private static X509Certificate2 Issue(X509Certificate2 ca, string name)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(name);
        request.CertificateExtensions.Add(names.Build());
        using var certificate = request.Create(ca, ca.NotBefore, ca.NotAfter, serialNumber: [1, 2, 3]);
        return certificate.CopyWithPrivateKey(key);
    }
}
