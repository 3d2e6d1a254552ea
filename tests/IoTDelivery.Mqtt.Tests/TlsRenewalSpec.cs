using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using System.Security.Cryptography.X509Certificates;
using IoTDelivery.EndToEnd.Harness;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Mqtt.Tests;

/// <summary>
/// Which certificate new connections are shown while the files change, and what an operator is told of it.
/// </summary>
public sealed class TlsRenewalSpec : IDisposable
{
    private readonly Certificates _files = new();
    private readonly Clock _clock = new();
    private readonly Lines _log = new();

    public static TheoryData<string, string> Broken => new()
    {
        { "no certificate file", "Tls:CertificateFile: {folder}/server.pem cannot be read." },
        { "no key file", "Tls:KeyFile: {folder}/server.key cannot be read." },
        { "an empty certificate file", "Tls:CertificateFile: {folder}/server.pem cannot be read as PFX" },
        { "garbage", "Tls:CertificateFile: {folder}/server.pem cannot be read as PFX" },
        { "half a certificate", "Tls:CertificateFile: {folder}/server.pem holds no certificate." },
        { "an empty key file", "Tls:KeyFile: {folder}/server.key holds no private key that fits" },
        { "half a key", "Tls:KeyFile: {folder}/server.key holds no private key that fits" },
        { "a new certificate, the old key", "Tls:KeyFile: {folder}/server.key holds no private key that fits" },
        { "the old certificate, a new key", "Tls:KeyFile: {folder}/server.key holds no private key that fits" },
        { "expired", "Tls:CertificateFile: the certificate in {folder}/server.pem expired at" },
        { "not valid yet", "Tls:CertificateFile: the certificate in {folder}/server.pem is valid from" },
        { "a client's", "Tls:CertificateFile: the certificate in {folder}/server.pem is not for servers" },
        {
            "a key too short for TLS",
            "Tls:CertificateFile: TLS cannot be spoken with the certificate in {folder}/server.pem."
        },
    };

    [Theory]
    [MemberData(nameof(Broken))]
    public void Files_that_cannot_serve_leave_the_old_certificate_in_use_and_are_logged_once(string files, string says)
    {
        var (certificate, renewal) = Start();
        var old = certificate.Current;

        Break(files);
        renewal.Check(isAsked: false);
        Assert.Empty(_log.Errors); // they may be half of a renewal
        for (var i = 0; i < 5; i++) renewal.Check(isAsked: false);

        Assert.Same(old, certificate.Current);
        var error = Assert.Single(_log.Errors);
        Assert.Contains(says.Replace("{folder}", _files.Folder), error);
        Assert.Contains(old.SerialNumber, error);

        // The next renewal is taken as if nothing had been.
        var next = _files.Renew();
        renewal.Check(isAsked: false);
        Assert.Equal(next, certificate.Current.SerialNumber);
        Assert.Single(_log.Errors);
    }

    [Theory]
    [MemberData(nameof(Broken))]
    public void Who_asks_is_told_at_once_and_each_time(string files, string says)
    {
        var (certificate, renewal) = Start();
        var old = certificate.Current;

        Break(files);
        renewal.Check(isAsked: true);
        renewal.Check(isAsked: true);
        for (var i = 0; i < 5; i++) renewal.Check(isAsked: false);

        Assert.Same(old, certificate.Current);
        Assert.Equal(2, _log.Errors.Count);
        Assert.All(_log.Errors, error => Assert.Contains(says.Replace("{folder}", _files.Folder), error));
    }

    [Fact]
    public void Each_change_that_cannot_serve_is_logged()
    {
        var (_, renewal) = Start();

        foreach (var garbage in new[] { "garbage", "other garbage", "garbage" })
        {
            _files.Write("server.pem", garbage);
            for (var i = 0; i < 3; i++) renewal.Check(isAsked: false);
        }

        Assert.Equal(3, _log.Errors.Count);
    }

    [Theory]
    [InlineData("server.pem", "server.key")]
    [InlineData("server.key", "server.pem")]
    public void A_renewal_that_writes_one_file_after_the_other_is_used_when_both_are_there_and_nobody_is_alarmed(
        string first, string second)
    {
        var (certificate, renewal) = Start();
        var old = certificate.Current;
        var (text, key, serialNumber) = _files.Issue("RSA");

        Write(first);
        renewal.Check(isAsked: false);
        Assert.Same(old, certificate.Current);
        Write(second);
        renewal.Check(isAsked: false);

        Assert.Equal(serialNumber, certificate.Current.SerialNumber);
        Assert.Empty(_log.Errors);

        void Write(string name) => _files.Write(name, name == "server.pem" ? text : key);
    }

    [Fact]
    public void Files_behind_a_link_that_is_swapped_are_noticed()
    {
        // As Kubernetes does it: tls.crt -> ..data/tls.crt, ..data -> a folder of each version. Neither link of the
        // names changes.
        var serialNumbers = new[] { "..1", "..2" }.Select(folder =>
        {
            var (certificate, key, serialNumber) = _files.Issue();
            Directory.CreateDirectory(_files.File(folder));
            _files.Write($"{folder}/tls.crt", certificate);
            _files.Write($"{folder}/tls.key", key);
            return serialNumber;
        }).ToArray();
        Directory.CreateSymbolicLink(_files.File("..data"), "..1");
        foreach (var name in new[] { "tls.crt", "tls.key" })
        {
            File.CreateSymbolicLink(_files.File(name), $"..data/{name}");
        }

        var (certificate, renewal) = Start(_files.File("tls.crt"), _files.File("tls.key"));
        Assert.Equal(serialNumbers[0], certificate.Current.SerialNumber);

        Directory.CreateSymbolicLink(_files.File("..data_tmp"), "..2");
        Directory.Delete(_files.File("..data"));
        Directory.Move(_files.File("..data_tmp"), _files.File("..data"));
        renewal.Check(isAsked: false);

        Assert.Equal(serialNumbers[1], certificate.Current.SerialNumber);
    }

    [Fact]
    public void Files_that_keep_their_date_are_noticed()
    {
        var (certificate, renewal) = Start();
        var (pem, key) = (_files.File("server.pem"), _files.File("server.key"));
        var (pemDate, keyDate) = (File.GetLastWriteTimeUtc(pem), File.GetLastWriteTimeUtc(key));

        var serialNumber = _files.Renew();
        File.SetLastWriteTimeUtc(pem, pemDate);
        File.SetLastWriteTimeUtc(key, keyDate);
        renewal.Check(isAsked: false);

        Assert.Equal(serialNumber, certificate.Current.SerialNumber);
    }

    [Fact]
    public void A_certificate_that_comes_before_its_time_is_used_when_the_time_has_come()
    {
        var (certificate, renewal) = Start();
        var old = certificate.Current;
        var (text, key, serialNumber) = _files.Issue(from: DateTimeOffset.UtcNow.AddMinutes(10));
        _files.Write("server.pem", text);
        _files.Write("server.key", key);

        renewal.Check(isAsked: false);
        Assert.Same(old, certificate.Current);
        _clock.Ahead = TimeSpan.FromMinutes(11);
        renewal.Check(isAsked: false);

        Assert.Equal(serialNumber, certificate.Current.SerialNumber);
    }

    [Fact]
    public async Task SIGHUP_is_obeyed_at_once_and_the_process_lives_on()
    {
        // The other tests' safety, should it fail.
        using var safety = PosixSignalRegistration.Create(PosixSignal.SIGHUP, signal => signal.Cancel = true);
        var (certificate, renewal) = Start(); // by a clock whose timers never fire
        await renewal.StartAsync(default);

        foreach (var _ in new[] { 1, 2 })
        {
            var serialNumber = _files.Renew();
            Assert.Equal(0, kill(Environment.ProcessId, 1));

            Assert.Contains(serialNumber, await _log.NextAsync());
            Assert.Equal(serialNumber, certificate.Current.SerialNumber);
        }

        Assert.Equal(0, kill(Environment.ProcessId, 1));
        Assert.Contains("its files have not changed", await _log.NextAsync());
        await renewal.StopAsync(default);
        renewal.Dispose();
    }

    [Theory]
    [InlineData("PEM")]
    [InlineData("encrypted PEM")]
    [InlineData("PFX")]
    public void Every_form_of_a_certificate_serves(string form)
    {
        var settings = form switch { "PFX" => _files.Pfx, "PEM" => _files.Pem, _ => _files.EncryptedPem };
        var configuration = new ConfigurationBuilder().AddCommandLine(settings).Build();

        var certificate = new TlsCertificate(TlsOptions.Read(configuration), DateTimeOffset.UtcNow);

        Assert.Equal("CN=localhost", certificate.Current.Certificate.Subject);
        Assert.True(certificate.Current.Certificate.HasPrivateKey);
    }

    [Theory]
    [InlineData("Old")]
    [InlineData("1")]
    [InlineData("Modern, Vendor")]
    public void An_unknown_name_for_the_suites_is_refused_with_those_that_are(string name)
    {
        var configuration = new ConfigurationBuilder().AddInMemoryCollection([new("Tls:CipherSuites", name)]).Build();

        var problem = Assert.Throws<ArgumentException>(() => TlsOptions.Read(configuration));

        Assert.Equal("Tls:CipherSuites must be one of Modern, Vendor.", problem.Message);
    }

    [Theory]
    [InlineData(null, CipherSuites.Modern)]
    [InlineData("Modern", CipherSuites.Modern)]
    [InlineData("vendor", CipherSuites.Vendor)]
    public void The_suites_are_modern_unless_said_otherwise(string? name, CipherSuites suites)
    {
        var configuration = new ConfigurationBuilder().AddInMemoryCollection([new("Tls:CipherSuites", name)]).Build();

        Assert.Equal(suites, TlsOptions.Read(configuration).CipherSuites);
    }

    public void Dispose() => _files.Dispose();

    [DllImport("libc", SetLastError = true)]
    private static extern int kill(int pid, int signal);

    private (TlsCertificate, TlsRenewal) Start(string? certificateFile = null, string? keyFile = null)
    {
        var options = new TlsOptions
        {
            CertificateFile = certificateFile ?? _files.File("server.pem"),
            KeyFile = keyFile ?? _files.File("server.key"),
        };
        var certificate = new TlsCertificate(options, DateTimeOffset.UtcNow);
        return (certificate, new TlsRenewal(certificate, new LoggerFactory([_log]).CreateLogger<TlsRenewal>(), _clock));
    }

    private void Break(string files)
    {
        var (pem, key) = (File.ReadAllText(_files.File("server.pem")), File.ReadAllText(_files.File("server.key")));
        switch (files)
        {
            case "no certificate file": File.Delete(_files.File("server.pem")); break;
            case "no key file": File.Delete(_files.File("server.key")); break;
            case "an empty certificate file": _files.Write("server.pem", ""); break;
            case "garbage": _files.Write("server.pem", "this is no certificate"); break;
            case "half a certificate": _files.Write("server.pem", pem[..(pem.Length / 2)]); break;
            case "an empty key file": _files.Write("server.key", ""); break;
            case "half a key": _files.Write("server.key", key[..(key.Length / 2)]); break;
            case "a new certificate, the old key": _files.Write("server.pem", _files.Issue().Certificate); break;
            case "the old certificate, a new key": _files.Write("server.key", _files.Issue().Key); break;
            case "expired":
                Both(_files.Issue(from: DateTimeOffset.UtcNow.AddDays(-2), to: DateTimeOffset.UtcNow.AddDays(-1)));
                break;
            case "not valid yet": Both(_files.Issue(from: DateTimeOffset.UtcNow.AddHours(1))); break;
            case "a client's": Both(_files.Issue(usage: Certificates.ClientAuthentication)); break;
            case "a key too short for TLS": Both(_files.Issue("short RSA")); break;
            default: throw new ArgumentException(files);
        }

        void Both((string Certificate, string Key, string) issued)
        {
            _files.Write("server.pem", issued.Certificate);
            _files.Write("server.key", issued.Key);
        }
    }

    /// <summary>Its timers never fire.</summary>
    private sealed class Clock : TimeProvider
    {
        public TimeSpan Ahead { get; set; }

        public override DateTimeOffset GetUtcNow() => DateTimeOffset.UtcNow + Ahead;

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) =>
            base.CreateTimer(callback, state, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    private sealed class Lines : ILoggerProvider, ILogger
    {
        private readonly SemaphoreSlim _news = new(0);
        private readonly ConcurrentQueue<string> _all = [];

        public ConcurrentQueue<string> Errors { get; } = [];

        public async Task<string> NextAsync()
        {
            Assert.True(await _news.WaitAsync(TimeSpan.FromSeconds(10)), "Nothing was logged.");
            return _all.TryDequeue(out var line) ? line : throw new InvalidOperationException();
        }

        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel,
            EventId eventId,
            TState state,
            Exception? exception,
            Func<TState, Exception?, string> formatter)
        {
            var line = formatter(state, exception);
            if (logLevel >= LogLevel.Error) Errors.Enqueue(line);
            _all.Enqueue(line);
            _news.Release();
        }

        public void Dispose()
        {
        }
    }
}
