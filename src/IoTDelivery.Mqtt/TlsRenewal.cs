using System.Runtime.InteropServices;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace IoTDelivery.Mqtt;

/// <summary>
/// Renews the certificate while the node runs: within <see cref="PollInterval"/> after its files have changed, and at
/// once after SIGHUP. Files that cannot serve leave the old one in use and are logged.
/// </summary>
public sealed class TlsRenewal(TlsCertificate certificate, ILogger<TlsRenewal> logger, TimeProvider clock)
    : BackgroundService
{
    /// <summary>
    /// How often the files are read. Their bytes are compared: that is a few KB, and neither a link that is swapped
    /// (Kubernetes, certbot) nor a date that was kept hides a renewal, as it would from a watcher of files or of their
    /// dates.
    /// </summary>
    public static readonly TimeSpan PollInterval = TimeSpan.FromSeconds(2);

    private readonly Lock _gate = new(); // the timer and SIGHUP come from different threads
    private (string? Digest, string Text) _problem; // of the files as they were seen last
    private bool _isProblemLogged;
    private PosixSignalRegistration? _hangUp;

    public override Task StartAsync(CancellationToken cancellationToken)
    {
        _hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, signal =>
        {
            signal.Cancel = true;
            Check(isAsked: true);
        });
        return base.StartAsync(cancellationToken);
    }

    public override void Dispose()
    {
        _hangUp?.Dispose();
        base.Dispose();
    }

    /// <summary>Reads the files; what is new and can serve is used from the next connection on.</summary>
    /// <param name="isAsked">An operator waits for the outcome: it is logged, whatever it is.</param>
    internal void Check(bool isAsked)
    {
        lock (_gate)
        {
            CertificateFiles? files = null;
            try
            {
                files = CertificateFiles.Read(certificate.Options);
                if (certificate.Use(files, clock.GetUtcNow()))
                {
                    logger.CertificateRenewed(certificate.Current.SerialNumber, certificate.Current.ValidTo);
                }
                else if (isAsked)
                {
                    logger.CertificateUnchanged(certificate.Current.SerialNumber, certificate.Current.ValidTo);
                }

                _problem = default;
            }
            catch (Exception cause) // whatever it is, the listeners go on with the certificate they have
            {
                Refuse((files?.Digest, cause.Message), isAsked);
            }
        }
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(PollInterval, clock);
        while (await timer.WaitForNextTickAsync(stoppingToken)) Check(isAsked: false);
    }

    private void Refuse((string? Digest, string Text) problem, bool isAsked)
    {
        var isSeenAgain = problem == _problem;
        if (!isSeenAgain) (_problem, _isProblemLogged) = (problem, false);

        // A renewal writes one file after the other: what does not go together yet is a fault only if it stays so.
        if (!isAsked && (!isSeenAgain || _isProblemLogged)) return;
        _isProblemLogged = true;
        logger.CertificateRefused(certificate.Current.SerialNumber, certificate.Current.ValidTo, problem.Text);
    }
}
