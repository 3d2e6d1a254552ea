using System.Net;
using System.Runtime.InteropServices;
using Akka.Actor;
using Akka.Cluster.Hosting;
using Akka.Configuration;
using Akka.Hosting;
using IoTDelivery.Batch;
using IoTDelivery.Devices;
using IoTDelivery.Devices.Journal;
using IoTDelivery.Devices.Membership;
using IoTDelivery.Devices.Reminders;
using IoTDelivery.Domain;
using IoTDelivery.Host.Api;
using IoTDelivery.Mqtt;
using IoTDelivery.Push;
using IoTDelivery.Registry;
using IoTDelivery.Storage;
using Microsoft.AspNetCore.HttpOverrides;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Options;

namespace IoTDelivery.Host;

/// <summary>One node: reads the settings, lists the boxes, runs until it is told to stop.</summary>
public static class Platform
{
    private static readonly TimeSpan TlsHandshakeTimeout = TimeSpan.FromSeconds(10); // Kestrel's own

    /// <summary>What a new node could not start with, in a sentence; exit code 1.</summary>
    public sealed class CannotStartException(string message) : Exception(message);

    /// <summary>Runs the platform. The exit code is 0 after SIGTERM or Ctrl-C, 1 if it could not start.</summary>
    public static async Task<int> RunAsync(string[] args)
    {
        // SIGHUP asks for the certificate to be read anew (TlsRenewal does) and never ends a node, from its first
        // moment on.
        using var hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, signal => signal.Cancel = true);
        try
        {
            await using var app = Build(args);
            await StartAsync(app);
            Welcome.Print(app);
            await app.WaitForShutdownAsync();
            return app.Services.GetRequiredService<NodeMembership>().WasDowned ? 1 : 0;
        }
        catch (OperationCanceledException)
        {
            return 0; // told to stop while it was starting
        }
        catch (CannotStartException cause)
        {
            await Console.Error.WriteLineAsync(cause.Message);
            return 1;
        }
    }

    /// <summary>The node with all its boxes, not started. <paramref name="replace"/> is where a test puts its own parts in.</summary>
    /// <exception cref="CannotStartException">A setting is wrong; the message names it.</exception>
    public static WebApplication Build(string[] args, Action<IServiceCollection>? replace = null)
    {
        var builder = WebApplication.CreateBuilder(new WebApplicationOptions { Args = args, ContentRootPath = AppContext.BaseDirectory });
        var (settings, services) = (builder.Configuration, builder.Services);
        var started = CancellationToken.None; // asked for once: whoever logs while the services go down cannot ask them any more
        try
        {
            var storage = Options<StorageOptions>(settings, StorageOptions.Section, o => o.Problem());
            var api = Options<ApiOptions>(settings, ApiOptions.Section, o => o.Problem());
            var cluster = Options<ClusterSettings>(settings, ClusterSettings.Section, o => o.Problem());
            if (settings.GetSection("akka:cluster:seed-nodes").Exists()) throw new ArgumentException("akka:cluster:seed-nodes would form clusters unasked: use Cluster:SeedNodes.");
            var database = new SqlDatabase(storage);

            services.AddSingleton(TimeProvider.System);
            services.AddSingleton(database);
            services.AddSingleton(cluster);
            services.AddSingleton(Options<DeliveryPolicy>(settings, "Delivery", o => o.Problem()));
            services.AddSingleton(Options<DeviceOptions>(settings, DeviceOptions.Section, o => o.Problem()));
            services.AddSingleton(Options<ReminderOptions>(settings, ReminderOptions.Section, o => o.Problem()));
            services.AddRegistry();
            services.AddSingleton<ForgetElsewhere>(s => new RegistryChanges(s.GetRequiredService<ActorSystem>()).ForgetAsync);
            services.AddDevices();
            _ = Options<PushOptions>(settings, PushOptions.Section, o => o.Problem()); // the box looks at start, which is too late for a sentence
            services.AddPush(settings);
            services.AddSingleton<WaitingSubDevices>();
            services.AddSingleton<FindWaitingSubDevices>(s => s.GetRequiredService<WaitingSubDevices>().FindAsync);
            services.AddSingleton<TakeUplink>(s => s.GetRequiredService<UplinkNotifications>().TakeAsync);
            _ = TlsOptions.Read(settings); // wrong is wrong, even where nothing listens with TLS
            services.AddMqtt(settings, listens: cluster.RolesTaken.Contains(MqttHosting.Role));
            var addresses = Addresses(settings["Urls"] ?? "http://127.0.0.1:8080");
            if (Array.Find(addresses, a => a.Scheme == "https") is { } secure) services.AddServerCertificate(settings, $"Urls = {secure}");
            services.AddApi(api);
            if (api.ForwardedHeaders) services.AddTrustedProxies(settings, "Api:ForwardedHeaders = true");
            services.AddHealth();
            services.AddSingleton<ReadDocument>(BatchTasksApi.Read);
            services.AddBatch(Options<BatchOptions>(settings, BatchOptions.Section, o => o.Problem()));
            services.AddSingleton(s => OnlineNodes.Self(s.GetRequiredService<ActorSystem>()));
            services.AddSingleton<OnlineNodes>();
            services.AddSingleton<DeviceLives>();
            services.AddSingleton<DeviceRequests>();
            services.AddSingleton<IGatewayRequests, GatewayRequests>();
            services.AddHostedService(s => s.GetRequiredService<DeviceLives>());
            services.AddAkka(ClusterSettings.SystemName, akka => akka
                .ConfigureLoggers(loggers =>
                {
                    loggers.ClearLoggers();
                    loggers.AddLoggerFactory();
                    loggers.LogLevel = AkkaLevel(settings);
                })
                .AddHocon(settings.GetSection("akka"), HoconAddMode.Append) // the environment beats the settings
                .AddHocon(cluster.ToHocon(), HoconAddMode.Append) // the settings beat the file
                .AddHoconFile(Path.Combine(AppContext.BaseDirectory, "akka.hocon"), HoconAddMode.Append) // the file beats Akka's defaults
                .WithDeviceJournal(database)
                .WithClustering(new ClusterOptions { Roles = cluster.RolesTaken })
                .WithDevices()
                .WithPush()
                .WithBatch()
                .WithMqtt()
                .WithActors((system, _, resolver) => RegistryChanges.Listen(system, resolver.GetService<DeviceCache>())));
            services.AddMembership(cluster.SeedNodes);
            services.AddSingleton<Farewell>();
            services.AddHostedService(s => s.GetRequiredService<Farewell>());

            // Open requests finish and devices are let go well before whoever sent SIGTERM sends SIGKILL; in a cluster they are handed over, and the shards too.
            services.Configure<HostOptions>(o => o.ShutdownTimeout = TimeSpan.FromSeconds(cluster.SeedNodes.Length > 0 ? 28 : 8));
            builder.WebHost.ConfigureKestrel(kestrel => ListenForApplications(kestrel, addresses));
            services.AddAmqp(settings, Options<AmqpOptions>(settings, AmqpOptions.Section, o => o.Problem())); // listens behind REST: the first address that is not for devices is REST's

            // Until the node runs. Kestrel warns at every start that its URLs setting is not what it listens on (see below); and what keeps a node from starting is
            // said in a sentence, the host would log it before with its stack.
            builder.Logging
                .AddFilter("Microsoft.AspNetCore.Server.Kestrel", level => level >= (IsRunning() ? LogLevel.Warning : LogLevel.Error))
                .AddFilter("Microsoft.Extensions.Hosting.Internal.Host", level => level >= LogLevel.Warning && IsRunning());
            replace?.Invoke(services);
        }
        catch (Exception cause) when (cause is ArgumentException or OptionsValidationException or InvalidOperationException or FormatException)
        {
            throw new CannotStartException($"A setting is wrong. {cause.Message}");
        }

        var app = builder.Build();
        started = app.Lifetime.ApplicationStarted;
        if (app.Services.GetRequiredService<ApiOptions>().ForwardedHeaders)
        {
            app.UseForwardedHeaders(Forwarded(app.Services.GetRequiredService<TrustedProxies>()));
        }

        app.Use(Farewell.SayAsync);
        var roles = app.Services.GetRequiredService<ClusterSettings>().RolesTaken;
        if (roles.Contains(MqttHosting.Role)) app.MapMqtt();
        app.MapForOperators();
        if (roles.Contains(ClusterSettings.ApiRole)) app.MapApi();
        return app;

        bool IsRunning() => started.IsCancellationRequested;
    }

    /// <summary>Brings the database up to date and starts everything.</summary>
    /// <exception cref="CannotStartException">The database cannot be reached or a port is taken.</exception>
    public static async Task StartAsync(WebApplication app)
    {
        var database = app.Services.GetRequiredService<SqlDatabase>();
        try
        {
            await database.MigrateAsync(app.Services.GetServices<Migration>());
            await Login.PrepareAsync(app.Services);
        }
        catch (Exception cause) when (SqlErrors.IsOfDatabase(cause) || cause is InvalidOperationException or UnauthorizedAccessException)
        {
            throw new CannotStartException($"The database cannot be used: {database.Where}. {cause.GetBaseException().Message}");
        }

        try
        {
            await app.StartAsync();
        }
        catch (NodeMembership.RefusedException cause)
        {
            await app.StopAsync();
            throw new CannotStartException(cause.Message);
        }
        catch (System.Data.Common.DbException cause)
        {
            await app.StopAsync();
            throw new CannotStartException($"The database cannot be used: {database.Where}. {cause.GetBaseException().Message}");
        }
        catch (IOException cause)
        {
            await app.StopAsync(); // or actors would go on starting while their services are disposed
            throw new CannotStartException($"A port is taken. {cause.Message}");
        }
    }

    // The nearest proxy's word counts, nobody's beyond: what a client writes there itself is never believed.
    private static ForwardedHeadersOptions Forwarded(TrustedProxies proxies)
    {
        var forwarded = new ForwardedHeadersOptions
        {
            ForwardedHeaders = ForwardedHeaders.XForwardedFor,
            ForwardLimit = 1,
        };
        forwarded.KnownProxies.Clear();
        forwarded.KnownIPNetworks.Clear();
        foreach (var network in proxies.Networks) forwarded.KnownIPNetworks.Add(network);
        return forwarded;
    }

    private static T Options<T>(ConfigurationManager settings, string section, Func<T, string?> problem) where T : class, new()
    {
        var options = settings.GetSection(section).Get<T>() ?? new T();
        return problem(options) is { } wrong ? throw new ArgumentException(wrong) : options;
    }

    // Akka asks before it makes a line, so that what Logging:LogLevel:Akka would drop is not made.
    private static Akka.Event.LogLevel AkkaLevel(ConfigurationManager settings) => settings.GetValue("Logging:LogLevel:Akka", LogLevel.Warning) switch
    {
        LogLevel.Trace or LogLevel.Debug => Akka.Event.LogLevel.DebugLevel,
        LogLevel.Information => Akka.Event.LogLevel.InfoLevel,
        _ => Akka.Event.LogLevel.WarningLevel,
    };

    private static BindingAddress[] Addresses(string urls)
    {
        return [.. urls.Split(';', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(Parse)];

        static BindingAddress Parse(string url)
        {
            try
            {
                return BindingAddress.Parse(url) is { Scheme: "http" or "https" } address ? address : throw new ArgumentException($"Urls: {url}: only http and https are offered.");
            }
            catch (FormatException)
            {
                throw new ArgumentException($"Urls: '{url}' is no address, such as http://127.0.0.1:8080.");
            }
        }
    }

    // Kestrel takes either its URLs setting or endpoints in code; the MQTT listener is one in code, so the URLs are too.
    private static void ListenForApplications(KestrelServerOptions kestrel, BindingAddress[] addresses)
    {
        kestrel.AddServerHeader = false;
        kestrel.Limits.MaxRequestBodySize = ApiOptions.DrainedBytesMax; // what is taken is less: RequestBody
        foreach (var address in addresses)
        {
            if (address.Host is "localhost") kestrel.ListenLocalhost(address.Port, Listen);
            else if (IPAddress.TryParse(address.Host, out var ip)) kestrel.Listen(ip, address.Port, Listen);
            else kestrel.ListenAnyIP(address.Port, Listen);

            void Listen(ListenOptions listener)
            {
                if (address.Scheme == "https")
                {
                    listener.UseTls(
                        kestrel.ApplicationServices.GetRequiredService<TlsCertificate>(),
                        TlsHandshakeTimeout,
                        isHttp: true);
                }
            }
        }
    }
}
